"""Fitting rates to timings: the time per op, FLOP, byte and loop iteration of each kernel.

The time of a kernel is modelled as linear in the features of an
:class:`~fieldtune.profiles.costmodel.tflite_work.OpWork`, with coefficients of at least 0. A
prediction for a whole model therefore needs only the sums in its Work. The coefficients minimise
the squared relative errors, with Huber weights against outliers.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.costmodel.tflite_work import FEATURES, OpWork
from fieldtune.profiles.measure.microbench import FAR_CLASSES, Readings, Timing

Vector = NDArray[np.float64]
# Relative error above which a sample is down-weighted, and number of reweighting iterations.
_HUBER, _REWEIGHTINGS = 0.15, 3
# Maximum number of alternations between fitting the kernels and fitting the cache-miss times.
_MAX_ITERATIONS = 4
# Penalty per nonzero rate, as a share of the squared error: fewer rates generalise better.
_PARSIMONY = 0.02
_PARTS = 4  # of the readings, each of which is left out of a fit
_VARIABLE = "variable"
_ADDITIONS = ("elementwise.binary", "elementwise.add_n.plain")
_MISSES = [FEATURES.index(name) for name in ("near_bytes", "far_bytes", "remote_bytes")]


@dataclass(frozen=True)
class Fitted:
    """A kernel's microseconds per unit of each feature, and the relative error of a sample."""

    us: Vector  # [len(FEATURES)]
    error: float


@dataclass(frozen=True)
class Fit:
    """The rates fitted to a microbenchmark's timings."""

    kernels: dict[str, Fitted]  # by kernel name, ``call.*`` among them
    python_us: float  # overhead of a call, without copying its tensors
    dispatch_us: float  # per op of the runtime's built-in kernels
    base_us: float  # of an invocation


def features(work: OpWork) -> Vector:
    """A kernel's work as a vector ``[len(FEATURES)]``."""
    return np.array([getattr(work, name) for name in FEATURES], np.float64)


def nonnegative(x: Vector, y: Vector, weight: Vector) -> Vector:
    """Least squares with coefficients of at least 0, by trying every subset of columns.

    Args:
        x: ``[n, k]``, k small.
        y: ``[n]``.
        weight: ``[n]``, multiplies the errors before they are squared.

    Returns:
        coefficients ``[k]``; 0 for columns that are not used.
    """
    live = [column for column in range(x.shape[1]) if x[:, column].any()]
    best, found = np.inf, np.zeros(x.shape[1])
    target = y * weight
    for size in range(1, len(live) + 1):
        for subset in combinations(live, size):
            scaled = x[:, subset] * weight[:, None]
            norms = np.linalg.norm(scaled, axis=0)
            solution = np.linalg.lstsq(scaled / norms, target, rcond=None)[0]
            if (solution < 0).any():
                continue
            error = float(np.sum((scaled / norms @ solution - target) ** 2))
            error *= 1 + _PARSIMONY * size
            if error < best:
                best, found = error, np.zeros(x.shape[1])
                found[list(subset)] = solution / norms
    return found


def robust(x: Vector, y: Vector, scale: Vector) -> tuple[Vector, float]:
    """Nonnegative least squares of ``(x @ c - y) / scale`` with Huber's weights.

    Returns:
        coefficients ``[k]`` and the root mean square of the errors, each capped at 3 times the
        Huber threshold.
    """
    weight = 1 / scale
    found = nonnegative(x, y, weight)
    for _ in range(_REWEIGHTINGS):
        off = np.abs(x @ found - y) / scale
        found = nonnegative(x, y, weight / np.sqrt(np.maximum(1.0, off / _HUBER)))
    off = np.minimum(np.abs(x @ found - y) / scale, 3 * _HUBER)
    return found, float(np.sqrt(np.mean(off**2)))


