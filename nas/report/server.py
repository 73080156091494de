"""`nas report --serve`: the page of a run that goes on, and its contents as they become.

Listens on this machine only, and reads the run; what a reader asks for is never written. Knows HTTP
and when a run has changed. Does not know what the contents are.
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
"""What changes in a run when there is something new to see."""


REST = 9.0
"""Seconds of rest for each second of work: what is watched is not to be slowed down by it."""


class Contents:
    """The contents of a run, made anew when it has changed."""

    def __init__(
        self, folder: Path, make: Callable[[], dict[str, Any]], rest: float = REST
    ) -> None:
        """Do not make anything yet."""
        self._folder = folder
        self._make = make
        self._rest = rest
        self._lock = threading.Lock()
        self._known: tuple[str, dict[str, Any]] | None = None
        self._due = 0.0

    @property
    def version(self) -> str:
        """What tells two states of the run apart; quoted, as HTTP wants it."""
        times = []
        for name in WATCHED:
            try:
                found = (self._folder / name).stat()
                times.append(f"{found.st_mtime_ns:x}-{found.st_size:x}")
            except OSError:
                times.append("")
        return '"' + ".".join(times) + '"'

    def latest(self) -> tuple[str, dict[str, Any]]:
        """The version and the contents; one request at a time makes them.

        Raises:
            UserError: if the run cannot be read now.
        """
        with self._lock:
            version, began = self.version, time.monotonic()
            if self._known is None or (self._known[0] != version and began >= self._due):
                self._known = version, self._make()
                ended = time.monotonic()
                self._due = ended + self._rest * (ended - began)
            return self._known


def handler(contents: Contents, title: str) -> type[BaseHTTPRequestHandler]:
    """What answers requests for the page and for its contents."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = self.path.partition("?")[0]
            if place not in ("/", f"/{DATA}"):
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", "not here")
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

        def _answer(self, status: HTTPStatus, kind: str, text: str, version: str = "") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Cache-Control", "no-store")
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
            # A reader that went away is no fault of ours.
            with contextlib.suppress(ConnectionError, TimeoutError):
                super().handle()

    return Handler


def open_server(contents: Contents, title: str, port: int) -> ThreadingHTTPServer:
    """A server that listens; `serve_forever` makes it answer.

    Args:
        port: 0 for any that is free.

    Raises:
        UserError: for a port that cannot be had.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), handler(contents, title))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "is in use" if taken else f"cannot be had: {error.strerror}"
        raise UserError(f"port {port} {why}: nas report --serve --port N takes another") from error
    server.daemon_threads = True
    return server


def serve(contents: Contents, title: str, port: int) -> None:
    """Serve until interrupted."""
    with open_server(contents, title, port) as server:
        place = f"http://{HOST}:{server.server_address[1]}/"
        print(f"following {title} at {place}, Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)
