"""What kernels cost in proportion to a device's dense rate: one table for all device types.

That classes of ops reach different shares of a core's peak is nn-Meter's finding (Zhang et al.,
MobiSys 2021). The shares differ little between cores: with one table, and few figures for each
device type, published latencies from a Cortex-A53 to a Neoverse V1 and an Intel N100 are predicted
(``simulations/benchmarks/published_latency.py``).
"""

from collections.abc import Mapping
from typing import NamedTuple

from fieldtune.profiles.common.estimate import Span


class KernelCost(NamedTuple):
    """What kernels of one class cost, in operations of a dense product at the device's rate."""

    operation: float  # dense operations that one operation takes
    byte: float  # dense operations that moving one byte within the caches takes
    crowding: float = 0.0  # how much more than a product's threads its threads hinder each other


Table = Mapping[str, KernelCost]


def _table(
    product: KernelCost,
    depthwise: float,
    pool: KernelCost,
    rest: KernelCost,
    crowding: float = 0.0,
) -> Table:
    """Costs by class of op; ``crowding`` is that of depthwise convolutions."""
    return {
        "conv": product,
        "matmul": product,
        "depthwise": KernelCost(depthwise, product.byte, crowding),
        "pool": pool,
        **dict.fromkeys(("elementwise", "reduce", "move", "variable", "other"), rest),
    }


# A step over a tile of 6 x 8 elements of a product: 48 multiply-adds. Counting whole tiles instead
# of operations is what makes few channels slow. XNNPACK's kernels for ARM have such tiles; those of
# an N100 have 16 columns, and are predicted no worse by these.
STEP = 96.0
COSTS: Mapping[tuple[str, str], Table] = {
    ("xnnpack", "float32"): _table(
        KernelCost(1.0, 0.09), 5.5, KernelCost(7.6, 1.0), KernelCost(1.5, 1.7), crowding=0.7
    ),
    ("xnnpack", "int8"): _table(
        KernelCost(1.0, 0.18), 16.0, KernelCost(8.0, 10.0), KernelCost(1.0, 27.0)
    ),
    # Activations are quantised on the way, weights are small: no published table has it.
    ("xnnpack", "dynamic"): _table(
        KernelCost(1.0, 1.0), 5.5, KernelCost(7.6, 1.0), KernelCost(1.5, 1.7)
    ),
    ("plain", "float32"): _table(
        KernelCost(1.0, 4.1), 4.0, KernelCost(12.0, 3.8), KernelCost(2.8, 2.45)
    ),
    ("plain", "int8"): _table(
        KernelCost(1.0, 1.05), 6.2, KernelCost(10.0, 0.8), KernelCost(16.7, 5.8)
    ),
    ("plain", "dynamic"): _table(
        KernelCost(1.0, 4.1), 4.0, KernelCost(12.0, 3.8), KernelCost(2.8, 2.45)
    ),
}
"""By engine and precision. XNNPACK's kernels for int8 tensors run at the device's int8 rate, as do
products of integers elsewhere; all else runs at its float32 rate. Fitted to 230 latencies by
XNNPACK and 360 by builds without it, whose own kernels (ruy, times the device's ``plain_share``)
spend far longer on gathering and packing. The ops of a training graph that XNNPACK does not take
run on those too."""
HEAVY = 1.5
"""How much more than the threads of other products those of a product hinder each other whose
weights no L2 cache holds: each reads all of them for its own rows. Products of a single row
were not fitted apart."""
OVERLAP = 1.5
"""Arithmetic ``a`` and memory ``m`` of XNNPACK's kernels take ``(a^OVERLAP + m^OVERLAP)^(1 /
OVERLAP)``: 1 is their sum, and a large one their maximum."""
PLAIN_SHARE = Span(1.05, 0.65, 0.40)
"""Where a profile does not state it."""
GATHER = 2400.0
"""Dense operations that gathering the input of one output pixel takes, in float32 convolutions with
a window or a stride outside XNNPACK. One thread does it for all: four threads of a Pi 4B gain
little where the first convolution of an image has few channels."""
PLAIN_EXPONENT = 0.955
"""Of the speed-up of these kernels by threads; on a Pi 4, four threads are 3.8 times as fast."""
PLAIN_DISPATCH = 2.4
"""Dispatch of an op outside of XNNPACK, relative to one within."""

PUBLISHED = (
    "conv.conv_2d", "depthwise.depthwise_conv_2d", "matmul.fully_connected", "elementwise.binary",
    "elementwise.unary", "elementwise.logistic", "elementwise.quantize", "pool.average_pool_2d",
    "pool.max_pool_2d", "reduce.sum", "move.concatenation", "move.pad", "move.reshape",
    "move.slice", "move.resize_nearest_neighbor",
)  # fmt: skip
"""Kernels that the networks of published latencies consist of, but for a few per cent."""
UNPUBLISHED = 2.0
"""Factor by which other kernels may be faster or slower than predicted."""
UNKNOWN = 10.0
"""The same for ops that the model does not know, and for loops of an unknown number of runs."""

# What single models deviate from the above once the device's own figures are known: half of the
# 90 % interval as a logarithm. From the same tables, leaving out a family of models at a time.
OWN_ERROR: Mapping[tuple[str, bool], float] = {
    ("xnnpack", False): 0.05,
    ("xnnpack", True): 0.10,
    ("plain", False): 0.17,
    ("plain", True): 0.12,
}
"""By engine, and whether there are several threads."""
OWN_ERROR_OF: Mapping[str, float] = {"float32": 0.0, "int8": 0.06, "dynamic": 0.6}
"""By precision, in addition. No published table has dynamic-range kernels."""
