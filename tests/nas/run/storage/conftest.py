"""A PostgreSQL server of its own for the tests that need a real one."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "s3cret@word"
"""Has a sign that separates parts of an address."""

_numbers = itertools.count()


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs, which Debian keeps off the path."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    on_path = shutil.which("initdb")
    if on_path is not None:
        places.insert(0, Path(on_path).resolve().parent)
    return next((place for place in places if (place / "postgres").exists()), None)


def _unprivileged() -> str | None:
    """A user for the server where these tests run as root, which it refuses."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name for user in pwd.getpwall()}
    found = next((name for name in ("postgres", "nobody") if name in known), None)
    return found or pytest.skip("PostgreSQL does not run as root, and there is no other user")


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """Address of an empty database with the password, without a driver's name."""
    import psycopg

    name = f"db{next(_numbers)}"
    with psycopg.connect(f"{postgres_server} dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        port = connection.info.port
    return f"postgresql://nas:{PASSWORD}@127.0.0.1:{port}/{name}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """How to connect to a server, without the name of a database."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra postgres)")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (initdb, postgres)")
    user = _unprivileged()
    # Not in pytest's own folder, which other users cannot enter.
    place = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        (place / "password").write_text(PASSWORD)
        if user is not None:
            for path in (place, place / "password"):
                shutil.chown(path, user)
        data = place / "data"
        made = subprocess.run(
            [
                *(str(programs / "initdb"), "-D", str(data), "-U", "nas", "-N", "-E", "UTF8"),
                *("--auth=scram-sha-256", f"--pwfile={place / 'password'}"),
            ],
            user=user,
            capture_output=True,
            text=True,
            cwd=place,
        )
        if made.returncode:
            pytest.skip(f"initdb failed: {made.stderr.strip().splitlines()[-1]}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": place}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (place / "log").open("w") as log:
            server = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(data), *options],
                user=user,
                stdout=log,
                stderr=log,
                cwd=place,
            )
        try:
            _wait_for(port, server)
            yield f"host=127.0.0.1 port={port} user=nas password={PASSWORD}"
        finally:
            server.send_signal(signal.SIGINT)  # does not wait for connections to end
            server.wait(30)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    until = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(
                host="127.0.0.1", port=port, user="nas", password=PASSWORD, dbname="postgres"
            ).close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > until:
                pytest.skip(f"PostgreSQL does not start: {error}")
            time.sleep(0.1)
