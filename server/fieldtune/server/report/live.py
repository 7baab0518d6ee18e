"""``fieldtune report DIR --live``: the page of a running study, served to this machine only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from fieldtune.profiles.common.errors import FieldtuneError, UsageError
from fieldtune.server.report.html import render_html
from fieldtune.server.report.run_info import run_info
from fieldtune.server.results.run_folder import read_summary

LOOPBACK = "127.0.0.1"


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve the page of a run folder on the loopback address, rendered anew for each request.

    Args:
        folder: of the run.
        port: to listen on; 0 takes a free one.

    Yields:
        The page's address.

    Raises:
        UsageError: the port is taken.
    """
    handler = type("_Page", (_PageHandler,), {"folder": folder})
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), handler)
    except OSError as taken:
        raise UsageError(
            f"port {port} cannot be listened on ({taken.strerror}): leave --port out"
        ) from None
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def version(folder: Path) -> str:
    """Another text whenever the results have been written anew or the study has ended."""
    summary = read_summary(folder)
    return f"{(folder / 'pareto.json').stat().st_mtime_ns} {run_info(folder, summary).state}"


class _PageHandler(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        # Another site's script, whose name was made to resolve to this machine, is refused.
        if self.headers.get("Host", "").partition(":")[0] not in (LOOPBACK, "localhost"):
            return self._answer(403, "text/plain", "this page is for this machine only\n")
        try:
            if self.path == "/version":
                return self._answer(200, "text/plain", version(self.folder))
            if self.path == "/":
                now = version(self.folder)
                summary = read_summary(self.folder)
                page = render_html(summary, run_info(self.folder, summary), live=now)
                return self._answer(200, "text/html", page)
        except FieldtuneError as wrong:
            return self._answer(503, "text/plain", f"{wrong}\n")
        return self._answer(404, "text/plain", "there is only one page\n")

    def _answer(self, code: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged."""
