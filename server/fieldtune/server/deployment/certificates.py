"""TLS certificates and device keys of a fleet, which has its own certificate authority.

All keys are EC P-384, the curve that Flower's node authentication uses. The authority signs server
certificates, and a certificate for each device's key, without which the proxy accepts no request;
devices authenticate with the keys, which are registered one by one.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
"""The longest validity that clients such as Apple's accept with a private authority."""

_LEEWAY = datetime.timedelta(days=1)
"""Valid from a day before: the clock of a board without a battery may be behind at first."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both in PEM."""

    certificate: str
    private_key: str


def make_authority(name: str) -> Pair:
    """A new certificate authority, which can sign end certificates only."""
    key = ec.generate_private_key(ec.SECP384R1())
    builder = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA384()), key)


def make_server(authority: Pair, hosts: Sequence[str], *, days: int = SERVER_DAYS) -> Pair:
    """A server certificate for these host names and addresses, signed by the authority."""
    key = ec.generate_private_key(ec.SECP384R1())
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    certificate = _signed(
        authority, hosts[0], key.public_key(), days, ExtendedKeyUsageOID.SERVER_AUTH, names
    )
    return _pair(certificate, key)


def make_device_certificate(authority: Pair, name: str, public_key: str) -> str:
    """A certificate for a device's key (one OpenSSH line), in PEM; it is for no server."""
    key = serialization.load_ssh_public_key(public_key.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    certificate = _signed(authority, name, key, AUTHORITY_DAYS, ExtendedKeyUsageOID.CLIENT_AUTH)
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _signed(
    authority: Pair,
    name: str,
    key: ec.EllipticCurvePublicKey,
    days: int,
    usage: x509.ObjectIdentifier,
    names: x509.SubjectAlternativeName | None = None,
) -> x509.Certificate:
    """A certificate that the authority signs, for one use."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    issuer_key = serialization.load_pem_private_key(authority.private_key.encode(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    issuer_name = issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    builder = (
        _builder(name[:64], str(issuer_name), key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA384())


def is_key(pem: str) -> bool:
    """Whether a text is the private key of an authority."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except Exception:  # several exception types
        return False
    return isinstance(key, ec.EllipticCurvePrivateKey)


def is_certificate(pem: str) -> bool:
    """Whether a text is a certificate with a key of the kind that is used here."""
    try:
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    except Exception:  # several exception types
        return False
    return isinstance(key, ec.EllipticCurvePublicKey)


def expires(certificate: str) -> datetime.datetime:
    """When a certificate expires, UTC."""
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def make_device_key() -> tuple[str, str]:
    """A new device's private key (OpenSSH PEM) and public key (one OpenSSH line)."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()


def public_pem(openssh: str) -> bytes:
    """A public key in PEM, as Flower stores it, from its OpenSSH line."""
    return serialization.load_ssh_public_key(openssh.encode()).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + datetime.timedelta(days=days)) - _LEEWAY)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = serialization.Encoding.PEM
    return Pair(
        certificate.public_bytes(pem).decode(),
        key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )
