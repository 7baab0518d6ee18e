"""Objectives: each measure is taken in its own direction, in every place that compares trials."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from rich.console import Console

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import RunFolderError, StudyError
from fieldtune.server.bo.known import Known
from fieldtune.server.costs.feasible_space import Screening
from fieldtune.server.outcomes.front import non_dominated
from fieldtune.server.outcomes.trial import Completed, DeviceForecast, Forecast, Learned, Proposal
from fieldtune.server.report.check import print_check
from fieldtune.server.report.view import objectives
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Summary, to_json
from fieldtune.server.results.summarize import summarise
from fieldtune.server.session.session import open_tuner
from fieldtune.server.study.changes import identity
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.objectives import COST_MEASURES, MEASURES
from fieldtune.server.study.space import Configuration, Parameter, Space
from fieldtune.server.tuner import OptunaTuner
from fieldtune.server.tuner.early_stopping import Rungs
from fieldtune.server.tuner.suggestions import prospects

MAXIMISED = ["accuracy", "macro_f1", "precision", "recall", "auc", "metric"]
STUDY = """
[study]
name = "s"
trials = 4
rounds = 3
objectives = OBJECTIVES
[task]
data = "digits"
model = "mlp"
metric = "METRIC"
[fleet]
clients = 10
devices = { "raspberry-pi-5" = 1.0 }
[tuner]
name = "mo-asha"
[space.client]
learning_rate = { low = 0.01, high = 1.0, log = true }
"""


TARGET = "target_error = 0.1\nevaluate_every = 1"
NOISE = "[space.server]\ndp_clip = 1.0\ndp_noise = 1.0\n"
LIMIT = "[limits]\ntime_h = 1.0\n"


def text(*names: str, metric: str = "accuracy") -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    if "time_to_error_h" in names:
        return text(metric=metric).replace("[]", f"[{listed}]\n{TARGET}") + LIMIT
    if "epsilon" in names:
        return text(metric=metric).replace("[]", f"[{listed}]") + NOISE
    return STUDY.replace("OBJECTIVES", f"[{listed}]").replace("METRIC", metric)


def study(*names: str, metric: str = "accuracy") -> StudyConfig:
    return parse_study(text(*names, metric=metric), "s.toml")


def trial(number: int, accuracy: float) -> Completed:
    learned = Learned(
        {"accuracy": accuracy, "error": 0.5}, 100, 0, {}, True, rounds=3,
        curve={1: {"accuracy": accuracy, "error": 0.5}},
    )  # fmt: skip
    proposal = Proposal(number, Configuration({}, {"learning_rate": 0.1 + number / 100}, {}))
    cost: Any = SimpleNamespace(**dict.fromkeys(COST_MEASURES))  # what no objective asks for
    forecast = Forecast({"raspberry-pi-5": DeviceForecast(10, 10, cost, {})}, (0,), {})
    return Completed(proposal, forecast, learned, {"accuracy": accuracy}, 0)


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_has_its_own_direction(name: str) -> None:
    (objective,) = study(name, metric="auc").study.objectives
    assert objective.direction == ("maximize" if name in MAXIMISED else "minimize")
    assert objective.name == name


@pytest.mark.parametrize("name", MAXIMISED)
def test_a_minus_may_say_that_a_maximised_measure_is_maximised(name: str) -> None:
    with_minus, without = study(f"-{name}", metric="auc"), study(name, metric="auc")
    assert with_minus == without
    assert identity(with_minus) == identity(without)
    # As it stands in the databases of earlier versions.
    assert f'"objectives":["-{name}"]' in identity(without)


@pytest.mark.parametrize("name", ["error", "worst_error", "loss", "inference_ms", "energy_j"])
def test_a_minus_that_says_the_opposite_of_the_measure_is_refused(name: str) -> None:
    with pytest.raises(StudyError) as refused:
        study(f"-{name}")
    assert str(refused.value) == (
        f"s.toml: study.objectives has '-{name}', which would maximise {name}, but {name} is "
        f"always minimised: write '{name}'"
    )


def test_a_measure_with_and_without_its_minus_is_named_twice() -> None:
    with pytest.raises(StudyError, match="names the objective 'accuracy' twice"):
        study("accuracy", "error", "-accuracy")


def test_the_auc_is_an_objective_only_where_it_is_the_metric() -> None:
    assert study("auc", metric="auc")
    with pytest.raises(StudyError, match=r"'auc'.*set task.metric = 'auc' \(it is 'accuracy'\)"):
        study("auc")


@pytest.mark.parametrize("name", ["accuracy", "-accuracy"])
def test_the_front_and_the_recommendation_are_of_the_most_accurate_trial(name: str) -> None:
    trials = [trial(0, 0.11), trial(1, 0.82), trial(2, 0.5)]
    (best,) = non_dominated(study(name), trials)
    assert best.proposal.number == 1
    summary = summarise(study(name), trials, {}, {})
    assert [point.trial for point in summary.front] == [1]
    assert summary.recommended["raspberry-pi-5"].trial == 1


def test_the_most_accurate_trial_goes_on_at_a_rung() -> None:
    rungs = Rungs(study("accuracy", "error"))
    others = [trial(number, accuracy) for number, accuracy in enumerate((0.4, 0.5, 0.6))]
    nowhere = Forecast({}, (), {})
    assert rungs.goes_on(1, nowhere, {"accuracy": 0.82, "error": 0.5}, others)
    assert not rungs.goes_on(1, nowhere, {"accuracy": 0.11, "error": 0.5}, others)


def test_prospects_are_sought_where_accuracy_is_high() -> None:
    space = Space(client={"rate": Parameter(low=0.0, high=1.0)})

    def at(number: int) -> Completed:
        rate = number / 11
        proposal = Proposal(number, space.configuration({"rate": rate}))
        learned = Learned({"accuracy": rate}, 100, 0, {}, True)
        return Completed(proposal, Forecast({}, (), {}), learned, {"accuracy": rate**2 / 2}, 0)

    found = prospects(
        space, study("accuracy").study.objectives, [at(n) for n in range(11)],
        lambda _: Known({}, {}), seed=0, most=1,
    )  # fmt: skip
    assert all(float(each.configuration.client["rate"]) > 0.5 for each in found)
    assert found


def test_pareto_json_says_what_is_maximised_and_is_read_back() -> None:
    summary = summarise(study("accuracy", "error"), [], {}, {})
    assert '"objectives": [\n  "-accuracy",\n  "error"\n ]' in to_json(summary)
    read = Summary.model_validate_json(to_json(summary))
    assert [(goal.name, goal.maximised) for goal in objectives(read)] == [
        ("accuracy", True), ("error", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("-accuracy", "accuracy", "minimised accuracy; it is maximised now"),
        ("error", "-error", "maximised error; it is minimised now"),
    ],
)
def test_a_pareto_json_of_the_other_direction_is_not_shown(
    before: str, after: str, sentence: str
) -> None:
    made = to_json(summarise(study("accuracy", "error"), [], {}, {}))
    with pytest.raises(RunFolderError, match=sentence):
        Summary.model_validate_json(made.replace(f'"{before}"', f'"{after}"'))


def began(folder: Path, name: str, direction: str) -> None:
    """A run's folder as an earlier version left it, which took the direction from the sign."""
    (folder / "study.toml").write_text(text(name))
    storage = f"sqlite:///{folder / 'study.db'}"
    db = optuna.create_study(storage=storage, study_name="s", directions=[direction])
    db.set_user_attr(
        "fieldtune:study", identity(study(name)).replace('["-accuracy"]', f'["{name}"]')
    )


