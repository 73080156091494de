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
from nas.report.contents import ReportSource
from nas.report.figures import frontier
from nas.run.folder import Run
from users_code import SEARCH, place

EVALUATOR = """
def score(arch):
    more = {"=1+1": 2.0, "speed [/red]": 1.0, "[/]": 1.0} if arch["depth"] > 1 else {}
    return {"accuracy": 0.1 * arch["depth"] + arch["width"] / 1000, **more}
"""
MISS = """
def score(arch):
    return {"accuracy": 0.5, "mape": 40 - 9 * arch["depth"] - arch["width"] / 100}
"""
RUN = "run[old] :dog: [bold"


@pytest.fixture(scope="module")
def place_of_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    here, before = tmp_path_factory.mktemp("frontier"), Path.cwd()
    os.chdir(here)
    place(here)
    (here / "judge.py").write_text(EVALUATOR)
    (here / "miss.py").write_text(MISS)
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


def test_the_best_of_a_minimised_metric_is_the_least(
    place_of_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its name alone would be maximised."""
    with pytest.raises(SystemExit):
        main(
            [
                *(*SEARCH, "--objective=-mape", "--objective", "macs"),
                *("--evaluator", "miss.py:score", "--trials", "12"),
                *("--out", "turned", "--quiet", "--json"),
            ]
        )
    summary = json.loads(capfd.readouterr().out)
    with pytest.raises(SystemExit):
        main(["frontier", "turned", "--json", "--sort", "mape"])
    rows = json.loads(capfd.readouterr().out)
    assert [row["mape"] for row in rows] == sorted(row["mape"] for row in rows)
    assert len(rows) > 1
    run = Run("turned")
    contents = ReportSource.of(run).contents()
    less = {metric["name"]: metric["less"] for metric in contents["metrics"]}
    assert (less["mape"], less["macs"], less["accuracy"]) == (True, True, False)
    (drawn,) = (trace for trace in frontier(run).data if trace.name == "frontier")
    assert sorted(drawn.text) == sorted(row["id"] for row in rows)
    (panel,) = (p for p in contents["panels"]["progress"] if p["key"] == "hypervolume")
    worst = max(e.metrics["mape"] for e in run.evaluations() if e.feasible)
    assert f"mape {worst:.4g}" in panel["text"]
    assert 0 < summary["hypervolume"] < 1
    assert f"dominates: {summary['hypervolume']:.4f} after 12" in panel["text"]


def test_scores_of_a_function_are_not_named_by_the_part_that_the_winner_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place(tmp_path)
    with pytest.raises(SystemExit):
        main(
            [
                *(*SEARCH, "--data", "digits", "--train-epochs", "0", "--trials", "3"),
                *("--out", "run", "--quiet", "--json"),
            ]
        )
    contents = ReportSource.of(Run("run")).contents()
    assert Run("run").data["metric"] == "accuracy"
    assert contents["noise"] is None
    labels = {metric["name"]: metric["label"] for metric in contents["metrics"]}
    assert labels["accuracy"] == "accuracy"
