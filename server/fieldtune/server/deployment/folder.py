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
``superlink.db``, ``flwr/``  SuperLink's state
``logs/``                    of SuperLink and the proxy
===========================  =====================================================================
"""

from __future__ import annotations

import re
import secrets
import socket
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from fieldtune.client.contract.bundle import NAME, SUFFIX, Bundle
from fieldtune.profiles.common.errors import DeploymentError
from fieldtune.profiles.common.files import locked, write_atomically, writing
from fieldtune.profiles.common.toml import from_toml, to_toml
from fieldtune.profiles.common.validation import first_error
from fieldtune.server.deployment.certificates import (
    Pair,
    make_authority,
    make_device_certificate,
    make_device_key,
    make_server,
    public_pem,
)
from fieldtune.server.federation.refusals import Refused

LOOPBACK = ("localhost", "127.0.0.1")
DEVICE_PORT = 8443
SUPERLINK_PORT = 18443
_REFUSED = TypeAdapter(dict[str, Refused])
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}")
"""A DNS name, an IPv4 or an IPv6 address; no characters that are special in nginx.conf."""


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(f"{value!r} is neither a host name nor an address")
    return value


class Settings(BaseModel):
    """``coordinator.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    hosts: Annotated[
        tuple[Annotated[str, AfterValidator(_host)], ...], Field(min_length=1, max_length=16)
    ]
    """Names and addresses of this machine; bundles contain the first."""
    port: int = Field(default=DEVICE_PORT, ge=1, le=65535)
    """Where devices connect."""
    superlink_port: int = Field(default=SUPERLINK_PORT, ge=1, le=65535)
    """SuperLink's port on the loopback interface."""
    client_certificates: Literal["required", "optional"] = "optional"
    """Whether the proxy refuses devices without a certificate: those that were enrolled before
    bundles had one, and Flower's own SuperNode. New folders say ``required``."""

    @property
    def address(self) -> str:
        """``host:port`` for a bundle."""
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def superlink_address(self) -> str:
        """``host:port`` of SuperLink on this machine."""
        return f"127.0.0.1:{self.superlink_port}"


class _DeviceFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)
    public_key: str
    certificate: bool = False


@dataclass(frozen=True)
class Enrolled:
    """A device that may connect."""

    name: str
    number: int
    """Its client number in every study, assigned in the order of enrolment."""
    public_key: str
    """One OpenSSH line."""
    certificate: bool = False
    """Whether its bundle has a certificate."""

    @property
    def public_key_pem(self) -> bytes:
        """The public key in PEM, as SuperLink stores it."""
        return public_pem(self.public_key)


