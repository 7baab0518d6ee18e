"""The enrolled devices of a coordinator: a file for each in its folder, and the next number."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fieldtune.client.contract.bundle import NAME
from fieldtune.profiles.common.errors import DeploymentError
from fieldtune.profiles.common.text import printable
from fieldtune.profiles.common.toml import from_toml, to_toml
from fieldtune.server.deployment.certificates import public_pem
from fieldtune.server.deployment.private_files import write_private

_SHOWN = 64
"""Characters of an invalid name."""


def _public_key(line: str) -> str:
    try:
        public_pem(line)
    except Exception:  # several exception types
        raise ValueError("is not a public key in OpenSSH's format") from None
    return line


class _DeviceFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)
    public_key: Annotated[str, AfterValidator(_public_key)]
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


class DeviceFiles:
    """``devices/NAME.toml`` of each device, and ``next-number``; the caller holds their lock.

    Args:
        folder: of the coordinator.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._next = folder / "devices", folder / "next-number"

    def all(self) -> list[Enrolled]:
        """All enrolled devices, by number.

        Raises:
            DeploymentError: a device's file is damaged.
        """
        found = []
        for file in self._folder.glob("*.toml"):
            if not NAME.fullmatch(file.stem):
                raise DeploymentError(f"{printable(str(file))} is not a device's file: remove it")
            try:
                device = _DeviceFile.model_validate(from_toml(file.read_text()))
                found.append(
                    Enrolled(file.stem, device.number, device.public_key, device.certificate)
                )
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError):
                raise DeploymentError(
                    f"{file} is damaged: remove it and enroll the device again"
                ) from None
        return sorted(found, key=lambda device: device.number)

    def named(self, name: str) -> Enrolled:
        """The device of this name.

        Raises:
            DeploymentError: there is no such device.
        """
        known = {device.name: device for device in self.all()}
        if name not in known:
            enrolled = ", ".join(known) or "none"
            raise DeploymentError(f"There is no device {name!r}; enrolled are: {enrolled}")
        return known[name]

    def new_number(self, name: str) -> int:
        """A number for a new device of this name.

        Raises:
            DeploymentError: the name is invalid or taken.
        """
        check_name(name)
        known = self.all()
        if any(device.name == name for device in known):
            raise DeploymentError(
                f"{name} is enrolled already: 'fieldtune coordinator remove' it first, choose "
                "another name, or give --renew for a new key and bundle"
            )
        number = self._next_number(known)
        write_private(self._next, f"{number + 1}\n")
        return number

    def keep(self, device: Enrolled) -> None:
        """Write a device's file."""
        text = {
            "number": device.number,
            "public_key": device.public_key,
            "certificate": device.certificate,
        }
        write_private(self._folder / f"{device.name}.toml", to_toml(text))

    def remove(self, name: str) -> Enrolled:
        """Remove a device; its number is not used again.

        Raises:
            DeploymentError: there is no such device.
        """
        removed = self.named(name)
        write_private(self._next, f"{self._next_number(self.all())}\n")
        (self._folder / f"{name}.toml").unlink()
        return removed

    def _next_number(self, known: Sequence[Enrolled]) -> int:
        """One that no device has had: a study in progress knows its devices by their numbers."""
        try:
            stored = int(self._next.read_text())
        except (OSError, ValueError):
            stored = 0  # enrolled by 0.1.0
        return max([stored, *(device.number + 1 for device in known)])


def names_in(file: Path) -> list[str]:
    """The device names in a text file: one a line; empty lines and those with ``#`` are skipped.

    Raises:
        DeploymentError: the file cannot be read, or a name is invalid or given twice.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as failed:
        why = failed.strerror if isinstance(failed, OSError) else "it is not a text file"
        raise DeploymentError(f"{file} cannot be read: {why}") from None
    names = [line for line in lines if line and not line.startswith("#")]
    found = set[str]()
    for name in names:
        check_name(name)
        if name in found:
            raise DeploymentError(f"{file}: {name} is named twice")
        found.add(name)
    return names


def check_name(name: str) -> None:
    """Raise DeploymentError if a device cannot have this name."""
    if not NAME.fullmatch(name):
        shown = name if len(name) < _SHOWN else f"{name[:_SHOWN]}..."
        raise DeploymentError(
            f"{shown!r} is not a valid device name: use 1 to 63 letters, digits, '-' or '_', "
            "beginning with a letter or digit"
        )
