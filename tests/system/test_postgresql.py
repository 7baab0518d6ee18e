"""A study whose record is on a real PostgreSQL server: killed, and resumed on another machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import RunFolderError, StorageError, StudyError
from fieldtune.server.study.load import parse_study
from fieldtune.server.tuner.study_storage import StudyStorage
from support import whole_study
from support.deployment import wait_until
from support.superlink import free_port

pytestmark = pytest.mark.system

TRIALS = 5
PASSWORD = "f4-secret"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if os.geteuid() == 0 else []


@dataclass
class Server:
    url: str
    folder: Path
    programs: Path

    def control(self, *arguments: str) -> None:
        _as_postgres(self.programs / "pg_ctl", "-D", self.folder / "data", "-w", *arguments)

    def query(self, sql: str) -> str:
        shown = ["psql", self.url, "--no-align", "--tuples-only", "--command", sql]
        return subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()


def _as_postgres(*command: str | Path) -> None:
    subprocess.run(
        ["runuser", "-u", "postgres", "--", *map(str, command)],
        cwd="/", check=True, stdout=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql), or not run by root")
    folder = Path("/tmp") / f"fieldtune-postgresql-{os.getpid()}"  # postgres has to enter it
    folder.mkdir(mode=0o755)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    shutil.chown(folder, "postgres")
    port = free_port()
    made = Server(f"postgresql://tuner@127.0.0.1:{port}/postgres", folder, PROGRAMS[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        try:
            _as_postgres(
                made.programs / "initdb", "-D", folder / "data", "-U", "tuner", "--no-sync",
                "-A", "scram-sha-256", "--pwfile", folder / "password",
            )  # fmt: skip
            options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
            made.control("-o", options, "-l", str(folder / "log"), "start")
            yield made
        finally:
            with suppress(subprocess.SubprocessError):
                made.control("-m", "immediate", "stop")
            shutil.rmtree(folder)


def test_a_study_killed_here_ends_there_as_if_nothing_had_happened(
    server: Server, tmp_path: Path
) -> None:
    here, there, uninterrupted = (tmp_path / name for name in ("here", "there", "uninterrupted"))
    for folder in (here, there, uninterrupted):
        folder.mkdir()
    log = tmp_path / "log"
    command = [sys.executable, whole_study.__file__, here, TRIALS, log, server.url]
    with subprocess.Popen(list(map(str, command))) as session:
        wait_until(
            lambda: log.exists() and "told 1" in log.read_text(),
            "two trials have ended",
        )
        session.send_signal(signal.SIGKILL)
    wait_until(
        lambda: server.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0",
        "the server has released the lock",
    )
    assert "COMPLETE" in server.query("SELECT state FROM trials WHERE number = 0")
    notes = whole_study.run(there, TRIALS, log, whole_study.stored_in(server.url))
    assert [note for note in notes if "trained again" in note]
    whole_study.run(uninterrupted, TRIALS, tmp_path / "other log")
    assert results(there) == results(uninterrupted)
    with pytest.raises(RunFolderError, match="is in use by another fieldtune"):
        StudyStorage(tmp_path / "unused", server.url).open("whole")
    for file in (file for file in tmp_path.rglob("*") if file.is_file()):
        assert PASSWORD.encode() not in file.read_bytes()


def test_a_study_whose_lock_is_lost_is_written_no_more(server: Server, tmp_path: Path) -> None:
    storage = StudyStorage(tmp_path / "unused", server.url).open("unlocked")
    assert storage.get_all_studies() is not None
    server.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    for _ in range(2):
        with pytest.raises(StorageError, match="the lock of the study 'unlocked', which another"):
            storage.get_all_studies()


def results(folder: Path) -> list[str]:
    """The figures of all trials, and the files to deploy."""
    lines = (folder / "end").read_text().splitlines()
    return [line for line in lines if "trials.csv" in line or "fp32" in line]


def test_a_server_that_does_not_answer_or_refuses_is_a_sentence(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong")
    refused = whole_study.stored_in(server.url)
    with pytest.raises(StorageError, match="password authentication failed") as raised:
        whole_study.run(tmp_path, TRIALS, tmp_path / "log", refused)
    assert "PGPASSWORD or ~/.pgpass" in str(raised.value)
    away = whole_study.stored_in(f"postgresql://tuner@127.0.0.1:{free_port()}/postgres")
    (tmp_path / "other").mkdir()
    with pytest.raises(StorageError, match="does not answer"):
        whole_study.run(tmp_path / "other", TRIALS, tmp_path / "log", away)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://tuner:hush@server/studies", "contains a password: leave it out"),
        ("mysql://server/studies", r"must be postgresql://\[user@\]host"),
        ("postgresql://server", r"must be postgresql://\[user@\]host"),
    ],
)
def test_another_storage_is_refused_without_repeating_a_password(url: str, said: str) -> None:
    with pytest.raises(StudyError, match=said) as raised:
        parse_study(whole_study.stored_in(url).format(trials=3), "s")
    assert "hush" not in str(raised.value)