def fit(readings: Readings) -> Fit:
    """Rates of every kernel that was timed."""
    base_us, partition = _invocation((*readings.kernels, *readings.parts))
    groups: dict[str, list[Timing]] = defaultdict(list)
    for timing in readings.kernels:
        names = {name for name in timing.work.classes if not name.startswith("call")}
        key = names.pop() if len(names) == 1 else _VARIABLE
        groups[key].append(timing)
    # Alternate: the time of an op minus its cache misses gives the rates of its kernel, and the
    # time of a graph with cache misses minus its kernels gives the time per miss.
    miss_us = {name: np.zeros(len(_MISSES)) for name in FAR_CLASSES}
    for _ in range(_MAX_ITERATIONS):
        kernels = {"call.partition": Fitted(partition, 0.0)}
        for name, timings in sorted(groups.items()):
            kernels[name] = _kernel(name, timings, base_us, partition, miss_us)
        before, miss_us = miss_us, _cache_miss_us(readings.far, kernels, base_us)
        if all(np.allclose(before[n], miss_us[n], rtol=0.02, atol=0.0) for n in FAR_CLASSES):
            break
    kernels = {n: k if n.startswith("call") else _with_miss_us(n, k, miss_us)
               for n, k in kernels.items()}  # fmt: skip
    kernels |= _with_mixed_graph_overhead(readings.mixes, kernels, base_us)
    feed, fetch, python_us = _calls(readings.calls)
    kernels |= {"call.feed": feed, "call.fetch": fetch}
    dispatch = [k.us[0] for n, k in kernels.items() if n.endswith(".plain") and k.us[0] > 0]
    return Fit(
        kernels=kernels,
        python_us=python_us + base_us,
        dispatch_us=float(np.median(dispatch)),
        base_us=base_us,
    )


def left_out_errors(readings: Readings) -> list[Vector]:
    """log(predicted / measured) of graphs of many ops, for each part that is left out of a fit.

    Each part has every fourth of these graphs, and every fourth shape of each kernel.
    """
    found = []
    parts = min(_PARTS, len(readings.mixes))
    for part in range(parts if parts > 1 else 0):
        seen: dict[frozenset[str], int] = defaultdict(int)
        kernels = []
        for timing in readings.kernels:
            names = frozenset(timing.work.classes)
            seen[names] += 1
            if seen[names] % _PARTS != part:
                kernels.append(timing)
        mixes = [mix for n, mix in enumerate(readings.mixes) if n % parts != part]
        known = fit(replace(readings, kernels=tuple(kernels), mixes=tuple(mixes)))
        found.append(
            np.array([
                np.log(_predicted(mix, known.kernels, known.base_us) / mix.us)
                for mix in readings.mixes[part::parts]
            ])
        )  # fmt: skip
    return found


def _kernel(
    name: str,
    timings: Sequence[Timing],
    base_us: float,
    partition: Vector,
    miss_us: dict[str, Vector],
) -> Fitted:
    """Rates of one kernel, after subtracting the call, the partitions and the cache misses."""
    x = np.array([_kernel_features(timing, name) for timing in timings])
    taken = np.array([timing.us for timing in timings])
    rest = np.array([base_us + _partitions(timing) @ partition for timing in timings])
    rest += x[:, _MISSES] @ _class_miss_us(name, miss_us)
    x[:, _MISSES] = 0.0
    us, error = robust(x, np.maximum(taken - rest, 0.02 * taken), taken)
    return Fitted(us, error)


def _kernel_features(timing: Timing, name: str) -> Vector:
    total: Vector
    if name == _VARIABLE:  # read and assigned in one graph: one rate for the class
        found = [w for n, w in timing.work.classes.items() if n.startswith(_VARIABLE)]
        total = np.sum([features(work) for work in found], axis=0)
        return total
    return features(timing.work.classes[name])


def _partitions(timing: Timing) -> Vector:
    work = timing.work.classes.get("call.partition")
    return np.zeros(len(FEATURES)) if work is None else features(work)


