"""Ctrl-C that is heard for certain: Python drops what is raised while it runs a finalizer."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.session.progress import Observer


class Heard:
    """An observer that raises KeyboardInterrupt again where one was raised and got lost."""

    def __init__(self, observer: Observer) -> None:
        self._observer, self.interrupted = observer, False

    def round_started(self, trial: int, number: int) -> None:
        """Passed on."""
        self._raise_again()
        self._observer.round_started(trial, number)

    def told(self, outcome: Outcome) -> None:
        """Passed on."""
        self._raise_again()
        self._observer.told(outcome)

    def _raise_again(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt


@contextmanager
def interruptible(observer: Observer) -> Iterator[Heard]:
    """Watch for Ctrl-C in the main thread; other threads are sent none.

    Python shows a trace back of what it drops: not of an interrupt, which is not lost here.
    """
    heard = Heard(observer)

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
