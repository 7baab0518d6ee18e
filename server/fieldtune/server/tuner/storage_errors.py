"""What goes wrong with a study's storage, as sentences."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError
from optuna.exceptions import OptunaError, StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from fieldtune.profiles.common.errors import RunFolderError, StorageError
from fieldtune.profiles.common.text import printable
from fieldtune.server.tuner.study_storage import StudyStorage

_MISSING = ("no such table", "no such column", "has no column")
"""Of an ``OperationalError`` that is about the file's content, not about the disk."""

_CONTENT = (
    OptunaError, CommandError,
    ValueError, KeyError, TypeError, RuntimeError, AttributeError, LookupError, ArithmeticError,
    AssertionError, MemoryError,
)  # fmt: skip
"""What Optuna, pydantic and json raise over content that fieldtune did not write."""


def damaged(where: StudyStorage, why: str) -> RunFolderError:
    """The error for a database that cannot be used any more."""
    return RunFolderError(
        f"{where} {printable(why)}: restore it from a backup, or start the study anew in another "
        "folder with --out; 'fieldtune report' and 'fieldtune export' still work on what this "
        "folder holds"
    )


@contextmanager
def storing(where: StudyStorage) -> Iterator[None]:
    """Turn errors of the storage into a sentence.

    Raises:
        RunFolderError: the file is damaged.
        StorageError: it cannot be read or written at present.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as broken:
        error = broken if isinstance(broken, SQLAlchemyError) else broken.__cause__
        cause = getattr(error, "orig", None) or error
        passing = isinstance(cause, sqlite3.OperationalError)
        if isinstance(cause, sqlite3.Error) and not (
            passing and not any(each in str(cause) for each in _MISSING)
        ):
            raise damaged(where, f"is damaged ({cause})") from broken
        if where.url:
            said = " ".join(str(cause).split())[:300]
            raise StorageError(
                f"{where} does not answer ({said}): check server, database and user, and the "
                "password in PGPASSWORD or ~/.pgpass, then run the same command to resume; "
                "finished trials are kept"
            ) from broken
        raise StorageError(
            f"{where} cannot be read or written ({cause}): free some disk space or check its "
            "permissions, then run the same command to resume; finished trials are kept"
        ) from broken


@contextmanager
def loading(where: StudyStorage) -> Iterator[None]:
    """As :func:`storing`, while all of the file is read: content that makes no sense is damage."""
    try:
        with storing(where):
            yield
    except _CONTENT as wrong:
        said = " ".join(str(wrong).split())[:200]
        raise damaged(where, f"is damaged ({type(wrong).__name__}: {said})") from wrong
