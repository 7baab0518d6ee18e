"""Files of a coordinator's folder, its bundles and its backups."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.contract.deployment import DeployReport, StatusReport
from fieldtune.server.deployment.backup import back_up, restore
from fieldtune.server.deployment.certificates import expires
from fieldtune.server.deployment.cli import write_for_this_machine
from fieldtune.server.deployment.fleet_state import FleetState
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.settings import Settings
from fieldtune.server.federation.refusals import Refused
from fieldtune.server.operation.rollouts import Member, Rollout, RolloutStore
from fieldtune.server.operation.tables import Watched, devices_json
from support.decoders.decoder import Decoder, from_file
from support.deployed import order


def _read_all(path: Path) -> None:
    """All that commands read of a folder."""
    folder = CoordinatorFolder(path)
    for each in folder.devices():
        assert each.public_key_pem
    folder.refused()
    json.dumps(devices_json(Watched.of(folder, None), path), allow_nan=False)


def _restored(folder: Path) -> Callable[[bytes], object]:
    """A decoder of a backup before it was compressed: its check sum hides all other damage."""
    file, path = folder / "backup.tar.gz", folder / "restored"

    def decode(data: bytes) -> None:
        file.write_bytes(gzip.compress(data, 0))
        try:
            write_for_this_machine(restore(file, path))
            _read_all(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    return decode


def coordinator(folder: Path) -> dict[str, Decoder]:
    """All of them by name."""
    path = folder / "fleet"
    made = CoordinatorFolder.create(path, Settings(hosts=("coordinator.local",)))
    _, bundle = made.enroll("pi")
    bundle.write(made.bundle_file("pi"))
    made.keep_refused("pi", Refused(3, {"train": 3}, "it lies"))
    FleetState(path).keep({"pi": StatusReport(version="1", runs="a" * 64, error=0.5, samples=9)})
    card, report = order(7).card, DeployReport(number=7, outcome="switched")
    RolloutStore(path).keep(
        Rollout(
            number=7, kind="deploy", run="run", cards={"raspberry-pi-5": card},
            devices={"pi": Member(state="switched", report=report)},
        )
    )  # fmt: skip
    back_up(made, folder / "seed.tar.gz")
    of_folder = {
        "coordinator.toml": "coordinator.toml",
        "enrolled device": "devices/pi.toml",
        "refused reports": "refused.json",
        "fleet's status": "status.json",
        "rollout": "rollouts/7.json",
    }
    found = {
        "bundle": Decoder(
            made.bundle_file("pi").read_bytes(), from_file(folder, "pi.bundle.toml", Bundle.read)
        ),
        "backup": Decoder(
            gzip.decompress((folder / "seed.tar.gz").read_bytes()), _restored(folder)
        ),
    }
    for name, file in of_folder.items():
        copy = folder / name
        shutil.copytree(path, copy)
        found[name] = Decoder(
            (path / file).read_bytes(),
            from_file(copy, file, lambda _, at=copy: _read_all(at)),  # type: ignore[misc]
        )
    for name in ("ca.key", "server.crt"):
        copy = folder / name
        shutil.copytree(path, copy)
        found[name] = Decoder(
            (path / name).read_bytes(),
            from_file(copy, name, lambda _, at=copy: _keys_of(at)),  # type: ignore[misc]
        )
    return found


def _keys_of(path: Path) -> object:
    folder = CoordinatorFolder(path)
    return folder.authority_key, expires(folder.server_certificate)
