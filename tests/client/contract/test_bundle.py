"""A device's bundle: written for its owner alone, read back, refused in one sentence."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from fieldtune.client.contract.bundle import Bundle
from fieldtune.profiles.common.errors import BundleError, StorageError
from support.identities import key_pair, server


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    private, public = key_pair()
    return Bundle(
        name="kitchen",
        address="tune.example.org:8443",
        ca_certificate=server().ca_certificate,
        private_key=private,
        public_key=public,
    )


def test_a_bundle_is_read_back_as_it_was_written(bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "kitchen.bundle.toml"
    bundle.write(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert Bundle.read(file) == bundle
    assert (bundle.host, bundle.port) == ("tune.example.org", 8443)


def test_a_bundle_is_never_written_over_another(bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "kitchen.bundle.toml"
    file.write_text("precious")
    with pytest.raises(StorageError, match="exists already"):
        bundle.write(file)
    assert file.read_text() == "precious"


def test_a_bundle_does_not_show_its_private_key(bundle: Bundle) -> None:
    secret = bundle.private_key.splitlines()[1]
    assert secret not in repr(bundle)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "a b"}, "name 'a b' must be"),
        ({"name": "../x"}, "name '../x' must be"),
        ({"name": "x" * 64}, "1 to 63"),
        ({"address": "host"}, "address 'host' is not host:port"),
        ({"address": "https://host:1"}, "is not host:port"),
        ({"address": "\u202ehost:1"}, "is not host:port"),
        ({"address": "x" * 256 + ":1"}, "is not host:port"),
        ({"address": "host:0"}, "address has the port 0, which is not in"),
        ({"address": "host:70000"}, "the port 70000, which is not in"),
        ({"ca_certificate": "x"}, "ca_certificate is not a certificate"),
        ({"private_key": "x"}, "must be in OpenSSH's format"),
        ({"public_key": key_pair()[1]}, "public_key does not belong to private_key"),
        (
            dict(zip(("private_key", "public_key"), key_pair(ec.SECP256R1()), strict=True)),
            "curve P-384",
        ),
        ({"certificate": server().ca_certificate}, "certificate does not belong to private_key"),
        ({"schema_version": 2}, "schema_version"),
        ({"adress": "host:1"}, "adress is not a known key .did you mean 'address'"),
    ],
)
def test_what_is_not_a_bundle_is_refused_in_a_sentence_without_the_key(
    bundle: Bundle, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    file = tmp_path / "x.bundle.toml"
    values = bundle.model_dump(exclude_none=True) | changes
    file.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in values.items()))
    with pytest.raises(BundleError, match=sentence) as refused:
        Bundle.read(file)
    assert "\n" not in str(refused.value)
    assert "OPENSSH PRIVATE" not in str(refused.value)
    assert "enrolled again" in str(refused.value)


def test_a_bundle_that_cannot_be_written_whole_leaves_nothing_behind(
    bundle: Bundle, tmp_path: Path
) -> None:
    file = tmp_path / "x.bundle.toml"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot be written: File too large"):
            bundle.write(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not file.exists()
    bundle.write(file)


def _toml(value: Any) -> str:
    return str(value) if isinstance(value, int) else '"' + str(value).replace("\n", "\\n") + '"'


def test_a_missing_file_a_missing_key_and_noise_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.bundle.toml"
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        Bundle.read(file)
    file.write_text('name = "x"')
    with pytest.raises(BundleError, match="address is missing"):
        Bundle.read(file)
    file.write_bytes(b"\xff\x00 = ")
    with pytest.raises(BundleError, match="is not a TOML file"):
        Bundle.read(file)


def test_an_invalid_bundle_cannot_be_made(bundle: Bundle) -> None:
    with pytest.raises(ValidationError) as refused:
        Bundle(**(bundle.model_dump() | {"public_key": key_pair()[1]}))
    assert bundle.private_key.splitlines()[1] not in str(refused.value)
