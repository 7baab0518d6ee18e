"""A study of many cheap trials: what a trial costs the coordinator, early and late in the study.

usage: python simulations/benchmarks/many_trials.py [--trials 5000] [--tuner random]
           [--profile FROM TO]

The clients are pretended: they answer at once, with random numbers that depend on the
configuration. All else is the real thing: the tuner, the database, the cost model, the run folder
and the report. CPU time of the coordinator's process by trial, size of the folder, and the time and
the size of the report.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    TrainReport,
    TrainRequest,
    VariantRequest,
)
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.federation.fleet import Addressed, Reply
from fieldtune.server.report.html import render_html
from fieldtune.server.report.run_info import run_info
from fieldtune.server.results.run_folder import read_summary
from fieldtune.server.session.command import OpenedFleet, run_study

STUDY = """
[study]
name = "many"
trials = {trials}
rounds = 1
objectives = ["error", "inference_ms"]
[task]
data = "digits"
model = "mlp"
variants = ["fp32"]
[fleet]
clients = 4
devices = {{ "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }}
[space.model]
width = {{ choices = [8, 16, 32] }}
[space.client]
learning_rate = {{ low = 0.01, high = 1.0, log = true }}
[space.server]
clients_per_round = {{ low = 2, high = 4 }}
server_momentum = {{ low = 0.0, high = 0.9 }}
[tuner]
name = "{tuner}"
"""
TRAINED, TESTED, CLASSES = 40, 200, 10


class PretendedFleet:
    """Clients that answer at once.

    Args:
        window: trials whose costs are profiled, the first and the one after the last.

    Attributes:
        began_s: CPU time of this process when a trial was sent, by trial.
        profile: of the trials of the window.
    """

    def __init__(self, window: tuple[int, int]) -> None:
        self._members = [
            Description(
                client=client, profile="raspberry-pi-5" if client % 2 else "raspberry-pi-zero-2w",
                train_samples=TRAINED, test_samples=TESTED, input_shape=(8, 8, 1),
                classes=CLASSES, runtime="none",
            )
            for client in range(4)
        ]  # fmt: skip
        self._open: deque[Addressed] = deque()
        self._window, self.profile = window, cProfile.Profile(time.process_time)
        self.began_s: dict[int, float] = {}

    def members(self) -> Sequence[Description]:
        """Four of them."""
        return self._members

    def joined(self) -> Sequence[Description]:
        """Nobody."""
        return []

    def connected(self) -> None:
        """All are."""

    def close(self) -> None:
        """There is nothing to close."""

    def send(self, requests: Sequence[Addressed]) -> None:
        """Keep them until somebody listens."""
        trial = requests[0].request.trial
        if trial not in self.began_s:
            self.began_s[trial] = time.process_time()
            if trial == self._window[0]:
                self.profile.enable()
            elif trial == self._window[1]:
                self.profile.disable()
        self._open.extend(requests)

    def receive(self, timeout_s: float) -> Sequence[Reply]:
        """All replies."""
        replies = [Reply(each.client, self._report(each)) for each in self._open]
        self._open.clear()
        return replies

    def _report(self, asked: Addressed) -> TrainReport | EvaluateReport:
        request, profile = asked.request, self._members[asked.client].profile
        common: dict[str, Any] = {
            "trial": request.trial, "round": request.round, "simulated": True, "energy_j": 0.01,
        }  # fmt: skip
        if isinstance(request, TrainRequest):
            ms = 1.1 * _call_ms(asked.model, profile, "train")
            rng = np.random.default_rng(request.seed)
            step = rng.normal(0, request.hyperparameters["learning_rate"], request.weights.size)
            weights = request.weights + step.astype(np.float32)
            return TrainReport(
                **common, weights=weights, samples=TRAINED, steps=5, loss=1.0,
                wall_s=5e-3 * ms, call_p50_ms=ms,
            )  # fmt: skip
        kind = "" if isinstance(request, VariantRequest) else "evaluate"
        ms = 1.1 * _call_ms(asked.model, profile, kind)
        rng = np.random.default_rng([request.trial, asked.client])
        spread = 0.0 if isinstance(request, VariantRequest) else float(request.weights.std())
        hits = int(rng.binomial(TESTED, 1 / (1 + spread)))
        actual = (TESTED, *[0] * (CLASSES - 1))
        return EvaluateReport(
            **common, samples=TESTED, loss_sum=1.0, hits=(hits, *actual[1:]), actual=actual,
            predicted=actual, wall_s=1e-2 * ms, call_p50_ms=ms, inference_ms=ms / 8,
        )  # fmt: skip


@cache
def _call_ms(model: bytes, profile: str, kind: str) -> float:
    works = read_work(model)
    work = works.get(kind) or next(iter(works.values()))
    return call_ms(load_profile(profile), work, lasting=kind == "train").value


def run(trials: int, tuner: str, fleet: PretendedFleet, folder: Path) -> Table:
    """Run the study, and put what it took into a table."""
    path = folder / "run"
    study = folder / "many.toml"
    study.write_text(STUDY.format(trials=trials, tuner=tuner))

    @contextmanager
    def fleet_of(*_: object) -> Iterator[OpenedFleet]:
        yield fleet, None

    with (folder / "out").open("w") as out, redirect_stdout(out), redirect_stderr(out):
        run_study(study, path, trials=None, seed=None, warm_start=(), fleet_of=fleet_of)
    fleet.began_s[trials] = time.process_time()
    summary = read_summary(path)
    began = time.process_time()
    page = render_html(summary, run_info(path, summary))
    report_s = time.process_time() - began

    table = Table("trials", "CPU ms a trial", title=f"{trials} trials of {tuner}")
    for first in _windows(trials):
        last = min(first + 100, trials)
        each_ms = 1e3 * (fleet.began_s[last] - fleet.began_s[first]) / (last - first)
        table.add_row(f"{first} to {last}", f"{each_ms:.1f}")
    sizes = {each: each.stat().st_size for each in path.rglob("*") if each.is_file()}
    table.caption = (
        f"report {report_s:.2f} s, {len(page) / 2**20:.2f} MiB; folder "
        f"{sum(sizes.values()) / 2**20:.1f} MiB in {len(sizes)} files, of which "
        + ", ".join(
            f"{each.name} {size / 2**20:.1f}"
            for each, size in sorted(sizes.items(), key=lambda pair: -pair[1])[:4]
        )
    )
    return table


def _windows(trials: int) -> list[int]:
    """The first trials of which the costs are shown: later ones cost more, if any do."""
    return sorted({0, 100, *range(1000, trials - 100, 1000), max(trials - 100, 0)})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--tuner", default="random", help="[tuner] name")
    parser.add_argument(
        "--profile", nargs=2, type=int, default=(-1, -1), metavar=("FROM", "TO"),
        help="print what these trials spend their time on",
    )  # fmt: skip
    given = parser.parse_args()
    fleet = PretendedFleet((given.profile[0], given.profile[1]))
    with tempfile.TemporaryDirectory() as scratch:
        Console().print(run(given.trials, given.tuner, fleet, Path(scratch)))
    if given.profile[1] > 0:
        pstats.Stats(fleet.profile).sort_stats("cumtime").print_stats(60)


if __name__ == "__main__":
    main()
