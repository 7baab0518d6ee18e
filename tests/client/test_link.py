"""What a device makes of a coordinator that refuses, is not itself, or is not there."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fieldtune.client.flower import (
    KeyRefusedError,
    Link,
    LinkError,
    NotActivatedError,
    RunEndedError,
    UnreachableError,
    UntrustedError,
)
from identities import Server, key_pair, make_server, server


@contextmanager
def answering(
    folder: Path,
    status: int,
    body: bytes = b"",
    *,
    identity: Server | None = None,
    ahead_s: float = 0,
) -> Iterator[int]:
    """A TLS server on loopback that answers every request alike; its port."""
    shown = identity or server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response_only(status)
            moment = datetime.now(UTC) + timedelta(seconds=ahead_s)
            self.send_header("Date", format_datetime(moment, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    (folder / "server.pem").write_text(shown.certificate)
    (folder / "server.key").write_text(shown.private_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")

    class Quiet(HTTPServer):
        def get_request(self):  # type: ignore[no-untyped-def]
            connection, address = super().get_request()
            return context.wrap_socket(connection, server_side=True), address

        def handle_error(self, *_: object) -> None:
            """A client that turns away is what some tests want."""

    serving = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield serving.server_port
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def refusal(port: int, ca_certificate: str | None = None) -> LinkError:
    link = Link(
        f"localhost:{port}", ca_certificate or server().ca_certificate, key_pair()[0], timeout_s=5
    )
    try:
        with pytest.raises(LinkError) as refused:
            link.activate()
    finally:
        link.close()
    return refused.value


def test_nobody_listening_is_unreachable() -> None:
    assert isinstance(refusal(1), UnreachableError)


def test_a_certificate_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    with answering(tmp_path, 200, identity=make_server()) as port:
        refused = refusal(port)
    assert isinstance(refused, UntrustedError)
    assert "certificate" in str(refused)


def test_an_expired_certificate_is_not_trusted_and_said_to_be_expired(tmp_path: Path) -> None:
    expired = make_server(days_left=-1)
    with answering(tmp_path, 200, identity=expired) as port:
        refused = refusal(port, expired.ca_certificate)
    assert isinstance(refused, UntrustedError)
    assert "certificate has expired" in str(refused)


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (412, b'{"code": 2004, "detail": "no"}', NotActivatedError, "2004"),
        (403, b'{"code": 2007, "detail": "over"}', RunEndedError, "2007"),
        (403, b"<html>proxy</html>", UnreachableError, "HTTP status 403 at /v1/fleet/"),
        (404, b"", UnreachableError, "HTTP status 404"),
        (502, b"", UnreachableError, "HTTP status 502"),
        (401, b"{}", KeyRefusedError, "does not know its key"),
        (200, b"\xff\xff\xff", UnreachableError, "not a SuperLink's answer"),
    ],
)
def test_each_refusal_has_its_kind(
    tmp_path: Path, status: int, body: bytes, kind: type[LinkError], sentence: str
) -> None:
    with answering(tmp_path, status, body) as port:
        refused = refusal(port)
    assert type(refused) is kind
    assert sentence in str(refused)


@pytest.mark.parametrize(("ahead_s", "side"), [(3600, "behind"), (-3600, "ahead of")])
def test_a_refusal_for_a_wrong_clock_says_how_wrong(
    tmp_path: Path, ahead_s: float, side: str
) -> None:
    with answering(tmp_path, 401, b"{}", ahead_s=ahead_s) as port:
        refused = refusal(port)
    assert isinstance(refused, KeyRefusedError)
    assert f"s {side} the coordinator's: set it" in str(refused)
