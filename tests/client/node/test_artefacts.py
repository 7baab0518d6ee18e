"""The device's cache of artefacts: whole or not at all, bounded, and never a reason to stop."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from fieldtune.client.node.artefact_cache import ArtefactFolder
from fieldtune.client.training.runtime import ArtefactMissingError, Session, Sessions
from fieldtune.server.compiler.manifest import Artefact


def kept(model: bytes) -> str:
    return hashlib.sha256(model).hexdigest()


def test_an_artefact_outlives_the_process_and_is_checked_when_it_is_read(tmp_path: Path) -> None:
    model = b"model" * 100
    ArtefactFolder(tmp_path / "new" / "folder").write(kept(model), model)
    again = ArtefactFolder(tmp_path / "new" / "folder")
    assert again.read(kept(model)) == model
    assert again.read(kept(b"other")) is None


def test_a_damaged_artefact_is_dropped_and_counts_as_not_held(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ArtefactFolder(tmp_path)
    folder.write(kept(b"model"), b"model")
    (tmp_path / kept(b"model")).write_bytes(b"mod")
    assert folder.read(kept(b"model")) is None
    assert list(tmp_path.iterdir()) == []
    assert "was damaged" in caplog.text


def test_an_artefact_that_is_damaged_where_nothing_can_be_removed_counts_as_not_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Files in /proc can be read but not removed, as on a card that was mounted again read-only.
    folder = ArtefactFolder(Path("/proc/self"))
    assert folder.read("status") is None
    assert "was damaged" in caplog.text


def test_a_folder_that_cannot_be_looked_into_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ArtefactFolder(tmp_path / ("longer than a name may be" * 20))
    for _ in range(2):
        assert folder.read(kept(b"model")) is None
        folder.write(kept(b"model"), b"model")
    assert caplog.text.count("training continues from memory") == 1


def test_the_least_recently_used_make_room_and_other_files_stay(tmp_path: Path) -> None:
    folder = ArtefactFolder(tmp_path, max_mib=3 * 1000 / 2**20)
    models = [bytes([n]) * 1000 for n in range(4)]
    (tmp_path / "notes.txt").write_text("mine")
    for name in (f"{kept(b'x')}.part", f".{kept(b'x')}.0123abcd.part"):
        (tmp_path / name).write_text("a process was killed here")
    for age, model in enumerate(models[:3]):
        folder.write(kept(model), model)
        os.utime(tmp_path / kept(model), ns=(age, age))
    assert folder.read(kept(models[0])) is not None  # used just now, so it outlives the others
    folder.write(kept(models[3]), models[3])
    assert [folder.read(kept(model)) is not None for model in models] == [True, False, True, True]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".part"]


def test_an_artefact_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    ArtefactFolder(tmp_path, max_mib=0.001).write(kept(b"x" * 2000), b"x" * 2000)
    assert list(tmp_path.iterdir()) == []


def test_training_continues_from_memory_where_the_disk_is_full(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    mlp_artefact: Artefact,
) -> None:
    # Writing to /dev/full fails as a full disk does (full(4)).
    really = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda file, how: os.close(file) or really(  # type: ignore[func-returns-value]
        os.open("/dev/full", os.O_WRONLY), how
    ))  # fmt: skip
    sha = mlp_artefact.manifest.artefact_sha256
    folder = ArtefactFolder(tmp_path)
    with caplog.at_level(logging.WARNING):
        session = Sessions(1, folder).get(sha, mlp_artefact.model, Session)
        folder.write(kept(b"x"), b"x")
    assert session.weight_count == len(mlp_artefact.initial_weights)
    assert caplog.text.count("No space left on device; training continues from memory") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_new_process_finds_the_artefact_and_does_not_ask_for_it_again(
    tmp_path: Path, mlp_artefact: Artefact
) -> None:
    sha = mlp_artefact.manifest.artefact_sha256
    with pytest.raises(ArtefactMissingError):
        Sessions(1, ArtefactFolder(tmp_path)).get(sha, None, Session)
    Sessions(1, ArtefactFolder(tmp_path)).get(sha, mlp_artefact.model, Session)
    assert Sessions(1, ArtefactFolder(tmp_path)).get(sha, None, Session).classes == 10
