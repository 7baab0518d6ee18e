"""What samplers are shown of finished trials: costs and limits as formulas have them today."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from fieldtune.server.bo import Known
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Forecast,
    Infeasible,
    Learned,
    Proposal,
)
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Parameter, Space
from fieldtune.server.tuner import OptunaTuner

pytestmark = pytest.mark.integration

SPACE = Space(client={"x": Parameter(low=0.0, high=1.0), "kind": Parameter(choices=(1, 2, 3))})
SHOWN: list[FrozenTrial] = []


class Onlooker(optuna.samplers.RandomSampler):
    """Remembers what it was shown last."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        SHOWN[:] = study.get_trials(deepcopy=False)
        assert [t.values for t in study._get_trials(use_cache=True)] == [t.values for t in SHOWN]
        return super().infer_relative_search_space(study, trial)


def onlooker(*, seed: int, known: object) -> Onlooker:
    return Onlooker(seed=seed)


def tuner(folder: Path, sampler: str) -> OptunaTuner:
    return OptunaTuner(
        folder / "study.db", name="s", identity="s", space=SPACE,
        objectives=(MEASURES["error"], MEASURES["energy_j"]), seed=0, sampler=sampler,
    )  # fmt: skip


def formulas(cap: float, price: float = 1.0) -> Any:
    """Energy is ``price x`` joules, of which a limit allows ``cap``."""

    def known(values: Mapping[str, Any]) -> Known:
        energy_j = price * (0.1 + values["x"])
        return Known({1: energy_j}, {"energy_j": energy_j / cap - 1, "coverage": -0.5})

    return known


def completed(proposal: Proposal, known: Any) -> Completed:
    """The larger ``x`` the better, and the dearer."""
    said = known(proposal.configuration.flat())
    error = 1.0 - 0.9 * float(proposal.configuration.client["x"])
    learned = Learned({"error": error}, 10, 0, {}, True)
    objectives = {"error": error, "energy_j": said.objectives[1]}
    return Completed(proposal, Forecast({}, (), said.constraints), learned, objectives, 0)


def test_samplers_see_costs_and_limits_of_today_and_the_file_keeps_what_was_told(
    tmp_path: Path,
) -> None:
    study = tuner(tmp_path, f"{__name__}:onlooker")
    before, today = formulas(2.0), formulas(0.1, price=3.0)
    study.tell(completed(study.ask(formulas=before), before))
    ruled_out = study.ask()
    study.tell(Infeasible(ruled_out, Forecast({}, (), {"coverage": 0.2, "energy_j": 0.5})))
    study.tell(Failed(study.ask(), "no reason"))
    study.ask()
    was_x = SHOWN[0].params["x"]
    assert SHOWN[0].values == [1 - 0.9 * was_x, 0.1 + was_x]
    study.ask(formulas=today)
    trained, infeasible, failed = SHOWN[:3]
    energy_j = 3 * (0.1 + was_x)
    assert trained.values == [1 - 0.9 * was_x, energy_j]
    assert trained.constraints == {"coverage": -0.5, "energy_j": energy_j / 0.1 - 1}
    assert list(trained.constraints) == ["coverage", "energy_j"]
    # What was not trained has nothing to say of costs, whatever the limits have become.
    assert infeasible.constraints == {"coverage": 0.2, "energy_j": 0.5}
    assert (failed.state, failed.constraints) == (TrialState.FAIL, {})
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    stored = optuna.load_study(study_name="s", storage=storage).trials[0]
    assert stored.values == [1 - 0.9 * was_x, 0.1 + was_x]
    assert stored.system_attrs["constraints"] == [-0.5, (0.1 + was_x) / 2 - 1]


