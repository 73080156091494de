"""The fidelity report: its figures are right, and it resumes after an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.cli import main
from nas.commands.training.fidelity import print_fidelity
from nas.engine.search import Outcome
from nas.run.specification import make
from nas.studies.fidelity import StandAlone, representatives
from nas.studies.fidelity_result import TRAININGS_FILE, Fidelity, ScoredTwice, compare
from nas.task.task import Task
from search_spaces.architecture import Architecture


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def rows(inherited: list[float], alone: list[float]) -> list[ScoredTwice]:
    return [
        ScoredTwice(str(i), 1000 * (i + 1), a, b, epochs=2.0, seconds=1.0)
        for i, (a, b) in enumerate(zip(inherited, alone, strict=True))
    ]


def test_the_report_says_what_the_two_scores_say() -> None:
    rng = np.random.default_rng(0)
    alone = np.linspace(0.5, 0.8, 24)
    inherited = alone - 0.1 + rng.normal(0, 0.05, 24)
    result = compare(rows(inherited.tolist(), alone.tolist()), "accuracy")
    assert result.tau == pytest.approx(kendalltau(inherited, alone).statistic)
    low, high = result.interval
    assert low < result.tau < high
    assert result.tau_of_flops == pytest.approx(1.0)
    assert [part.architectures for part in result.ranges] == [8, 8, 8]
    for part in result.ranges:
        assert part.alone - part.inherited == pytest.approx(0.1, abs=0.06)
    best_five = np.argsort(-inherited)[:5]
    assert result.regret == pytest.approx(alone.max() - alone[best_five].max())


def test_of_a_loss_less_is_better() -> None:
    alone = np.linspace(2.0, 1.0, 12)
    result = compare(rows((alone + 0.3).tolist(), alone.tolist()), "loss")
    assert result.tau == pytest.approx(1.0)
    assert result.tau_of_flops == pytest.approx(1.0)
    assert result.regret == pytest.approx(0.0)
    assert result.ranges[0].alone > result.ranges[-1].alone


@pytest.mark.parametrize(
    ("noise", "expected"),
    [(0.0, "can be trusted"), (0.12, "a guide, no more"), (9.0, "not better than chance")],
)
def test_the_verdict_follows_from_the_interval(noise: float, expected: str) -> None:
    rng = np.random.default_rng(2)
    alone = np.linspace(0.5, 0.8, 24)
    result = compare(rows((alone + rng.normal(0, noise, 24)).tolist(), alone.tolist()), "accuracy")
    assert expected in result.verdict()


def test_architectures_are_different_within_the_budget_and_of_every_size() -> None:
    task = Task(make({"high": {"macs": 300_000}}))
    archs = representatives(task, 12)
    macs = np.array([task.tables.cost(arch)["macs"] for arch in archs])
    assert len(set(archs)) == 12
    assert macs.max() <= 300_000
    assert np.diff(np.log(macs)).min() > 0


@pytest.fixture
def copied(finished: Outcome, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.run.folder, tmp_path / "run"))


def test_a_measurement_goes_on_where_it_was_interrupted(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    alone = StandAlone.__call__

    def spied(self: StandAlone, arch: Architecture) -> dict[str, float]:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(arch.id)
        return alone(self, arch)

    monkeypatch.setattr(StandAlone, "__call__", spied)
    command = ("fidelity", str(copied), "--architectures", "5", "--epochs", "0.2", "--quiet")
    assert run(*command) != 0
    assert len((copied / TRAININGS_FILE).read_text().splitlines()) == 3
    trained.clear()
    capsys.readouterr()
    assert run(*command, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert len(trained) == 2
    assert len(result["architectures"]) == 5
    assert json.loads((copied / "fidelity.json").read_text()) == result
    assert run(*command) == 0
    assert "Kendall's τ" in capsys.readouterr().out
    assert len(trained) == 2, "nothing is trained twice"


def test_too_few_architectures_are_one_line(
    finished: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fidelity", str(finished.run.folder), "--architectures", "2") == 2
    assert "2 architectures have no order to speak of" in capsys.readouterr().err


def test_where_nothing_was_learnt_the_order_is_unknown_and_json_stays_json() -> None:
    result = compare(rows([0.3, 0.2, 0.4, 0.25, 0.5], [0.1] * 5), "accuracy")
    assert result.tau is None
    content = json.dumps(result.to_json(), allow_nan=False)
    assert Fidelity.from_json(json.loads(content)) == result
    assert "its order is unknown" in result.verdict()
    print_fidelity(result, Path("run"))
