"""`nas runs`: which folders are runs, their states, and what is shown of each."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from nas.cli import main
from nas.commands.show.runs import age, run_folders, state_of
from nas.engine.search import Outcome
from nas.run import folder as runs


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


@pytest.fixture
def place(copied: Path) -> Path:
    """A folder with the small search, once finished and once without its summary."""
    stopped = copied.parent / "more" / "stopped"
    shutil.copytree(copied, stopped)
    (stopped / "summary.json").unlink()
    return copied.parent


def test_runs_are_found_at_any_depth_but_not_inside_runs(place: Path) -> None:
    (place / "copied" / "trained" / "specification.json").write_text("{}")
    (place / ".hidden").mkdir()
    (place / ".hidden" / "specification.json").write_text("{}")
    found = [path.relative_to(place) for path in run_folders(place)]
    assert found == [Path("copied"), Path("more/stopped")]


def test_json_has_settings_state_progress_and_best(
    place: Path, finished: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("runs", str(place), "--json") == 0
    listed = {Path(entry["folder"]).name: entry for entry in json.loads(capsys.readouterr().out)}
    done, stopped = listed["copied"], listed["stopped"]
    assert done["state"] == "finished"
    assert (done["space"], done["data"]) == ("mobilenet-tiny", "digits")
    assert done["budget"] == "at most 200k FLOPs"
    assert (done["evaluations"], done["trials"]) == (8, 8)
    assert finished.summary.winner.score is not None
    assert done["best"] == {
        "id": finished.winner.arch.id,
        "metric": "test_accuracy",
        "value": finished.summary.winner.score.value,
        "macs": finished.winner.metrics["macs"],
    }
    assert stopped["state"] == "interrupted"
    best = max(finished.frontier, key=lambda e: e.metrics["accuracy"])
    assert stopped["best"]["metric"] == "accuracy"
    assert stopped["best"]["value"] == best.metrics["accuracy"]


def test_the_table_has_a_line_for_each_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("runs", str(place)) == 0
    table = capsys.readouterr().out
    assert table.count("finished") == table.count("interrupted") == 1
    assert table.count("8/8") == 2
    assert all(len(line) <= 80 for line in table.splitlines())


def test_a_run_is_running_while_a_search_holds_its_lock(place: Path) -> None:
    with runs.lock(place / "copied"):
        assert state_of(place / "copied").state == "running"
    assert state_of(place / "copied").state == "finished"
    runs.lock(place / "copied").close()  # looking at a run leaves it free


def test_a_run_without_a_feasible_architecture_has_failed(place: Path) -> None:
    stopped = place / "more" / "stopped"
    with sqlite3.connect(stopped / "study.db") as study:
        study.execute(
            "UPDATE trial_system_attributes SET value_json = '1.5' WHERE key = 'constraints:budget'"
        )
    state = state_of(stopped)
    assert (state.state, state.best) == ("failed", None)


def test_an_unreadable_run_is_listed_with_its_reason(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "more" / "stopped" / "specification.json").write_text('{"version": 9}')
    assert run("runs", str(place)) == 0
    printed = capsys.readouterr()
    assert "unreadable" in printed.out
    assert "finished" in printed.out
    assert "has format 9" in printed.err


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (59, "59 s"), (61, "1 min"), (7200, "2 h"), (3e5, "3 d")]
)
def test_ages_are_in_their_largest_unit(seconds: float, words: str) -> None:
    assert age(seconds) == words
