"""Which hyperparameter each objective depends on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fieldtune.server.outcomes.trial import Completed, Forecast, Learned, Proposal
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Parameter, Space
from fieldtune.server.tuner.importance import importances

SPACE = Space(
    model={"width": Parameter(choices=(1, 2, 3, 4)), "fixed": Parameter(choices=(7,))},
    client={"rate": Parameter(low=0.0, high=1.0)},
)
GOALS = [MEASURES["accuracy"], MEASURES["inference_ms"], MEASURES["storage_mib"]]


def outcomes(count: int) -> list[Completed]:
    found = []
    for i in range(count):
        rate, width = (i * 0.381966) % 1.0, 1 + i % 4
        values = {"accuracy": rate, "inference_ms": float(width), "storage_mib": 1.0}
        configuration = SPACE.configuration({"width": width, "rate": rate, "fixed": 7})
        learned = Learned({"accuracy": rate}, 500, 0.0, {}, simulated=True)
        found.append(
            Completed(Proposal(i, configuration), Forecast({}, (), {}), learned, values, 0)
        )
    return found


def test_each_objective_names_the_parameter_it_depends_on() -> None:
    found = importances(SPACE, GOALS, outcomes(60))
    assert set(found) == {"accuracy", "inference_ms"}  # storage is the same for all
    assert found["accuracy"]["rate"] > 0.8
    assert found["inference_ms"] == {"width": 1.0, "rate": 0.0}  # no rate changes a latency
    for shares in found.values():
        assert set(shares) == {"width", "rate"}
        assert sum(shares.values()) == pytest.approx(1)


def test_few_trials_say_nothing_and_those_outside_a_narrowed_space_do_not_count() -> None:
    assert importances(SPACE, GOALS, outcomes(9)) == {}
    narrowed = Space(model=SPACE.model, client={"rate": Parameter(low=0.0, high=0.1)})
    assert importances(narrowed, GOALS, outcomes(60)) == {}


def test_scikit_learn_is_not_imported_for_it() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_importance as test; "
        "assert test.importances(test.SPACE, test.GOALS, test.outcomes(60)); "
        "assert 'sklearn' not in sys.modules; import sklearn"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
