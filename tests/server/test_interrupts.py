"""Ctrl-C ends a study even where the exception was dropped on its way."""

import contextlib
import signal

import pytest

from fieldtune.server.interrupts import interruptible


class Counting:
    def __init__(self) -> None:
        self.rounds = 0

    def round_started(self, trial: int, number: int) -> None:
        self.rounds += 1

    def told(self, outcome: object) -> None: ...


def test_an_interrupt_that_was_lost_is_raised_at_the_next_round() -> None:
    observer, before = Counting(), signal.getsignal(signal.SIGINT)
    with interruptible(observer) as heard:
        heard.round_started(0, 1)
        with contextlib.suppress(KeyboardInterrupt):  # as Python does in a finalizer
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            heard.round_started(0, 2)
    assert observer.rounds == 1
    assert signal.getsignal(signal.SIGINT) is before
