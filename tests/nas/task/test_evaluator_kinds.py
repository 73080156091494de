"""Searches with evaluators of one's own: tables, functions that fail or hang, proxies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.cli import main
from nas.engine.search import AllFailed, NothingFeasible, Outcome, search
from nas.run.folder import Run
from nas.run.specification import make
from nas.task.evaluator_kinds import kind_of
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

FUNCTIONS = """
import time

def score(arch):
    blocks = [str(value) for value in arch.values()]
    return sum(("5" in b) + ("e6" in b) for b in blocks) / 25

def measured(arch):
    return {"accuracy": score(arch), "latency_ms": 1 + 10 * score(arch)}

def troubled(arch):
    kind = int(arch.id[:2], 16) % 4
    if kind == 0:
        raise ValueError("no luck\\nat all")
    if kind == 1:
        return {"accuracy": float("nan")}
    return score(arch)

def slow(arch):
    if int(arch.id[:2], 16) % 3 == 0:
        try:
            time.sleep(60)
        except Exception:
            pass  # code that catches everything is interrupted too
    return score(arch)

def broken(arch):
    raise RuntimeError("out of order")

def text(arch):
    return "good"

constant = 3
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("functions") / "functions_of_a_test.py"
    path.write_text(FUNCTIONS)
    return str(path)


def searched(folder: Path, evaluator: str, workers: int = 0, **more: Any) -> Outcome:
    settings = {"space": "macro", "high": {"macs": 5_000_000}, "trials": 16, **more}
    return search(make({**settings, "evaluator": evaluator}), folder, workers=workers)


def test_a_function_of_ones_own_needs_no_data_and_trains_nothing(
    functions: str, tmp_path: Path
) -> None:
    outcome = searched(tmp_path / "run", f"{functions}:score")
    assert outcome.summary.evaluations == 16
    assert outcome.summary.winner.score is None
    assert not (tmp_path / "run" / "winner").exists()
    best = max(e.metrics["accuracy"] for e in outcome.frontier)
    assert outcome.winner.metrics["accuracy"] == best


def test_other_metrics_become_objectives_by_name(functions: str, tmp_path: Path) -> None:
    objectives = ("accuracy", "latency_ms")
    outcome = searched(tmp_path / "run", f"{functions}:measured", objectives=objectives)
    directions = {o.metric: o.maximise for o in outcome.run.objectives}
    assert directions == {"accuracy": True, "latency_ms": False}
    ordered = sorted(outcome.frontier, key=lambda e: e.metrics["latency_ms"])
    accuracies = [e.metrics["accuracy"] for e in ordered]
    assert accuracies == sorted(accuracies)
    assert len(set(accuracies)) == len(accuracies)


