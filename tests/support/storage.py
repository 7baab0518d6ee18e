"""Files and Optuna's storage without what takes its time: migrations, and waiting for the disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event


@contextmanager
def migrations_read_once() -> Iterator[None]:
    """Optuna reads all migrations of its tables several times whenever it opens a storage."""
    read, known = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def from_config(config: Config) -> ScriptDirectory:
        location = config.get_main_option("script_location")
        if location not in known:
            known[location] = read(config)
        return known[location]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


def _do_not_wait(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@contextmanager
def no_wait_for_the_disk() -> Iterator[None]:
    """What this process writes waits for no disk: only a power cut tells the difference.

    A study commits some twenty times a trial, and a disk takes milliseconds each time.
    """
    event.listen(Engine, "connect", _do_not_wait)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda file: None)
            yield
    finally:
        event.remove(Engine, "connect", _do_not_wait)


@contextmanager
def wait_for_the_disk() -> Iterator[None]:
    """A database that connects within is as a user has it, for a test of just that."""
    event.remove(Engine, "connect", _do_not_wait)
    try:
        yield
    finally:
        event.listen(Engine, "connect", _do_not_wait)
