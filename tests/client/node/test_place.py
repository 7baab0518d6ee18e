"""What a client remembers, and who may see it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from fieldtune.client.node import state as state
from fieldtune.client.node.state import ClientFolders, Status, statuses
from fieldtune.profiles.common.errors import FleetError, StorageError


@pytest.fixture
def folders(tmp_path: Path) -> ClientFolders:
    return ClientFolders("kitchen", tmp_path / "run/fieldtune/kitchen", tmp_path / "cache")


def test_two_clients_of_one_device_do_not_run_on_one_machine(folders: ClientFolders) -> None:
    with folders.locked():
        other = ClientFolders("kitchen", folders.run, folders.cache)
        with pytest.raises(FleetError, match="already runs on this machine"), other.locked():
            pass
    with folders.locked():
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot be written: Not a directory"),
        ClientFolders("x", tmp_path / "file/x", tmp_path).locked(),
    ):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_not_used(folders: ClientFolders) -> None:
    folders.run.parent.mkdir(parents=True)
    os.chown(folders.run.parent, 1, 1)
    with pytest.raises(StorageError, match="belongs to another user"), folders.locked():
        pass


def test_what_was_begun_is_remembered_until_it_is_finished(folders: ClientFolders) -> None:
    with folders.locked():
        assert folders.unfinished() is None
        folders.begin(b"head", 4, 2)
    again = ClientFolders("kitchen", folders.run, folders.cache)
    left = again.unfinished()
    assert left is not None
    assert (left.head, left.trial, left.round) == (b"head", 4, 2)
    assert not left.out_of_memory
    again.finish()
    assert again.unfinished() is None


def test_a_kill_by_the_kernel_for_memory_is_told_from_others(
    folders: ClientFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmstat = tmp_path / "vmstat"
    monkeypatch.setattr(state, "_VMSTAT", vmstat)
    vmstat.write_text("nr_free_pages 7\noom_kill 3\n")
    with folders.locked():
        folders.begin(b"head", 0, 0)
        vmstat.write_text("nr_free_pages 7\noom_kill 4\n")
        left = folders.unfinished()
        assert left is not None
        assert left.out_of_memory
        vmstat.write_text("nr_free_pages 7\n")  # a kernel that does not count
        folders.begin(b"head", 0, 0)
        left = folders.unfinished()
        assert left is not None
        assert not left.out_of_memory


def test_noise_in_the_folder_is_nothing_to_remember(folders: ClientFolders) -> None:
    with folders.locked():
        for name in ("working.json", "node"):
            (folders.run / name).write_text('{"head": 1')
        assert folders.unfinished() is None
        assert folders.saved_node_id() is None
        folders.save_node_id(2**63 + 5)
        assert folders.saved_node_id() == 2**63 + 5
        folders.save_node_id(None)
        assert folders.saved_node_id() is None


def test_a_status_is_there_for_others_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(state, "SERVICE_RUN", tmp_path / "services")
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert statuses() == []
    folders = ClientFolders.of("kitchen")
    with folders.locked():
        folders.write_status(Status("kitchen", "host:1", "raspberry-pi-5", 7, last="train: done"))
    (found,) = statuses()
    assert (found.name, found.state, found.last) == ("kitchen", "connecting", "train: done")
    assert (folders.run / "status.json").stat().st_mode & 0o777 == 0o644
    forged = asdict(Status("kitchen", "host:1", "raspberry-pi-5", 7, last="\x1b[2J\nall is well"))
    (folders.run / "status.json").write_text(json.dumps(forged))
    assert statuses()[0].last == " [2J all is well"
    for damaged in ("{", "[]", json.dumps(forged | {"pid": "x"}), '{"changed": Infinity}'):
        (folders.run / "status.json").write_text(damaged)
        assert statuses() == []


def test_a_service_uses_the_folders_that_systemd_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/fieldtune/kitchen")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/fieldtune/kitchen")
    folders = ClientFolders.of("kitchen")
    assert folders.run == Path("/run/fieldtune/kitchen")
    assert folders.cache == Path("/var/cache/fieldtune/kitchen")