def _invocation(kernels: Sequence[Timing]) -> tuple[float, Vector]:
    """Microseconds of an invocation, and of its partitions, from chains of tiny additions."""
    rows, taken = [], []
    for timing in kernels:
        work = timing.work
        names = [name for name in work.classes if not name.startswith("call")]
        if set(names) <= set(_ADDITIONS) and work.flops < 2e3:
            pieces = _partitions(timing)
            ops = [work.classes[n].count if n in work.classes else 0 for n in _ADDITIONS]
            rows.append([1.0, pieces[0], pieces[3], *ops])
            taken.append(timing.us)
    found, _ = robust(np.array(rows), np.array(taken), np.array(taken))
    partition = np.zeros(len(FEATURES))
    partition[0], partition[FEATURES.index("runs")] = found[1], found[2]
    return float(found[0]), partition


def _cache_miss_us(
    far: Sequence[Timing], near: dict[str, Fitted], base_us: float
) -> dict[str, Vector]:
    """Extra microseconds per byte that misses the L1 cache, by class of op.

    Three coefficients per class, each in addition to the previous ones: for bytes that miss L1, for
    bytes that miss L2, and for main memory traffic. They differ by class: additions stream and
    are hardly slowed by misses, products wait for the rows of their tiles, and copies for each
    contiguous run.
    """
    found = {}
    for name in FAR_CLASSES:
        rows, more, taken = [], [], []
        for timing in far:
            ops = {n: work for n, work in timing.work.classes.items() if not n.startswith("call")}
            if all(n.startswith(name) for n in ops):
                rows.append(np.sum([features(work)[_MISSES] for work in ops.values()], axis=0))
                more.append(max(timing.us - _predicted(timing, near, base_us), 0.0))
                taken.append(timing.us)
        found[name] = np.zeros(len(_MISSES))
        if rows:
            found[name], _ = robust(np.array(rows), np.array(more), np.array(taken))
    return found


def _class_miss_us(kernel: str, miss_us: dict[str, Vector]) -> Vector:
    """Cache-miss times of a kernel: those of its class, or of copies if its class was not timed."""
    return miss_us.get(kernel.partition(".")[0], miss_us["move"])


def _with_miss_us(name: str, kernel: Fitted, miss_us: dict[str, Vector]) -> Fitted:
    us = kernel.us.copy()
    us[_MISSES] = _class_miss_us(name, miss_us)
    return Fitted(us, kernel.error)


def _with_mixed_graph_overhead(
    mixes: Sequence[Timing], kernels: dict[str, Fitted], base_us: float
) -> dict[str, Fitted]:
    """All kernels, with the per-op overhead in mixed graphs added."""
    if not mixes:
        return {}
    ops = np.array([[float(timing.work.ops)] for timing in mixes])
    taken = np.array([timing.us for timing in mixes])
    known = np.array([_predicted(timing, kernels, base_us) for timing in mixes])
    (more,), _ = robust(ops, np.maximum(taken - known, 0.0), taken)
    slower = {}
    for name, kernel in kernels.items():
        if not name.startswith("call"):
            us = kernel.us.copy()
            us[0] += more
            slower[name] = Fitted(us, kernel.error)
    return slower


def _predicted(timing: Timing, kernels: dict[str, Fitted], base_us: float) -> float:
    total = base_us
    for name, work in timing.work.classes.items():
        if name in kernels and name not in ("call.feed", "call.fetch"):
            total += float(features(work) @ kernels[name].us)
    return total


def _calls(calls: Sequence[Timing]) -> tuple[Fitted, Fitted, float]:
    """Rates of feeding and of fetching a tensor, and the remaining overhead of a call (us)."""
    ends = [[timing.work.classes[name] for name in ("call.feed", "call.fetch")] for timing in calls]
    x = np.array([
        [1.0, fed.count, fed.moved_bytes, fetched.count, fetched.moved_bytes, fed.runs]
        for fed, fetched in ends
    ])  # fmt: skip
    taken = np.array([timing.us for timing in calls])
    found, error = robust(x, taken, taken)
    fitted = []
    for at in (1, 3):
        us = np.zeros(len(FEATURES))
        us[0], us[FEATURES.index("moved_bytes")] = found[at], found[at + 1]
        fitted.append(Fitted(us, error))
    fitted[0].us[FEATURES.index("runs")] = found[5]
    return fitted[0], fitted[1], float(found[0])