class CoordinatorFolder:
    """An existing coordinator's folder.

    Raises:
        DeploymentError: the folder is not a coordinator's, or its settings are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        file = self.path / "coordinator.toml"
        try:
            self.settings = Settings.model_validate(from_toml(file.read_text()))
        except OSError:
            raise DeploymentError(
                f"{path} is not a coordinator's folder: 'fieldtune coordinator init {path}' "
                "makes one"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
            raise DeploymentError(f"{file} is damaged: {wrong}") from None
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
        _write(path / "ca.crt", authority.certificate)
        _write(path / "ca.key", authority.private_key)
        _write(path / "executor.key", secrets.token_hex(32))
        _write_server(path, authority, settings.hosts)
        _write(path / "coordinator.toml", to_toml(settings.model_dump()))
        return cls(path)

    def renew(self) -> None:
        """Issue a new server certificate from the same authority; devices need no change."""
        authority = Pair(self.ca_certificate, self.authority_key)
        _write_server(self.path, authority, self.settings.hosts)

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder that only its owner may read."""
        _write(self.path / name, text)

    @property
    def ca_certificate(self) -> str:
        """PEM."""
        return _read(self.path / "ca.crt")

    @property
    def authority_key(self) -> str:
        """PEM; it signs certificates, and the artefacts that are sent to devices."""
        return _read(self.path / "ca.key")

    @property
    def server_certificate(self) -> str:
        """PEM."""
        return _read(self.path / "server.crt")

    @property
    def executor_key(self) -> bytes:
        """The shared secret of SuperLink and the processes that may execute runs."""
        return _read(self.path / "executor.key").encode()

    def superlink_listens(self) -> bool:
        """Whether something listens on SuperLink's port."""
        return listens(self.settings.superlink_port)

    def devices(self) -> list[Enrolled]:
        """All enrolled devices, by number.

        Raises:
            DeploymentError: a device's file is damaged.
        """
        found = []
        for file in (self.path / "devices").glob("*.toml"):
            try:
                device = _DeviceFile.model_validate(from_toml(file.read_text()))
                found.append(
                    Enrolled(file.stem, device.number, device.public_key, device.certificate)
                )
            except (OSError, tomllib.TOMLDecodeError, ValidationError):
                raise DeploymentError(
                    f"{file} is damaged: remove it and enrol the device again"
                ) from None
        return sorted(found, key=lambda device: device.number)

    def enroll(self, name: str) -> tuple[Enrolled, Bundle]:
        """Create a new device's key and number; the bundle has the only copy of the private key.

        Raises:
            DeploymentError: the name is invalid or taken.
        """
        if not NAME.fullmatch(name):
            raise DeploymentError(
                f"{name!r} is not a valid device name: use 1 to 63 letters, digits, '-' or '_', "
                "beginning with a letter or digit"
            )
        with self._lock("devices"):
            known = self.devices()
            if any(device.name == name for device in known):
                raise DeploymentError(
                    f"{name} is enrolled already: 'fieldtune coordinator remove' it first, choose "
                    "another name, or give --renew for a new key and bundle"
                )
            number = self._next_number(known)
            _write(self.path / "next-number", f"{number + 1}\n")
            return self._with_new_key(name, number)

    def renew_device(self, name: str) -> tuple[Enrolled, Bundle]:
        """Give a device a new key and bundle; it keeps its number, and its old key is removed.

        Raises:
            DeploymentError: there is no such device.
        """
        with self._lock("devices"):
            known = {device.name: device for device in self.devices()}
            if name not in known:
                raise _no_device(name, known)
            self.bundle_file(name).unlink(missing_ok=True)
            return self._with_new_key(name, known[name].number)

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
        _write(
            self.path / "devices" / f"{name}.toml",
            to_toml({"number": number, "public_key": public, "certificate": True}),
        )
        return Enrolled(name, number, public, certificate=True), bundle

    def _next_number(self, known: Sequence[Enrolled]) -> int:
        """One that no device has had: a study in progress knows its devices by their numbers."""
        try:
            stored = int((self.path / "next-number").read_text())
        except (OSError, ValueError):
            stored = 0  # enrolled by 0.1.0
        return max([stored, *(device.number + 1 for device in known)])

    def bundle_file(self, name: str) -> Path:
        """Where a device's bundle is written."""
        return self.path / "bundles" / f"{name}{SUFFIX}"

    def remove(self, name: str) -> Enrolled:
        """Remove a device; its number is not used again.

        Raises:
            DeploymentError: there is no such device.
        """
        with self._lock("devices"):
            known = {device.name: device for device in self.devices()}
            if name not in known:
                raise _no_device(name, known)
            _write(self.path / "next-number", f"{self._next_number(list(known.values()))}\n")
            (self.path / "devices" / f"{name}.toml").unlink()
            self.bundle_file(name).unlink(missing_ok=True)
        return known[name]

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
            _write(self.path / "refused.json", _REFUSED.dump_json(kept, indent=1).decode())

    def readmit(self, name: str) -> bool:
        """Let a device take part again; False where it does not sit out.

        Raises:
            DeploymentError: there is no such device.
        """
        if name not in (known := [device.name for device in self.devices()]):
            raise _no_device(name, known)
        kept = self.refused().get(name)
        if kept is None or not kept.sits_out:
            return False
        self.keep_refused(name, replace(kept, in_a_row={}))
        return True

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Lock the fleet for one study: concurrent studies would distort what devices measure.

        Raises:
            DeploymentError: another study runs on it.
        """
        refusal = DeploymentError(
            f"Another study runs on the devices of {self.path}: wait for it, or stop it"
        )
        with self._lock("study", refusal):
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
    def _lock(self, name: str, refusal: DeploymentError | None = None) -> Iterator[None]:
        with ExitStack() as held:
            with writing(self.path, "try again"):
                held.enter_context(locked(self.path / f".{name}.lock", refusal))
            yield


def _no_device(name: str, known: Iterable[str]) -> DeploymentError:
    enrolled = ", ".join(known) or "none"
    return DeploymentError(f"There is no device {name!r}; enrolled are: {enrolled}")


def listens(port: int) -> bool:
    """Whether something listens on a port of the loopback interface."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def this_machine() -> str:
    """The name under which other machines on the local network most likely reach this one."""
    name = socket.gethostname()
    return name if "." in name or name == "localhost" else f"{name}.local"


def _write_server(path: Path, authority: Pair, hosts: Sequence[str]) -> None:
    server = make_server(authority, list(dict.fromkeys([*hosts, *LOOPBACK])))
    _write(path / "server.key", server.private_key)
    _write(path / "server.crt", server.certificate)


def _write(file: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner from the start."""
    with writing(file, "try again"):
        write_atomically(file, text, mode=0o600)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as failed:
        raise DeploymentError(f"{file} cannot be read: {failed.strerror}") from None
