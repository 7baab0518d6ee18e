"""Predicted time of one call of a signature on a device.

If a profile's kernels were measured (``fieldtune profiles measure``), the time of each kernel is
linear in the features of its work: ops, FLOPs, bytes and loop iterations
(:mod:`fieldtune.profiles.measure.fit_rates`).

Otherwise all device types share one table of what kernels cost in proportion to the dense rate, and
a device type has few figures of its own: dense rate, speed-up by threads, memory traffic, and the
overheads. For an interpreter with ``n`` threads on a device with ``c`` cores::

    call = python + sum over ops of dense operations / (rate * n^e)
                                  + bytes beyond the L2 cache / memory traffic
                                  + dispatch + (n - 1) * sync
    e = log(rate of all cores / rate of one thread) / log c

The memory term does not shrink with threads: one core nearly saturates the memory of a board, which
is why MobileNet or EfficientDet gain a factor of 2 from four cores and not 4. That overheads
dominate small models, and that classes of ops differ, is nn-Meter's finding (Zhang et al.,
"nn-Meter: towards accurate latency prediction of deep-learning model inference on diverse edge
devices", MobiSys 2021); a sum of arithmetic and memory terms fits the published tables better than
their maximum (the roofline of Williams, Waterman and Patterson, CACM 52(4), 2009).

The shared table is fitted to published latencies of 18 device types with processors from a
Cortex-A53 to a Neoverse V1 and an Intel N100 (``simulations/benchmarks/published_latency.py``).
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from math import exp, hypot, log
from typing import Literal, NamedTuple

from fieldtune.profiles.common.estimate import OWN, Estimate, Quantity, Span
from fieldtune.profiles.costmodel.kernel_costs import (
    COSTS,
    OWN_ERROR,
    OWN_INT8_ERROR,
    PLAIN_DISPATCH,
    PLAIN_EXPONENT,
    PLAIN_SHARE,
    STEP,
    KernelCost,
)
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.profile import DeviceProfile, ProfileValue

__all__ = ["Estimate", "LatencyModel", "Threads", "call_ms", "higher_is_better", "higher_is_worse"]

Threads = int | Literal["one", "all"]
"""Number of the interpreter's threads; ``all`` cores of the device."""


# Where a profile does not state them: memory traffic relative to the rate of memcpy, and the time
# of a further thread on a core of 10 GFLOP/s, in us an op.
TRAFFIC_PER_COPY = Span(3.0, 1.5, 0.55)
SYNC_US_AT_10_GFLOP_S = Span(3.0, 7.0, 18.0)


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


class _Rate(NamedTuple):
    """Milliseconds of a unit of work, and the factors that it is unsure by: name, low, high."""

    ms: float
    factors: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, name: str, giga_s: Span) -> "_Rate":
        low, high = giga_s.value / giga_s.best, giga_s.value / giga_s.worst
        return cls(1e-6 / giga_s.value, ((name, low, high),))


