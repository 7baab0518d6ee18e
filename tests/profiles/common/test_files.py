"""A file is written whole or not at all, also where power is lost; a lock has one holder."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fieldtune.profiles.common.errors import RunFolderError, StorageError
from fieldtune.profiles.common.files import (
    locked,
    readable,
    remove_parts,
    write_atomically,
    writing,
)


def test_a_process_that_is_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.npy"
    write_atomically(file, b"old")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from fieldtune.profiles.common.files import write_atomically\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), b'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file], check=False)
    assert done.returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"
    write_atomically(file, b"newer")  # what the killed one left is in nobody's way
    assert file.read_bytes() == b"newer"
    (tmp_path / ".mine.part").touch()
    assert len(list(tmp_path.iterdir())) == 3
    remove_parts(tmp_path.parent)
    assert {each.name for each in tmp_path.iterdir()} == {"weights.npy", ".mine.part"}


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in this order; of a file its name without what is random."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        path = Path(f"/proc/self/fd/{file}").readlink()
        name = path.name.rpartition(".part")[0].rpartition(".")[0] or path.name
        seen.append(
            f"sync {name} of {os.fstat(file).st_size}" if path.is_file() else f"sync {name}"
        )
        fsync(file)

    def renamed(source: str, target: str) -> None:
        seen.append(f"rename to {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return seen


def test_the_file_is_on_the_disk_before_it_is_renamed_and_its_name_after(
    tmp_path: Path, events: list[str]
) -> None:
    folder = tmp_path / "models/trial-0001"
    write_atomically(folder / "weights.npy", b"12345", parents=True)
    assert events == [
        f"sync {tmp_path.name}",  # each new folder is an entry of the one that it is in
        "sync models",
        "sync .weights.npy of 5",
        "rename to weights.npy",
        "sync trial-0001",
    ]


def test_what_can_be_made_again_waits_for_no_disk(tmp_path: Path, events: list[str]) -> None:
    write_atomically(tmp_path / "new/x", "text", parents=True, durable=False)
    assert events == ["rename to x"]


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "x"
    write_atomically(file, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with (
            pytest.raises(StorageError, match=r"x cannot be written \(File too large\): free"),
            writing(file),
        ):
            write_atomically(file, b"n" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"x": "old"}


def test_a_file_in_the_place_of_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.touch()
    for wanted in (file, file / "x"):
        with pytest.raises(StorageError, match="a file where a folder is"), writing(wanted):
            wanted.mkdir(parents=True)


def test_a_folder_that_is_missing_is_made_only_where_that_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "typo/x", "text")
    write_atomically(tmp_path / "new/x", "é", parents=True)
    assert (tmp_path / "new/x").read_bytes() == "é".encode()


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_the_mode_that_is_asked_for_whatever_the_umask(
    tmp_path: Path, mode: int
) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "x", "", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_a_lock_has_one_holder_and_ends_with_it(tmp_path: Path) -> None:
    file, refusal = tmp_path / "lock", RunFolderError("in use")
    with locked(file, refusal):
        with pytest.raises(RunFolderError, match="in use"), locked(file, refusal):
            pass
        waiting = subprocess.Popen(
            [
                sys.executable, "-c",
                "import sys\nfrom pathlib import Path\n"
                "from fieldtune.profiles.common.files import locked\n"
                "print('waits', flush=True)\n"
                "with locked(Path(sys.argv[1])): print(Path(sys.argv[2]).exists())",
                file, tmp_path / "before",
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waits\n"
        (tmp_path / "before").touch()
    assert waiting.communicate()[0] == "True\n"


def test_a_device_is_not_read_in_the_place_of_a_file(tmp_path: Path) -> None:
    assert readable(tmp_path) == tmp_path
    assert readable(tmp_path / "absent") == tmp_path / "absent"
    with pytest.raises(OSError, match="neither a file nor a folder"):
        readable(Path("/dev/null"))
