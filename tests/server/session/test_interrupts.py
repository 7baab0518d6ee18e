"""Signals end a study even where the exception was dropped on its way."""

import signal
import sys
from collections.abc import Callable

import pytest
from pydantic import BaseModel, field_serializer

from fieldtune.profiles.common.errors import StorageError
from fieldtune.server.session.interrupts import interruptible


class Counting:
    def __init__(self) -> None:
        self.rounds = 0

    def round_started(self, trial: int, number: int) -> None:
        self.rounds += 1

    def trial_ended(self, outcome: object) -> None: ...


class Finalized:
    """Does something where Python drops what is raised."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def __del__(self) -> None:
        self._action()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """What Python would show a trace back of."""
    kinds: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: kinds.append(what.exc_type))
    return kinds


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "interrupted by SIGTERM"),
        (signal.SIGHUP, "interrupted by SIGHUP"),
    ],
)
def test_an_interrupt_that_python_drops_is_raised_at_the_next_round_and_not_shown(
    shown: list[type[BaseException]], number: signal.Signals, sentence: str
) -> None:
    observer, before = Counting(), signal.getsignal(number)
    with interruptible() as interrupts:
        heard = interrupts.watching(observer)
        heard.round_started(0, 1)
        Finalized(lambda: signal.raise_signal(number))
        with pytest.raises(KeyboardInterrupt):
            heard.round_started(0, 2)
        assert interrupts.sentence == sentence
    assert observer.rounds == 1
    assert shown == []
    assert signal.getsignal(number) is before


class Interrupted(BaseModel):
    """A record during whose writing a signal arrives."""

    number: int = 0

    @field_serializer("number")
    def signalled(self, number: int) -> int:
        signal.raise_signal(signal.SIGTERM)
        return number


def test_an_interrupt_that_pydantic_replaces_is_still_one() -> None:
    with interruptible() as interrupts:
        with pytest.raises(ValueError, match="KeyboardInterrupt") as raised:
            Interrupted().model_dump_json()
        assert interrupts.ended(raised.value)
        assert not interrupts.ended(StorageError("no space left"))
        assert not interrupts.ended(ZeroDivisionError("a mistake that has nothing to do with it"))


def test_an_error_without_a_signal_is_no_interrupt() -> None:
    with interruptible() as interrupts:
        assert not interrupts.ended(ValueError("no signal came"))


def test_a_study_that_is_ending_is_ended_faster_by_ctrl_c_alone() -> None:
    with interruptible() as interrupts:
        for number in (signal.SIGTERM, signal.SIGINT):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.received is signal.SIGTERM


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interrupts:
            signal.raise_signal(signal.SIGHUP)
        assert interrupts.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_any_other_error_that_python_drops_is_still_shown(
    shown: list[type[BaseException]],
) -> None:
    before = sys.unraisablehook
    with interruptible():
        Finalized(lambda: {}["missing"])
    assert shown == [KeyError]
    assert sys.unraisablehook is before
