"""Time to the same error on a churning fleet, ``buffered`` against ``sync``: ``python churn.py``.

100 clients whose speeds (computing and link) spread over a factor of ten are away for 30 % of the
time, and 5 % of their uploads are lost. The median client's training of one epoch takes a minute,
transfers included, so that clients come and go while they train: the lengths of absences, and the
time after which a lost upload is noticed, are the defaults of a study file. The target is the error
to which 75 rounds of ten clients come, in the mode ``sync`` with default settings, times 1.1.

Both modes are tuned by random search with the same number of configurations, each judged by the
mean time to the target over two seeds, and may have as many clients at work at a time. A training
has 1,500 client updates to reach the target, and ends before where its configuration cannot be the
best any more. The best configuration of each mode is run again with five fresh seeds: the table has
the median time to the target over these, and the shortest and longest. Of the 70,000 images of
``fashion`` 3,000 are dealt out, as many samples as ``spoken`` has.

``python churn.py digits`` runs one problem. ``--memory`` instead trains 100 rounds of 50 of 1,000
clients of all of ``fashion``, and prints the memory of this process over time.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # several threads wait for each other on busy cores

import numpy as np
from churning_fleet import FEWER, PROBLEMS, TYPICAL_S, Problem

from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.study.server_options import Mode
from fieldtune.server.study.space import Value

CONFIGURATIONS = 30
TUNED_WITH, FRESH = (1, 2), (101, 102, 103, 104, 105)
AT_ONCE = (10, 20, 40)


def drawn(mode: Mode, seed: int) -> dict[str, Value]:
    """A configuration of random search."""
    rng = np.random.default_rng([seed, 3])
    knobs: dict[str, Any] = {
        "learning_rate": float(0.03 * (0.5 / 0.03) ** rng.random()),
        "local_epochs": int(rng.choice([1, 2, 4])),
        "deadline_s": float(TYPICAL_S * rng.choice([1, 2, 4, 8])),
        "server_learning_rate": float(rng.choice([0.5, 1.0])),
    }
    if mode == "sync":
        at_once, over = int(rng.choice(AT_ONCE)), float(rng.choice([1.0, 1.3, 2.0]))
        return {**knobs, "clients_per_round": round(at_once / over), "over_selection": over}
    return {
        **knobs,
        "clients_per_round": 10,
        "concurrency": int(rng.choice(AT_ONCE)),
        "buffer_size": int(rng.choice([3, 5, 10])),
        "staleness_exponent": float(rng.choice([0.0, 0.5, 1.0])),
    }


def seconds_to(curve: list[tuple[float, float]], target: float) -> float:
    """When a training reached the target; infinite where it did not."""
    return next((seconds for seconds, error in curve if error <= target), math.inf)


def tuned(problem: Problem, mode: Mode, target: float) -> dict[str, Value]:
    """The configuration with the shortest mean time over :data:`TUNED_WITH`."""
    best, shortest_s = drawn(mode, 0), math.inf
    for number in range(CONFIGURATIONS):
        knobs, total_s = drawn(mode, number), 0.0
        for seed in TUNED_WITH:
            # Beyond this time its sum over the seeds is no longer the smallest.
            curve = problem.curve(mode, knobs, seed, target, most_s=shortest_s - total_s)
            total_s += seconds_to(curve, target)
            if total_s >= shortest_s:
                break
        else:
            best, shortest_s = knobs, total_s
    return best


def compare(name: str, problem: Problem) -> None:
    """Print a row of the table."""
    default = {"learning_rate": 0.1, "local_epochs": 2, "clients_per_round": 10}
    _, last = problem.curve("sync", default, seed=1, rounds=75)[-1]
    target = 1.1 * last

    row, times = [f"{name:<9}{100 * target:>7.1f} %"], dict[str, float]()
    modes: tuple[Mode, ...] = ("sync", "buffered")
    for mode in modes:
        best = tuned(problem, mode, target)
        found = [seconds_to(problem.curve(mode, best, seed, target), target) for seed in FRESH]
        times[mode] = median(found)
        shown = [each / 3600 for each in (times[mode], min(found), max(found))]
        row.append("{:>7.2f} h ({:.2f} to {:.2f})".format(*shown))
        print(f"# {name}, {mode}: {best}", flush=True)
    row.append(f"{times['sync'] / times['buffered']:>6.2f}x")
    print("  ".join(row), flush=True)


def memory(problem: Problem) -> None:
    """Print the memory of this process, now and at its peak, as rounds are done."""
    page_mib = resource.getpagesize() / 2**20

    def goes_on(rounds: int, measures: Mapping[str, float]) -> bool:
        if rounds % 10 == 0:
            now_mib = page_mib * int(Path("/proc/self/statm").read_text().split()[1])
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{rounds:>4} rounds  {now_mib:>7.1f} MiB  {peak_mib:>7.1f} MiB", flush=True)
        return True

    server = {"clients_per_round": 50, "concurrency": 50, "buffer_size": 10}
    for mode in ("sync", "buffered"):
        print(mode)
        client = {"learning_rate": 0.1, "local_epochs": 1}
        problem.converse(problem.plan(mode, client, server, 1, 100, goes_on))


@cache
def _service() -> CompileService:
    return CompileService(ArtefactCache())


def main() -> None:
    """Print the table, or the memory."""
    parser = argparse.ArgumentParser(description="buffered against sync on a churning fleet")
    parser.add_argument("problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    with _service() as service:
        if options.memory:
            memory(Problem.of("fashion", service, clients=1000))
            return
        print(f"{'problem':<9}{'target':>9}  {'sync':>24}  {'buffered':>24}  ratio")
        for name in options.problems:
            compare(name, Problem.of(name, service, samples=FEWER.get(name)))


if __name__ == "__main__":
    main()
