"""`--learn-from`: which runs are a prior, and what a search does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas import search
from nas.cli import main
from nas.run.folder import Run
from nas.run.specification import make
from nas.task.task import Task
from search_spaces.errors import UserError

EVALUATOR = """
def accuracy(arch):
    return {"accuracy": 1 - 0.01 * abs(arch["stem_width"] - 12) - 0.1 * arch["stage0_depth"]}
"""


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("evaluator") / "mine.py"
    file.write_text(EVALUATOR)
    return f"{file}:accuracy"


@pytest.fixture(scope="module")
def earlier(evaluator: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("earlier") / "run"
    search(space="mobilenet-tiny", evaluator=evaluator, trials=30, out=out)
    return str(out)


def task(evaluator: str, *runs: str, **settings: object) -> Task:
    values = {"space": "mobilenet-tiny", "evaluator": evaluator, "learn_from": runs}
    return Task.of(make(values | settings))


def test_a_run_is_a_prior_of_what_no_table_prices(evaluator: str, earlier: str) -> None:
    found = task(evaluator, earlier)
    (metric,) = found.priors
    assert metric == "accuracy"
    space = found.space
    rows = space.encode([space.smallest, space.largest])
    low, high = found.priors["accuracy"](rows)
    assert low > high


def test_the_first_proposals_follow_the_prior(evaluator: str, earlier: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    search(space="mobilenet-tiny", evaluator=evaluator, trials=6, learn_from=[earlier], out=out)
    first = Run(out).evaluations()[0].metrics["accuracy"]
    assert first >= max(e.metrics["accuracy"] for e in Run(earlier).evaluations()) - 0.05


def test_a_run_of_another_space_is_refused(earlier: str, evaluator: str) -> None:
    with pytest.raises(UserError, match=r"networks are of mobilenet-tiny, expected a run of vit"):
        _ = task(evaluator, earlier, space="vit-tiny").priors


def test_a_run_without_the_metric_is_refused(earlier: str, evaluator: str) -> None:
    with pytest.raises(UserError, match="0 evaluations of speed"):
        _ = task(evaluator, earlier, objectives=("speed",)).priors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learn-from", "nowhere"], "nowhere is not a run"),
        (["--learn-from", "EARLIER", "--strategy", "random"], "needs --strategy evolution"),
        (["--learn-from", "EARLIER", "--space", "cnn-tiny"], "expected a run of cnn-tiny"),
    ],
)
def test_wrong_input_is_one_line(
    options: list[str],
    message: str,
    earlier: str,
    evaluator: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [earlier if option == "EARLIER" else option for option in options]
    command = ["search", "--evaluator", evaluator, "--out", str(tmp_path / "run"), *given]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
