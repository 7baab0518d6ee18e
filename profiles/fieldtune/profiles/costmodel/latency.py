"""Predicted time of one call of a signature on a device.

If a profile's kernels were measured (``fieldtune profiles measure``), the time of each kernel is
linear in the features of its work: ops, FLOPs, bytes and loop iterations
(:mod:`fieldtune.profiles.measure.fit_rates`).

Otherwise all device types share one table of what kernels cost in proportion to the dense rate, and
a device type has few figures of its own: dense rate, speed-up by threads, memory traffic, and the
overheads. For an interpreter with ``n`` threads on a device with ``c`` cores::

    call = python + (a^p + m^p)^(1 / p) + ops * dispatch + shared ops * (n - 1) * sync
    a = sum over ops of dense operations / rate * (1 + r k n (n - 1)) / n
    m = bytes beyond the L2 cache / memory traffic

Ops that one thread does alone are not shared (:mod:`~fieldtune.profiles.costmodel.one_thread`).
The memory term does not shrink with threads: one core nearly saturates the memory of a board, which
is why MobileNet or EfficientDet gain a factor of 2 from four cores and not 4. Beside that, cores
that share a cache hinder each other, by the law of Gunther ("A general theory of computational
scalability based on rational functions", arXiv:0808.1431, equation 4 without its serial part);
``k`` follows from the rates of one thread and of all cores, and ``r`` is 1 for a product, more for
a depthwise convolution and for a product whose weights no L2 cache holds. So a fourth thread gains
nothing on a Pi 4B, where a power of ``n`` would let it gain a tenth. That overheads
dominate small models, and that classes of ops differ, is nn-Meter's finding (Zhang et al.,
"nn-Meter: towards accurate latency prediction of deep-learning model inference on diverse edge
devices", MobiSys 2021). With ``p`` = 1.5 arithmetic and memory are between their sum and their
maximum (the roofline of Williams, Waterman and Patterson, CACM 52(4), 2009). Kernels outside
XNNPACK, whose arithmetic is far slower, are plain sums.

The shared table is fitted to published latencies of 18 device types with processors from a
Cortex-A53 to a Neoverse V1 and an Intel N100 (``simulations/benchmarks/published_latency.py``).
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from math import exp, hypot
from typing import Literal, NamedTuple

from fieldtune.profiles.common.estimate import OWN, Estimate, Quantity, Span
from fieldtune.profiles.costmodel.kernel_costs import (
    COSTS,
    GATHER,
    HEAVY,
    OVERLAP,
    OWN_ERROR,
    OWN_ERROR_OF,
    PLAIN_DISPATCH,
    PLAIN_EXPONENT,
    STEP,
    KernelCost,
)
from fieldtune.profiles.costmodel.rate_spans import higher_is_worse, rate_spans
from fieldtune.profiles.costmodel.tflite_work import OpWork, Work
from fieldtune.profiles.device.profile import DeviceProfile

Threads = int | Literal["one", "all"]
"""Number of the interpreter's threads; ``all`` cores of the device."""


_PRODUCTS = ("conv", "matmul")
_UNGATHERED = {"pointwise", "row"}


def thread_count(profile: DeviceProfile, threads: Threads) -> int:
    """The number of threads, at most one for each core."""
    if isinstance(threads, int):
        return min(threads, int(profile.cores.value))
    return 1 if threads == "one" else int(profile.cores.value)


