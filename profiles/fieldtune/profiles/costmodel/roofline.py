"""How long a device needs for one call of a signature, predicted from its profile.

Where a profile's kernels were measured (``fieldtune profiles measure``), the time of each kernel is
linear in what its work counts: ops, flops, bytes and loops
(:mod:`fieldtune.profiles.measure.fit_rates`).

Elsewhere the time of a call is a roofline (Williams, Waterman and Patterson, "Roofline: an
insightful visual performance model for multicore architectures", CACM 52(4), 2009), taken for each
class of op on its own and with a fixed time for dispatching an op, because classes reach very
different shares of a core's peak and small models are made of dispatch (nn-Meter, Zhang et al.,
"nn-Meter: towards accurate latency prediction of deep-learning model inference on diverse edge
devices", MobiSys 2021)::

    call = python + sum over classes of
               max(flops / (dense * share), bytes / (2 * copy * cache gain)) + ops * dispatch

Intervals are those of :mod:`fieldtune.profiles.common.estimate`.
"""

from collections.abc import Mapping
from typing import Literal

from fieldtune.profiles.common.estimate import Estimate, Quantity, Span
from fieldtune.profiles.costmodel.flops import OpClass
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.profile import DeviceProfile, Figure

__all__ = ["Estimate", "Roofline", "Threads", "call_ms", "cheaper", "dearer"]

Threads = Literal["one", "all"]

# Share of the sustained dense float32 rate that a class of op reaches on a Cortex-A core under
# TFLite with XNNPACK. Checked against XNNPACK's published MobileNet v2 latencies (README, 2020:
# 44 ms on a Pi 4B, 79 ms on a Pi 3B+, 49 to 55 ms on one thread of three phones), which are about
# nine tenths pointwise convolution. That a depthwise convolution or an addition reaches a fraction
# of what a convolution does is nn-Meter's finding; the figures are estimates, hence their spans.
# Training steps of six small models (MLPs and CNNs on 8x8 images, batch 8) on an x86-64 core were
# predicted at 0.6 (CNNs) to 2.3 times (MLPs) what they took, always inside the interval.
DENSE_SHARE: dict[OpClass, Span] = {
    "matmul": Span(0.95, 0.55, 0.20),  # batches of 1 to 32 leave the kernel's panels half empty
    # An implicit matrix product; its low end is few channels. Above 1 at the high end, for the
    # dense rates are mostly those of HPL, about half of peak, and XNNPACK can reach more of it.
    "conv": Span(1.4, 0.80, 0.40),
    "depthwise": Span(0.45, 0.25, 0.08),  # one multiply-add for each two loads
    "elementwise": Span(0.25, 0.10, 0.03),  # no multiply-adds; a load or store an operation
    "pool": Span(0.25, 0.10, 0.03),  # as elementwise
    "reduce": Span(0.25, 0.08, 0.02),  # a chain of dependent additions; lowest, a scalar kernel
    "move": Span(0.25, 0.10, 0.03),  # has no operations; here so that every class has a share
    "variable": Span(0.25, 0.10, 0.03),  # likewise
    "other": Span(0.20, 0.05, 0.01),  # unknown kernels, taken for scalar reference code
}
# A copy reads and writes each byte, so main memory moves 2 bytes for each byte copied.
BYTES_PER_COPIED_BYTE = 2.0
# How much faster than main memory a class's bytes move. The tensors of the models that are trained
# on such boards lie mostly in the second-level cache (0.5 to 2 MiB), those of MobileNet mostly not.
CACHE_GAIN = Span(6.0, 2.0, 1.0)


def dearer(figure: Figure) -> Span:
    """Span of a figure that makes work dearer the higher it is (power, overhead)."""
    return Span(figure.low, figure.value, figure.high)


def cheaper(figure: Figure) -> Span:
    """Span of a figure that makes work cheaper the higher it is (speed, bandwidth)."""
    return Span(figure.high, figure.value, figure.low)


def _ratios(span: Span) -> tuple[float, float]:
    """What time becomes at the two ends of a speed, as a share of what it is."""
    return span.value / span.cheap, span.value / span.dear


_SHARE: dict[str, tuple[float, tuple[float, float]]] = {
    name: (share.value, _ratios(share)) for name, share in DENSE_SHARE.items()
}


