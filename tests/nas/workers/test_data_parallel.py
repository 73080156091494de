"""Trainings on several Ray workers: equal to those in one process, and errors are reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.data.batches import Batches
from nas.engine import preparation
from nas.engine.finish.fine_tuning import FineTuning
from nas.engine.finish.plain import PlainFinisher
from nas.engine.search import Outcome
from nas.progress import Quiet
from nas.run import specification as spec
from nas.supernet.job import SupernetTraining
from nas.supernet.shared_weights import Supernet
from nas.task.task import Task
from nas.training.checkpoint import steps_done
from nas.training.job import PreparedTraining, steps_of
from nas.training.loop import Recipe
from nas.workers.cluster import ray_session
from nas.workers.data_parallel import _trainer, train_data_parallel
from nas.workers.remote import RemoteTrainings
from nas.workers.resources import THIS_PROCESS, Resources
from nas.workers.side_by_side import train_side_by_side
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace


class Interrupted(Exception):
    """Simulates the end of the process."""


def supernet_training(space: str, **settings: Any) -> SupernetTraining:
    """Without augmentation, which is random on every rank."""
    defaults = {"space": space, "data": "digits", "augmentation": (), "supernet_epochs": 0.5}
    return preparation.supernet_training(Task(spec.make(defaults | settings)))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(3):
        yield


@pytest.mark.slow
def test_three_workers_train_a_supernet_as_one_process_does(cluster: None) -> None:
    """Without batch norms, and with a batch that 3 does not divide: all samples weigh the same."""
    training = supernet_training("vit-tiny")
    assert training.recipe.batch_size % 3
    alone: list[float] = []
    expected = train_data_parallel(training, on_step=lambda done, steps, loss: alone.append(loss))
    losses: list[float] = []
    given = train_data_parallel(
        training, workers=3, on_step=lambda done, steps, loss: losses.append(loss)
    )
    assert len(losses) == steps_of(training)
    assert losses == pytest.approx(alone, rel=1e-4)
    for key, value in expected.state_dict().items():
        assert torch.allclose(value, given.state_dict()[key], atol=1e-3), key


@pytest.mark.slow
def test_an_interrupted_training_resumes_from_the_last_checkpoint(
    cluster: None, tmp_path: Path
) -> None:
    training = supernet_training("mobilenet-tiny")
    whole = train_data_parallel(training, workers=2)
    checkpoint = tmp_path / "supernet.pt"

    def interrupt(done: int, steps: int, loss: float) -> None:
        if done == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_data_parallel(
            training, checkpoint, workers=2, on_step=interrupt, checkpoint_seconds=0.0
        )
    before = steps_done(checkpoint)
    assert 1 <= before < steps_of(training)
    seen: list[int] = []
    resumed = train_data_parallel(
        training, checkpoint, workers=2, on_step=lambda done, steps, loss: seen.append(done)
    )
    assert seen == list(range(before + 1, steps_of(training) + 1))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_a_complete_checkpoint_needs_no_workers(tmp_path: Path) -> None:
    training = supernet_training("vit-tiny", supernet_epochs=0.1)
    checkpoint = tmp_path / "supernet.pt"
    trained = train_data_parallel(training, checkpoint)
    again = train_data_parallel(training, checkpoint, workers=2, address="127.0.0.1:1")
    for key, value in trained.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_more_workers_than_samples_of_a_batch_are_refused() -> None:
    with pytest.raises(UserError, match=r"65 workers cannot share a batch of 64 samples"):
        train_data_parallel(supernet_training("vit-tiny"), workers=65)


def test_on_gpus_each_worker_has_one_and_they_communicate_by_nccl(tmp_path: Path) -> None:
    for gpu, backend in ((True, "nccl"), (False, "gloo")):
        trainer = _trainer(RemoteTrainings(None, None, "cpu", 0.0), 4, str(tmp_path), gpu=gpu)
        assert trainer.scaling_config.num_workers == 4
        assert trainer.scaling_config.num_gpus_per_worker == float(gpu)
        assert trainer.backend_config.backend == backend


class Diverges:
    """A training whose loss is always NaN."""

    def __init__(self, space: SearchSpace, batches: Batches) -> None:
        self.space = space
        self.batches = batches
        self.recipe = Recipe(epochs=1)
        self.seed = 0

    def prepare(self, device: torch.device) -> PreparedTraining:
        return PreparedTraining(torch.nn.Linear(1, 1), lambda inputs, targets, step: float("nan"))


@pytest.mark.slow
def test_a_training_that_fails_raises_the_same_error_as_in_one_process(cluster: None) -> None:
    training = supernet_training("vit-tiny")
    messages: list[str] = []
    with pytest.raises(UserError, match=r"training diverged at step 1 of .* lower learning rate"):
        train_data_parallel(
            Diverges(training.space, training.batches), workers=2, on_message=messages.append
        )
    assert any("the loss diverged" in text for text in messages)


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_refused_and_kept(
    cluster: None, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "supernet.pt"
    train_data_parallel(supernet_training("vit-tiny", supernet_epochs=0.1), checkpoint)
    content = checkpoint.read_bytes()
    with pytest.raises(UserError, match=r"was made with recipe"):
        train_data_parallel(supernet_training("vit-tiny"), checkpoint, workers=2)
    assert checkpoint.read_bytes() == content


# Several networks at once


@pytest.mark.slow
def test_winners_trained_side_by_side_equal_those_trained_in_sequence(
    cluster: None, finished: Outcome, copied: Path, tmp_path: Path
) -> None:
    from nas.engine.preparation import starting_weights
    from nas.run.folder import Run

    task, run = finished.task, Run(copied)
    start = starting_weights(task, run, Quiet())
    archs = [evaluation.arch for evaluation in finished.frontier[:2]]
    tuning = FineTuning(task, run, start, Quiet(), Resources(2))
    together = PlainFinisher(tuning).finish_all({a: tmp_path / f"together-{a.id}" for a in archs})
    for path in (copied / "trained").iterdir():
        path.unlink()
    tuning = FineTuning(task, run, start, Quiet(), THIS_PROCESS)
    after = PlainFinisher(tuning).finish_all({a: tmp_path / f"after-{a.id}" for a in archs})
    for arch in archs:
        assert together[arch].value == pytest.approx(after[arch].value, abs=2 / 359)
        assert (tmp_path / f"together-{arch.id}" / "model.onnx").exists()


def test_networks_train_side_by_side_and_one_that_fails_stops_no_other(
    cluster: None, tmp_path: Path
) -> None:
    good = supernet_training("vit-tiny", supernet_epochs=0.1)
    bad = Diverges(good.space, good.batches)
    files = {name: tmp_path / name for name in ("bad", "good")}
    progress: list[tuple[int, int]] = []
    with pytest.raises(UserError, match="training diverged"):
        train_side_by_side(
            {"bad": bad, "good": good},
            files,
            workers=2,
            on_step=lambda done, steps, loss: progress.append((done, steps)),
        )
    assert steps_done(files["good"]) == steps_of(good)
    assert progress[-1] == (steps_of(good), steps_of(good) + steps_of(bad))
    trained = Supernet(good.space)
    trained.load_state_dict(torch.load(files["good"], weights_only=True)["network"])
    alone = train_data_parallel(good)
    for key, value in alone.state_dict().items():
        assert torch.allclose(value, trained.state_dict()[key], atol=1e-5), key
