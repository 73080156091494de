"""The search from end to end: budgets, resuming, reproducibility, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import nas
from nas.engine.finish.race import finalists
from nas.engine.search import AllFailed, Outcome, search
from nas.run.folder import Run, read_evaluations
from nas.run.specification import Specification, make
from search_spaces.errors import UserError


def test_every_evaluated_architecture_is_within_the_budget(finished: Outcome) -> None:
    evaluations = finished.run.evaluations()
    assert len(evaluations) == 8
    assert all(e.metrics["macs"] <= 200_000 for e in evaluations)
    for e in evaluations:
        assert finished.task.tables.cost(e.arch) == {
            m: int(e.metrics[m]) for m in ("macs", "params", "memory")
        }


def test_no_architecture_is_evaluated_twice(finished: Outcome) -> None:
    ids = [e.arch.id for e in finished.run.evaluations()]
    assert len(set(ids)) == len(ids)


def test_the_winner_won_the_race_of_the_most_accurate_of_the_frontier(finished: Outcome) -> None:
    raced = {e.id: e.after_race for e in finished.summary.finalists}
    front = sorted(finished.frontier, key=lambda e: -e.metrics["accuracy"])
    assert list(raced) == [e.arch.id for e in front[: finished.task.specification.finalists]]
    if len(raced) > 1:
        assert raced[finished.winner.arch.id] == max(raced.values())
    assert finished.winner.arch in [e.arch for e in finished.frontier]
    assert finished.run.find("best").arch == finished.winner.arch


def test_without_a_race_the_winner_is_the_most_accurate_of_the_frontier(
    finished: Outcome, tmp_path: Path
) -> None:
    from dataclasses import replace

    alone = finished.task.specification.model_copy(update={"finalists": 1})
    (only,) = finalists(
        replace(finished.task, specification=alone), finished.run.evaluations(), finished.run
    )
    assert only.arch in [e.arch for e in finished.frontier]
    assert only.metrics["accuracy"] == max(
        e.metrics["accuracy"] for e in finished.run.evaluations()
    )


def test_the_winner_loads_back_with_one_call(finished: Outcome) -> None:
    network = nas.load(finished.run.folder / "winner")
    shape = network.config["input_shape"]
    with torch.no_grad():
        assert network(torch.randn(3, *shape)).shape == (3, 10)
    assert network.config["architecture"]["id"] == finished.winner.arch.id


def test_the_winner_loaded_back_scores_what_the_summary_says(finished: Outcome) -> None:
    from evaluators.data.images import accuracy

    network = nas.load(finished.run.folder / "winner")
    data = finished.task.data
    size = network.config["input_shape"][-1]
    scored = accuracy(network, data.test, data.normalisation, size)
    assert scored == finished.summary.winner.score.value


def test_test_images_are_in_no_other_part(finished: Outcome) -> None:
    data = finished.task.data
    images = {
        part: {image.numpy().tobytes() for image in getattr(data, part).images}
        for part in ("train", "validation", "test")
    }
    # scikit-learn's digits hold no two equal images.
    assert not images["test"] & (images["train"] | images["validation"])
    assert not images["train"] & images["validation"]


def test_same_seed_gives_the_same_frontier(
    finished: Outcome, quick: Specification, folder: Path
) -> None:
    again = search(quick, folder)
    assert [e.metrics for e in again.frontier] == [e.metrics for e in finished.frontier]
    assert [e.arch for e in again.run.evaluations()] == [e.arch for e in finished.run.evaluations()]
    assert again.summary.winner == finished.summary.winner


def test_resuming_a_finished_run_changes_nothing(quick: Specification, folder: Path) -> None:
    first = search(quick, folder)
    summary = (folder / "summary.json").read_bytes()
    again = search(quick, folder, resume=True)
    assert (folder / "summary.json").read_bytes() == summary
    assert again.winner.arch == first.winner.arch


def test_resume_with_more_trials_goes_on(quick: Specification, folder: Path) -> None:
    search(quick, folder)
    before = [e.arch for e in Run(folder).evaluations()]
    more = make({**quick.model_dump(), "trials": 12})
    search(more, folder, resume=True)
    after = [e.arch for e in Run(folder).evaluations()]
    assert after[:8] == before
    assert len(set(after)) == 12


@pytest.mark.parametrize("after", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_resume_after_kill_loses_nothing_and_evaluates_nothing_twice(
    folder: Path, after: int
) -> None:
    """`kill -9` while the supernet trains (0 evaluations) and in the midst of the search."""
    command = [sys.executable, "-m", "nas.cli", "search", "--max-flops", "200k", "--quiet"]
    command += ["--trials", "40", "--supernet-epochs", "1", "--train-epochs", "0.5"]
    command += ["--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    study = folder / "study.db"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if study.exists() and _count(study) >= after:
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = read_evaluations(study)
    assert after <= len(kept) < 40
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    ended = read_evaluations(study)
    assert [e.arch for e in ended[: len(kept)]] == [e.arch for e in kept]
    assert len({e.arch for e in ended}) == len(ended) == 40
    assert json.loads((folder / "summary.json").read_text())["evaluations"] == 40


def _count(study: Path) -> int:
    try:
        return len(read_evaluations(study))
    except UserError:  # not yet created in full
        return -1


def test_resume_with_another_space_is_refused_and_leaves_the_run(
    quick: Specification, folder: Path
) -> None:
    search(quick, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = make({**quick.model_dump(), "space": "vit-tiny", "high": {"macs": 10**6}})
    with pytest.raises(UserError, match=r"was started with space mobilenet-tiny, not vit-tiny"):
        search(other, folder, resume=True)
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_folder_is_not_overwritten_without_resume(finished: Outcome) -> None:
    with pytest.raises(UserError, match="holds a run already"):
        search(finished.run.specification, finished.run.folder)


def test_a_budget_nothing_meets_ends_before_anything_is_made(
    quick: Specification, folder: Path
) -> None:
    with pytest.raises(UserError, match=r"the nearest one has 41,440 FLOPs"):
        search(make({**quick.model_dump(), "high": {"macs": 1000}}), folder)
    assert not folder.exists()


def test_a_corrupt_supernet_checkpoint_is_named(quick: Specification, folder: Path) -> None:
    search(quick, folder)
    checkpoint = folder / "supernet.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"supernet\.pt is corrupt or truncated"):
        search(make({**quick.model_dump(), "trials": 9}), folder, resume=True)
    assert len(Run(folder).evaluations()) == 8


def test_two_searches_cannot_share_a_folder(quick: Specification, folder: Path) -> None:
    from nas.run.folder import lock

    search(quick, folder)
    with (
        lock(folder),
        pytest.raises(UserError, match="another search is running"),
    ):
        search(quick, folder, resume=True)


def test_a_budget_that_admits_few_is_searched_within_it(quick: Specification, folder: Path) -> None:
    bound = 44_000  # the smallest network has 41,440
    specification = make({**quick.model_dump(), "high": {"macs": bound}, "trials": 12})
    outcome = search(specification, folder)
    assert len(outcome.run.evaluations()) == 12
    assert all(e.metrics["macs"] <= bound for e in outcome.run.evaluations())


def test_a_search_whose_evaluations_all_fail_says_the_first_reason(
    quick: Specification, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluators.accuracy.inherited import InheritedAccuracy

    def fails(self: InheritedAccuracy, arch: object) -> dict[str, float]:
        raise ValueError("no such luck")

    monkeypatch.setattr(InheritedAccuracy, "__call__", fails)
    with pytest.raises(AllFailed, match="ValueError: no such luck"):
        search(quick, folder)
    assert [e.error for e in Run(folder).evaluations()] == ["ValueError: no such luck"] * 8


def test_a_transformer_is_searched_trained_and_exported(quick: Specification, folder: Path) -> None:
    specification = make(
        {
            **quick.model_dump(),
            "space": "vit-tiny",
            "high": {"macs": 1_000_000},
            "trials": 3,
            "strategy": "random",
        }
    )
    outcome = search(specification, folder)
    assert outcome.summary.winner.costs["macs"] <= 1_000_000
    assert (folder / "winner" / "model.onnx").exists()


@pytest.mark.slow
def test_darts_ends_with_what_uses_the_whole_budget_and_shows_its_prices(
    quick: Specification, folder: Path
) -> None:
    relaxed = make({**quick.model_dump(), "strategy": "darts", "trials": 6})
    outcome = search(relaxed, folder)
    assert 190_000 <= outcome.winner.metrics["macs"] <= 200_000
    assert all(e.metrics["macs"] <= 200_000 for e in outcome.run.evaluations())
    assert set(outcome.summary.relaxation["multipliers"]) == {"macs"}
    points = outcome.run.trajectory.read_text().splitlines()
    # A killed search takes its relaxation up where it was: nothing is trained again.
    more = make({**relaxed.model_dump(), "trials": 9})
    again = search(more, folder, resume=True)
    assert len(again.run.evaluations()) == 9
    assert again.run.trajectory.read_text().splitlines() == points
    with pytest.raises(
        UserError, match="started with strategy darts, which trains another supernet"
    ):
        search(make({**more.model_dump(), "strategy": "evolution"}), folder, resume=True)
