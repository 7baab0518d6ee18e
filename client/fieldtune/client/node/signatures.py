"""Artefacts and orders are signed by the coordinator, whose certificate is in the device's bundle.

So who gets hold of SuperLink or the proxy, but not of the coordinator's key, cannot send models.
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, RecordDict

_RECORD, _KEY, _PURPOSE = "signature", "artefact", "fieldtune artefact "
_ALGORITHM = ec.ECDSA(hashes.SHA384())


class Signer:
    """Signs artefacts, and the texts of orders.

    Args:
        private_key: of the authority, PEM.
    """

    def __init__(self, private_key: str) -> None:
        key = serialization.load_pem_private_key(private_key.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key, self._signed = key, dict[str, bytes]()

    def __call__(self, content: RecordDict, artefact: str) -> None:
        """Add a record to a message's content; ``artefact`` is a SHA-256 in hexadecimal."""
        if artefact not in self._signed:
            self._signed[artefact] = self._key.sign((_PURPOSE + artefact).encode(), _ALGORITHM)
        content[_RECORD] = ConfigRecord({_KEY: self._signed[artefact]})

    def of_text(self, purpose: str, text: str) -> bytes:
        """The signature of a text for a purpose, such as the type of its message."""
        return self._key.sign(_statement(purpose, text), _ALGORITHM)


def is_signed(content: RecordDict, artefact: str, ca_certificate: str) -> bool:
    """Whether a request has the authority's signature of this artefact."""
    record = content.config_records.get(_RECORD)
    signed = b"" if record is None else record.get(_KEY)
    return _is_signature(signed, (_PURPOSE + artefact).encode(), ca_certificate)


def is_signed_text(signature: object, purpose: str, text: str, ca_certificate: str) -> bool:
    """Whether this is the authority's signature of a text for this purpose."""
    return _is_signature(signature, _statement(purpose, text), ca_certificate)


def _statement(purpose: str, text: str) -> bytes:
    return f"fieldtune {purpose} {hashlib.sha256(text.encode()).hexdigest()}".encode()


def _is_signature(signed: object, statement: bytes, ca_certificate: str) -> bool:
    key = x509.load_pem_x509_certificate(ca_certificate.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    if not isinstance(signed, bytes):
        return False
    try:
        key.verify(signed, statement, _ALGORITHM)
    except InvalidSignature:
        return False
    return True
