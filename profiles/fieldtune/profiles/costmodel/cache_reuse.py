"""Cache misses of an op's bytes, estimated from reuse distances.

The reuse distance of a tensor is the number of bytes that other ops move between two uses of it. If
it exceeds the size of a cache, the tensor is read from the next cache level, and beyond the last
level from main memory (Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems
Journal 9(2), 1970). A result is written to a free place in the arena: usually over a tensor that
was just used, which is still cached, unless the place was reserved for long, as for an activation
that the backward pass reads. The graph is assumed to be called repeatedly, as in training.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

NEAR_BYTES = 2.0**15
"""Reuse distance beyond which a tensor is not in the L1 cache: 32 KiB on most cores."""
FAR_BYTES = 2.0**20
"""Reuse distance beyond which a tensor is not in the L2 cache, on boards as on a PC (the four cores
of a Pi 4 share 1 MiB)."""
REMOTE_BYTES = 16 * 2.0**20
"""Reuse distance beyond which a tensor is in main memory: half of a PC's L3 cache, the other half
of which other programs use. Training steps of 170 random models were predicted best with 16 to 20
MiB.
"""
HEAVY_BYTES = 2.0**21
"""Weights of a product beyond which the L2 cache of no board holds them."""
WEIGHT_TRAFFIC = 0.55
"""Cost of a byte of weights that is read from main memory, relative to one of activations: a core
fetches them ahead, as they are read in order and never written. By published latencies of boards.
"""

Tensors = Sequence[tuple[int, float]]
"""Index and size in bytes of each tensor."""


class CacheMisses(NamedTuple):
    """Bytes of an op that miss a cache."""

    near: float
    """Read from beyond the L1 cache."""
    far: float
    """Of these, read from beyond the L2 cache."""
    remote: float
    """Traffic of main memory: bytes read, plus twice the bytes written."""
    beyond_l2: float
    """The same for a device without an L3 cache, in bytes of activations."""


def cache_misses(
    reads: Sequence[Tensors],
    writes: Sequence[Tensors],
    kept: Collection[int] = (),
    weights: Collection[int] = (),
) -> list[CacheMisses]:
    """The cache misses of each op of a graph.

    Args:
        reads: for each op in order, the tensors that it reads.
        writes: for each op in order, the tensors that it writes. Each written byte counts twice in
            memory traffic, because its cache line is fetched before it is modified.
        kept: tensors that stay allocated until the end of the graph.
        weights: tensors that are stored in the file.
    """
    position, starts = 0.0, list[float]()
    written, last_read, last_use = dict[int, float](), dict[int, float](), dict[int, float]()
    for ins, outs in zip(reads, writes, strict=True):
        starts.append(position)
        last_read.update((tensor, position) for tensor, _ in ins)
        position += sum(size for _, size in (*ins, *outs))
        written.update((tensor, position) for tensor, _ in outs)
        last_use.update((tensor, position) for tensor, _ in (*ins, *outs))
    # The uses in the previous call of the graph.
    found, used = list[CacheMisses](), {tensor: at - position for tensor, at in last_use.items()}
    for now, ins, outs in zip(starts, reads, writes, strict=True):
        distances = [(now - used[tensor] + size, size) for tensor, size in ins]
        remote_reads = sum(size for distance, size in distances if distance > REMOTE_BYTES)
        remote_writes = far_writes = 0.0
        for tensor, size in outs:
            lifetime = max(last_read.get(tensor, 0.0) - written[tensor], 0.0)
            held = position - written[tensor] if tensor in kept else lifetime
            away = min(held, position - lifetime)
            remote_writes += size * (away > REMOTE_BYTES)
            far_writes += size * (away > FAR_BYTES)
        near = sum(size for distance, size in distances if distance > NEAR_BYTES)
        beyond = [
            (tensor, size)
            for (distance, size), (tensor, _) in zip(distances, ins, strict=True)
            if distance > FAR_BYTES
        ]
        far = sum(size for _, size in beyond)
        beyond_l2 = sum(size * (WEIGHT_TRAFFIC if t in weights else 1.0) for t, size in beyond)
        found.append(
            CacheMisses(near, far, remote_reads + 2.0 * remote_writes, beyond_l2 + 2.0 * far_writes)
        )
        after = now + sum(size for _, size in (*ins, *outs))
        used.update((tensor, after) for tensor, _ in (*ins, *outs))
    return found
