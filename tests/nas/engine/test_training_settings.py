"""How supernets and winners are trained, as asked for: exits, teachers, several at once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData
from nas.cli import main
from nas.engine.preparation import supernet_training
from nas.engine.search import Outcome, search
from nas.run.curves import read_curve
from nas.run.folder import Run
from nas.run.specification import make
from nas.supernet.shared_weights import Supernet
from nas.task.schedule import MIXING, MIXING_SINCE, NOISE, NOISE_SINCE, Schedule
from nas.task.task import Task
from nas.training.loop import recipe_for
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

QUICK: dict[str, Any] = {
    "space": "mobilenet-tiny",
    "data": "digits",
    "high": {"macs": 200_000},
    "trials": 4,
    "supernet_epochs": 0.5,
    "train_epochs": 0.5,
    "calibration_images": 64,
}


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def test_a_search_with_early_exits_is_of_mean_flops(tmp_path: Path) -> None:
    settings = {**QUICK, "trials": 5, "early_exit": 5.0, "finalists": 2, "train_epochs": 1.0}
    outcome = search(make(settings), tmp_path / "run")
    assert [o.metric for o in outcome.run.objectives] == ["accuracy", "avg_flops"]
    for evaluation in outcome.run.evaluations():
        metrics = evaluation.metrics
        assert 0 < metrics["avg_flops"] <= 1.1 * metrics["macs"]
        assert metrics["accuracy"] >= metrics["whole_accuracy"] - 0.05
    winner = outcome.summary.to_json()["winner"]
    low, high = winner["test_accuracy_interval"]
    assert low <= winner["test_accuracy"] <= high
    assert winner["avg_flops"] > 0
    assert (outcome.run.folder / "winner" / "config.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"early_exit": 0.5, "strategy": "darts"}, "--early-exit trains its own supernet"),
        ({"early_exit": 0.5, "evaluator": "naswot"}, "--early-exit trains its own supernet"),
        ({"early_exit": 0.5, "widening": True}, "cannot be combined with --widening"),
        ({"early_exit": 0.5, "sampling": "attentive"}, "combined with --sampling attentive"),
        ({"teacher": True, "evaluator": "naswot"}, "--teacher is a subnet of the supernet"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_anything_is_trained(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        search(make({**QUICK, **settings}), folder)
    assert not folder.exists()


def test_several_architectures_are_trained_with_a_teacher_and_keep_their_curves(
    finished: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished.run.folder, tmp_path / "run"))
    ids = [evaluation.arch.id for evaluation in finished.run.evaluations()[:2]]
    arguments = ["--epochs", "0.5", "--teacher", "--scratch", "--quiet", "--json"]
    assert run("train", str(folder), "--arch", ids[0], "--arch", ids[1], *arguments) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["id"] for result in results] == ids
    for result in results:
        low, high = result["test_accuracy_interval"]
        assert low <= result["test_accuracy"] <= high
        assert (Path(result["folder"]) / "model.onnx").exists()
        points = read_curve(folder / "trained" / f"{result['id']}-scratch-taught-0.5-epochs.jsonl")
        assert points[-1]["step"] == points[-1]["steps"]
    assert run("train", str(folder), "--arch", ids[0], "--quiet") == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_runs_settings_of_training_reach_the_recipe() -> None:
    task = Task(make({**QUICK, "ema": 0.9, "learning_rate": 0.02, "precision": "bf16"}))
    recipe = task.schedule.recipe(2.0)
    assert (recipe.ema, recipe.learning_rate, recipe.precision) == (0.9, 0.02, "bf16")
    plain = Task(make(QUICK)).schedule.recipe(2.0)
    assert (plain.ema, plain.precision) == (0.0, "fp32")


@pytest.mark.parametrize(
    ("space", "data", "rate"), [("cnn-tiny", "digits", 0.03), ("vit-tiny", "digits", 0.02)]
)
def test_hidden_layers_of_a_timed_training_step_by_the_same_length(
    space: str, data: str, rate: float
) -> None:
    recipe = Task.of(make({"space": space, "data": data, "time": 60.0})).schedule.timed_recipe
    batches = recipe.batch_size / 128 if recipe.optimizer == "sgd" else 1.0
    assert recipe.muon * recipe.learning_rate == pytest.approx(rate * batches)


def test_timed_trainings_of_photographs_mix_images_unless_augmentations_are_named() -> None:
    digits, space = load_data("digits"), load_space("cnn-tiny", image_size=8, channels=1)
    photographs = replace(digits, augmentation=("crop", "flip"))

    def mixing(data: ImageData, **settings: Any) -> float:
        specification = make({"space": "cnn-tiny", "data": "digits", "time": 60.0, **settings})
        return Schedule(specification, space, data).timed_recipe.mixing

    assert mixing(photographs) == MIXING
    assert mixing(photographs, augmentation=("crop", "flip")) == 0
    assert mixing(photographs, version=MIXING_SINCE) == MIXING
    assert mixing(photographs, version=MIXING_SINCE - 1) == 0
    assert mixing(digits) == 0


def test_timed_trainings_on_texts_replace_tokens(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("to be or not to be, that is the question. " * 2000)
    text = {"space": "gpt-conv", "data": str(tmp_path / "mine.txt"), "time": 60.0}

    def mixing(**settings: Any) -> float:
        return Task.of(make({**text, **settings})).schedule.timed_recipe.mixing

    assert mixing() == NOISE
    assert mixing(version=NOISE_SINCE - 1) == 0


@pytest.mark.parametrize("setting", ["teacher", "compile"])
def test_networks_with_exits_have_no_teacher_and_are_not_compiled(
    tmp_path: Path, setting: str
) -> None:
    with pytest.raises(UserError, match=f"plainly, without --{setting}"):
        search(make({**QUICK, "early_exit": 0.5, setting: True}), tmp_path / "run")


def test_a_network_with_exits_is_trained_from_nothing_where_that_is_asked_for(
    finished: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished.run.folder, tmp_path / "run"))
    arguments = ["--early-exit", "5", "--epochs", "0.5", "--quiet", "--json"]
    reports = []
    for more in (["--scratch"], ["--inherited", "--out", str(tmp_path / "inherited")]):
        assert run("train", str(folder), *arguments, *more) == 0
        reports.append(json.loads(capsys.readouterr().out))
    name = reports[0]["id"]
    for kind in ("-exits-scratch", "-exits"):
        points = read_curve(folder / "trained" / f"{name}{kind}-0.5-epochs.jsonl")
        assert points[-1]["step"] == points[-1]["steps"]


def test_the_supernet_learns_from_the_largest_network_that_the_budget_admits_options_of() -> None:
    task = Task.of(make({"data": "digits", "high": {"macs": 300_000}}))
    training = supernet_training(task)
    assert training.largest == task.largest
    # Nine of ten networks of 300k FLOPs have the smallest images: the largest ones teach nothing.
    assert task.largest["resolution"] == 8
    others = {k: v for k, v in task.space.largest.items() if k != "resolution"}
    assert {k: v for k, v in task.largest.items() if k != "resolution"} == others
    prepared = training.prepare(torch.device("cpu"))
    inputs = torch.zeros(64, 1, 8, 8)
    targets = torch.arange(64) % 10
    loss = prepared.backward(inputs, targets, 0)
    supernet = prepared.network
    assert isinstance(supernet, Supernet)
    logits = supernet(inputs, task.largest)
    smoothed = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
    assert loss == pytest.approx(smoothed.item(), rel=1e-5)


def test_widening_begins_with_the_largest_network_of_the_space() -> None:
    task = Task.of(make({"data": "digits", "high": {"macs": 300_000}, "widening": True}))
    assert task.largest == task.space.largest


def test_a_run_of_the_format_before_muon_goes_on_without_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = {**QUICK, "trials": 2, "version": 1}
    search(make(settings), folder)
    assert Run(folder).specification.version == 1
    search(make({**QUICK, "trials": 3}), folder, resume=True)
    assert Run(folder).specification.version == 1
    old, new = (Task(make({**QUICK, "version": v})).schedule for v in (1, 2))
    assert old.recipe(2.0) == replace(new.recipe(2.0), muon=0.0)
    assert new.recipe(2.0).muon > 0
    assert old.train_epochs == Task(make({**QUICK, "version": 2})).schedule.train_epochs == 0.5
    plain = {k: v for k, v in QUICK.items() if k != "train_epochs"}
    epochs = [Task(make({**plain, "version": v})).schedule.train_epochs for v in (1, 2)]
    assert epochs[0] == 2 * epochs[1]


def test_muon_steps_are_as_long_where_the_rate_is_lower_for_norms_behind_sums() -> None:
    space = load_space("bert-mini")
    schedule = Schedule(make({"space": "bert-mini"}), space, load_data("digits"))
    recipe, plain = schedule.recipe(1.0), recipe_for(space, 1.0)
    assert recipe.learning_rate < plain.learning_rate / 2
    assert recipe.muon * recipe.learning_rate == pytest.approx(0.02)
