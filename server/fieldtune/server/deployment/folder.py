"""A coordinator's folder: the state of a deployment, in files that only its owner may read.

===========================  =====================================================================
``coordinator.toml``         where devices connect, and SuperLink's own port
``ca.crt``, ``ca.key``       the fleet's own certificate authority
``server.crt``, ``.key``     the server's certificate
``executor.key``             shared secret of SuperLink and the processes that may execute runs
``nginx.conf``               the proxy: TLS, and only the part of SuperLink's API for devices
``*.service``                a systemd unit that keeps the coordinator running
``devices/NAME.toml``        each enrolled device: its number and its public key
``next-number``              the number of the next device to be enrolled
``bundles/NAME.bundle.toml`` what to copy onto the device
``refused.json``             devices whose reports were refused
``status.json``              what each device last said of itself
``last-run``                 the run folder of the latest study
``rollouts/``                who is to get which model, and the models that a device waits for
``superlink.db``, ``flwr/``  SuperLink's state
``logs/``                    of SuperLink and the proxy
===========================  =====================================================================
"""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fieldtune.client.contract.bundle import SUFFIX, Bundle
from fieldtune.profiles.common.errors import DeploymentError
from fieldtune.profiles.common.files import locked, writing
from fieldtune.profiles.common.text import printable
from fieldtune.profiles.common.toml import from_toml, to_toml
from fieldtune.profiles.common.validation import first_error
from fieldtune.server.deployment.certificates import (
    Pair,
    is_certificate,
    is_key,
    make_authority,
    make_device_certificate,
    make_device_key,
    make_server,
)
from fieldtune.server.deployment.device_files import DeviceFiles, Enrolled
from fieldtune.server.deployment.private_files import read_private, write_private
from fieldtune.server.deployment.settings import LOOPBACK, Settings, listens
from fieldtune.server.federation.refusals import Refused

_REFUSED = TypeAdapter(dict[str, Refused])
_RESTORE = "restore the folder from a backup, or make another and enroll all devices again"


