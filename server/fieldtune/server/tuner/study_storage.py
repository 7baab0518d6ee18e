"""Where a study's record is: an SQLite file, or a database of a PostgreSQL server."""

from __future__ import annotations

import atexit
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from optuna.storages import RDBStorage
from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fieldtune.profiles.common.errors import MissingExtraError, RunFolderError, StorageError

_NORMAL = 1
"""Of SQLite's ``synchronous``: a commit to the log does not wait for the disk (FULL, 2, does)."""


@dataclass(frozen=True)
class StudyStorage:
    """The place of a study's record.

    Args:
        path: the SQLite file; unused with ``url``.
        url: ``postgresql://[user@]host[:port]/database``, without a password: the driver takes it
            from ``PGPASSWORD`` or ``~/.pgpass``, so that no file or message contains it.
    """

    path: Path
    url: str | None = None

    def __str__(self) -> str:
        return self.url or str(self.path)

    @property
    def lost(self) -> str | None:
        """What has become of the file where it has no content; None for a server."""
        if self.url or (self.path.is_file() and self.path.stat().st_size):
            return None
        return "is empty" if self.path.exists() else "is missing"

    def open(self, study_name: str) -> RDBStorage:
        """Optuna's storage. On a server, the study is locked until this process ends.

        If the lock is lost, all that is done with the storage afterwards raises StorageError:
        another process may have the study then.

        Raises:
            MissingExtraError: the driver of PostgreSQL is not installed.
            RunFolderError: another process has locked the study.
            sqlalchemy.exc.SQLAlchemyError: it cannot be opened.
        """
        if self.url is None:
            _write_ahead(self.path)
            return RDBStorage(f"sqlite:///{self.path}")
        try:
            import psycopg  # noqa: F401
        except ModuleNotFoundError:
            raise MissingExtraError("study.storage", "cluster", "psycopg") from None
        storage = RDBStorage(
            self.url.replace("postgresql://", "postgresql+psycopg://", 1),
            engine_kwargs={"pool_pre_ping": True},
        )
        # A connection of its own, kept open: the server releases the lock when it ends, or when
        # this machine has not answered for two minutes.
        connection = storage.engine.connect()
        connection.detach()
        for setting in ("idle = 60", "interval = 10", "count = 6"):
            connection.execute(text(f"SET tcp_keepalives_{setting}"))
        number = int.from_bytes(hashlib.sha256(study_name.encode()).digest()[:8], signed=True)
        locked = connection.execute(text("SELECT pg_try_advisory_lock(:n)"), {"n": number}).scalar()
        connection.commit()
        if not locked:
            connection.close()
            storage.engine.dispose()
            raise RunFolderError(
                f"The study {study_name!r} in {self} is in use by another fieldtune, perhaps on "
                "another machine: wait for it, or give this study another name"
            )
        atexit.register(connection.close)

        def still_locked(*_: object) -> None:
            # A connection that was lost is opened again by itself, but without the lock.
            with suppress(SQLAlchemyError):
                if not connection.invalidated:
                    connection.execute(text("SELECT 1"))
                    connection.commit()
                    return
            raise StorageError(
                f"The connection to {self} was lost, and with it the lock of the study "
                f"{study_name!r}, which another fieldtune may have now: run the same command to "
                "resume; finished trials are kept"
            )

        event.listen(storage.engine, "checkout", still_locked)
        return storage


class Commits:
    """Decides which commits of a storage wait for the disk; of a server, it decides itself.

    Where SQLite cannot have a log, all do: without waiting, a power cut could damage the database.

    Args:
        storage: in which study.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the storage cannot be read.
    """

    def __init__(self, storage: RDBStorage) -> None:
        self._waits = True
        if storage.engine.dialect.name == "sqlite":
            with storage.engine.connect() as connection:
                journal = connection.execute(text("PRAGMA journal_mode")).scalar()
            if journal == "wal":
                event.listen(storage.engine, "checkout", self._set)

    @contextmanager
    def without_waiting(self) -> Iterator[None]:
        """Commits in this block survive a kill, but a power cut only with a later commit.

        SQLite's log is read from its start, so what a power cut takes is the latest commits, and
        the database is as it was before them.
        """
        self._waits = False
        try:
            yield
        finally:
            self._waits = True

    def _set(self, connection: sqlite3.Connection, record: ConnectionPoolEntry, _: object) -> None:
        def level() -> int:
            return int(connection.execute("PRAGMA synchronous").fetchone()[0])

        wanted = record.info.setdefault("synchronous", level())
        if not self._waits:
            wanted = min(wanted, _NORMAL)
        if wanted != level():
            connection.execute(f"PRAGMA synchronous = {wanted}")


def _write_ahead(path: Path) -> None:
    """Have SQLite append to a log (WAL) instead of keeping a rollback journal.

    A commit then waits for the disk once, not four times. It still is on the disk when it returns
    (``synchronous`` is FULL), but for those that need not be (:class:`Commits`). The log is
    ``study.db-wal``; it is merged into ``study.db`` when the last process closes it, and after a
    kill by the next that opens it.
    """
    # Where it is no database, Optuna fails next.
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