@pytest.mark.parametrize("workers", [0, 2])
def test_candidates_that_fail_are_recorded_with_their_reason(
    functions: str, tmp_path: Path, workers: int
) -> None:
    outcome = searched(tmp_path / "run", f"{functions}:troubled", workers, trials=24)
    evaluations = outcome.run.evaluations()
    assert len(evaluations) == 24
    for evaluation in evaluations:
        kind = int(evaluation.arch.id[:2], 16) % 4
        expected = {0: "ValueError: no luck", 1: "accuracy is NaN"}.get(kind)
        assert evaluation.error == expected
    failed = [e.error for e in evaluations if e.error]
    assert failed
    assert outcome.summary.failed == len(failed)
    assert outcome.summary.first_failure == failed[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_candidate_that_hangs_is_given_up_and_the_search_goes_on(
    functions: str, tmp_path: Path, workers: int
) -> None:
    limit = {"time_limit": 1.0, "trials": 8, "strategy": "random"}
    outcome = searched(tmp_path / "run", f"{functions}:slow", workers, **limit)
    evaluations = outcome.run.evaluations()
    late = {e.arch.id for e in evaluations if e.error == "took longer than 1 s"}
    assert late == {e.arch.id for e in evaluations if int(e.arch.id[:2], 16) % 3 == 0}
    assert 0 < len(late) < 8


def test_all_failing_ends_with_the_first_reason_and_exit_code_1(
    functions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AllFailed, match="RuntimeError: out of order"):
        searched(tmp_path / "run", f"{functions}:broken")
    arguments = ["search", "--space", "macro", "--trials", "3", "--quiet"]
    arguments += ["--out", str(tmp_path / "cli"), "--evaluator"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, f"{functions}:text"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert (
        "every evaluation failed; first failure: TypeError: the evaluator returned 'good'" in said
    )


def test_an_objective_that_the_function_does_not_give_is_a_failure(
    functions: str, tmp_path: Path
) -> None:
    with pytest.raises(AllFailed, match="the evaluator gave no beauty"):
        searched(tmp_path / "run", f"{functions}:score", objectives=("beauty", "macs"))


def test_bounds_on_what_is_measured_keep_the_frontier(functions: str, tmp_path: Path) -> None:
    bounds = {"high": {"macs": 5_000_000, "latency_ms": 4.0}, "trials": 40}
    outcome = searched(tmp_path / "run", f"{functions}:measured", **bounds)
    evaluations = outcome.run.evaluations()
    assert any(e.metrics["latency_ms"] > 4 for e in evaluations)
    assert all(e.metrics["latency_ms"] <= 4 for e in outcome.frontier)
    assert outcome.winner.metrics["latency_ms"] <= 4
    feasible = [e.metrics["accuracy"] for e in evaluations if e.metrics["latency_ms"] <= 4]
    assert outcome.winner.metrics["accuracy"] == max(feasible)
    assert outcome.run.find("best").arch == outcome.winner.arch


def test_where_nothing_is_feasible_the_nearest_are_the_answer(
    functions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = {"high": {"macs": 5_000_000, "latency_ms": 0.01}}
    with pytest.raises(NothingFeasible) as refused:
        searched(tmp_path / "run", f"{functions}:measured", **bounds)
    least = min(Run(tmp_path / "run").evaluations(), key=lambda e: e.metrics["latency_ms"])
    assert f"{least.arch.id} needs {least.metrics['latency_ms']:.4g} latency_ms" in str(
        refused.value
    )
    with pytest.raises(SystemExit) as ended:
        main(["frontier", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "nothing evaluated has" in capsys.readouterr().err


def test_a_resumed_search_evaluates_nothing_twice(functions: str, tmp_path: Path) -> None:
    searched(tmp_path / "run", f"{functions}:troubled", trials=20)
    first = Run(tmp_path / "run").evaluations()
    settings = {"space": "macro", "high": {"macs": 5_000_000}, "trials": 40}
    specification = make({**settings, "evaluator": f"{functions}:troubled"})
    outcome = search(specification, tmp_path / "run", resume=True)
    after = outcome.run.evaluations()
    assert [e.arch for e in after[:20]] == [e.arch for e in first]
    assert len({e.arch for e in after}) == len(after) == 40


def test_the_best_of_every_range_of_flops(
    functions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    outcome = searched(folder, f"{functions}:score", bins=4, trials=60)
    ranges = outcome.run.best_in_bins(4)
    assert ranges[-1][1] == 5_000_000
    for low, high, found in ranges:
        assert found is not None
        assert low <= found.metrics["macs"] <= high
        inside = [e for e in outcome.run.evaluations() if low <= e.metrics["macs"] < high]
        assert found.metrics["accuracy"] == max(e.metrics["accuracy"] for e in inside)
    with pytest.raises(SystemExit):
        main(["frontier", str(folder), "--bins", "4", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == [e.arch.id for *_, e in ranges if e is not None]


def test_a_published_table_is_searched_in_no_time_and_its_latency_is_a_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = load_space("macro")
    rows = np.unique(space.sample(3000, 0), axis=0)
    lines = ["layer0," + ",".join(c.name for c in space.choices[1:]) + ",top1,latency_ms_toaster"]
    for arch, row in zip(space.decode(rows), rows, strict=True):
        lines.append(",".join([*map(str, arch.values()), str(row.sum() / 100), str(row.max())]))
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    arguments = ["search", "--space", "macro", "--evaluator", f"table:{tmp_path / 'table.csv'}"]
    arguments += ["--trials", "10", "--quiet", "--json", "--out"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, str(tmp_path / "a")])
    assert ended.value.code == 2
    assert (
        "has no column 'accuracy': name an objective, --objective top1" in capsys.readouterr().err
    )
    assert not (tmp_path / "a").exists()
    more = ["--objective", "top1", "--max-latency", "6ms", "--device", "toaster"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, str(tmp_path / "b"), *more])
    assert ended.value.code == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["evaluations"] == 10
    assert summary["budget"] == "at most 6 ms on toaster"
    assert all(e.metrics["latency_ms_toaster"] <= 6 for e in Run(tmp_path / "b").evaluations())
    with pytest.raises(SystemExit):
        main([*arguments, str(tmp_path / "c"), *more[:-1], "tosster"])
    assert "unknown column of" in capsys.readouterr().err


def test_a_proxy_is_its_own_objective_and_the_winner_starts_from_nothing(tmp_path: Path) -> None:
    specification = make(
        {
            "space": "mobilenet-tiny",
            "evaluator": "naswot",
            "high": {"macs": 200_000},
            "trials": 6,
            "train_epochs": 0.3,
            "calibration_images": 64,
        }
    )
    assert specification.objectives == ("naswot", "macs")
    outcome = search(specification, tmp_path / "run")
    assert outcome.winner.metrics["naswot"] == max(e.metrics["naswot"] for e in outcome.frontier)
    assert outcome.summary.winner.score is not None
    assert (tmp_path / "run" / "winner" / "model.onnx").exists()


def test_evaluators_that_cannot_be_are_told_at_once(functions: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown evaluator 'naswott': did you mean 'naswot'"):
        kind_of("naswott")
    for name, message in (
        (f"{functions}:scor", "unknown name in .* 'scor': did you mean 'score'"),
        (f"{functions}:constant", "is a int, expected a function"),
        (f"{functions}.py:score", "no file"),
        ("table:gone.parquet", "no table gone.parquet"),
    ):
        with pytest.raises(UserError, match=message):
            searched(tmp_path / "run", name)
        assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="darts relaxes a supernet: it needs --evaluator supernet"):
        searched(tmp_path / "run", f"{functions}:score", strategy="darts")
    with pytest.raises(UserError, match="unknown metric 'mac': did you mean 'macs'"):
        searched(tmp_path / "run", "supernet", high={"mac": 10**6})
    with pytest.raises(UserError, match="unknown objective 'acuracy': did you mean 'accuracy'"):
        searched(tmp_path / "run", "supernet", objectives=("acuracy",))
    with pytest.raises(UserError, match="one --objective for each metric"):
        searched(tmp_path / "run", f"{functions}:score", objectives=("beauty,macs",))
    assert not (tmp_path / "run").exists()
