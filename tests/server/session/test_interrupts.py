"""Ctrl-C ends a study even where the exception was dropped on its way."""

import signal
import sys
from collections.abc import Callable

import pytest

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


def test_an_interrupt_that_python_drops_is_raised_at_the_next_round_and_not_shown(
    shown: list[type[BaseException]],
) -> None:
    observer, before = Counting(), signal.getsignal(signal.SIGINT)
    with interruptible(observer) as heard:
        heard.round_started(0, 1)
        Finalized(lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            heard.round_started(0, 2)
    assert observer.rounds == 1
    assert shown == []
    assert signal.getsignal(signal.SIGINT) is before


def test_any_other_error_that_python_drops_is_still_shown(
    shown: list[type[BaseException]],
) -> None:
    before = sys.unraisablehook
    with interruptible(Counting()):
        Finalized(lambda: {}["missing"])
    assert shown == [KeyError]
    assert sys.unraisablehook is before
