"""Microbenchmark of the kernels of the installed TFLite runtime, with one thread.

Each sample is a graph with several copies of one op. Its time is the fastest of several rounds,
because other programs can only make it slower. Graphs of many different ops show the overhead of
cold caches and branch predictors in a real model. The whole benchmark takes one to two minutes.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.measure.sample_ops import samples
from fieldtune.profiles.measure.tflite_graphs import (
    Sample,
    call_overhead,
    chain,
    forward_backward,
    graph,
    independent_adds,
    variable,
)

# (Minimum elements that one copy reads and writes, copies in a graph).
_COPIES = ((60_000, 1), (4_000, 4), (0, 12))
_MIN_CHAIN = 6
_ROUND_S = 1e-3
_MIN_ROUNDS = 3
PASSES = 6
"""Passes over all samples: disturbances, such as other virtual machines on the host, last longer
than one sample, but rarely as long as all passes."""
_MAX_S = 150.0
"""Seconds after which no sample is timed again, so that a slow board makes one or two passes."""
_DENSE_FLOPS = 1e6
_REFERENCE_S = 0.3
_REFERENCE_EVERY = 80
"""Number of graphs between two timings of the reference graph in the last pass. Throttling slows
all of these timings, other virtual machines only some."""
_MIXES, _MIXED_OPS, _MIXED_KINDS, _MIXED_ELEMENTS = 24, 40, 10, 600
_FORWARD_BACKWARD = (
    (40, 24), (100, 16), (250, 10), (600, 8), (1_500, 4),
    (4_000, 40), (10_000, 20), (24_000, 10), (48_000, 6), (96_000, 4),
)  # fmt: skip
"""(Rows, copies): the first line exceeds the L1 cache, the second the L2 cache."""
FAR_CLASSES = ("elementwise", "matmul", "move")
"""Classes of ops that are also timed with tensors that exceed a cache."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Timing:
    """A graph's work and the time of one invocation."""

    work: Work
    us: float


@dataclass(frozen=True)
class Readings:
    """Results of the microbenchmark."""

    kernels: tuple[Timing, ...]  # graphs of one kernel (or of variables), without the Python call
    parts: tuple[Timing, ...]  # graphs that alternate between XNNPACK and the runtime's kernels
    far: tuple[Timing, ...]  # graphs whose operands exceed a cache
    mixes: tuple[Timing, ...]  # graphs of many kernels, without the Python call
    calls: tuple[Timing, ...]  # time of a call from Python minus the invocation alone
    runtime: str  # name of the runtime's package
    speed_ratio: float  # speed of a reference graph at the end relative to the start


def interpreter_class() -> tuple[Any, str]:
    """The installed runtime's ``Interpreter`` and the name of its package.

    Raises:
        UsageError: neither runtime is installed.
    """
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            return import_module(f"{package}.interpreter").Interpreter, package
        except ModuleNotFoundError:
            continue
    raise UsageError("measuring needs a TFLite runtime: pip install ai-edge-litert")


def fastest_us(call: Callable[[], object], seconds: float, *, one_thread: bool = True) -> float:
    """Microseconds of an undisturbed call.

    The fastest of several rounds; or the median CPU time of this thread, if that is less because
    other programs ran in every round, as with long calls on a busy machine. (The median, because
    some virtual machines occasionally fail to account CPU time.)

    Args:
        call: what to time.
        seconds: total for all rounds; at least three rounds are made.
        one_thread: whether the call uses this thread only; else only wall time is used.
    """
    call()
    began = time.perf_counter()
    call()
    once = time.perf_counter() - began
    count = max(int(_ROUND_S / max(once, 1e-7)), 1)
    best, busy, end = float("inf"), list[float](), time.perf_counter() + seconds
    while len(busy) < _MIN_ROUNDS or time.perf_counter() < end:
        began, began_busy = time.perf_counter(), time.thread_time()
        for _ in range(count):
            call()
        busy.append((time.thread_time() - began_busy) / count)
        best = min(best, (time.perf_counter() - began) / count)
    return 1e6 * (min(best, median(busy)) if one_thread else best)


def run(
    seconds: float = 50.0, seed: int = 0, progress: Progress = lambda done, all_: None
) -> Readings:
    """Time every sample.

    Args:
        seconds: total timing time; building the graphs comes on top.
        seed: for drawing the samples' shapes.
        progress: called with the number of finished graphs and the total.

    Raises:
        UsageError: the runtime or the schema for building the graphs is not installed.
    """
    interpreter, package = interpreter_class()
    jobs = _jobs(seed)
    reference = chain("ADD_N", 2_000, 48)
    began_us = _time(interpreter, reference, "kernel", _REFERENCE_S)
    later_us: list[float] = []
    works: dict[int, Work] = {}
    best: dict[int, float] = {}
    end = time.monotonic() + _MAX_S
    for turn in range(PASSES):
        for number, (kind, build) in enumerate(jobs):
            progress(turn * len(jobs) + number, PASSES * len(jobs))
            if turn == PASSES - 1 and number % _REFERENCE_EVERY == 0:
                later_us.append(_time(interpreter, reference, "kernel", _REFERENCE_S / 4))
            if turn and (number not in works or time.monotonic() > end):
                continue
            model = build()
            # An op (or op version) that the runtime does not support is skipped.
            try:
                timed = _time(interpreter, model, kind, seconds / PASSES / len(jobs))
            except (RuntimeError, ValueError):
                continue
            if number not in works:
                works[number] = read_work(model)["main"]
            best[number] = min(best.get(number, timed), timed)
    progress(PASSES * len(jobs), PASSES * len(jobs))
    kinds = ("kernel", "part", "far", "mix", "invocation", "call")
    found: dict[str, list[Timing]] = {kind: [] for kind in kinds}
    for number, work in works.items():
        found[jobs[number][0]].append(Timing(work, best[number]))
    # Both lists hold the same graphs in the same order. The fastest times are subtracted, because
    # differences within a single pass are dominated by noise.
    calls = zip(found["call"], found["invocation"], strict=True)
    return Readings(
        kernels=tuple(found["kernel"]),
        parts=tuple(found["part"]),
        far=tuple(found["far"]),
        mixes=tuple(found["mix"]),
        calls=tuple(Timing(call.work, max(call.us - alone.us, 0.0)) for call, alone in calls),
        runtime=package,
        speed_ratio=began_us / min(later_us),
    )


