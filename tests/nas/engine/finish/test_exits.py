"""An architecture of a run trained with its exits: what is reported is what the files do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nas
from evaluators.accuracy.exit_accuracy import ExitAccuracy, exit_costs
from evaluators.accuracy.thresholds import Outcomes, operate
from evaluators.costs.exit_costs import ExitCosts
from evaluators.data.augmentation import prepare
from evaluators.data.images import ImageData, accuracy
from nas.commands.training.exits import print_exits, train_exits_and_print
from nas.engine.finish.exits import ExitFinisher, check, thresholds_for
from nas.engine.finish.fine_tuning import FineTuning
from nas.engine.search import Outcome
from nas.exports.folder import RECORD
from nas.progress import Quiet
from nas.run.folder import Run, read_scores
from nas.run.specification import replace_field
from nas.supernet.exit_supernet import ExitSupernet
from nas.task.task import Task
from search_spaces.errors import UserError
from search_spaces.exits.network import ExitNetwork


@pytest.fixture(scope="module")
def trained(finished: Outcome, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, str]:
    """The largest network of the small search, trained with exits for a while, and its report."""
    task = finished.task
    arch = task.space.largest
    run = finished.run
    folder = tmp_path_factory.mktemp("exits") / "network"
    specification = replace_field(task.specification, train_epochs=6.0)
    evaluator = evaluator_of(task)
    finisher = ExitFinisher(FineTuning(Task(specification), run, evaluator, Quiet()), 5.0)
    report = finisher.finish(arch, folder)
    return folder, report, arch.id


def evaluator_of(task: Task) -> ExitAccuracy:
    torch.manual_seed(0)
    data = task.data
    assert isinstance(data, ImageData)
    return ExitAccuracy(ExitSupernet(task.space), data, data.train.images[:64], loss=0.05)


def test_the_report_is_what_the_exported_network_does(
    finished: Outcome, trained: tuple[Path, Any, str]
) -> None:
    folder, report, name = trained
    data, task = finished.task.data, finished.task
    assert isinstance(data, ImageData)
    network = nas.load(folder)
    assert isinstance(network, ExitNetwork)
    assert network.config["architecture"]["id"] == name
    about = {"labels.json", "preprocessing.json", "scores.json"}
    files = {"config.json", "model.safetensors", RECORD}
    assert {p.name for p in folder.iterdir()} == files | about
    scores = read_scores(folder)
    assert scores is not None
    assert scores.accuracy == report.score.value
    size = network.config["input_shape"][-1]
    assert accuracy(network, data.test, data.normalisation, size) == report.score.value
    with torch.no_grad():
        inputs = prepare(data.test.images, data.normalisation, size)
        left = network.predict(inputs).exit.bincount(minlength=len(network.exits) + 1)
        whole = network.final_logits(inputs).argmax(dim=1) == data.test.labels
    assert float(whole.float().mean()) == pytest.approx(report.whole_test_accuracy)
    rates = [place.rate for place in report.places]
    assert rates == pytest.approx((left / left.sum()).tolist())
    costs = exit_costs(task.space, task.space.largest, 2)
    macs = [place.macs for place in report.places]
    assert report.avg_flops == pytest.approx(np.dot(rates, macs))
    assert report.macs == costs.whole == task.tables.cost(task.space.largest)["macs"]
    assert report.mac_saving > 0
    validation = report.validation
    assert validation.whole_accuracy - validation.accuracy <= 0.05 + 1e-9


def test_a_network_with_exits_is_not_written_as_onnx(
    finished: Outcome, trained: tuple[Path, Any, str], tmp_path: Path
) -> None:
    from nas.exports.writing import export

    task, network = finished.task, nas.load(trained[0])
    with pytest.raises(UserError, match="not written as onnx"):
        export(network, task.space.largest, task.tables, task.data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    again = export(
        network,
        task.space.largest,
        task.tables,
        task.data,
        tmp_path / "out",
        formats=("safetensors",),
    )
    copy = nas.load(again)
    assert isinstance(copy, ExitNetwork)
    assert isinstance(network, ExitNetwork)
    assert copy.thresholds == network.thresholds


def test_broken_exits_in_an_export_are_reported(
    trained: tuple[Path, Any, str], tmp_path: Path
) -> None:
    for file in trained[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["exits"]["thresholds"] = [0.5]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="malformed early exits"):
        nas.load(tmp_path)


def test_any_run_can_be_trained_with_exits(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_exits_and_print(
        copied, "best", None, points=3.0, settings={"train_epochs": 0.5}, quiet=True, as_json=True
    )
    report = json.loads(capsys.readouterr().out)
    network = nas.load(report["folder"])
    assert isinstance(network, ExitNetwork)
    assert list(network.exits) == [place["after"] for place in report["exits"]]
    assert report["id"] == Run(copied).find("best").arch.id
    with pytest.raises(UserError, match="is not empty: use another --out"):
        train_exits_and_print(
            copied,
            "best",
            None,
            points=3.0,
            settings={"train_epochs": 0.5},
            quiet=True,
            as_json=True,
        )


def test_the_report_reads_as_a_table(
    finished: Outcome, trained: tuple[Path, Any, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report, name = trained
    print_exits(name, report, folder, finished.task.data.unit, as_json=False)
    out = capsys.readouterr().out
    assert name in out
    assert f"{report.score.value:.2%}" in out
    assert f"{report.mac_saving:.1%} fewer" in out
    assert all(str(place.after) in out for place in report.exits)


def test_finalists_race_with_their_exits(finished: Outcome, copied: Path) -> None:
    task = finished.task
    arch = task.space.smallest
    specification = replace_field(task.specification, train_epochs=0.5 * 16)
    short = Task(specification)
    assert short.schedule.race_epochs == 0.5
    finisher = ExitFinisher(FineTuning(short, Run(copied), evaluator_of(task)), 5.0)
    score = finisher.race_score(arch, "finalist")
    assert score == finisher.race_score(arch, "again")  # its checkpoint holds the training
    assert score > 0.1 + 0.05  # above chance on ten classes


def test_a_ceiling_on_the_mean_is_kept_where_the_loss_does_not_lead_below_it() -> None:
    rng = np.random.default_rng(0)
    right = np.ones((400, 2), dtype=bool)
    right[:, 0] = rng.random(400) < 0.5
    said = Outcomes(rng.random((400, 1)).astype(np.float32), right)
    costs = ExitCosts((100, 100), (10,))
    free = thresholds_for(said, costs, 1.0, None)
    assert operate(said, free, costs).macs > 180
    bound = thresholds_for(said, costs, 1.0, 150.0)
    assert operate(said, bound, costs).macs <= 150
    assert thresholds_for(said, costs, 1.0, 500.0) == free


def test_what_cannot_be_is_told_before_anything_is_trained(finished: Outcome) -> None:
    arch = finished.task.space.largest
    costs = exit_costs(finished.task.space, arch, 2)
    check(arch, costs, 0.5, float(costs.least))
    for points in (-1.0, 100.0, float("nan")):
        with pytest.raises(UserError, match="points of accuracy, expected 0 to 100"):
            check(arch, costs, points, None)
    with pytest.raises(UserError, match=f"below {costs.least:,}"):
        check(arch, costs, 0.5, costs.least - 1.0)
