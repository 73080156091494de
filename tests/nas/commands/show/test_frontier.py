"""`nas frontier` of runs with names and metrics of any kind."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.cli import main
from users_code import SEARCH, place

EVALUATOR = """
def score(arch):
    more = {"=1+1": 2.0, "speed [/red]": 1.0, "[/]": 1.0} if arch["depth"] > 1 else {}
    return {"accuracy": 0.1 * arch["depth"] + arch["width"] / 1000, **more}
"""
RUN = "run[old] :dog: [bold"


@pytest.fixture(scope="module")
def place_of_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    here, before = tmp_path_factory.mktemp("frontier"), Path.cwd()
    os.chdir(here)
    place(here)
    (here / "judge.py").write_text(EVALUATOR)
    with pytest.raises(SystemExit) as ended:
        main([*SEARCH, "--trials", "12", "--out", RUN, "--quiet"])
    assert not ended.value.code
    yield here
    os.chdir(before)


def shown(*arguments: str, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["frontier", RUN, *arguments])
    out, err = capfd.readouterr()
    assert not ended.value.code, err
    return out


def test_names_are_shown_as_they_are(place_of_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = shown(capfd=capfd)
    assert RUN in out
    assert "[dim]" not in out


def test_metrics_that_some_architectures_lack_are_kept(
    place_of_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(shown("--json", capfd=capfd))
    assert len({"speed [/red]" in row for row in rows}) == 2
    table = list(csv.DictReader(io.StringIO(shown("--csv", capfd=capfd))))
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert [row["speed [/red]"] for row in table] == [str(r.get("speed [/red]", "")) for r in rows]
    first = json.loads(shown("--json", "--sort", "speed [/red]", capfd=capfd))
    assert ["speed [/red]" in row for row in first] == sorted(
        ("speed [/red]" in row for row in rows), reverse=True
    )


def test_no_name_is_a_formula(place_of_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    heads = shown("--csv", capfd=capfd).splitlines()[0].split(",")
    assert "'=1+1" in heads
    assert not [name for name in heads if name.startswith(("=", "+", "-", "@"))]
