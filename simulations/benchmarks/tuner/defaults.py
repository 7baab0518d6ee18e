"""Tuned against default: each study of ``simulations/studies``, as a user would run it.

The study is run by the command line; then its defaults and what it recommends for each device type
are trained again from fresh seeds and evaluated on every client, so that luck in the study counts
for nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fieldtune.server.study.load import load_study
from fieldtune.server.study.objectives import COST_MEASURES
from tuner.federated import Federated
from tuner.problem import Values

STUDIES = Path(__file__).resolve().parents[2] / "studies"
SHOWN = ("inference_ms", "energy_j", "memory_mib", "sent_bytes")
WORTH = 0.2
"""What tuning is to save: this share of the error at no higher cost, or of a cost at no higher
error."""


@dataclass(frozen=True)
class Gain:
    """What a device type gains: (default, tuned) for each measure.

    Attributes:
        study: its name.
        seed: with which it was run.
        device: the device type.
        tuned: the configuration that is recommended for it.
        error: mean over fresh seeds, on every client's test data.
        costs: of this device type, by measure.
        traded: which of the costs are objectives of the study.
    """

    study: str
    seed: int
    device: str
    tuned: Values
    error: tuple[float, float]
    costs: dict[str, tuple[float, float]]
    traded: tuple[str, ...]

    @property
    def saves(self) -> bool:
        """Whether it saves :data:`WORTH` of the error or of a cost, and nothing became worse."""
        return not self.worse and min(self._shares) <= 1.0 - WORTH

    @property
    def worse(self) -> bool:
        """Whether the error or a cost that the study trades off became worse, however little."""
        return max(self._shares) > 1.0

    @property
    def _shares(self) -> list[float]:
        return [share(self.error), *(share(self.costs[name]) for name in self.traded)]


def share(pair: tuple[float, float]) -> float:
    """What is left of the default's; 1 where that is 0."""
    before, after = pair
    return after / before if before else 1.0


def run_study(
    file: Path, out: Path, *, seed: int, trials: int | None, workers: int
) -> dict[str, object]:
    """``fieldtune tune``; its ``pareto.json``.

    Raises:
        RuntimeError: the command failed; its last line is the message.
    """
    command = [sys.executable, "-m", "fieldtune.simulations", "tune", str(file), "--out", str(out)]
    command += ["--workers", str(workers), "--seed", str(seed)]
    command += ["--trials", str(trials)] if trials else []
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().splitlines() or ["nothing"]
        raise RuntimeError(f"fieldtune tune {file.name} ended with {ran.returncode}: {said[-1]}")
    found: dict[str, object] = json.loads((out / "pareto.json").read_text())
    return found


def gains(file: Path, *, seed: int, trials: int | None, workers: int) -> Iterator[Gain]:
    """Each device type's recommendation against the study's defaults, both trained afresh."""
    with tempfile.TemporaryDirectory() as scratch:
        outcome: dict[str, object] = run_study(
            file, Path(scratch) / "run", seed=seed, trials=trials, workers=workers
        )
    default: Values = load_study(file).full_space.defaults().flat()
    points = {point["trial"]: point["configuration"] for point in outcome["front"]}  # type: ignore[attr-defined]
    recommended: dict[str, dict[str, int]] = outcome["recommended"]  # type: ignore[assignment]
    tuned = {device: points[chosen["trial"]] for device, chosen in recommended.items()}
    # The data is dealt out as the study was dealt it, which its seed decides.
    problem = Federated(file, data_seed=seed, only=[default, *tuned.values()])
    for device, values in tuned.items():
        yield _gain(problem, file.stem, seed, device, default, values)


def _gain(
    problem: Federated, study: str, seed: int, device: str, default: Values, tuned: Values
) -> Gain:
    def costs(values: Values) -> dict[str, float]:
        cost = problem.forecast(values).devices[device].cost
        return {name: getattr(cost, name).value for name in COST_MEASURES}

    before, after = costs(default), costs(tuned)
    return Gain(
        study,
        seed,
        device,
        tuned,
        (problem.true_error(default), problem.true_error(tuned)),
        {name: (before[name], after[name]) for name in SHOWN},
        tuple(name for name in problem.objectives if name in SHOWN),
    )
