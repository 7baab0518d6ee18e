"""What the tuner predicts of its trials, by the model with which it proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.server.bo import Known, objective_model, study_model
from fieldtune.server.bo.surrogate import Surrogate
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Forecast,
    Learned,
    Outcome,
    Proposal,
    Stopped,
)
from fieldtune.server.study.objectives import parse_objective
from fieldtune.server.study.space import Configuration, Parameter, Space
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED
from fieldtune.server.tuner import OptunaTuner

pytestmark = pytest.mark.integration  # runs studies

RNG = np.random.default_rng(0)
RATES = RNG.random(60)
TRUE = 0.1 + 0.3 * (RATES - 0.5) ** 2
OBSERVED = np.clip(TRUE + RNG.normal(0, 0.02, 60), 0, 1)
SPACE = Space(client={"rate": Parameter(low=0.0, high=1.0, default=float(RATES[0]))})
COSTS = ("error", "inference_ms")


def tuner(
    folder: Path, sampler: str = "random", objectives: Sequence[str] = ("error",)
) -> OptunaTuner:
    return OptunaTuner(
        folder / "study.db", name="s", identity="s", space=SPACE, seed=0, rounds=4, sampler=sampler,
        objectives=[parse_objective(name) for name in objectives],
    )  # fmt: skip


def completed(proposal: Proposal, error: float) -> Completed:
    rate = float(proposal.configuration.client["rate"])
    measures = {"error": error, "accuracy": 1 - error, "loss": 3 * error}
    return Completed(
        proposal, Forecast({}, (), {}), Learned(measures, 400, 0.0, {}, simulated=True),
        {**measures, "inference_ms": 1 + rate, "energy_j": 2 - rate, "round_s": 1.0}, 0,
    )  # fmt: skip


def told(study: OptunaTuner, observed: Sequence[float]) -> list[Outcome]:
    """Trials that came to these errors, at the same rates each time."""
    begun = len(study.history())
    for rate, error in list(zip(RATES.tolist(), observed, strict=False))[begun:]:
        configuration = Configuration({}, {"rate": rate}, {})
        proposal = study.ask("validate", configuration)
        assert proposal.configuration == configuration
        study.tell(completed(proposal, float(error)))
    return study.history()


def known(values: Mapping[str, Any]) -> Known:
    return Known({1: 1 + values["rate"]}, {})


def go_on(study: OptunaTuner, trials: int, formulas: Any = None) -> None:
    """Trials that the sampler chooses."""
    rng = np.random.default_rng(1)
    for number in range(trials):
        proposal = study.ask(formulas=None if number else formulas)
        error = 0.1 + 0.3 * (float(proposal.configuration.client["rate"]) - 0.5) ** 2
        study.tell(completed(proposal, error + float(rng.normal(0, 0.01))))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> OptunaTuner:
    study = tuner(tmp_path_factory.mktemp("noisy"))
    told(study, OBSERVED.tolist())
    return study


def test_it_is_nearer_the_truth_than_what_was_observed_and_its_interval_holds_it(
    noisy: OptunaTuner,
) -> None:
    predicted = noisy.predict(noisy.history())["error"]
    values = np.array([predicted[i].value for i in range(60)])
    assert np.abs(values - TRUE).mean() < 0.6 * np.abs(OBSERVED - TRUE).mean()
    held = [predicted[i].low <= TRUE[i] <= predicted[i].high for i in range(60)]
    assert np.mean(held) >= 0.9
    assert all(0 <= each.low < each.value < each.high <= 1 for each in predicted.values())


def test_intervals_are_narrower_where_few_test_samples_do_not_matter(noisy: OptunaTuner) -> None:
    wide, narrow = (
        noisy.predict(noisy.history(), sampling=sampling)["error"] for sampling in (True, False)
    )
    for number, each in wide.items():
        assert each.value == narrow[number].value
        assert each.low < narrow[number].low < narrow[number].high < each.high


def test_the_luckiest_evaluation_is_not_taken_for_the_best(tmp_path: Path) -> None:
    observed = TRUE[:30].copy()
    lucky = int(np.argmax(observed))
    observed[lucky] = TRUE.min() * 0.9
    study = tuner(tmp_path)
    predicted = study.predict(told(study, observed.tolist()))["error"]
    assert min(predicted, key=lambda i: predicted[i].value) != lucky


def test_few_or_equal_results_are_left_as_they_are(tmp_path: Path, noisy: OptunaTuner) -> None:
    assert noisy.predict(noisy.history()[: FEWEST_PREDICTED - 1]) == {"error": {}}
    assert len(noisy.predict(noisy.history()[:FEWEST_PREDICTED])["error"]) == FEWEST_PREDICTED
    study = tuner(tmp_path)
    assert study.predict(told(study, [0.5] * FEWEST_PREDICTED)) == {"error": {}}


def test_what_is_maximised_is_predicted_in_its_own_direction(
    tmp_path: Path, noisy: OptunaTuner
) -> None:
    study = tuner(tmp_path, objectives=("-accuracy",))
    accuracy = study.predict(told(study, OBSERVED[:20].tolist()))["accuracy"]
    error = noisy.predict(noisy.history()[:20])["error"]
    for number, each in accuracy.items():
        assert each.value == pytest.approx(1 - error[number].value, abs=1e-4)
        assert each.low == pytest.approx(1 - error[number].high, abs=1e-4)
        assert each.high == pytest.approx(1 - error[number].low, abs=1e-4)


def test_report_and_sampler_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is predicted of a trial is what the posterior of the next ask has there."""
    study, asked = tuner(tmp_path, "grey", COSTS), list[Surrogate]()
    go_on(study, 14, known)
    flying = study.ask()  # taken to come out as expected, which teaches nothing
    predicted = study.predict(study.history())
    assert predicted.keys() == {"error"}  # the other objective is known

    class Watched(Surrogate):
        def __init__(self, *given: Any, refit: bool, **named: Any) -> None:
            super().__init__(*given, refit=refit, **named)
            assert not refit
            asked.append(self)

    monkeypatch.setattr(study_model, "Surrogate", Watched)
    study.ask()
    (surrogate,) = asked
    rows = surrogate.measured
    assert [row.number for row in rows] == list(predicted["error"])
    assert flying.number not in predicted["error"]
    at = surrogate.inputs(surrogate._trials.known.take(slice(0, len(rows))))
    values = surrogate.models[0].values(at).tolist()
    assert [each.value for each in predicted["error"].values()] == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize("sampler", ["grey", "tpe"])
