"""A coordinator's backup has what cannot be made again, and becomes the same coordinator."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fieldtune.profiles.common.errors import DeploymentError
from fieldtune.server.deployment import backup
from fieldtune.server.deployment.backup import back_up, restore
from fieldtune.server.deployment.cli import app
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.log_files import rotate
from fieldtune.server.deployment.settings import Settings
from fieldtune.server.deployment.systemd import UNIT
from fieldtune.server.federation.refusals import Refused
from support.superlink import free_port


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    settings = Settings(hosts=("coordinator.local",), superlink_port=free_port())
    made = CoordinatorFolder.create(tmp_path / "fleet", settings)
    made.enroll("kitchen")
    made.remove("kitchen")
    made.enroll("garage")
    made.keep_refused("garage", Refused(count=2))
    return made


def packed(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def test_the_restored_coordinator_has_the_same_keys_and_devices(
    folder: CoordinatorFolder, tmp_path: Path
) -> None:
    file = tmp_path / "backup.tar.gz"
    assert back_up(folder, file) == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = restore(file, tmp_path / "elsewhere")
    assert again.settings == folder.settings
    assert again.devices() == folder.devices()
    assert again.refused() == folder.refused()
    assert (again.ca_certificate, again.authority_key) == (
        folder.ca_certificate,
        folder.authority_key,
    )
    assert stat.S_IMODE((again.path / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o700
    assert again.enroll("cellar")[0].number == 2, "a removed device's number is not used again"


def test_databases_logs_and_locks_are_not_in_a_backup(
    folder: CoordinatorFolder, tmp_path: Path
) -> None:
    for name in ("superlink.db", "superlink.db-wal", "logs/superlink.log", "flwr/nginx.pid"):
        (folder.path / name).write_text("x")
    back_up(folder, tmp_path / "backup.tar.gz")
    with tarfile.open(tmp_path / "backup.tar.gz") as archive:
        names = archive.getnames()
    assert not [n for n in names if n.startswith(("superlink", "logs", "flwr", "."))]
    assert "devices/garage.toml" in names


def test_a_backup_is_restored_on_the_command_line_with_files_for_the_new_place(
    folder: CoordinatorFolder, tmp_path: Path
) -> None:
    file, path = tmp_path / "backup.tar.gz", tmp_path / "elsewhere"
    assert CliRunner().invoke(app, ["backup", str(folder.path), str(file)]).exit_code == 0
    done = CliRunner().invoke(app, ["restore", str(file), str(path)])
    assert done.exit_code == 0, done.output
    assert f'ReadWritePaths="{path}"' in (path / UNIT).read_text()
    assert f'"{path}/server.crt"' in (path / "nginx.conf").read_text()


def test_what_is_not_a_backup_is_refused(folder: CoordinatorFolder, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="does not exist"):
        restore(tmp_path / "none", tmp_path / "new")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DeploymentError, match="not a backup, or damaged"):
        restore(tmp_path / "text", tmp_path / "new")
    other = packed(tmp_path / "other.tar.gz", {"a": b"1"})
    with pytest.raises(DeploymentError, match="is not a backup of a coordinator"):
        restore(other, tmp_path / "new")
    back_up(folder, tmp_path / "backup.tar.gz")
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes((tmp_path / "backup.tar.gz").read_bytes()[:-200])
    with pytest.raises(DeploymentError, match="not a backup, or damaged"):
        restore(cut, tmp_path / "new")
    with pytest.raises(DeploymentError, match="is not empty"):
        restore(tmp_path / "backup.tar.gz", folder.path)


def test_a_backup_with_a_changed_byte_is_refused(folder: CoordinatorFolder, tmp_path: Path) -> None:
    file = packed(tmp_path / "a.tar.gz", {"coordinator.toml": b"", "ca.key": os.urandom(9000)})
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DeploymentError, match=r"damaged: CRC check failed"):
        restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(DeploymentError, match="cannot be read: Is a directory"):
        restore(folder.path, tmp_path / "new")


def test_of_a_link_the_backup_has_the_file(folder: CoordinatorFolder, tmp_path: Path) -> None:
    certificate = folder.path / "server.crt"
    certificate.rename(tmp_path / "elsewhere.crt")
    certificate.symlink_to(tmp_path / "elsewhere.crt")
    back_up(folder, tmp_path / "backup.tar.gz")
    again = restore(tmp_path / "backup.tar.gz", tmp_path / "new")
    assert again.server_certificate == folder.server_certificate
    assert not (again.path / "server.crt").is_symlink()


def test_a_backup_cannot_write_outside_the_folder(tmp_path: Path) -> None:
    bad = packed(tmp_path / "bad.tar.gz", {"coordinator.toml": b"", "../escaped": b"1"})
    with pytest.raises(DeploymentError, match="damaged"):
        restore(bad, tmp_path / "new" / "fleet")
    assert list((tmp_path / "new").iterdir()) == [], "so that another backup can be tried"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
)
def test_nothing_but_files_comes_out_of_a_backup(kind: bytes, tmp_path: Path) -> None:
    file = packed(tmp_path / "bad.tar.gz", {"coordinator.toml": b""})
    content = gzip.decompress(file.read_bytes())
    link = tarfile.TarInfo("devices")
    link.type, link.linkname = kind, "coordinator.toml"
    file.write_bytes(gzip.compress(content[:512] + link.tobuf() + content[512:]))
    with pytest.raises(DeploymentError, match="not a backup of a coordinator's folder"):
        restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_backup_that_unpacks_to_far_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the size is that of a header, which Python reads into memory."""
    monkeypatch.setattr(backup, "_LARGEST_MIB", 1)
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**30
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(header.tobuf() + bytes(2**21)))
    with pytest.raises(DeploymentError, match="unpacks to more than 1 MiB"):
        restore(tmp_path / "bomb.tar.gz", tmp_path / "new")


