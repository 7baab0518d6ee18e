"""Certificates and keys for tests: a certificate authority, a server, devices."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Server:
    """What a coordinator shows to its devices, in PEM."""

    ca_certificate: str
    certificate: str
    private_key: str


def make_server(*, days_left: float = 30.0) -> Server:
    """A certificate for ``localhost``; expired where ``days_left`` is negative."""
    ca_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    ends = datetime.datetime.now(datetime.UTC) + days_left * _DAY
    ca = _certificate("test authority", ca_key, "test authority", ca_key, ends + 9 * _DAY)
    leaf = _certificate("localhost", key, "test authority", ca_key, ends)
    pem = serialization.Encoding.PEM
    return Server(
        ca.public_bytes(pem).decode(),
        leaf.public_bytes(pem).decode(),
        key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    ends: datetime.datetime,
) -> x509.Certificate:
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    is_ca = key is issuer_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - 90 * _DAY)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@cache
def server() -> Server:
    """One valid server for all tests of a process."""
    return make_server()


def key_pair(curve: ec.EllipticCurve | None = None) -> tuple[str, str]:
    """Private and public key of a device as OpenSSH writes them."""
    key = ec.generate_private_key(curve or ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()
