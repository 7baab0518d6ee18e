"""Ctrl-C that is heard for certain: Python drops what is raised while it runs a finalizer."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.session.progress import Display


class Heard:
    """A display that raises KeyboardInterrupt again where one was raised and got lost."""

    def __init__(self, display: Display) -> None:
        self._display, self.interrupted = display, False

    def round_started(self, trial: int, number: int) -> None:
        """Passed on."""
        self._raise_again()
        self._display.round_started(trial, number)

    def told(self, outcome: Outcome, trials: Sequence[Outcome]) -> None:
        """Passed on."""
        self._raise_again()
        self._display.told(outcome, trials)

    def _raise_again(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt


@contextmanager
def interruptible(display: Display) -> Iterator[Heard]:
    """Watch for Ctrl-C in the main thread; other threads are sent none.

    Python shows a trace back of what it drops: not of an interrupt, which is not lost here.
    """
    heard = Heard(display)

    def interrupt(number: int, frame: FrameType | None) -> None:
        heard.interrupted = True
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    show_dropped = sys.unraisablehook

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if what.exc_type is not KeyboardInterrupt:  # that one is raised again, not shown
            show_dropped(what)

    before = signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = dropped
    try:
        yield heard
    finally:
        sys.unraisablehook = show_dropped
        signal.signal(signal.SIGINT, before)