class CoordinatorFolder:
    """An existing coordinator's folder.

    Raises:
        DeploymentError: the folder is not a coordinator's, or its settings are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._devices = DeviceFiles(self.path)
        file = self.path / "coordinator.toml"
        try:
            self.settings = Settings.model_validate(from_toml(file.read_text()))
        except OSError:
            raise DeploymentError(
                f"{path} is not a coordinator's folder: 'fieldtune coordinator init {path}' "
                "makes one"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
            raise DeploymentError(f"{file} is damaged: {printable(str(wrong))}") from None
        except ValidationError as wrong:
            raise DeploymentError(f"{file} is damaged: {first_error(wrong, Settings)}") from None

    @classmethod
    def create(cls, path: Path, settings: Settings) -> CoordinatorFolder:
        """Create a coordinator's folder with new keys, certificates and settings.

        Raises:
            DeploymentError: the folder is a coordinator's already.
            StorageError: the folder cannot be written.
        """
        if (path / "coordinator.toml").exists():
            raise DeploymentError(
                f"{path} is a coordinator's folder already, whose certificate its devices trust: "
                "choose another folder, or 'fieldtune coordinator renew' for a new certificate"
            )
        with writing(path, "try again"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            for name in ("devices", "bundles", "logs", "flwr"):
                (path / name).mkdir(mode=0o700, exist_ok=True)
        authority = make_authority(f"fieldtune {settings.hosts[0]}"[:64])
        write_private(path / "ca.crt", authority.certificate)
        write_private(path / "ca.key", authority.private_key)
        write_private(path / "executor.key", secrets.token_hex(32))
        _write_server(path, authority, settings.hosts)
        write_private(path / "coordinator.toml", to_toml(settings.model_dump()))
        return cls(path)

    def renew(self) -> None:
        """Issue a new server certificate from the same authority; devices need no change."""
        authority = Pair(self.ca_certificate, self.authority_key)
        _write_server(self.path, authority, self.settings.hosts)

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder that only its owner may read."""
        write_private(self.path / name, text)

    @property
    def ca_certificate(self) -> str:
        """PEM."""
        return read_private(self.path / "ca.crt", is_certificate, _RESTORE)

    @property
    def authority_key(self) -> str:
        """PEM; it signs certificates, and the artefacts that are sent to devices."""
        return read_private(self.path / "ca.key", is_key, _RESTORE)

    @property
    def server_certificate(self) -> str:
        """PEM."""
        renew = f"'fieldtune coordinator renew {self.path}' makes a new one"
        return read_private(self.path / "server.crt", is_certificate, renew)

    @property
    def executor_key(self) -> bytes:
        """The shared secret of SuperLink and the processes that may execute runs."""
        return read_private(self.path / "executor.key", bool, _RESTORE).encode()

    def superlink_listens(self) -> bool:
        """Whether something listens on SuperLink's port."""
        return listens(self.settings.superlink_port)

    def devices(self) -> list[Enrolled]:
        """All enrolled devices, by number.

        Raises:
            DeploymentError: a device's file is damaged.
        """
        return self._devices.all()

    def enroll(self, name: str) -> tuple[Enrolled, Bundle]:
        """Create a new device's key and number; the bundle has the only copy of the private key.

        Raises:
            DeploymentError: the name is invalid or taken.
        """
        with self._lock("devices"):
            return self._with_new_key(name, self._devices.new_number(name))

    def renew_device(self, name: str) -> tuple[Enrolled, Bundle]:
        """Give a device a new key and bundle; it keeps its number, and its old key is removed.

        Raises:
            DeploymentError: there is no such device.
        """
        with self._lock("devices"):
            known = self._devices.named(name)
            self.bundle_file(name).unlink(missing_ok=True)
            return self._with_new_key(name, known.number)

    def _with_new_key(self, name: str, number: int) -> tuple[Enrolled, Bundle]:
        private, public = make_device_key()
        authority = Pair(self.ca_certificate, self.authority_key)
        bundle = Bundle(
            name=name,
            address=self.settings.address,
            ca_certificate=self.ca_certificate,
            private_key=private,
            public_key=public,
            certificate=make_device_certificate(authority, name, public),
        )
        enrolled = Enrolled(name, number, public, certificate=True)
        self._devices.keep(enrolled)
        return enrolled, bundle

    def bundle_file(self, name: str) -> Path:
        """Where a device's bundle is written."""
        return self.path / "bundles" / f"{name}{SUFFIX}"

    def remove(self, name: str) -> Enrolled:
        """Remove a device; its number is not used again.

        Raises:
            DeploymentError: there is no such device.
        """
        with self._lock("devices"):
            removed = self._devices.remove(name)
            self.bundle_file(name).unlink(missing_ok=True)
        return removed

    def refused(self) -> dict[str, Refused]:
        """Device -> what was refused of its reports; empty where that cannot be read."""
        try:
            return _REFUSED.validate_json((self.path / "refused.json").read_bytes())
        except (OSError, ValidationError):
            return {}

    def keep_refused(self, name: str, refused: Refused) -> None:
        """Replace what is kept of a device's refused reports."""
        with self._lock("refused"):
            kept = {**self.refused(), name: refused}
            write_private(self.path / "refused.json", _REFUSED.dump_json(kept, indent=1).decode())

    def readmit(self, name: str) -> bool:
        """Let a device take part again; False where it does not sit out.

        Raises:
            DeploymentError: there is no such device.
        """
        self._devices.named(name)
        kept = self.refused().get(name)
        if kept is None or not kept.sits_out:
            return False
        self.keep_refused(name, replace(kept, in_a_row={}))
        return True

    def note_run(self, run: Path) -> None:
        """Note the run folder of a study that begins."""
        write_private(self.path / "last-run", str(run.resolve()))

    def last_run(self) -> Path | None:
        """The run folder of the latest study; None where none is known."""
        try:
            return Path((self.path / "last-run").read_text())
        except (OSError, UnicodeDecodeError):
            return None

    @contextmanager
    def in_use(
        self, *, briefly: bool = False, notes: Callable[[str], None] = lambda _: None
    ) -> Iterator[None]:
        """Lock the fleet for one study: concurrent studies would distort what devices measure.

        Who uses it briefly is waited for, and so takes the devices from nobody.

        Args:
            briefly: for one pass over the devices.
            notes: prints a sentence where another's pass is waited for.

        Raises:
            DeploymentError: another study runs on it.
        """
        refusal = DeploymentError(
            f"Another study or deployment uses the devices of {self.path}: wait for it, or stop it"
        )
        with ExitStack() as brief:
            try:
                brief.enter_context(self._lock("brief", refusal))
            except DeploymentError:
                notes(
                    "Waiting for 'fieldtune coordinator watch' or 'devices --watch', which asks "
                    "the devices now"
                )
                brief.enter_context(self._lock("brief"))
            with self._lock("study", refusal):
                if not briefly:
                    brief.close()
                yield

    @contextmanager
    def being_served(self) -> Iterator[None]:
        """Lock the folder for the one process that serves it.

        Raises:
            DeploymentError: another process serves it.
        """
        refusal = DeploymentError(f"The coordinator of {self.path} is running already")
        with self._lock("serve", refusal):
            yield

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Within the block, no device is enrolled, renewed or removed."""
        with self._lock("devices"):
            yield

    @contextmanager
    def _lock(self, name: str, refusal: DeploymentError | None = None) -> Iterator[None]:
        with ExitStack() as held:
            with writing(self.path, "try again"):
                held.enter_context(locked(self.path / f".{name}.lock", refusal))
            yield


def _write_server(path: Path, authority: Pair, hosts: Sequence[str]) -> None:
    server = make_server(authority, list(dict.fromkeys([*hosts, *LOOPBACK])))
    write_private(path / "server.key", server.private_key)
    write_private(path / "server.crt", server.certificate)
