"""Predicted time of one call of a signature on a device.

If a profile's kernels were measured (``fieldtune profiles measure``), the time of each kernel is
linear in the features of its work: ops, FLOPs, bytes and loop iterations
(:mod:`fieldtune.profiles.measure.fit_rates`).

Otherwise the time of a call is a roofline model (Williams, Waterman and Patterson, "Roofline: an
insightful visual performance model for multicore architectures", CACM 52(4), 2009), applied to each
class of op separately and with a fixed dispatch time per op, because classes reach very different
shares of a core's peak and small models are dominated by dispatch (nn-Meter, Zhang et al.,
"nn-Meter: towards accurate latency prediction of deep-learning model inference on diverse edge
devices", MobiSys 2021)::

    call = python + sum over classes of
               max(flops / (dense * share), bytes / (2 * copy * cache gain)) + ops * dispatch

Intervals are computed as in :mod:`fieldtune.profiles.common.estimate`.
"""

from collections.abc import Mapping
from math import log
from typing import Literal

from fieldtune.profiles.common.estimate import Estimate, Quantity, Span
from fieldtune.profiles.costmodel.flops import OpClass
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.profile import DeviceProfile, ProfileValue

__all__ = ["Estimate", "Roofline", "Threads", "call_ms", "higher_is_better", "higher_is_worse"]

Threads = int | Literal["one", "all"]
"""Number of the interpreter's threads; ``all`` cores of the device."""

# Share of the sustained dense float32 rate that a class of op reaches on a Cortex-A core under
# TFLite with XNNPACK. Checked against XNNPACK's published MobileNet v2 latencies (README, 2020:
# 44 ms on a Pi 4B, 79 ms on a Pi 3B+, 49 to 55 ms on one thread of three phones), which are about
# nine tenths pointwise convolution. That a depthwise convolution or an addition reaches a fraction
# of what a convolution does is nn-Meter's finding; the numbers are estimates, hence the wide spans.
# Training steps of six small models (MLPs and CNNs on 8x8 images, batch 8) on an x86-64 core were
# predicted at 0.6 (CNNs) to 2.3 times (MLPs) the measured time, always inside the interval.
DENSE_SHARE: dict[OpClass, Span] = {
    "matmul": Span(0.95, 0.55, 0.20),  # batches of 1 to 32 fill the kernel's panels only partly
    # An implicit matrix product; the low end is few channels. The high end is above 1 because the
    # dense rates are mostly from HPL, about half of peak, and XNNPACK can exceed them.
    "conv": Span(1.4, 0.80, 0.40),
    "depthwise": Span(0.45, 0.25, 0.08),  # one multiply-add for each two loads
    "elementwise": Span(0.25, 0.10, 0.03),  # no multiply-adds; a load or store per operation
    "pool": Span(0.25, 0.10, 0.03),  # as elementwise
    "reduce": Span(0.25, 0.08, 0.02),  # dependent additions; the low end is a scalar kernel
    "move": Span(0.25, 0.10, 0.03),  # has no operations; listed so that every class has a share
    "variable": Span(0.25, 0.10, 0.03),  # likewise
    "other": Span(0.20, 0.05, 0.01),  # unknown kernels, assumed to be scalar reference code
}
# A copy reads and writes each byte: 2 bytes of memory traffic per byte copied.
BYTES_PER_COPIED_BYTE = 2.0
# Speed of data access relative to main memory. The tensors of models that are trained on such
# boards mostly fit into the L2 cache (0.5 to 2 MiB), those of MobileNet mostly do not.
CACHE_GAIN = Span(6.0, 2.0, 1.0)


def higher_is_worse(entry: ProfileValue) -> Span:
    """Span of a profile value that increases costs (power, overhead)."""
    return Span(entry.low, entry.value, entry.high)


def higher_is_better(entry: ProfileValue) -> Span:
    """Span of a profile value that reduces costs (speed, bandwidth)."""
    return Span(entry.high, entry.value, entry.low)


