"""Python files of a run are run only by whoever meant to run them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nas.cli import main
from users_code import SCORE, SEARCH, place

MARK = "open('was-run', 'a').write('.')"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def become(name: str) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / name))

    become("maker")
    return become


@pytest.fixture
def made(tmp_path: Path, user: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose space leaves a mark where it is run."""
    home = tmp_path / "home"
    home.mkdir()
    place(home)
    monkeypatch.chdir(home)
    assert run(*SEARCH, "--trials", "3", "--out", "r", "--quiet") == 0
    return home / "r"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_a_run_goes_on_anywhere_for_its_maker(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(made, moved)
    for folder in (made, moved):
        capsys.readouterr()
        assert run("show", str(folder), "best", "--json") == 0
        assert json.loads(capsys.readouterr().out)["blocks"]
    (made.parent / "plain.py").unlink()
    assert run("show", str(moved), "best", "--json") == 0  # by the copy in the run
    assert json.loads(capsys.readouterr().out)["blocks"]


def test_code_of_a_run_that_somebody_sent_is_not_run(
    made: Path, tmp_path: Path, user: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sent = tmp_path / "sent"
    shutil.copytree(made, sent)
    shutil.rmtree(made.parent)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    user("receiver")
    (copy,) = (sent / "code").glob("*-plain.py")
    copy.write_text(MARK + "\n" + copy.read_text())
    without = [("frontier",), ("show", "best"), ("report", "--out", "page.html"), ("runs",)]
    for command, *more in without:
        assert run(command, str(sent), *more) == 0
    for refused in (["search", "--out", str(sent), "--resume"], ["leaderboard", str(sent)]):
        capsys.readouterr()
        assert run(*refused) == 2
        said = capsys.readouterr().err
        assert f"needs the Python file {sent}/code/" in said
        assert "--trust" in said
    assert not Path("was-run").exists()
    assert run("show", str(sent), "best", "--trust") == 0
    assert Path("was-run").exists()
    Path("was-run").unlink()
    assert run("show", str(sent), "best") == 0  # trusted once
    assert Path("was-run").exists()


def test_a_file_that_has_changed_is_asked_for_once(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made.parent / "judge.py").write_text(SCORE.format(body="time.sleep(0)"))
    again = ("search", "--out", "r", "--resume", "--trials", "5", "--quiet")
    assert run(*again) == 2
    said = capsys.readouterr().err
    assert "judge.py, which has changed since the run was made" in said
    assert run(*again, "--trust") == 0
    assert run("search", "--out", "r", "--resume", "--trials", "6", "--quiet") == 0


def test_a_record_names_no_file_outside_of_the_run_as_its_copy(
    made: Path, tmp_path: Path, user: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.py"
    other.write_text(MARK)
    record = json.loads((made / "own_code.json").read_text())
    record["plain.py:plain"] |= {"copy": "../../other.py", "file": "/nowhere/plain.py"}
    (made / "own_code.json").write_text(json.dumps(record))
    (made.parent / "plain.py").unlink()
    assert run("show", str(made), "best") == 0
    assert "no file 'plain.py'" in capsys.readouterr().err
    assert not Path("was-run").exists()