def test_predictions_follow_from_the_file_whenever_they_were_asked_for_before(
    tmp_path: Path, sampler: str
) -> None:
    study = tuner(tmp_path, sampler, COSTS)
    for number in range(13):
        go_on(study, 1, None if number else known)
        study.predict(study.history())
    again = tuner(tmp_path, sampler, COSTS)
    assert again.history() == study.history()
    assert again.predict(again.history(), known) == study.predict(study.history())


def test_the_model_of_the_sampler_is_not_fitted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tuner(tmp_path, "grey", COSTS)
    go_on(study, 13, known)  # it was fitted when trial 12 was asked for
    monkeypatch.delattr(objective_model, "fit")
    assert len(study.predict(study.history())["error"]) == 13


def test_repetitions_that_scatter_make_predictions_less_certain(tmp_path: Path) -> None:
    """They are no proposals, so the sampler does not fit its model anew with them."""
    study = tuner(tmp_path, "grey", COSTS)
    go_on(study, 13, known)
    best = study.history()[-1].proposal.configuration

    def width() -> float:
        found = study.predict(study.history(), sampling=False)["error"][12]
        return float(np.log(found.high / found.low))

    before = width()
    for factor in (0.5, 2.0, 0.6, 1.6, 0.7, 1.4):
        proposal = study.ask("validate", best)
        study.tell(completed(proposal, 0.1 * factor))
    assert width() > 2 * before
    again = tuner(tmp_path, "grey", COSTS)
    assert again.predict(again.history(), known) == study.predict(study.history())


def test_neither_failed_trials_nor_those_in_flight_change_what_is_predicted(
    tmp_path: Path, noisy: OptunaTuner
) -> None:
    study = tuner(tmp_path)
    before = told(study, OBSERVED[:20].tolist())
    study.tell(Failed(study.ask("validate", Configuration({}, {"rate": 0.5}, {})), "out of memory"))
    study.ask()
    assert study.predict(study.history()) == noisy.predict(before)


def test_a_trial_is_predicted_where_it_came_to_rather_than_where_it_was_asked_for(
    tmp_path: Path, noisy: OptunaTuner
) -> None:
    """FedEx tells the configuration on which its clients settled."""
    study = tuner(tmp_path, "fedex")
    for rate, error in zip(RATES[:20].tolist(), OBSERVED.tolist(), strict=False):
        asked = study.ask()
        came_to = Configuration({}, {"rate": rate}, {})
        study.tell(completed(replace(asked, configuration=came_to), error))
    assert study.predict(study.history()) == noisy.predict(noisy.history()[:20])


def test_stopped_trials_are_learned_from(tmp_path: Path) -> None:
    """What they had come to at the rung shows that a whole one beside them was lucky."""
    study, lucky = tuner(tmp_path), 18
    noise = np.random.default_rng(2).normal(0, 0.01, (36, 2)).tolist()
    for number, rate in enumerate([float(RATES[0]), *np.linspace(0, 1, 35).tolist()]):
        proposal = study.ask("validate", Configuration({}, {"rate": rate}, {}))
        error = 0.3 + 0.05 * rate
        early = completed(proposal, error + 0.05 + noise[number][0])
        whole = completed(proposal, error + noise[number][1] - 0.1 * (number == lucky))
        learned = replace(whole.learned, curve={2: early.learned.measures}, rounds=4)
        if number % 3:
            learned = replace(learned, measures=early.learned.measures, rounds=2, stopped=True)
            study.tell(Stopped(proposal, early.forecast, learned, early.objectives, 0, 2))
        else:
            study.tell(replace(whole, learned=learned))
    finished = [each for each in study.history() if isinstance(each, Completed)]
    alone, together = (study.predict(known)["error"] for known in (finished, study.history()))
    assert together.keys() == alone.keys() == {each.proposal.number for each in finished}
    assert together != alone
    assert together[lucky].value == pytest.approx(0.3 + 0.05 * 17 / 34, abs=0.03)


def test_a_study_of_more_objectives_than_the_sampler_takes_is_predicted_too(
    tmp_path: Path,
) -> None:
    objectives = ("error", "loss", "inference_ms", "energy_j", "round_s")
    study = tuner(tmp_path, "tpe", objectives)
    predicted = study.predict(told(study, OBSERVED[:FEWEST_PREDICTED].tolist()))
    assert {name: len(of_trial) for name, of_trial in predicted.items()} == {
        "error": FEWEST_PREDICTED,
        "loss": FEWEST_PREDICTED,
    }
