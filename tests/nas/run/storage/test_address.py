"""Addresses of storages: what is recorded of them, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.cli import main
from nas.run.specification import make, to_json
from nas.run.storage.address import PASSWORD, check, connectable, public
from search_spaces.errors import UserError


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me@host/db"),
        ("postgresql://me:se@cret/x@host:5432/db", "postgresql://me@host:5432/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me"),
        ("mysql+pymysql://me:secret@host/db", "mysql+pymysql://me@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:secret@host:port/db", "postgresql://me@host:port/db"),
    ],
)
def test_a_password_is_not_recorded(given: str, shown: str) -> None:
    specification = make({"storage": given})
    assert specification.storage == shown
    assert "secret" not in to_json(specification) + repr(specification)
    assert public(shown) == shown


def test_a_password_is_known_to_the_process_that_was_given_it() -> None:
    shown = public("postgresql://one:a@b:c@host/db")
    assert shown == "postgresql://one@host/db"
    assert connectable(str(shown)).password == "a@b:c"


def test_a_password_of_a_later_command_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert connectable("postgresql://two@host/db").password is None
    monkeypatch.setenv(PASSWORD, "from outside")
    assert connectable("postgresql://two@host/db").password == "from outside"


def test_the_file_of_an_address_does_not_depend_on_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert public("sqlite:///all.db") == f"sqlite:///{tmp_path / 'all.db'}"


REFUSED = {
    "nonsense": "is no address of a database",
    "": "is no address of a database",
    "sqlite://": "ends with this process",
    "oops://host/db": "SQLAlchemy has no database 'oops'",
    "mysql://me:secret@127.0.0.1:1/db": "its driver MySQLdb is not installed",
    "sqlite:////does/not/exist/all.db": "cannot write in /does/not/exist",
    "postgresql://me:secret@127.0.0.1:port/db": "is no address of a database",
}


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_cannot_be_used_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=REFUSED[address]) as refused:
        check(str(public(address)))
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_search_ends_with_one_line_before_anything_is_written(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    address = "postgresql://me:secret@127.0.0.1:1/db"
    given = ["search", "--max-flops", "300k", "--storage", address, "--out", str(out), *more]
    with pytest.raises(SystemExit) as end:
        main(given)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert "postgresql://me@127.0.0.1:1/db" in error
    assert error.count("\n") == 1
    assert "secret" not in error
    assert not out.exists()
