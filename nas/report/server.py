"""Serves the report of a running search: the page, and its contents as the run changes.

Listens on localhost only and never writes. Knows HTTP and when a run has changed. Does not know
what the contents are.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nas.report.page import page
from search_spaces.errors import UserError

HOST = "127.0.0.1"
PORT = 8765
DATA = "contents.json"

WATCHED = (
    "study.db",
    "summary.json",
    "footprint.json",
    "fidelity.json",
    "relaxation.jsonl",
    "trained",
)
"""Files of a run whose change makes the contents outdated."""

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine in a request. A page on the web may have its own name lead to this machine
(DNS rebinding) and would then read the run."""

STALLED_SECONDS = 10.0
"""Time after which a connection that sends nothing is closed."""

REST = 9.0
"""Pause after computing the contents, in multiples of the time that took: the server must not slow
the search down."""


class CachedContents:
    """The contents of a run, recomputed when the run has changed."""

    def __init__(
        self, folder: Path, make: Callable[[], dict[str, Any]], rest: float = REST
    ) -> None:
        """Store the arguments; compute nothing yet.

        Args:
            folder: the run.
            make: computes the contents.
            rest: pause after a computation, in multiples of its duration.
        """
        self._folder = folder
        self._make = make
        self._rest = rest
        self._lock = threading.Lock()
        self._known: tuple[str, dict[str, Any]] | None = None
        self._due = 0.0

    @property
    def version(self) -> str:
        """Identifier of the run's state, quoted as an HTTP entity tag."""
        times = []
        for name in WATCHED:
            try:
                found = (self._folder / name).stat()
                times.append(f"{found.st_mtime_ns:x}-{found.st_size:x}")
            except OSError:
                times.append("")
        return '"' + ".".join(times) + '"'

    def latest(self) -> tuple[str, dict[str, Any]]:
        """The version and the contents; only one request at a time computes them.

        Raises:
            UserError: if the run cannot be read.
        """
        with self._lock:
            version, began = self.version, time.monotonic()
            if self._known is None or (self._known[0] != version and began >= self._due):
                self._known = version, self._make()
                ended = time.monotonic()
                self._due = ended + self._rest * (ended - began)
            return self._known


def handler(contents: CachedContents, title: str) -> type[BaseHTTPRequestHandler]:
    """The handler of requests for the page and for its contents."""

    class Handler(BaseHTTPRequestHandler):
        timeout = STALLED_SECONDS

        def do_GET(self) -> None:
            if not self._is_local():
                self._answer(HTTPStatus.FORBIDDEN, "text/plain", "unknown host")
                return
            place = self.path.partition("?")[0]
            if place not in ("/", f"/{DATA}"):
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", "not found")
                return
            try:
                version, found = contents.latest()
            except (UserError, OSError) as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", str(error))
                return
            if place == "/":
                self._answer(HTTPStatus.OK, "text/html", page(found, title=title, address=DATA))
            elif self.headers.get("If-None-Match") == version:
                self._answer(HTTPStatus.NOT_MODIFIED, "application/json", "")
            else:
                self._answer(HTTPStatus.OK, "application/json", json.dumps(found), version)

        def _is_local(self) -> bool:
            """Whether the request is for this machine: other names may be made to lead here."""
            return _host_name(self.headers.get("Host", "")) in OWN_NAMES

        def _answer(self, status: HTTPStatus, kind: str, text: str, version: str = "") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            if version:
                self.send_header("ETag", version)
            if status != HTTPStatus.NOT_MODIFIED:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if status != HTTPStatus.NOT_MODIFIED:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            # The client closed the connection.
            with contextlib.suppress(ConnectionError, TimeoutError):
                super().handle()

    return Handler


def _host_name(host: str) -> str:
    """A `Host` without its port."""
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdigit() else host.strip().lower()


def open_server(contents: CachedContents, title: str, port: int) -> ThreadingHTTPServer:
    """Open a listening server; `serve_forever` answers requests.

    Args:
        port: 0 for any free port.

    Raises:
        UserError: for a port that is not available.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), handler(contents, title))
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "is in use" if in_use else f"is not available: {error.strerror}"
        raise UserError(
            f"port {port} {reason}: select another one with nas report --serve --port N"
        ) from error
    server.daemon_threads = True
    return server


def serve(contents: CachedContents, title: str, port: int) -> None:
    """Serve until interrupted."""
    with open_server(contents, title, port) as server:
        place = f"http://{HOST}:{server.server_address[1]}/"
        print(f"serving {title} at {place}, press Ctrl-C to stop", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
