"""How long a device needs for one call of a signature, predicted from its profile.

The time of a call is a roofline (Williams, Waterman and Patterson, "Roofline: an insightful visual
performance model for multicore architectures", CACM 52(4), 2009), taken for each class of op on its
own and with a fixed time for dispatching an op, because classes reach very different shares of a
core's peak and small models are made of dispatch (nn-Meter, Zhang et al., "nn-Meter: towards
accurate latency prediction of deep-learning model inference on diverse edge devices", MobiSys
2021)::

    call = python + sum over classes of
               max(flops / (dense * share), bytes / (2 * copy * cache gain)) + ops * dispatch

The formula is monotone in every figure. So it is evaluated three times: with the figures' values,
with the end of every interval that makes it cheapest, and with the end that makes it dearest. The
two ends are wider than a confidence interval would be: they assume all the figures off at once.
"""

from dataclasses import dataclass
from typing import Literal

from fieldtune.profiles.device import DeviceProfile, Figure
from fieldtune.profiles.flops import OpClass
from fieldtune.profiles.work import Work

Threads = Literal["one", "all"]
End = Literal[0, 1, 2]
"""An evaluation of a formula: cheapest end, value, dearest end."""
Span = tuple[float, float, float]
"""A constant of a formula at its cheapest end, its value, its dearest end."""

# Share of the sustained dense float32 rate that a class of op reaches on a Cortex-A core under
# TFLite with XNNPACK. Checked against XNNPACK's published MobileNet v2 latencies (README, 2020:
# 44 ms on a Pi 4B, 79 ms on a Pi 3B+, 49 to 55 ms on one thread of three phones), which are about
# nine tenths pointwise convolution. That a depthwise convolution or an addition reaches a fraction
# of what a convolution does is nn-Meter's finding; the figures are estimates, hence their spans.
# Training steps of six small models (MLPs and CNNs on 8x8 images, batch 8) on an x86-64 core were
# predicted at 0.6 (CNNs) to 2.3 times (MLPs) what they took, always inside the interval.
DENSE_SHARE: dict[OpClass, Span] = {
    "matmul": (0.95, 0.55, 0.20),  # batches of 1 to 32 leave the kernel's panels half empty
    "conv": (0.95, 0.70, 0.35),  # implicit matrix product; the low end is few channels
    "depthwise": (0.45, 0.25, 0.08),  # one multiply-add for each two loads
    "elementwise": (0.25, 0.10, 0.03),  # no multiply-adds; a load or store for each operation
    "pool": (0.25, 0.10, 0.03),  # as elementwise
    "reduce": (0.25, 0.08, 0.02),  # a chain of dependent additions; lowest, a scalar kernel
    "move": (0.25, 0.10, 0.03),  # has no operations; here so that every class has a share
    "variable": (0.25, 0.10, 0.03),  # likewise
    "other": (0.20, 0.05, 0.01),  # unknown kernels, taken for scalar reference code
}
# A copy reads and writes each byte, so main memory moves 2 bytes for each byte copied.
BYTES_PER_COPIED_BYTE = 2.0
# How much faster than main memory a class's bytes move. The tensors of the models that are trained
# on such boards lie mostly in the second-level cache (0.5 to 2 MiB), those of MobileNet mostly not.
CACHE_GAIN: Span = (6.0, 2.0, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A predicted quantity: ``low <= value <= high``."""

    value: float
    low: float
    high: float


def dearer(figure: Figure, end: End) -> float:
    """Read a figure that makes work dearer the higher it is (power, overhead) at an end."""
    return (figure.low, figure.value, figure.high)[end]


def cheaper(figure: Figure, end: End) -> float:
    """Read a figure that makes work cheaper the higher it is (speed, bandwidth) at an end."""
    return (figure.high, figure.value, figure.low)[end]


@dataclass(frozen=True)
class Roofline:
    """A device's speeds at one end of their intervals."""

    end: End
    flop_per_ms: float
    bytes_per_ms: float
    dispatch_ms: float
    python_ms: float

    @classmethod
    def of(cls, profile: DeviceProfile, end: End, threads: Threads) -> "Roofline":
        """Take the speeds from a profile, at the device's sustained clock."""
        dense = (
            profile.float32_one_thread_gflop_s
            if threads == "one"
            else profile.float32_all_cores_gflop_s
        )
        # Heat slows the cores, and with them dispatch and Python, but not the memory.
        share = cheaper(profile.sustained_share, end)
        copied_bytes_per_ms = cheaper(profile.memory_copy_mb_s, end) * 1e3
        return cls(
            end=end,
            flop_per_ms=cheaper(dense, end) * share * 1e6,
            bytes_per_ms=copied_bytes_per_ms * BYTES_PER_COPIED_BYTE * CACHE_GAIN[end],
            dispatch_ms=dearer(profile.op_dispatch_us, end) / 1e3 / share,
            python_ms=dearer(profile.python_call_us, end) / 1e3 / share,
        )

    def call_ms(self, work: Work) -> float:
        """Milliseconds of one call: the formula in this module's docstring."""
        total = self.python_ms
        for name, op in work.classes.items():
            arithmetic = op.flops / (self.flop_per_ms * DENSE_SHARE[name][self.end])
            total += max(arithmetic, op.moved_bytes / self.bytes_per_ms)
            total += op.count * self.dispatch_ms
        return total


def call_ms(profile: DeviceProfile, work: Work, *, threads: Threads = "one") -> Estimate:
    """Predict one call of a signature.

    Args:
        profile: the device type.
        work: of the signature, from :func:`fieldtune.profiles.work.read_work`.
        threads: ``one`` (what a client gives its interpreter) or ``all`` the device's cores.

    Returns:
        milliseconds at the device's sustained speed.
    """
    return Estimate(
        value=Roofline.of(profile, 1, threads).call_ms(work),
        low=Roofline.of(profile, 0, threads).call_ms(work),
        high=Roofline.of(profile, 2, threads).call_ms(work),
    )