def test_a_trial_that_fits_no_device_any_more_keeps_the_cost_it_was_told(tmp_path: Path) -> None:
    study, before = tuner(tmp_path, f"{__name__}:onlooker"), formulas(2.0)
    first = completed(study.ask(formulas=before), before)
    study.tell(first)
    nowhere = {"formulas": lambda values: Known({1: float("inf")}, {"coverage": 0.3})}
    study.ask(**nowhere)
    assert SHOWN[0].values == list(first.objectives.values())
    assert SHOWN[0].constraints == {"coverage": 0.3}
    # Whatever the report says of it meanwhile.
    study.revise([replace(first, objectives={**first.objectives, "energy_j": 9.0})])
    SHOWN.clear()
    again = tuner(tmp_path, f"{__name__}:onlooker")
    again.ask()  # what was left running
    again.ask(**nowhere)
    assert SHOWN[0].values == list(first.objectives.values())


def test_samplers_see_what_was_told_of_a_trial_that_was_ruled_out_whatever_it_comes_to_now(
    tmp_path: Path,
) -> None:
    study, told = tuner(tmp_path, f"{__name__}:onlooker"), {"coverage": 0.2, "energy_j": 0.5}
    study.tell(ruled_out := Infeasible(study.ask(), Forecast({}, (), told)))
    study.revise([replace(ruled_out, forecast=Forecast({}, (), {"coverage": -0.1}))])
    for each in (study, tuner(tmp_path, f"{__name__}:onlooker")):
        SHOWN.clear()
        each.tell(Failed(each.ask(), "no reason"))
        assert SHOWN[0].constraints == told


def test_a_study_that_is_opened_again_shows_what_was_told_from_the_beginning(
    tmp_path: Path,
) -> None:
    study, known = tuner(tmp_path, "grey"), formulas(2.0)
    study.tell(told := completed(study.ask(), known))
    study.revise([replace(told, objectives={**told.objectives, "energy_j": 9.0})])
    again = tuner(tmp_path, "grey")
    assert again._study.get_trials()[0].values == list(told.objectives.values())


def test_trials_are_read_twice_for_each_that_is_asked_and_told(tmp_path: Path) -> None:
    study, known = tuner(tmp_path, "grey"), formulas(2.0)
    for _ in range(6):
        study.tell(completed(study.ask(), known))
    statements: list[str] = []
    event.listen(
        study._storage.engine, "before_cursor_execute", lambda *said: statements.append(said[2])
    )
    study.tell(completed(study.ask(), known))
    assert sum("ORDER BY trials.trial_id" in each for each in statements) == 2


def test_what_another_program_has_queued_is_proposed(tmp_path: Path) -> None:
    study, known = tuner(tmp_path, "random"), formulas(2.0)
    study.tell(completed(study.ask(), known))
    study.predict(study.history())
    other = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    other.enqueue_trial({"x": 0.125, "kind": 3})
    assert study.ask().configuration.flat() == {"x": 0.125, "kind": 3}


@pytest.mark.parametrize("sampler", ["tpe", "grey"])
def test_a_limit_that_became_tighter_guides_what_is_proposed(sampler: str, tmp_path: Path) -> None:
    study, loose, tight = tuner(tmp_path, sampler), formulas(2.0), formulas(0.4)
    for number in range(30):
        study.tell(completed(study.ask(formulas=None if number else loose), loose))
    fitting = 0
    for number in range(20):
        proposal = study.ask(formulas=None if number else tight)
        said = tight(proposal.configuration.flat())
        if said.constraints["energy_j"] <= 0:
            fitting += 1
            study.tell(completed(proposal, tight))
        else:
            study.tell(Infeasible(proposal, Forecast({}, (), said.constraints)))
    assert fitting >= 11  # at random six, and tpe three by the old limit


def test_formulas_that_have_changed_are_not_mistaken_for_measurements(tmp_path: Path) -> None:
    study = tuner(tmp_path, "grey")
    for number in range(10):
        known = formulas(2.0, price=1.0 + 0.1 * number)
        study.tell(completed(study.ask(formulas=known), known))
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    kernels = [
        set(json.loads(text)["kernels"])
        for trial in optuna.load_study(study_name="s", storage=storage).trials
        if (text := trial.system_attrs.get("fieldtune:kernel"))
    ]
    assert kernels
    # The error alone is learned: no deviation of the energy, and none of the limits.
    assert all(each == {"objective 0"} for each in kernels)
