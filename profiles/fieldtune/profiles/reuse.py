"""How many of the bytes that an op reads have left a core's own caches since they were last used.

Between two uses of a tensor other ops move bytes; once these are more than a second-level cache
holds, the tensor comes from the shared cache or from memory (reuse distance: Mattson et al.,
"Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970). A graph is taken
to be called again and again, as in training.
"""

from collections.abc import Sequence

FAR_BYTES = 2.0**20
"""Distance at which a tensor counts as far: the second-level cache of the boards and of a PC."""


def far_bytes(
    reads: Sequence[Sequence[tuple[int, float]]], writes: Sequence[Sequence[tuple[int, float]]]
) -> list[float]:
    """Bytes that each op reads or writes from afar.

    Args:
        reads: for each op in order, number and bytes of the tensors that it reads.
        writes: the same for those that it writes. The arena gives results the memory of tensors
            just done with, so only a result that is itself larger than the cache is far. (Judging
            results by their own last use predicted training steps worse.)
    """
    moved, last = 0.0, dict[int, float]()
    far = [0.0] * len(reads)
    for _ in range(2):  # the second time everything has been used before
        for op, (ins, outs) in enumerate(zip(reads, writes, strict=True)):
            far[op] = sum(
                size for tensor, size in ins if moved - last.get(tensor, 0.0) + size > FAR_BYTES
            ) + sum(size for _, size in outs if size > FAR_BYTES)
            moved += sum(size for _, size in (*ins, *outs))
            last.update((tensor, moved) for tensor, _ in (*ins, *outs))
    return far
