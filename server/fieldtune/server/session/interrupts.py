"""Ctrl-C that is never lost.

Python drops an exception that is raised while it runs a finalizer (``__del__``), KeyboardInterrupt
included; here it is raised again at the next event.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.session.progress import Display


class InterruptibleDisplay:
    """Passes events on to a display; raises KeyboardInterrupt again if an earlier one was lost."""

    def __init__(self, display: Display) -> None:
        self._display, self.interrupted = display, False

    def round_started(self, trial: int, number: int) -> None:
        """See :class:`Display`."""
        self._raise_again()
        self._display.round_started(trial, number)

    def trial_ended(self, outcome: Outcome, trials: Sequence[Outcome]) -> None:
        """See :class:`Display`."""
        self._raise_again()
        self._display.trial_ended(outcome, trials)

    def _raise_again(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt


@contextmanager
def interruptible(display: Display) -> Iterator[InterruptibleDisplay]:
    """Handle Ctrl-C inside the block, if called in the main thread (others get no signals).

    Python prints a traceback of an exception that it drops; for KeyboardInterrupt, which is raised
    again, that is suppressed.
    """
    wrapped = InterruptibleDisplay(display)

    def interrupt(number: int, frame: FrameType | None) -> None:
        wrapped.interrupted = True
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield wrapped
        return
    show_dropped = sys.unraisablehook

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if what.exc_type is not KeyboardInterrupt:  # that one is raised again, not shown
            show_dropped(what)

    before = signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = dropped
    try:
        yield wrapped
    finally:
        sys.unraisablehook = show_dropped
        signal.signal(signal.SIGINT, before)
