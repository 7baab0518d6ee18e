"""TLS between device and coordinator: whom the device trusts, and the certificate that it shows."""

from __future__ import annotations

import os
import ssl

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)


def trusting(ca_certificate: str) -> ssl.SSLContext:
    """A client's context in which this certificate authority (PEM) is the only trusted one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca_certificate)
    return context


def show_certificate(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    """Have connections of this context show a device's certificate.

    Args:
        context: of a client.
        certificate: PEM.
        private_key: OpenSSH format (PEM).
    """
    key = load_ssh_private_key(private_key.encode(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    # Python's ssl reads files only; this one is in memory, so that the key is on no disk again.
    file = os.memfd_create("certificate")
    try:
        os.write(file, certificate.encode() + key)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
