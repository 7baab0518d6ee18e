"""How many of the bytes that an op reads have left the caches since they were last used.

Between two uses of a tensor other ops move bytes; once these are more than a second-level cache
holds, the tensor comes from the cache behind it or from memory, and once they are more than a
core's share of that one, from memory (reuse distance: Mattson et al., "Evaluation techniques for
storage hierarchies", IBM Systems Journal 9(2), 1970). A graph is taken to be called again and
again, as in training.
"""

from collections.abc import Sequence

FAR_BYTES = 2.0**20
"""Distance at which a tensor counts as far: the second-level cache of the boards and of a PC."""
REMOTE_BYTES = 4 * 2.0**20
"""Distance at which it counts as remote: past what boards have of a third level (a Raspberry Pi 5
has 2 MiB, a Pi 4 none) and past a core's share of a PC's, which additions and dense layers of all
sizes showed to be about this."""


def far_bytes(
    reads: Sequence[Sequence[tuple[int, float]]], writes: Sequence[Sequence[tuple[int, float]]]
) -> list[tuple[float, float]]:
    """Bytes that each op reads or writes from afar, and those of them that are remote.

    Args:
        reads: for each op in order, number and bytes of the tensors that it reads.
        writes: the same for those that it writes. The arena gives results the memory of tensors
            just done with, so only a result that is itself larger than the cache is far. (Judging
            results by their own last use predicted training steps worse.)
    """
    moved, last = 0.0, dict[int, float]()
    far = [(0.0, 0.0)] * len(reads)
    for _ in range(2):  # the second time everything has been used before
        for op, (ins, outs) in enumerate(zip(reads, writes, strict=True)):
            gone = [(moved - last.get(tensor, 0.0) + size, size) for tensor, size in ins]
            gone += [(size, size) for _, size in outs]
            far[op] = (
                sum(size for distance, size in gone if distance > FAR_BYTES),
                sum(size for distance, size in gone if distance > REMOTE_BYTES),
            )
            moved += sum(size for _, size in (*ins, *outs))
            last.update((tensor, moved) for tensor, _ in (*ins, *outs))
    return far