def _jobs(seed: int) -> list[tuple[str, Callable[[], bytes]]]:
    """What to time: (kind of result, function that builds the graph)."""
    drawn = samples(seed)
    jobs: list[tuple[str, Callable[[], bytes]]] = [
        ("kernel", partial(graph, [sample] * _copies(sample), chained=sample.keeps_shape))
        for sample in drawn
    ]
    for count in (1, 2, 4, 16, 48):
        jobs += [("kernel", partial(chain, op, 16, count)) for op in ("ADD", "ADD_N")]
    for count in (2, 3, 8, 9, 32, 33):
        jobs.append(("part", partial(chain, "ADD", 16, count, "ADD_N")))
    jobs += [("part", partial(independent_adds, 16, count)) for count in (2, 8, 24, 48)]
    for size in (8, 1_000, 10_000, 100_000, 1_000_000):
        jobs += [("kernel", partial(variable, size, count)) for count in (1, 4)]
    # Larger than the L2 cache (a few MB), and larger than any cache (25 to 60 MB).
    for size, count in ((20_000, 14), (40_000, 7), (90_000, 3), (20_000, 110), (100_000, 32)):
        jobs.append(("far", partial(independent_adds, size, count)))
    jobs += [("far", partial(_weights, count)) for count in (12, 32, 48)]
    for rows, count in _FORWARD_BACKWARD:
        for kind in FAR_CLASSES:
            jobs.append(("far", partial(forward_backward, kind, rows, count)))
    rng = random.Random(seed)
    small = [sample for sample in drawn if sample.elements <= _MIXED_ELEMENTS]
    for _ in range(_MIXES):
        few = rng.sample(small, _MIXED_KINDS)
        jobs.append(("mix", partial(graph, rng.choices(few, k=_MIXED_OPS))))
    ends: list[tuple[int, ...]] = [(1, fed, 1, layers) for fed in (1, 8) for layers in (0, 64)]
    for size in (1, 1_000, 10_000, 100_000):
        ends += [(size, 1, 1), (size, 4, 1), (size, 4, 4)]
    ends += [(1, 2, 1), (1, 8, 1), (1, 16, 1), (1, 8, 8)]
    for kind, end in product(("invocation", "call"), ends):
        jobs.append((kind, partial(call_overhead, *end)))
    return jobs


def _weights(count: int) -> bytes:
    """A graph of dense layers, each with its own 256 KiB of weights."""
    size = 256
    weights, bias = np.full((size, size), 1e-3, np.float32), np.zeros(size, np.float32)
    shape = (16, size)
    options: tuple[str, dict[str, Any]] = ("FullyConnectedOptions", {})
    return graph([Sample("FULLY_CONNECTED", (shape, weights, bias), (shape,), options)] * count)


def _copies(sample: Sample) -> int:
    copies = next(copies for most, copies in _COPIES if sample.elements >= most)
    return max(copies, _MIN_CHAIN) if sample.keeps_shape else copies


def _time(interpreter: Any, model: bytes, kind: str, seconds: float) -> float:
    ready = interpreter(model_content=model, num_threads=1)
    ready.allocate_tensors()
    arguments = {}
    for place, details in enumerate(ready.get_input_details()):
        size = int(np.prod(details["shape"]))
        if details["dtype"] == np.float32:
            value = np.linspace(0.1, 1.0, size, dtype=np.float32)
        else:
            value = (np.arange(size) % 2).astype(details["dtype"])
        arguments[f"i{place}"] = value.reshape(details["shape"])
        ready.set_tensor(details["index"], arguments[f"i{place}"])
    if kind != "call":
        return fastest_us(ready.invoke, seconds)
    runner = ready.get_signature_runner("main")
    return fastest_us(lambda: runner(**arguments), seconds)


def dense_gflop_s(kernels: tuple[Timing, ...]) -> tuple[float, float, float]:
    """GFLOP/s of products of at least 1 MFLOP: lower quartile, median, upper quartile.

    Args:
        kernels: timings of graphs of one kernel.
    """
    rates = [
        timing.work.flops / timing.us / 1e3
        for timing in kernels
        if timing.work.flops >= _DENSE_FLOPS
        and any(name.startswith(("conv.conv_2d", "matmul")) for name in timing.work.classes)
    ]
    low, middle, high = np.quantile(rates, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def speedup(threads: int) -> float:
    """Speed of a large matrix product with several threads, relative to one thread."""
    if threads == 1:
        return 1.0
    rows = 512
    weights = np.full((rows, rows), 1e-3, np.float32)
    dense = Sample(
        "FULLY_CONNECTED",
        ((rows, rows), weights, np.zeros(rows, np.float32)),
        ((rows, rows),),
        ("FullyConnectedOptions", {}),
    )
    model = graph([dense])
    interpreter, _ = interpreter_class()
    taken = []
    for count in (1, threads):
        ready = interpreter(model_content=model, num_threads=count)
        ready.allocate_tensors()
        ready.set_tensor(ready.get_input_details()[0]["index"], weights)
        taken.append(fastest_us(ready.invoke, 0.5, one_thread=False))
    return max(taken[0] / taken[1], 1.0)
