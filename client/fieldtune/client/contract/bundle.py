"""A device's bundle: one file with everything that it needs to join a fleet.

The coordinator writes it when it enrols the device, and it is then copied to the device
(``docs/device.md``). It contains the device's private key, so only its owner may read it (mode
0600).
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fieldtune.profiles.common.errors import BundleError, StorageError
from fieldtune.profiles.common.toml import from_toml, to_toml
from fieldtune.profiles.common.validation import first_error

SUFFIX = ".bundle.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Valid device names; a name becomes part of file and service names."""
_LONGEST_HOST = 255

_REMEDY = "have the device enrolled again on the coordinator"


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    is_host = 1 <= len(host) <= _LONGEST_HOST and host.isprintable()
    if not is_host or re.search(r"[\s/@]", host) or not port.isascii() or not port.isdigit():
        raise ValueError(f"{value!r} is not host:port")
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"has the port {port}, which is not in 1..65535")
    return value


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} must be 1 to 63 letters, digits, '-' or '_', a letter or digit first"
        )
    return value


def _certificate(value: str) -> str:
    from cryptography import x509

    try:
        x509.load_pem_x509_certificate(value.encode())
    except ValueError:
        raise ValueError("is not a certificate in PEM") from None
    return value


class Bundle(BaseModel):
    """The identity of a device and the address of its coordinator.

    Args:
        name: of the device, unique in its fleet.
        address: ``host:port`` that the device connects to.
        ca_certificate: PEM of the certificate authority that signs the coordinator's certificate.
        private_key: of the device; EC P-384 in OpenSSH format (PEM).
        public_key: of the device; one line in OpenSSH format.
        certificate: PEM; the authority's for the device's key, which the coordinator's proxy asks
            for. None in a bundle from before there was one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    schema_version: Literal[1] = 1
    name: Annotated[str, AfterValidator(_name)]
    address: Annotated[str, AfterValidator(_address)]
    ca_certificate: Annotated[str, AfterValidator(_certificate)]
    private_key: str = Field(repr=False)
    public_key: str
    certificate: Annotated[str, AfterValidator(_certificate)] | None = None

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            private = serialization.load_ssh_private_key(self.private_key.encode(), None)
            public = serialization.load_ssh_public_key(self.public_key.encode())
        except Exception:  # several exception types, none of which may show the key
            raise ValueError("private_key and public_key must be in OpenSSH's format") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp384r1":
            raise ValueError("private_key must be of the curve P-384")
        if private.public_key() != public:
            raise ValueError("public_key does not belong to private_key")
        if self.certificate is not None:
            certified = x509.load_pem_x509_certificate(self.certificate.encode()).public_key()
            if certified != public:
                raise ValueError("certificate does not belong to private_key")
        return self

    @property
    def host(self) -> str:
        """The coordinator's host name or address, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The coordinator's port."""
        return int(self.address.rpartition(":")[2])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a bundle from a file.

        Raises:
            BundleError: it cannot be read or is not a bundle; the message never shows the key.
        """
        try:
            values = from_toml(path.read_text(encoding="utf-8"))
        except OSError as failed:
            raise BundleError(f"{path}: cannot be read: {failed.strerror}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError):
            raise BundleError(f"{path} is not a TOML file: copy it again, or {_REMEDY}") from None
        try:
            return cls.model_validate(values)
        except ValidationError as wrong:
            said = first_error(wrong, cls, quotes=False)
            raise BundleError(f"{path}: {said}: {_REMEDY}") from None

    def write(self, path: Path) -> None:
        """Write the file, readable only by its owner from the moment it is created.

        Raises:
            StorageError: it exists already or cannot be written.
        """
        comment = f"fieldtune bundle of {self.name}: contains its private key, keep it secret"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(file, "w", encoding="utf-8") as out:
                    out.write(to_toml(self.model_dump(exclude_none=True), comment=comment))
            except OSError:
                path.unlink()  # an incomplete bundle would make the next attempt fail
                raise
        except FileExistsError:
            raise StorageError(f"{path} exists already: move it away or give another") from None
        except OSError as failed:
            raise StorageError(f"{path}: cannot be written: {failed.strerror}") from None