class Roofline:
    """A device's speeds, for one thread or all cores."""

    def __init__(self, profile: DeviceProfile, threads: Threads) -> None:
        dense = (
            profile.float32_one_thread_gflop_s
            if threads == "one"
            else profile.float32_all_cores_gflop_s
        )
        self._profile = profile
        # Rates of kernels are those of one thread; all cores share what the dense rate says.
        self._speedup = dense.value / profile.float32_one_thread_gflop_s.value
        self._flop_per_ms = dense.value * 1e6
        self._bytes_per_ms = (
            profile.memory_copy_mb_s.value * 1e3 * BYTES_PER_COPIED_BYTE * CACHE_GAIN.value
        )
        heat = profile.sustained_share
        # Heat slows the cores, and with them dispatch and Python, but not the memory.
        self._heat = Quantity.of("heat", (1 / heat.high, 1 / heat.value, 1 / heat.low))
        # What slows arithmetic and what slows moving: factor, and times its two ends.
        self._arithmetic = (
            ("dense", *_ratios(cheaper(dense))),
            ("heat", heat.value / heat.high, heat.value / heat.low),
        )
        self._moving = (
            ("copy", *_ratios(cheaper(profile.memory_copy_mb_s))),
            ("cache", *_ratios(CACHE_GAIN)),
        )
        self._dispatch = Quantity.of("dispatch", dearer(profile.op_dispatch_us)) * 1e-3
        self._python = Quantity.of("python", dearer(profile.python_call_us)) * 1e-3

    def call_ms(self, work: Work) -> Quantity:
        """Milliseconds of one call: the formula in this module's docstring."""
        if not self._profile.classes:
            return self._by_shares(work.classes)
        measured, below, above = 0.0, 0.0, 0.0
        rest: dict[str, OpWork] = {}
        all_rates = self._profile.rates
        for name, op in work.classes.items():
            rates = all_rates[name]
            if rates is None:
                rest[name] = op
                continue
            us = rates.us
            spent = (
                us[0] * op.count + us[1] * op.flops + us[2] * op.moved_bytes + us[3] * op.runs
                + us[4] * op.wide + us[5] * op.outer + us[6] * op.starts
                + us[7] * op.near_bytes + us[8] * op.far_bytes + us[9] * op.remote_bytes
            )  # fmt: skip
            measured += spent
            below += spent * (rates.low - 1.0)
            above += spent * (rates.high - 1.0)
        scale = 1e-3 / self._speedup
        # Kernels are measured in one way on one device, so their errors are taken to go together.
        kernels = Quantity(measured * scale, {"kernels": (below * scale, above * scale)})
        return kernels * self._heat + self._by_shares(rest)

    def _by_shares(self, kernels: Mapping[str, OpWork]) -> Quantity:
        """Time of kernels without measured rates, summed by their classes, and of Python."""
        sums: dict[str, tuple[float, float]] = {}
        ops = 0
        for name, op in kernels.items():
            op_class = name.partition(".")[0]
            if op_class in _SHARE:
                flops, moved = sums.get(op_class, (0.0, 0.0))
                sums[op_class] = (flops + op.flops, moved + op.moved_bytes)
                ops += op.count
        changes: dict[str, tuple[float, float]] = {}
        spent = 0.0
        for name, (flops, moved) in sums.items():
            share, ratios = _SHARE[name]
            arithmetic = flops * self._heat.value / (self._flop_per_ms * share)
            moving = moved / self._bytes_per_ms
            longest = max(arithmetic, moving)
            spent += longest
            # One factor at its end may hand the lead to the other side of the roof.
            for factor, low, high in (*self._arithmetic, (name, *ratios)):
                down, up = changes.get(factor, (0.0, 0.0))
                changes[factor] = (
                    down + max(arithmetic * low, moving) - longest,
                    up + max(arithmetic * high, moving) - longest,
                )
            for factor, low, high in self._moving:
                down, up = changes.get(factor, (0.0, 0.0))
                changes[factor] = (
                    down + max(arithmetic, moving * low) - longest,
                    up + max(arithmetic, moving * high) - longest,
                )
        fixed = (self._dispatch * float(ops) + self._python) * self._heat
        return Quantity(spent, changes) + fixed


def call_ms(profile: DeviceProfile, work: Work, *, threads: Threads = "one") -> Estimate:
    """Predict one call of a signature.

    Args:
        profile: the device type.
        work: of the signature, from :func:`fieldtune.profiles.costmodel.tflite_work.read_work`.
        threads: ``one`` (what a client gives its interpreter) or ``all`` the device's cores.

    Returns:
        milliseconds at the device's sustained speed, and their 90 % interval.
    """
    return Roofline(profile, threads).call_ms(work).estimate()
