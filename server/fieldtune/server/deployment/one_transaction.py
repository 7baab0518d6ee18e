"""One transaction at a time in SuperLink's database.

SQLite lets one connection write at a time. The others poll for its lock in no order, and their call
fails after 5 s; with many devices at work that happened to calls of every kind, such as the run's
heartbeat. A lock of this process serves the waiting threads one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fieldtune.server.deployment.superlink_handlers import SqlMixin


def one_transaction_at_a_time() -> None:
    """From now on, SuperLink's threads wait for each other's transactions."""
    session, lock = SqlMixin.session, threading.RLock()

    @contextmanager
    def waited_for(state: Any) -> Iterator[Any]:
        with lock, session(state) as opened:
            yield opened

    setattr(SqlMixin, "session", waited_for)  # noqa: B010 - mypy refuses an assignment
