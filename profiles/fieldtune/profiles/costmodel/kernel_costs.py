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


Table = Mapping[str, KernelCost]


def _table(product: KernelCost, depthwise: float, pool: KernelCost, rest: KernelCost) -> Table:
    """Costs by class of op."""
    return {
        "conv": product,
        "matmul": product,
        "depthwise": KernelCost(depthwise, product.byte),
        "pool": pool,
        **dict.fromkeys(("elementwise", "reduce", "move", "variable", "other"), rest),
    }


# A step over a tile of 6 x 16 elements of a product: 96 multiply-adds. Counting whole tiles instead
# of operations is what makes few channels slow.
STEP = 192.0
COSTS: Mapping[tuple[str, str], Table] = {
    ("xnnpack", "float32"): _table(
        KernelCost(1.0, 0.07), 3.3, KernelCost(8.0, 1.0), KernelCost(1.0, 2.0)
    ),
    ("xnnpack", "int8"): _table(
        KernelCost(1.0, 0.07), 3.6, KernelCost(8.0, 4.0), KernelCost(1.0, 8.0)
    ),
    # Activations are quantised on the way, weights are small: no published table has it.
    ("xnnpack", "dynamic"): _table(
        KernelCost(1.0, 1.0), 3.3, KernelCost(8.0, 1.0), KernelCost(1.0, 2.0)
    ),
    ("plain", "float32"): _table(
        KernelCost(1.0, 3.5), 5.1, KernelCost(10.0, 3.5), KernelCost(3.0, 3.5)
    ),
    ("plain", "int8"): _table(
        KernelCost(1.0, 0.8), 4.9, KernelCost(10.0, 0.8), KernelCost(10.0, 4.0)
    ),
    ("plain", "dynamic"): _table(
        KernelCost(1.0, 3.5), 5.1, KernelCost(10.0, 3.5), KernelCost(3.0, 3.5)
    ),
}
"""By engine and precision. Products of integers run at the device's int8 rate, all else at its
float32 rate. Fitted to 250 latencies by XNNPACK and 250 by builds without it, whose own kernels
(ruy, times the device's ``plain_share``) spend far longer on gathering and packing. The ops of a
training graph that XNNPACK does not take run on those too."""
PLAIN_SHARE = Span(1.05, 0.65, 0.40)
"""Where a profile does not state it."""
PLAIN_EXPONENT = 0.97
"""Of the speed-up of these kernels by threads; on a Pi 4, four threads are 3.8 times as fast."""
PLAIN_DISPATCH = 3.0
"""Dispatch of an op outside of XNNPACK, relative to one within."""

# What single models deviate from the above once the device's own figures are known: half of the
# 90 % interval as a logarithm. From the same tables, leaving out a family of models at a time.
OWN_ERROR: Mapping[tuple[str, bool], float] = {
    ("xnnpack", False): 0.10,
    ("xnnpack", True): 0.20,
    ("plain", False): 0.25,
    ("plain", True): 0.28,
}
"""By engine, and whether there are several threads."""
OWN_INT8_ERROR = 0.12
"""Of quantised kernels in addition."""