def thread_count(profile: DeviceProfile, threads: Threads) -> int:
    """The number of threads, at most one for each core."""
    if isinstance(threads, int):
        return min(threads, int(profile.cores.value))
    return 1 if threads == "one" else int(profile.cores.value)


def _dense_rate(profile: DeviceProfile, threads: Threads) -> ProfileValue:
    """Between one thread and all cores, the logarithm of the rate is linear in that of threads."""
    one, every = profile.float32_one_thread_gflop_s, profile.float32_all_cores_gflop_s
    count, cores = thread_count(profile, threads), int(profile.cores.value)
    part = log(count) / log(cores) if cores > 1 else 0.0
    ends = {
        name: getattr(one, name) ** (1 - part) * getattr(every, name) ** part
        for name in ("value", "low", "high")
    }
    return one.model_copy(update=ends)


def _ratios(span: Span) -> tuple[float, float]:
    """Time at the two ends of a speed's span, relative to the time at its value."""
    return span.value / span.best, span.value / span.worst


_SHARE: dict[str, tuple[float, tuple[float, float]]] = {
    name: (share.value, _ratios(share)) for name, share in DENSE_SHARE.items()
}


class Roofline:
    """A device's speeds, for one thread or all cores."""

    def __init__(self, profile: DeviceProfile, threads: Threads) -> None:
        dense = _dense_rate(profile, threads)
        self._profile = profile
        # Kernel rates are for one thread; for all cores they are scaled like the dense rate.
        self._speedup = dense.value / profile.float32_one_thread_gflop_s.value
        self._flop_per_ms = dense.value * 1e6
        self._bytes_per_ms = (
            profile.memory_copy_mb_s.value * 1e3 * BYTES_PER_COPIED_BYTE * CACHE_GAIN.value
        )
        heat = profile.sustained_share
        # Thermal throttling slows the cores (and so dispatch and Python), but not the memory.
        self._heat = Quantity.of("heat", (1 / heat.high, 1 / heat.value, 1 / heat.low))
        # Factors of arithmetic and of data movement: name, and relative time at the two ends.
        self._arithmetic = (
            ("dense", *_ratios(higher_is_better(dense))),
            ("heat", heat.value / heat.high, heat.value / heat.low),
        )
        self._moving = (
            ("copy", *_ratios(higher_is_better(profile.memory_copy_mb_s))),
            ("cache", *_ratios(CACHE_GAIN)),
        )
        self._dispatch = Quantity.of("dispatch", higher_is_worse(profile.op_dispatch_us)) * 1e-3
        self._python = Quantity.of("python", higher_is_worse(profile.python_call_us)) * 1e-3

    def kernel_ms(self, name: str, op: OpWork) -> float:
        """Milliseconds of one kernel's ops, without the call from Python."""
        return self.call_ms(Work({name: op})).value - self.call_ms(Work({})).value

    def call_ms(self, work: Work) -> Quantity:
        """Milliseconds of one call: the formula in this module's docstring."""
        if not self._profile.classes:
            return self._roofline_ms(work.classes)
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
        # All kernels are measured the same way on one device, so their errors are treated as
        # correlated.
        kernels = Quantity(measured * scale, {"kernels": (below * scale, above * scale)})
        return kernels * self._heat + self._roofline_ms(rest)

    def _roofline_ms(self, kernels: Mapping[str, OpWork]) -> Quantity:
        """Time of kernels without measured rates, by class, plus dispatch and the Python call."""
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
            # With a factor at its end, the other term of the roofline may become the larger one.
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
        work: the signature's, from :func:`fieldtune.profiles.costmodel.tflite_work.read_work`.
        threads: ``one`` (as a client sets up its interpreter) or ``all`` cores of the device.

    Returns:
        milliseconds at the device's sustained speed, and their 90 % interval.
    """
    return Roofline(profile, threads).call_ms(work).estimate()
