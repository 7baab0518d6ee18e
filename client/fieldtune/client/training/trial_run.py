"""Runs a new model in a child process first: a malformed one may crash the runtime.

The child is a fork, which needs neither time nor memory for imports; it ends without returning.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Callable

from fieldtune.client.training.runtime import BadArtefactError

LONGEST_S = 60.0
_STOPS = (signal.SIGTERM, signal.SIGINT)
_POLL_S = 0.01


def try_first(run: Callable[[], object], longest_s: float = LONGEST_S) -> None:
    """Call a function in a child process; an exception there is not an error here.

    Raises:
        BadArtefactError: the child crashed, or took longer than ``longest_s`` seconds.
        MemoryError: the child was killed, as the system does when memory runs out.
    """
    # What their handlers raise would be lost in what Python does around a fork.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        raise
    if pid == 0:
        status = 1
        try:
            faulthandler.disable()  # whoever waits says what happened
            for number in _STOPS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
            run()
            status = 0
        finally:
            os._exit(status)
    give_up = time.monotonic() + longest_s
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                pid = 0
                break
            if time.monotonic() > give_up:
                raise BadArtefactError(f"a first run of the model took more than {longest_s:g} s")
            time.sleep(_POLL_S)
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGKILL:
            raise MemoryError
        raise BadArtefactError(f"the model crashes the runtime (signal {os.WTERMSIG(status)})")
