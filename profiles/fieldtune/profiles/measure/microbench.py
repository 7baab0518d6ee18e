"""Timing kernels of the installed TFLite runtime, one thread, in a minute or two.

Each sample is a graph of some copies of one op; its time is the fastest of several rounds, for what
else runs on the machine only ever adds. A few graphs of many different ops tell what it costs that
caches and branch predictors are cold for each op of a real model.
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
from fieldtune.profiles.costmodel.tflite_work import Work, read_work
from fieldtune.profiles.measure.sample_ops import samples
from fieldtune.profiles.measure.tflite_graphs import (
    Sample,
    before_work,
    chain,
    forth_and_back,
    graph,
    spread,
    variable,
)

# Copies in a graph, by the numbers that one copy reads and writes.
_COPIES = ((60_000, 1), (4_000, 4), (0, 12))
_LEAST_CHAIN = 6
_ROUND_S = 1e-3
_LEAST_ROUNDS = 3
PASSES = 6
"""Over all samples: what slows a machine down, other machines on its host say, lasts longer than a
sample takes, and seldom as long as all passes."""
_MOST_S = 150.0
"""Seconds after which no sample is timed again: a slow board is done with one pass, or two."""
_DENSE_FLOPS = 1e6
_REFERENCE_S = 0.3
_LOOK_EVERY = 80
"""Graphs between two looks at the reference in the last pass. Heat slows all of them, and other
machines on the host some."""
_MIXES, _MIXED_OPS, _MIXED_KINDS, _MIXED_ELEMENTS = 24, 40, 10, 600
_FORTH_AND_BACK = (
    (40, 24), (100, 16), (250, 10), (600, 8), (1_500, 4),
    (4_000, 40), (10_000, 20), (24_000, 10), (48_000, 6), (96_000, 4),
)  # fmt: skip
"""Rows and copies: those of the first line leave the first-level cache, the others the second."""
FAR_CLASSES = ("elementwise", "matmul", "move")
"""Classes of ops that are timed on tensors that have left a cache."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Timing:
    """A graph's work and what one invocation of it took."""

    work: Work
    us: float


@dataclass(frozen=True)
class Readings:
    """What a microbenchmark read."""

    kernels: tuple[Timing, ...]  # graphs of one kernel (or of variables), without Python
    parts: tuple[Timing, ...]  # graphs that XNNPACK takes a part of, then the runtime, and so on
    far: tuple[Timing, ...]  # graphs whose operands leave a cache
    mixes: tuple[Timing, ...]  # graphs of many kernels, without Python
    calls: tuple[Timing, ...]  # what a call from Python took more than the invocation alone
    runtime: str  # name of the runtime's package
    steady: float  # speed of a reference graph in the last pass as a share of that at the start


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
    """Microseconds of a call that nothing interrupts.

    The fastest of several rounds; or, where other programs' turns fall into every round, as they do
    into those of a long call on a busy machine, the median time that this thread had a processor.
    (Not the least: some virtual machines lose a moment's processor time now and then.)

    Args:
        call: what to time.
        seconds: for all rounds together; three are made in any case.
        one_thread: whether the call keeps to this thread; else only the wall clock can tell.
    """
    call()
    began = time.perf_counter()
    call()
    once = time.perf_counter() - began
    count = max(int(_ROUND_S / max(once, 1e-7)), 1)
    best, busy, end = float("inf"), list[float](), time.perf_counter() + seconds
    while len(busy) < _LEAST_ROUNDS or time.perf_counter() < end:
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
        seconds: for the timing itself; building the graphs takes some more.
        seed: of the samples' shapes.
        progress: told how many graphs of how many are done.

    Raises:
        UsageError: no runtime, or no schema to build the graphs with.
    """
    interpreter, package = interpreter_class()
    jobs = _jobs(seed)
    reference = chain("ADD_N", 2_000, 48)
    began_us = _time(interpreter, reference, "kernel", _REFERENCE_S)
    later_us: list[float] = []
    works: dict[int, Work] = {}
    best: dict[int, float] = {}
    end = time.monotonic() + _MOST_S
    for turn in range(PASSES):
        for number, (kind, build) in enumerate(jobs):
            progress(turn * len(jobs) + number, PASSES * len(jobs))
            if turn == PASSES - 1 and number % _LOOK_EVERY == 0:
                later_us.append(_time(interpreter, reference, "kernel", _REFERENCE_S / 4))
            if turn and (number not in works or time.monotonic() > end):
                continue
            model = build()
            # A runtime that lacks an op (or a version of it) is measured on the others.
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
    # Of the same graphs, in the same order. The difference is one of the fastest, for that of a
    # single pass tells more of the machine's moods than of calls.
    calls = zip(found["call"], found["invocation"], strict=True)
    return Readings(
        kernels=tuple(found["kernel"]),
        parts=tuple(found["part"]),
        far=tuple(found["far"]),
        mixes=tuple(found["mix"]),
        calls=tuple(Timing(call.work, max(call.us - alone.us, 0.0)) for call, alone in calls),
        runtime=package,
        steady=began_us / min(later_us),
    )


def _jobs(seed: int) -> list[tuple[str, Callable[[], bytes]]]:
    """What to time: what it is for, and what builds its graph."""
    drawn = samples(seed)
    jobs: list[tuple[str, Callable[[], bytes]]] = [
        ("kernel", partial(graph, [sample] * _copies(sample), chained=sample.keeps_shape))
        for sample in drawn
    ]
    for count in (1, 2, 4, 16, 48):
        jobs += [("kernel", partial(chain, op, 16, count)) for op in ("ADD", "ADD_N")]
    for count in (2, 3, 8, 9, 32, 33):
        jobs.append(("part", partial(chain, "ADD", 16, count, "ADD_N")))
    jobs += [("part", partial(spread, 16, count)) for count in (2, 8, 24, 48)]
    for size in (8, 1_000, 10_000, 100_000, 1_000_000):
        jobs += [("kernel", partial(variable, size, count)) for count in (1, 4)]
    # Past the second-level cache, and past any: a few MB, and 25 to 60 MB.
    for size, count in ((20_000, 14), (40_000, 7), (90_000, 3), (20_000, 110), (100_000, 32)):
        jobs.append(("far", partial(spread, size, count)))
    jobs += [("far", partial(_weights, count)) for count in (12, 32, 48)]
    for rows, count in _FORTH_AND_BACK:
        for kind in FAR_CLASSES:
            jobs.append(("far", partial(forth_and_back, kind, rows, count)))
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
        jobs.append((kind, partial(before_work, *end)))
    return jobs


def _weights(count: int) -> bytes:
    """A graph of dense layers, each with a quarter of a megabyte of weights of its own."""
    size = 256
    weights, bias = np.full((size, size), 1e-3, np.float32), np.zeros(size, np.float32)
    shape = (16, size)
    options: tuple[str, dict[str, Any]] = ("FullyConnectedOptions", {})
    return graph([Sample("FULLY_CONNECTED", (shape, weights, bias), (shape,), options)] * count)


def _copies(sample: Sample) -> int:
    copies = next(copies for most, copies in _COPIES if sample.elements >= most)
    return max(copies, _LEAST_CHAIN) if sample.keeps_shape else copies


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
    """Rates of products of a megaflop or more, in GFLOP/s: lower quartile, median, upper quartile.

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


def speedup(threads: int, seconds: float = 0.5) -> float:
    """How much faster a large matrix product is with several threads than with one."""
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
        taken.append(fastest_us(ready.invoke, seconds, one_thread=False))
    return max(taken[0] / taken[1], 1.0)
