"""What a client remembers, and who may see it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fieldtune.client.node import state as place_module
from fieldtune.client.node.state import Place, Status, statuses
from fieldtune.profiles.common.errors import FleetError, StorageError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("kitchen", tmp_path / "run/fieldtune/kitchen", tmp_path / "cache")


def test_two_clients_of_one_device_do_not_run_on_one_machine(place: Place) -> None:
    with place.locked():
        other = Place("kitchen", place.run, place.cache)
        with pytest.raises(FleetError, match="runs on this machine already"), other.locked():
            pass
    with place.locked():
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot be written: Not a directory"),
        Place("x", tmp_path / "file/x", tmp_path).locked(),
    ):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_not_used(place: Place) -> None:
    place.run.parent.mkdir(parents=True)
    os.chown(place.run.parent, 1, 1)
    with pytest.raises(StorageError, match="belongs to another user"), place.locked():
        pass


def test_what_was_begun_is_remembered_until_it_is_finished(place: Place) -> None:
    with place.locked():
        assert place.unfinished() is None
        place.begin(b"head", 4, 2)
    again = Place("kitchen", place.run, place.cache)
    left = again.unfinished()
    assert left is not None
    assert (left.head, left.trial, left.round) == (b"head", 4, 2)
    assert not left.out_of_memory
    again.finish()
    assert again.unfinished() is None


def test_a_kill_by_the_kernel_for_memory_is_told_from_others(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmstat = tmp_path / "vmstat"
    monkeypatch.setattr(place_module, "_VMSTAT", vmstat)
    vmstat.write_text("nr_free_pages 7\noom_kill 3\n")
    with place.locked():
        place.begin(b"head", 0, 0)
        vmstat.write_text("nr_free_pages 7\noom_kill 4\n")
        left = place.unfinished()
        assert left is not None
        assert left.out_of_memory
        vmstat.write_text("nr_free_pages 7\n")  # a kernel that does not count
        place.begin(b"head", 0, 0)
        left = place.unfinished()
        assert left is not None
        assert not left.out_of_memory


def test_noise_in_the_folder_is_nothing_to_remember(place: Place) -> None:
    with place.locked():
        for name in ("working.json", "node"):
            (place.run / name).write_text('{"head": 1')
        assert place.unfinished() is None
        assert place.remembered() is None
        place.remember(2**63 + 5)
        assert place.remembered() == 2**63 + 5
        place.remember(None)
        assert place.remembered() is None


def test_a_status_is_there_for_others_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(place_module, "SERVICE_RUN", tmp_path / "services")
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert statuses() == []
    place = Place.of("kitchen")
    with place.locked():
        place.show(Status("kitchen", "host:1", "raspberry-pi-5", 7, last="train: done"))
    (found,) = statuses()
    assert (found.name, found.state, found.last) == ("kitchen", "connecting", "train: done")
    assert (place.run / "status.json").stat().st_mode & 0o777 == 0o644
    (place.run / "status.json").write_text("{")
    assert statuses() == []


def test_a_service_uses_the_folders_that_systemd_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/fieldtune/kitchen")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/fieldtune/kitchen")
    place = Place.of("kitchen")
    assert place.run == Path("/run/fieldtune/kitchen")
    assert place.cache == Path("/var/cache/fieldtune/kitchen")