class LatencyModel:
    """A device's speeds with a number of threads.

    Args:
        profile: the device type.
        threads: of the interpreter.
        lasting: whether the load lasts, so that the device throttles (``sustained_share``): in
            training, not in an inference.
    """

    def __init__(self, profile: DeviceProfile, threads: Threads, *, lasting: bool = False) -> None:
        self._profile, self.threads = profile, thread_count(profile, threads)
        rates = rate_spans(profile)
        one = rates["float32_one_thread_gflop_s"]
        small = rates["int8_one_thread_gop_s"]
        dense = self._span(one, rates["float32_all_cores_gflop_s"])
        # Kernel rates are for one thread; with more they are scaled like the dense rate.
        self._speedup = dense.value / one.value
        self._rates = {
            ("xnnpack", False): _Rate.of("dense", dense),
            ("xnnpack", True): _Rate.of("int8", self._span(small, rates["int8_all_cores_gop_s"])),
            ("plain", False): self._plain(_Rate.of("dense", one), rates["plain_share"]),
            ("plain", True): self._plain(_Rate.of("int8", small), rates["plain_share"]),
        }
        self._memory = _Rate.of("memory", Span(*(r * 1e-3 for r in rates["memory_traffic_mb_s"])))
        self._dispatch = Quantity.of("dispatch", higher_is_worse(profile.op_dispatch_us)) * 1e-3
        self._sync = Quantity.of("sync", rates["sync_us"]) * (1e-3 * (self.threads - 1))
        self._python = Quantity.of("python", higher_is_worse(profile.python_call_us)) * 1e-3
        heat = profile.sustained_share if lasting else None
        # Throttling slows the cores, and so dispatch and Python.
        self._heat = Quantity(1.0)
        if heat is not None:
            self._heat = Quantity.of("heat", (1 / heat.high, 1 / heat.value, 1 / heat.low))

    def _span(self, one: Span, every: Span) -> Span:
        """Between one thread and all cores, the rate is a power of the number of threads."""
        cores = int(self._profile.cores.value)
        part = log(self.threads) / log(cores) if cores > 1 else 0.0
        return Span(*(a ** (1 - part) * b**part for a, b in zip(one, every, strict=True)))

    def _plain(self, full: _Rate, share: Span) -> _Rate:
        part = _Rate.of("plain", share)
        speedup = self.threads**PLAIN_EXPONENT
        return _Rate(full.ms * part.ms * 1e6 / speedup, full.factors + part.factors)

    def kernel_ms(self, name: str, op: OpWork) -> float:
        """Milliseconds of one kernel's ops, without the call from Python."""
        return self.call_ms(Work({name: op})).value - self.call_ms(Work({})).value

    def call_ms(self, work: Work) -> Quantity:
        """Milliseconds of one call: the formula in this module's docstring."""
        if not self._profile.classes:
            return self._predicted_ms(work.classes)
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
        return kernels * self._heat + self._predicted_ms(rest)

    def _predicted_ms(self, kernels: Mapping[str, OpWork]) -> Quantity:
        """Time of kernels without measured rates, plus dispatch and the Python call."""
        amounts: dict[tuple[str, bool, bool], float] = defaultdict(float)
        moved: dict[tuple[str, bool], float] = defaultdict(float)
        ops, shared = {"xnnpack": 0, "plain": 0}, 0
        for name, op in kernels.items():
            kind = _kind(name)
            if kind is None:
                continue
            engine = kind.engine
            operations = op.runs * STEP if kind.counts_steps and op.runs else op.flops
            amounts[engine, kind.at_int8_rate, kind.is_int8] += operations * kind.cost.operation
            amounts[engine, False, kind.is_int8] += op.moved_bytes * kind.cost.byte
            moved[engine, kind.is_int8] += op.beyond_l2_bytes
            ops[engine] += op.count
            if not name.startswith("variable."):  # these are done by one thread
                shared += op.count
        total, changes = 0.0, dict[str, tuple[float, float]]()
        parts = [(self._rates[key[:2]], amount, key[::2]) for key, amount in amounts.items()]
        parts += [(self._memory, amount, key) for key, amount in moved.items()]
        for rate, amount, (engine, small) in parts:
            spent = amount * rate.ms
            total += spent
            error = OWN_ERROR[engine, self.threads > 1]
            if small:
                error = hypot(error, OWN_INT8_ERROR)
            own = (f"{OWN} {engine}", exp(-error), exp(error))
            for factor, low, high in (*rate.factors, own):
                down, up = changes.get(factor, (0.0, 0.0))
                changes[factor] = (down + spent * (low - 1), up + spent * (high - 1))
        fixed = self._dispatch * (ops["xnnpack"] + PLAIN_DISPATCH * ops["plain"]) + self._python
        if self.threads > 1:
            fixed += self._sync * float(shared)
        return (Quantity(total, changes) + fixed) * self._heat


class _Kind(NamedTuple):
    cost: KernelCost
    engine: str
    at_int8_rate: bool
    is_int8: bool
    counts_steps: bool


@lru_cache(maxsize=4096)
def _kind(name: str) -> _Kind | None:
    op_class, *parts = name.split(".")
    engine = "plain" if "plain" in parts else "xnnpack"
    precision = next((part for part in ("int8", "dynamic") if part in parts), "float32")
    cost = COSTS[engine, precision].get(op_class)
    if cost is None:
        return None
    product = op_class in ("conv", "matmul")
    small = precision != "float32"
    return _Kind(cost, engine, product and small, small, product and engine == "xnnpack")


def rate_spans(profile: DeviceProfile) -> dict[str, Span]:
    """The rates that make a device type's latencies: as stated, else as derived from others."""
    one, every = profile.float32_one_thread_gflop_s, profile.float32_all_cores_gflop_s
    spans = {
        "float32_one_thread_gflop_s": higher_is_better(one),
        "float32_all_cores_gflop_s": higher_is_better(every),
        "int8_one_thread_gop_s": higher_is_better(profile.int8_one_thread_gop_s or one),
        "int8_all_cores_gop_s": higher_is_better(profile.int8_all_cores_gop_s or every),
        "plain_share": PLAIN_SHARE,
        "memory_traffic_mb_s": _derived(profile.memory_copy_mb_s, TRAFFIC_PER_COPY),
        "sync_us": _slower(one, SYNC_US_AT_10_GFLOP_S),
    }
    for name in ("plain_share", "memory_traffic_mb_s"):
        if (stated := getattr(profile, name)) is not None:
            spans[name] = higher_is_better(stated)
    if profile.sync_us is not None:
        spans["sync_us"] = higher_is_worse(profile.sync_us)
    return spans


def _derived(entry: ProfileValue, share: Span) -> Span:
    """A rate that is a share of another one."""
    up = hypot(log(entry.high / entry.value), log(share.best / share.value))
    down = hypot(log(entry.value / entry.low), log(share.value / share.worst))
    value = entry.value * share.value
    return Span(value * exp(up), value, value * exp(-down))


def _slower(rate: ProfileValue, us: Span) -> Span:
    return Span(*(each * 10.0 / rate.value for each in us))


def call_ms(
    profile: DeviceProfile, work: Work, *, threads: Threads = "one", lasting: bool = False
) -> Estimate:
    """Predict one call of a signature.

    Args:
        profile: the device type.
        work: the signature's, from :mod:`fieldtune.profiles.costmodel.tflite_reader`.
        threads: ``one`` (as a client sets up its interpreter), a number, or ``all`` cores.
        lasting: whether the load lasts, so that the device throttles.

    Returns:
        milliseconds, and their 90 % interval.
    """
    return LatencyModel(profile, threads, lasting=lasting).call_ms(work).estimate()
