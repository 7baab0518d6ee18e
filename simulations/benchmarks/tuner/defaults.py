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
from dataclasses import dataclass
from pathlib import Path

from fieldtune.server.study import COST_MEASURES
from tuner.federated import Federated
from tuner.problem import Values

STUDIES = Path(__file__).resolve().parents[2] / "studies"
SHOWN = ("inference_ms", "energy_j", "memory_mib")


@dataclass(frozen=True)
class Gain:
    """What a device type gains: (default, tuned) for each measure."""

    study: str
    device: str
    error: tuple[float, float]
    costs: dict[str, tuple[float, float]]


def run_study(file: Path, out: Path, *, trials: int | None, workers: int) -> dict[str, object]:
    """``fieldtune tune``; its ``pareto.json``.

    Raises:
        RuntimeError: the command failed; its last line is the message.
    """
    command = [sys.executable, "-m", "fieldtune.simulations", "tune", str(file), "--out", str(out)]
    command += ["--workers", str(workers)]
    command += ["--trials", str(trials)] if trials else []
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().splitlines() or ["nothing"]
        raise RuntimeError(f"fieldtune tune {file.name} ended with {ran.returncode}: {said[-1]}")
    found: dict[str, object] = json.loads((out / "pareto.json").read_text())
    return found


def gains(file: Path, *, trials: int | None, workers: int) -> list[Gain]:
    """Each device type's recommendation against the study's defaults, both trained afresh."""
    with tempfile.TemporaryDirectory() as scratch:
        outcome: dict[str, object] = run_study(
            file, Path(scratch) / "run", trials=trials, workers=workers
        )
    problem = Federated(file)
    default: Values = problem.study.full_space.defaults().flat()
    points = {point["trial"]: point["configuration"] for point in outcome["front"]}  # type: ignore[attr-defined]
    recommended: dict[str, dict[str, int]] = outcome["recommended"]  # type: ignore[assignment]
    return [
        _gain(problem, file.stem, device, default, points[chosen["trial"]])
        for device, chosen in recommended.items()
    ]


def _gain(problem: Federated, study: str, device: str, default: Values, tuned: Values) -> Gain:
    def costs(values: Values) -> dict[str, float]:
        cost = problem.forecast(values).devices[device].cost
        return {name: getattr(cost, name).value for name in COST_MEASURES}

    before, after = costs(default), costs(tuned)
    return Gain(
        study,
        device,
        (problem.true_error(default), problem.true_error(tuned)),
        {name: (before[name], after[name]) for name in SHOWN},
    )
