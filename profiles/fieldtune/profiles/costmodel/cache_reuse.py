"""How many of the bytes that an op moves are not in the nearest caches.

Between two uses of a tensor other ops move bytes; once these are more than a cache holds, the
tensor comes from the cache behind it or from memory, and once they are more than the
last cache holds, from memory (reuse distance: Mattson et al., "Evaluation techniques for storage
hierarchies", IBM Systems Journal 9(2), 1970). A result is written where the arena has room: over a
tensor just done with, which is near, unless its own place is kept for long, as that of an
activation is until the backward pass wants it. A graph is taken to be called again and again, as in
training.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

NEAR_BYTES = 2.0**15
"""Distance at which a tensor has left the first-level cache: 32 KiB on most cores."""
FAR_BYTES = 2.0**20
"""Distance at which a tensor counts as far: the second-level cache of a core, on boards as on a PC
(the four cores of a Pi 4 share 1 MiB)."""
REMOTE_BYTES = 16 * 2.0**20
"""Distance at which it counts as remote: half of a PC's third level, whose other half others use.
Steps of 170 random models were predicted best with 16 to 20 MiB."""

Tensors = Sequence[tuple[int, float]]
"""Number and bytes of each."""


class Gone(NamedTuple):
    """Bytes of an op that are not where they are quickest."""

    near: float
    """Read from the second-level cache or beyond."""
    far: float
    """Of these, read from beyond the second-level cache."""
    remote: float
    """That memory moves: reads, and twice what is written."""


def gone_bytes(
    reads: Sequence[Tensors], writes: Sequence[Tensors], kept: Collection[int] = ()
) -> list[Gone]:
    """How far away the bytes are that each op moves.

    Args:
        reads: for each op in order, the tensors that it reads.
        writes: the same for those that it writes. Memory moves a written byte twice, for its line
            is fetched before it is changed.
        kept: results that keep their place to the end, whoever reads them.
    """
    clock, begun = 0.0, list[float]()
    written, wanted, last = dict[int, float](), dict[int, float](), dict[int, float]()
    for ins, outs in zip(reads, writes, strict=True):
        begun.append(clock)
        wanted.update((tensor, clock) for tensor, _ in ins)
        clock += sum(size for _, size in (*ins, *outs))
        written.update((tensor, clock) for tensor, _ in outs)
        last.update((tensor, clock) for tensor, _ in (*ins, *outs))
    found, used = list[Gone](), {tensor: at - clock for tensor, at in last.items()}
    for now, ins, outs in zip(begun, reads, writes, strict=True):
        gone = [(now - used[tensor] + size, size) for tensor, size in ins]
        fetched = sum(size for distance, size in gone if distance > REMOTE_BYTES)
        changed = 0.0
        for tensor, size in outs:
            span = max(wanted.get(tensor, 0.0) - written[tensor], 0.0)
            held = clock - written[tensor] if tensor in kept else span
            if min(held, clock - span) > REMOTE_BYTES:
                changed += size
        near = sum(size for distance, size in gone if distance > NEAR_BYTES)
        far = sum(size for distance, size in gone if distance > FAR_BYTES)
        found.append(Gone(near, far, fetched + 2.0 * changed))
        after = now + sum(size for _, size in (*ins, *outs))
        used.update((tensor, after) for tensor, _ in (*ins, *outs))
    return found
