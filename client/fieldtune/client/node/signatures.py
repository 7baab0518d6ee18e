"""Artefacts are signed by the coordinator, whose certificate is in the device's bundle.

So who gets hold of SuperLink or the proxy, but not of the coordinator's key, cannot send models.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, RecordDict

_RECORD, _KEY, _PURPOSE = "signature", "artefact", "fieldtune artefact "
_ALGORITHM = ec.ECDSA(hashes.SHA384())


class Signer:
    """Adds the signatures of artefacts to requests.

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


def is_signed(content: RecordDict, artefact: str, ca_certificate: str) -> bool:
    """Whether a request has the authority's signature of this artefact."""
    key = x509.load_pem_x509_certificate(ca_certificate.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    record = content.config_records.get(_RECORD)
    signed = b"" if record is None else record.get(_KEY)
    if not isinstance(signed, bytes):
        return False
    try:
        key.verify(signed, (_PURPOSE + artefact).encode(), _ALGORITHM)
    except InvalidSignature:
        return False
    return True
