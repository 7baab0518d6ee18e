"""Ctrl-C, SIGTERM and SIGHUP end a study alike, and are never lost.

Python drops an exception that is raised while it runs a finalizer (``__del__``), KeyboardInterrupt
included; here it is raised again at the next event. Pydantic replaces one that is raised while it
writes JSON by an error of its own, which ends a study all the same.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from pydantic_core import PydanticSerializationError

from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.session.progress import Display

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The signal that has ended the study, if one has.

    Attributes:
        received: the first one.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @property
    def sentence(self) -> str:
        """What happened: ``interrupted``, and by which signal if it was not Ctrl-C."""
        if self.received in (None, signal.SIGINT):
            return "interrupted"
        return f"interrupted by {self.received.name}"

    def ended(self, error: BaseException) -> bool:
        """Whether a study that ends with this error was interrupted: see this module's text."""
        if isinstance(error, KeyboardInterrupt):
            return True
        return self.received is not None and isinstance(error, PydanticSerializationError)

    def watching(self, display: Display) -> InterruptibleDisplay:
        """The display, at whose events an interrupt that was lost is raised again."""
        return InterruptibleDisplay(display, self)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt; the study is ending already if it is not the first signal."""
        if self.received is not None and number != signal.SIGINT:
            return
        self.received = self.received or signal.Signals(number)
        if number == signal.SIGHUP:
            _leave_closed_terminal()
        raise KeyboardInterrupt


class InterruptibleDisplay:
    """Passes events on to a display; raises KeyboardInterrupt again if an earlier one was lost."""

    def __init__(self, display: Display, interrupts: Interrupts) -> None:
        self._display, self._interrupts = display, interrupts

    def round_started(self, trial: int, number: int) -> None:
        """See :class:`Display`."""
        self._raise_again()
        self._display.round_started(trial, number)

    def trial_ended(self, outcome: Outcome, trials: Sequence[Outcome]) -> None:
        """See :class:`Display`."""
        self._raise_again()
        self._display.trial_ended(outcome, trials)

    def _raise_again(self) -> None:
        if self._interrupts.received is not None:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Handle the signals inside the block, if called in the main thread (others get no signals).

    SIGHUP stays ignored where it is, as ``nohup`` does. Python prints a
    traceback of an exception that it drops; for KeyboardInterrupt, which is raised again, that is
    suppressed.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    show_dropped = sys.unraisablehook

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if what.exc_type is not KeyboardInterrupt:  # that one is raised again, not shown
            show_dropped(what)

    before = {
        number: signal.signal(number, interrupts.handle)
        for number in _SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    sys.unraisablehook = dropped
    try:
        yield interrupts
    finally:
        sys.unraisablehook = show_dropped
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_closed_terminal() -> None:
    """Write nowhere from now on where the terminal is gone: writing to it would fail."""
    for file in (1, 2):
        try:
            os.write(file, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, file)
            os.close(nowhere)
