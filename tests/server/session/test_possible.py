"""Limits are refused only where nothing in the space keeps them."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from fieldtune.profiles.common.errors import InfeasibleError
from fieldtune.server.session import possible
from fieldtune.server.session.possible import check_limits
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration

STUDY = """
[study]
name = "narrow"
trials = 1
rounds = 2
objectives = ["error"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 3
devices = { "raspberry-pi-5" = 1.0 }
[space.client]
learning_rate = { low = 0.001, high = 0.1, log = true }
"""


class Compiled:
    """Every architecture is in the cache."""

    def is_compiled(self, configuration: Configuration) -> bool:
        return True

    def of(self, configuration: Configuration) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(SimpleNamespace(manifest=None))
        return future


class Costs:
    """Only some configurations keep the limits."""

    def __init__(self, study: StudyConfig, *feasible: Configuration) -> None:
        self._study, self._feasible = study, [each.key for each in feasible]
        self._known: set[str] = set()

    def knows(self, configuration: Configuration) -> bool:
        return self._study.architecture(configuration) in self._known

    def learn(self, configuration: Configuration, manifest: None) -> None:
        self._known.add(self._study.architecture(configuration))

    def of(self, configuration: Configuration, calibration: object) -> SimpleNamespace:
        fits = configuration.key in self._feasible
        return SimpleNamespace(feasible=fits, constraints={"coverage": -1.0 if fits else 1.0})


def checked(monkeypatch: pytest.MonkeyPatch, *, defaults_fit: bool) -> list[str]:
    study, notes = parse_study(STUDY, "x"), list[str]()
    feasible = [study.full_space.defaults()] if defaults_fit else []
    monkeypatch.setattr(possible, "make_cost_model", lambda *_: Costs(study, *feasible))
    monkeypatch.setattr(possible, "needed_by_any_model", lambda *_: {})
    monkeypatch.setattr(possible._Search, "would_do", lambda self: "would do")
    monkeypatch.setattr(possible, "screen", lambda *_, **__: SimpleNamespace(feasible=()))
    monkeypatch.setattr(possible, "impossible", lambda *_: "nothing fits")
    try:
        check_limits(study, [], Compiled(), notes.append)  # type: ignore[arg-type]
    except InfeasibleError as refused:
        notes.append(str(refused))
    return notes


def test_defaults_that_keep_the_limits_are_enough_where_nothing_of_the_sample_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert checked(monkeypatch, defaults_fit=True) == []


def test_where_all_is_compiled_already_no_others_are_announced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert checked(monkeypatch, defaults_fit=False) == ["nothing fits"]
