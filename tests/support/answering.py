"""A TLS server on loopback that answers every request alike."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from support.identities import Server, server


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
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response_only(status)
            moment = datetime.now(UTC) + timedelta(seconds=ahead_s)
            self.send_header("Date", format_datetime(moment, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

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
