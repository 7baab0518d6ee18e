"""An HTTP proxy that knows CONNECT alone, as a network may have between a device and the rest."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class ConnectProxy(socketserver.ThreadingTCPServer):
    """The proxy, on a port of loopback.

    Args:
        refuses: answer 403 to everything.
    """

    daemon_threads = True

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.asked: list[str] = []
        """``host:port`` of each connection that was asked for."""
        super().__init__(("127.0.0.1", 0), _Tunnel)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a program uses it, also for what is on this machine."""
        url = f"http://127.0.0.1:{self.server_address[1]}"
        return {"HTTPS_PROXY": url, "https_proxy": url, "NO_PROXY": "", "no_proxy": ""}


class _Tunnel(socketserver.StreamRequestHandler):
    server: ConnectProxy

    def handle(self) -> None:
        with suppress(OSError):
            method, target, *_ = self.rfile.readline().decode("latin-1").split()
            while self.rfile.readline().strip():
                pass
            self.server.asked.append(target)
            if method != "CONNECT" or self.server.refuses:
                self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as there:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _copy(self.connection, there)


def _copy(one: socket.socket, other: socket.socket) -> None:
    """Pass on what either sends, until one of them ends."""
    ends = {one: other, other: one}
    while True:
        for end in select.select(list(ends), [], [])[0]:
            if not (part := end.recv(2**16)):
                return
            ends[end].sendall(part)


@contextmanager
def connect_proxy(*, refuses: bool = False) -> Iterator[ConnectProxy]:
    """A running proxy."""
    with ConnectProxy(refuses=refuses) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
