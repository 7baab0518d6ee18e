"""A time limit for work that calls a model again and again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class OverdueError(Exception):
    """The work took longer than it may; the message is ``took longer than ... s``."""


def within(
    *limits_s: float | None, on_call: Callable[[], None] = lambda: None
) -> Callable[[], None]:
    """What the work calls after every call of the model: ``on_call``, if there is time left.

    It raises OverdueError once the shortest limit is over, counted from now.

    Args:
        limits_s: seconds; None is no limit.
        on_call: called each time.
    """
    longest_s = min((limit for limit in limits_s if limit is not None), default=math.inf)
    until = time.monotonic() + longest_s

    def limited() -> None:
        if time.monotonic() > until:
            raise OverdueError(f"took longer than {longest_s:g} s")
        on_call()

    return limited
