"""A space that becomes narrower, and a queue, behind ask and tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.server.bo import GreySampler, Known
from fieldtune.server.bo.candidates import FormulaEvaluator, fill_pool, perturb
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.outcomes.trial import Completed, Forecast, Learned
from fieldtune.server.study.changes import Change
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Parameter, Space, Value
from fieldtune.server.study.tuner_options import SAMPLERS
from fieldtune.server.tuner import OptunaTuner

pytestmark = pytest.mark.integration

WIDE = Space(
    client={
        "rate": Parameter(low=0.001, high=1.0, log=True),
        "epochs": Parameter(low=1, high=8),
        "size": Parameter(choices=(8, 16, 32)),
        "kind": Parameter(choices=("a", "b")),
    }
)
NARROW = Space(
    client={
        "rate": Parameter(low=0.01, high=0.1, log=True),
        "epochs": Parameter(choices=(2,)),
        "size": Parameter(choices=(8, 32)),
        "kind": Parameter(choices=("b",)),
    }
)
OURS = [name for name in SAMPLERS if name != "gp"]


def tuner(
    folder: Path, space: Space, sampler: str = "grey", queue: Sequence[Mapping[str, Value]] = ()
) -> OptunaTuner:
    return OptunaTuner(
        folder / "study.db", name="s", identity=space.model_dump_json(), space=space,
        objectives=(MEASURES["error"],), seed=0, sampler=sampler, queue=queue,
        steer=lambda _: (Change(key="space.client.rate.low", before="0.001", after="0.01"),),
    )  # fmt: skip


def go_on(study: OptunaTuner, trials: int) -> list[dict[str, Value]]:
    tried = []
    for _ in range(trials):
        proposal = study.ask()
        values = proposal.configuration.flat()
        error = 0.1 * abs(np.log10(float(values["rate"])) + 1.5) + 0.01 * float(values["epochs"])
        learned = Learned({"error": error}, 10, 0, {}, True)
        study.tell(Completed(proposal, Forecast({}, (), {}), learned, {"error": error}, 0))
        tried.append(values)
    return tried


def test_a_default_and_a_queued_value_may_be_written_as_a_whole_number(tmp_path: Path) -> None:
    """``default = 1`` of ``choices = [0.01, 0.1, 1.0]``."""
    space = Space(
        client={
            "rate": Parameter(choices=(0.01, 0.1, 1.0), default=1),
            "epochs": Parameter(low=1, high=4),
        }
    )
    study = tuner(tmp_path, space, queue=[{"rate": 1}])
    assert [values["rate"] for values in go_on(study, 10)][:2] == [1.0, 1.0]


def test_what_is_to_be_beaten_stays_when_the_space_becomes_narrower(tmp_path: Path) -> None:
    go_on(tuner(tmp_path, WIDE), 1)
    study = tuner(tmp_path, NARROW)
    study.ask(formulas=lambda values: Known({}, {}))
    sampler = study._samplers.of(3)
    assert isinstance(sampler, GreySampler)
    assert sampler.beat == WIDE.defaults().flat()
    assert WIDE.defaults().flat() != NARROW.defaults().flat()


@pytest.mark.parametrize("sampler", OURS)
def test_a_narrower_space_holds_from_then_on_and_old_trials_stay(
    sampler: str, tmp_path: Path
) -> None:
    before = go_on(tuner(tmp_path, WIDE, sampler), 12)
    assert not all(NARROW.parameters()[name].contains(v) for x in before for name, v in x.items())
    study = tuner(tmp_path, NARROW, sampler)
    after = go_on(study, 4)
    again = tuner(tmp_path, NARROW, sampler)
    after += go_on(again, 4)
    assert all(NARROW.parameters()[name].contains(v) for x in after for name, v in x.items())
    assert [o.proposal.configuration.flat() for o in again.history()] == before + after
    assert [(each.trial, len(each.changes)) for each in again.changes] == [(12, 1)]


def test_a_study_that_nobody_may_steer_is_refused(tmp_path: Path) -> None:
    tuner(tmp_path, WIDE)
    with pytest.raises(RunFolderError, match="holds another study"):
        OptunaTuner(
            tmp_path / "study.db", name="s", identity="other", space=NARROW,
            objectives=(MEASURES["error"],), seed=0,
        )  # fmt: skip


@pytest.mark.parametrize("sampler", OURS)
def test_what_is_queued_comes_after_the_defaults_and_once(sampler: str, tmp_path: Path) -> None:
    whole: dict[str, Value] = {"rate": 0.5, "epochs": 3, "size": 32, "kind": "a"}
    queue: list[dict[str, Value]] = [whole, {"kind": "b", "size": 16}]
    tried = go_on(tuner(tmp_path, WIDE, sampler, queue), 2)
    assert tried == [WIDE.defaults().flat(), whole]
    (third,) = go_on(tuner(tmp_path, WIDE, sampler, queue), 1)
    assert (third["kind"], third["size"]) == ("b", 16)
    later: dict[str, Value] = {**whole, "epochs": 4}
    tried = go_on(tuner(tmp_path, WIDE, sampler, [*queue, later]), 3)
    assert tried[0] == later
    assert whole not in tried


def test_candidates_lie_within_the_narrower_space_and_all_over_it() -> None:
    outer: dict[str, BaseDistribution] = {
        "a": FloatDistribution(0.001, 1.0, log=True),
        "b": IntDistribution(1, 20),
        "c": CategoricalDistribution(["x", "y", "z"]),
        "d": CategoricalDistribution([8, 16, 32, 64]),
        "e": FloatDistribution(0.0, 1.0),
    }
    inner: dict[str, BaseDistribution] = {
        "a": FloatDistribution(0.01, 0.02, log=True),
        "b": IntDistribution(3, 5),
        "c": CategoricalDistribution(["z", "x"]),
        "d": CategoricalDistribution([32, 64]),
        "e": CategoricalDistribution([0.25]),
    }
    encoding = Encoding.of(outer, within=inner)
    pool = fill_pool(encoding, FormulaEvaluator(encoding, None, [1.0]), seed=0).candidates
    children = perturb(encoding, pool.units, 200, 0.3, np.random.default_rng(0))
    for units in (pool.units, children):
        values = encoding.values(units)
        assert {each["b"] for each in values} == {3, 4, 5}
        assert {each["c"] for each in values} == {"x", "z"}
        assert {each["d"] for each in values} == {32, 64}
        assert {each["e"] for each in values} == {0.25}
        assert min(each["a"] for each in values) >= 0.01 * (1 - 1e-12)
        assert max(each["a"] for each in values) <= 0.02 * (1 + 1e-12)
    assert len(pool) >= 768


def test_a_space_that_became_small_is_listed_whole() -> None:
    outer: dict[str, BaseDistribution] = {"a": FloatDistribution(0.0, 1.0)}
    encoding = Encoding.of(outer, within={"a": CategoricalDistribution([0.5, 0.25])})
    assert encoding.count == 2
    pool = fill_pool(encoding, FormulaEvaluator(encoding, None, [1.0]), seed=0).candidates
    assert sorted(each["a"] for each in encoding.values(pool.units)) == [0.25, 0.5]
