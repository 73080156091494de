"""Addresses of databases in which many runs keep their studies, as SQLAlchemy writes them.

A password in an address is kept in this process only: what a run records and what messages show is
the address without it. Later commands take it from the database's own means (`PGPASSWORD`,
`~/.pgpass`) or from `NAS_STORAGE_PASSWORD`. Does not know studies.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import UserError, not_installed

if TYPE_CHECKING:
    from sqlalchemy import URL

PASSWORD = "NAS_STORAGE_PASSWORD"
"""Environment variable with the password of a storage whose address has none."""

SECRETS = ("password", "passwd", "pwd", "sslpassword")
"""Names of a password among the arguments of an address."""

CONNECT_SECONDS = 10
"""Time to wait for a server that does not answer."""

LOCK_TIMEOUT = 30.0
"""Seconds to wait for another writer of a SQLite file, which locks it for milliseconds."""

_given: dict[str, str] = {}
"""Addresses with their passwords, as they were given to this process, by what is shown of them."""


@dataclass(frozen=True)
class SharedStudy:
    """A study in a database: the address without its password, and the study's name there."""

    address: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} in {self.address}"


def public(address: str | None) -> str | None:
    """The address without its password, which this process remembers; SQLite files absolute.

    One that cannot be parsed loses its password too; `check` refuses it.
    """
    if address is None:
        return None
    from sqlalchemy import URL
    from sqlalchemy.engine import make_url

    # A password may hold an @; SQLAlchemy would take what follows the first one for the host.
    parts = re.fullmatch(r"([\w+]+://[^:/@]*):(.*)@([^@]*)", address)
    if parts is not None:
        address = f"{parts[1]}:{parts[2].replace('@', '%40')}@{parts[3]}"
    try:
        url = make_url(address)
    except Exception:
        return address if parts is None else f"{parts[1]}@{parts[3]}"
    database = url.database
    if url.get_backend_name() == "sqlite" and database and not database.startswith(("file:", ":")):
        database = str(Path(database).absolute())
    shown = URL.create(
        url.drivername,
        url.username,
        None,
        url.host,
        url.port,
        database,
        {name: value for name, value in url.query.items() if name.lower() not in SECRETS},
    ).render_as_string(hide_password=False)
    if url.password is not None or any(name.lower() in SECRETS for name in url.query):
        _given[shown] = address
    return shown


def connectable(address: str) -> URL:
    """The address with its password, if one is known, and an installed driver.

    Raises:
        UserError: for an address that cannot be parsed, and for a database in memory.
    """
    from sqlalchemy.engine import make_url

    try:
        url = make_url(_given.get(address, address))
    except Exception as error:
        raise UserError(
            f"storage '{address}' is no address of a database: expected one such as "
            "postgresql://USER@HOST/NAME or sqlite:///FILE"
        ) from error
    if url.get_backend_name() == "sqlite" and (url.database or ":memory:") == ":memory:":
        raise UserError(f"storage {address} ends with this process: expected sqlite:///FILE")
    if url.drivername in ("postgresql", "postgres"):
        other = find_spec("psycopg") is None and find_spec("psycopg2") is not None
        url = url.set(drivername="postgresql+psycopg2" if other else "postgresql+psycopg")
    password = os.environ.get(PASSWORD)
    if password and url.password is None and url.get_backend_name() != "sqlite":
        url = url.set(password=password)
    return url


def file_of(address: str) -> Path | None:
    """The file of a SQLite database; None for others."""
    url = connectable(address)
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def engine_arguments(url: URL) -> dict[str, Any]:
    """Arguments of SQLAlchemy's `create_engine`, such that no wait is endless."""
    timeouts: dict[str, dict[str, Any]] = {
        "sqlite": {"timeout": LOCK_TIMEOUT},
        "postgresql": {"connect_timeout": CONNECT_SECONDS},
        "mysql": {"connect_timeout": CONNECT_SECONDS},
    }
    # A server may have been restarted since the last transaction.
    return {"pool_pre_ping": True, "connect_args": timeouts.get(url.get_backend_name(), {})}


def check(address: str) -> None:
    """Connect once.

    Raises:
        UserError: for an address that is none, a driver that is not installed, and a database that
            does not answer or refuses.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    url = connectable(address)
    file = file_of(address)
    if file is not None and not file.exists():  # connecting would create it
        if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
            raise UserError(f"cannot open the storage {address}: cannot write in {file.parent}")
        return
    try:
        engine = create_engine(url, **engine_arguments(url))
        with engine.connect():
            pass
        engine.dispose()
    except NoSuchModuleError as error:
        raise UserError(
            f"storage {address}: SQLAlchemy has no database '{url.drivername}': expected "
            "postgresql, mysql, sqlite or an installed dialect"
        ) from error
    except ImportError as error:
        if url.get_backend_name() == "postgresql":
            raise UserError(f"storage {address}: {not_installed('postgres')}") from error
        raise UserError(f"storage {address}: its driver {error.name} is not installed") from error
    except (SQLAlchemyError, TypeError) as error:
        raise UserError(f"cannot open the storage {address}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What a database said, in one line; a missing password with where to give it."""
    cause = error.__cause__ or error
    said = " ".join(str(getattr(cause, "orig", None) or cause).split("\n")[0].split())
    if "password" in said:
        said += (
            f"; runs do not record passwords: set {PASSWORD}, or give --storage again with the "
            "password"
        )
    return said
