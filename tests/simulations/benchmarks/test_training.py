"""Real training in the benchmark is the product's own training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import optuna
import pytest

from fieldtune.server.study.load import load_study
from fieldtune.server.study.tuner_options import Fedex
from support.commandline import Command
from tuner.experiment import run, score
from tuner.exploring import FedexPeer
from tuner.federated import MANY_FRESH, Federated
from tuner.optuna_peers import OptunaPeer, random
from tuner.peer import Filtered
from tuner.problem import Reference
from tuner.scoring import by_value

pytestmark = pytest.mark.integration

STUDY = """
[study]
name = "one"
trials = 2
rounds = 3
objectives = ["error", "-macro_f1", "energy_j"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 12
devices = { "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-4b" = 0.5 }
[limits."raspberry-pi-zero-2w"]
energy_j = 0.2
[space.model]
width = { choices = [16] }
depth = { choices = [1] }
[space.client]
learning_rate = { low = 0.01, high = 1.0, log = true }
local_epochs = { low = 1, high = 8, default = 2 }
[space.server]
clients_per_round = { low = 2, high = 8, default = 4 }
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("benchmark") / "one.toml"
    file.write_text(STUDY)
    return file


@pytest.fixture(scope="module")
def problem(study: Path) -> Federated:
    return Federated(study)


def test_a_trial_gives_what_the_command_line_gives_bit_for_bit(
    fieldtune: Command, study: Path, problem: Federated, tmp_path: Path
) -> None:
    ran = fieldtune("tune", study, "--out", tmp_path / "run")
    assert ran.returncode == 0, ran.stderr
    with (tmp_path / "run" / "trials.csv").open() as file:
        row = next(line for line in csv.DictReader(file) if line["state"] == "completed")
    values = problem.study.full_space.defaults().flat()
    found = problem.evaluate(values, 3, int(row["seed"]))
    assert found.objectives[0] == float(row["objective:error"])
    assert found.objectives[1] == -float(row["objective:macro_f1"])
    # The command line calibrates costs by what its clients have reported.
    assert found.objectives[2] == pytest.approx(float(row["objective:energy_j"]), rel=0.1)


def test_fedex_comes_to_what_the_command_line_comes_to_bit_for_bit(
    fieldtune: Command, study: Path, problem: Federated, tmp_path: Path
) -> None:
    file = tmp_path / "fedex.toml"
    file.write_text(study.read_text() + '[tuner]\nname = "fedex"\n')
    ran = fieldtune("tune", file, "--out", tmp_path / "run", "--trials", "3")
    assert ran.returncode == 0, ran.stderr
    with (tmp_path / "run" / "trials.csv").open() as lines:
        *_, row = (line for line in csv.DictReader(lines) if line["state"] == "completed")
    asked = optuna.load_study(
        study_name="one", storage=f"sqlite:///{tmp_path / 'run' / 'study.db'}"
    ).trials[int(row["number"])]
    values, found = problem.explore(asked.params, 3, int(row["seed"]), Fedex())
    assert values["learning_rate"] == float(row["learning_rate"])
    assert values["local_epochs"] == int(row["local_epochs"])
    assert found.objectives[0] == float(row["objective:error"])
    # The command line calibrates costs by what its clients have reported.
    assert found.objectives[2] == pytest.approx(float(row["objective:energy_j"]), rel=0.1)


def test_a_problem_of_one_configuration_trains_it_as_the_whole_problem_does(
    study: Path, problem: Federated
) -> None:
    values = problem.study.full_space.defaults().flat()
    alone = Federated(study, only=[values])
    assert alone.evaluate(values, 1, 5) == problem.evaluate(values, 1, 5)


def test_the_truth_is_the_mean_of_fresh_seeds_and_costs_are_known(problem: Federated) -> None:
    values = problem.study.full_space.defaults().flat()
    truth, known = problem.truth(values), problem.known(values)
    assert known.objectives == {2: truth.objectives[2]}
    assert known.constraints == truth.constraints
    errors = [problem.evaluate(values, 3, seed).objectives[0] for seed in MANY_FRESH]
    assert truth.objectives[0] == pytest.approx(np.mean(errors[:3]))
    assert problem.true_error(values) == pytest.approx(np.mean(errors))
    assert len(set(errors)) > 1
    assert truth.device_s > 0


def test_where_nothing_was_learned_each_measure_is_the_worst_there_is(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "one.toml"
    four = '["error", "worst_error", "macro_f1", "loss"]'
    file.write_text(study.read_text().replace('["error", "-macro_f1", "energy_j"]', four))
    values = load_study(file).full_space.defaults().flat()
    problem = Federated(file, only=[values])
    monkeypatch.setattr(problem, "_train", lambda *_, **__: None)
    assert problem.evaluate(values, 1, 5).objectives == (1.0, 1.0, 0.0, 10.0)


def test_more_rounds_cost_more_and_few_evaluating_clients_are_a_noisier_view(
    study: Path, problem: Federated
) -> None:
    values = problem.study.full_space.defaults().flat()
    short, full = (problem.evaluate(values, rounds, 5) for rounds in (1, 3))
    assert short.device_s < full.device_s
    few = Federated(study, evaluation_share=0.05).evaluate(values, 3, 5)
    assert few.objectives[2] == full.objectives[2]
    assert few.device_s == full.device_s
    # One client's test samples: the same training, another error.
    assert few.objectives[0] != full.objectives[0]


def test_what_fits_nowhere_is_over_a_limit_and_still_has_a_cost(
    study: Path, tmp_path: Path
) -> None:
    tight = tmp_path / "tight.toml"
    limits = "energy_j = 0.2"
    assert limits in study.read_text()
    tight.write_text(
        study.read_text().replace(
            '[limits."raspberry-pi-zero-2w"]\n' + limits, "[limits]\nenergy_j = 1e-6"
        )
    )
    problem = Federated(tight)
    values = problem.study.full_space.defaults().flat()
    known = problem.known(values)
    assert known.constraints["energy_j"] > 0
    assert 0 < known.objectives[2] < 10


def test_a_filtered_run_trains_nothing_that_is_over_a_limit(problem: Federated) -> None:
    class Scaled(Federated):
        reference = Reference((0.0, -1.0, 0.0), (1.0, 0.0, 1.0), 1.331, "the whole range")

    problem.__class__ = Scaled
    for peer in (
        Filtered(OptunaPeer(problem, random, 0), problem),
        FedexPeer(problem, 0),
    ):
        tried = run(problem, peer, 0, 3)
        assert all(each.evaluation.feasible for each in tried)
        assert 0 < score(problem, tried, by_value).true < 1