def test_a_header_with_an_impossible_number_is_damage(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    record = b"%d size=%s\n"
    said = record % (60, b"9" * 50)
    header.type, header.size = tarfile.XHDTYPE, len(said)
    content = header.tobuf() + said.ljust(512, b"\0") + tarfile.TarInfo("a").tobuf() + bytes(1024)
    (tmp_path / "bad.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DeploymentError, match="is not a backup, or damaged"):
        restore(tmp_path / "bad.tar.gz", tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("ca.key", "restore the folder from a backup"),
        ("ca.crt", "restore the folder from a backup"),
        ("executor.key", "restore the folder from a backup"),
        ("server.crt", "'fieldtune coordinator renew"),
        ("devices/garage.toml", "enroll the device again"),
    ],
)
def test_a_damaged_file_of_the_folder_is_named_with_its_remedy(
    folder: CoordinatorFolder, tmp_path: Path, name: str, remedy: str
) -> None:
    (folder.path / name).write_bytes(b"" if name == "executor.key" else b"\xff")
    file = packed(
        tmp_path / "damaged.tar.gz",
        {
            str(each.relative_to(folder.path)): each.read_bytes()
            for each in folder.path.rglob("*")
            if each.is_file()
        },
    )
    with pytest.raises(DeploymentError, match=rf"{name} is damaged: .*{remedy}"):
        restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_devices_are_enrolled_from_a_file_of_names(
    folder: CoordinatorFolder, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("# the cellar\ncellar-1\n\ngarage\ncellar-2\n")
    done = CliRunner().invoke(app, ["enroll", str(folder.path), "--file", str(names)])
    assert done.exit_code == 0, done.output
    assert [device.name for device in folder.devices()] == ["garage", "cellar-1", "cellar-2"]
    assert folder.bundle_file("cellar-2").exists()
    assert "garage is enrolled already: left as it is" in done.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kit chen\n", "not a valid device name"),
        ("a\na\n", "a is named twice"),
        ("x" * 9999, f"{'x' * 63}...' is not a valid device name"),
    ],
)
def test_a_file_with_a_wrong_name_enrolls_nothing(
    folder: CoordinatorFolder, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "names.txt").write_text("cellar\n" + text)
    done = CliRunner().invoke(
        app, ["enroll", str(folder.path), "--file", str(tmp_path / "names.txt")]
    )
    assert isinstance(done.exception, DeploymentError)
    assert said in str(done.exception)
    assert [device.name for device in folder.devices()] == ["garage"]


def test_a_large_log_begins_anew_and_two_older_ones_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "superlink.log"
    with log.open("a") as program:
        for number in range(4):
            program.write(f"{number} " * 10)
            program.flush()
            rotate(tmp_path, largest_bytes=15)
        program.write("small")
        program.flush()
        rotate(tmp_path, largest_bytes=15)
    assert log.read_text() == "small"
    assert (tmp_path / "superlink.log.1").read_text().startswith("3 ")
    assert (tmp_path / "superlink.log.2").read_text().startswith("2 ")
    assert not (tmp_path / "superlink.log.3").exists()


def test_a_small_backup_cannot_unpack_to_a_huge_file(
    folder: CoordinatorFolder, tmp_path: Path
) -> None:
    """A sparse file has any size; a key of that size would be read into memory."""
    file = tmp_path / "sparse.tar.gz"
    back_up(folder, file)
    content = gzip.decompress(file.read_bytes())
    sparse = tarfile.TarInfo("status.json")
    sparse.size, sparse.pax_headers = 1, {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    huge = sparse.tobuf(tarfile.PAX_FORMAT) + b"x".ljust(512, b"\0")
    file.write_bytes(gzip.compress(huge + content))
    with pytest.raises(DeploymentError, match="not a backup of a coordinator's folder"):
        restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name", ["superlink.db", "/superlink.db", "devices/../superlink.db", "./flwr/config.toml"]
)
def test_superlinks_state_does_not_come_from_a_backup(
    folder: CoordinatorFolder, tmp_path: Path, name: str
) -> None:
    """It knows runs and keys that ``devices/`` does not name."""
    members = {
        str(each.relative_to(folder.path)): each.read_bytes()
        for each in folder.path.rglob("*")
        if each.is_file()
    }
    file = packed(tmp_path / "bad.tar.gz", members)
    assert restore(file, tmp_path / "good").devices() == folder.devices()
    file = packed(tmp_path / "bad.tar.gz", {**members, name: b"x"})
    with pytest.raises(DeploymentError, match="not a backup of a coordinator's folder"):
        restore(file, tmp_path / "new")


def test_a_backup_of_very_many_files_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_MOST_FILES", 2)
    names = ("coordinator.toml", "a", "b")
    file = packed(tmp_path / "bad.tar.gz", dict.fromkeys(names, b""))
    with pytest.raises(DeploymentError, match="not a backup of a coordinator's folder"):
        restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()