def latency_kind(work: Work, threads: int, runtime: str) -> str:
    """Latencies whose errors are alike, such as ``int8 plain several threads``."""
    precision = "int8 " if any("int8" in name for name in work.classes) else ""
    plain = "plain " if runtime == "plain" else ""
    return f"{precision}{plain}{'one thread' if threads == 1 else 'several threads'}"


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
        # The share of the time that threads hinder each other.
        self._waiting = 1 - self._speedup / self.threads
        self._alone = self._plain(_Rate.of("dense", one), rates["plain_share"], 1)
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
        if self.threads > 1:
            # How cores share the memory, and wait for each other, is as unsure as how they share
            # the arithmetic.
            shared = self._rates["xnnpack", False].factors
            self._memory = self._memory._replace(factors=(*self._memory.factors, *shared))
            self._sync *= Quantity(1.0, {name: (low - 1, high - 1) for name, low, high in shared})
        heat = profile.sustained_share if lasting else None
        # Throttling slows the cores, and so dispatch and Python.
        self._heat = Quantity(1.0)
        if heat is not None:
            self._heat = Quantity.of("heat", (1 / heat.high, 1 / heat.value, 1 / heat.low))

    def _span(self, one: Span, every: Span) -> Span:
        """The rate with this number of threads, by those of one thread and of all cores."""
        cores, n = int(self._profile.cores.value), self.threads
        if n == 1:
            return one
        crowding = (cores * one.value / every.value - 1) / (cores * (cores - 1))
        value = one.value * n / (1 + crowding * n * (n - 1))
        # Two threads are predicted as badly as four (published latencies of families left out).
        return Span(value * every.best / every.value, value, value * every.worst / every.value)

    def _plain(self, full: _Rate, share: Span, threads: int | None = None) -> _Rate:
        part = _Rate.of("plain", share)
        speedup = (threads or self.threads) ** PLAIN_EXPONENT
        # The share's interval is that of this rate: latencies without XNNPACK tell the rate, and
        # only together with others what share of the dense rate it is.
        return _Rate(full.ms * part.ms * 1e6 / speedup, part.factors)

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
        amounts: dict[tuple[str, bool, str], float] = defaultdict(float)
        moved: dict[tuple[str, str], float] = defaultdict(float)
        ops, shared, gathered = {"xnnpack": 0, "plain": 0}, 0.0, 0.0
        for name, op in kernels.items():
            kind = _kind(name)
            if kind is None:
                continue
            engine = kind.engine
            operations = op.neon * STEP if kind.counts_steps and op.neon else op.flops
            operations *= kind.cost.operation * (1 + kind.cost.crowding * self._waiting)
            operations += op.heavy * STEP * HEAVY * self._waiting
            amounts[engine, kind.at_int8_rate, kind.precision] += operations
            at_rate = engine, kind.bytes_at_int8_rate, kind.precision
            amounts[at_rate] += op.moved_bytes * kind.cost.byte
            moved[engine, kind.precision] += op.beyond_l2_bytes
            if kind.gathers:
                gathered += op.starts
            ops[engine] += op.count
            if not name.startswith("variable."):  # these are done by one thread
                shared += op.count - op.single
        total, changes = 0.0, dict[str, tuple[float, float]]()
        parts = [(self._rates[key[:2]], amount, key[::2]) for key, amount in amounts.items()]
        memory = [(self._memory, amount, key) for key, amount in moved.items()]
        shares = _overlapping(
            *(sum(r.ms * amount for r, amount, key in each if key[0] == "xnnpack")
              for each in (parts, memory))
        )  # fmt: skip
        if gathered:
            parts.append((self._alone, gathered * GATHER, ("plain", "float32")))
        for rate, amount, (engine, precision) in (*parts, *memory):
            spent = amount * rate.ms
            if engine == "xnnpack":
                spent *= shares[rate is self._memory]
            total += spent
            error = hypot(OWN_ERROR[engine, self.threads > 1], OWN_ERROR_OF[precision])
            own = (f"{OWN} {engine}", exp(-error), exp(error))
            for factor, low, high in (*rate.factors, own):
                down, up = changes.get(factor, (0.0, 0.0))
                changes[factor] = (down + spent * (low - 1), up + spent * (high - 1))
        fixed = self._dispatch * (ops["xnnpack"] + PLAIN_DISPATCH * ops["plain"]) + self._python
        if self.threads > 1:
            fixed += self._sync * shared
        return (Quantity(total, changes) + fixed) * self._heat


def _overlapping(arithmetic: float, memory: float) -> tuple[float, float]:
    """The shares of two times that remain where either is spent in part during the other."""
    both = (arithmetic**OVERLAP + memory**OVERLAP) ** (1 / OVERLAP)
    if not both:
        return 1.0, 1.0
    return (arithmetic / both) ** (OVERLAP - 1), (memory / both) ** (OVERLAP - 1)


class _Kind(NamedTuple):
    cost: KernelCost
    engine: str
    at_int8_rate: bool
    bytes_at_int8_rate: bool
    precision: str
    counts_steps: bool
    gathers: bool  # its ``starts`` are the output pixels whose inputs are gathered


@lru_cache(maxsize=4096)
def _kind(name: str) -> _Kind | None:
    op_class, *parts = name.split(".")
    engine = "plain" if "plain" in parts else "xnnpack"
    precision = next((part for part in ("int8", "dynamic") if part in parts), "float32")
    cost = COSTS[engine, precision].get(op_class)
    if cost is None:
        return None
    product, xnnpack, small = op_class in _PRODUCTS, engine == "xnnpack", precision != "float32"
    quantized = precision == "int8" and xnnpack
    return _Kind(
        cost,
        engine,
        at_int8_rate=quantized or (product and small),
        bytes_at_int8_rate=quantized,
        precision=precision,
        counts_steps=product and xnnpack,
        gathers=op_class == "conv" and not (xnnpack or small or _UNGATHERED & {*parts}),
    )


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