@pytest.mark.parametrize("now", ["accuracy", "-accuracy"])
def test_a_study_that_minimised_accuracy_does_not_go_on_in_the_other_direction(
    now: str, tmp_path: Path
) -> None:
    began(tmp_path, "accuracy", "minimize")
    with (
        RunFolder(tmp_path, text(now)) as folder,
        pytest.raises(RunFolderError, match="minimised accuracy; it is maximised now: start"),
    ):
        open_tuner(folder)


@pytest.mark.parametrize("now", ["accuracy", "-accuracy"])
def test_a_study_that_maximised_accuracy_goes_on(now: str, tmp_path: Path) -> None:
    began(tmp_path, "-accuracy", "maximize")
    with RunFolder(tmp_path, text(now)) as folder:
        assert open_tuner(folder).ask().number == 0


def test_the_tuner_maximises_accuracy(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    OptunaTuner(
        file, name="s", identity="s", space=study("accuracy").full_space,
        objectives=study("error", "accuracy").study.objectives, seed=0,
    )  # fmt: skip
    made = optuna.load_study(study_name="s", storage=f"sqlite:///{file}")
    assert [each.name for each in made.directions] == ["MINIMIZE", "MAXIMIZE"]


def test_the_check_says_what_is_maximised() -> None:
    said, nothing = StringIO(), Screening(1, 1, (), {}, {}, {})
    config = study("accuracy", "error", "energy_j")
    members = [Description(
        client=0, profile="raspberry-pi-5", train_samples=1, test_samples=1, input_shape=(1,),
        classes=2, runtime="x",
    )]  # fmt: skip
    print_check(config, members, nothing, Console(file=said, width=200))
    assert "minimising error, energy_j, maximising accuracy" in said.getvalue()


def test_the_check_rounds_no_share_to_nothing_or_all() -> None:
    config = study("error")
    profile = "raspberry-pi-5"
    members = [Description(
        client=0, profile=profile, train_samples=1, test_samples=1, input_shape=(1,), classes=2,
        runtime="x",
    )]  # fmt: skip
    some = (config.full_space.defaults(),) * 997
    screening = Screening(1000, 1, some, {"round_s": 3}, {profile: 998}, {"round_s": 0.5})
    said = StringIO()
    print_check(config, members, screening, Console(file=said, width=200))
    assert "99.8 % of the space" in said.getvalue()
    assert "< 1 % of the space" in said.getvalue()
    assert "99.7 % of the space can be trained on" in said.getvalue()


def test_the_check_breaks_no_word_in_80_columns_and_rounds_defaults() -> None:
    widths = ", ".join(str(8 * n) for n in range(1, 40))
    config = parse_study(
        f"{text('error')}[space.model]\nwidth = {{ choices = [{widths}] }}\n[space.server]\n"
        "server_learning_rate = { low = 1e-3, high = 1.0, log = true }\n", "s",
    )  # fmt: skip
    name = "raspberry-pi-3b-plus-with-a-very-long-name"
    members = [Description(
        client=0, profile=name, train_samples=1, test_samples=1, input_shape=(1,), classes=2,
        runtime="x",
    )]  # fmt: skip
    said, nothing = StringIO(), Screening(1, 1, (), {}, {}, {})
    print_check(config, members, nothing, Console(file=said, width=80))
    printed = said.getvalue()
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    for word in (name, "server_learning_rate", "0.0316", "304, 312"):
        assert word in printed, word
