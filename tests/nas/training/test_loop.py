"""The training loop: resumed trainings end with the same weights; bad checkpoints are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.data.batches import training_batch
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageBatches, ImageData, subset
from nas.supernet.sandwich import sandwich
from nas.supernet.shared_weights import Supernet
from nas.training.checkpoint import read_checkpoint
from nas.training.divergence import MAX_ROLLBACKS
from nas.training.loop import MIXED_FROM, Recipe, fit, recipe_for
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

RECIPE = Recipe(epochs=1, batch_size=64)


class Killed(Exception):
    """Stands for a killed process."""


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits")


def train(
    data: ImageData, name: str, checkpoint: Path | None, stop_at: int | None = None, seed: int = 3
) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(load_space(name, image_size=8, channels=1))
    recipe = recipe_for(supernet.space, 1.0)

    def on_step(done: int, steps: int, loss: float) -> None:
        if done == stop_at:
            raise Killed

    backward = sandwich(supernet, recipe, seed=seed)
    fit(
        supernet,
        ImageBatches.of(data, subset(data.train, 256, seed=0)),
        recipe,
        backward,
        seed=seed,
        checkpoint=checkpoint,
        checkpoint_seconds=0.0,
        on_step=on_step,
    )
    return supernet


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny"])
def test_a_resumed_training_ends_with_the_same_weights(
    data: ImageData, name: str, tmp_path: Path
) -> None:
    whole = train(data, name, None)
    checkpoint = tmp_path / "supernet.pt"
    with pytest.raises(Killed):
        train(data, name, checkpoint, stop_at=2)
    resumed = train(data, name, checkpoint)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_a_checkpoint_of_another_seed_is_refused(data: ImageData, tmp_path: Path) -> None:
    checkpoint = tmp_path / "supernet.pt"
    train(data, "vit-tiny", checkpoint)
    with pytest.raises(UserError, match=r"was made with seed 3, this training has 4"):
        train(data, "vit-tiny", checkpoint, seed=4)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 100])
def test_a_corrupt_checkpoint_is_reported_and_kept(
    data: ImageData, tmp_path: Path, content: bytes
) -> None:
    checkpoint = tmp_path / "supernet.pt"
    checkpoint.write_bytes(content)
    with pytest.raises(UserError, match=r"supernet\.pt is corrupt or truncated"):
        train(data, "vit-tiny", checkpoint)
    assert checkpoint.read_bytes() == content


def test_a_file_that_is_not_a_checkpoint_is_reported(data: ImageData, tmp_path: Path) -> None:
    checkpoint = tmp_path / "supernet.pt"
    torch.save({"weights": torch.ones(3)}, checkpoint)
    with pytest.raises(UserError, match="is not a checkpoint of this program"):
        train(data, "vit-tiny", checkpoint)


def test_a_training_that_always_diverges_fails(data: ImageData) -> None:
    network = torch.nn.Linear(4, 2)
    batches = ImageBatches.of(data)
    messages: list[str] = []
    with pytest.raises(UserError, match=r"training diverged at step 1 of .* lower learning rate"):
        fit(
            network,
            batches,
            RECIPE,
            lambda x, y, step: float("nan"),
            seed=0,
            on_message=messages.append,
        )
    assert len(messages) == MAX_ROLLBACKS


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_a_diverged_training_is_rolled_back_and_continues_at_a_lower_rate(
    data: ImageData, tmp_path: Path, bad: float
) -> None:
    """One step diverges; its effect on the weights is undone and the training ends."""
    torch.manual_seed(0)
    network = torch.nn.Linear(64, 10)
    steps: list[int] = []
    rates: list[float] = []

    def backward(images: torch.Tensor, targets: torch.Tensor, step: int) -> float:
        steps.append(step)
        loss = torch.nn.functional.cross_entropy(network(images.flatten(1)), targets)
        loss.backward()
        if step == 15 and steps.count(15) == 1:
            with torch.no_grad():
                network.weight.fill_(float("nan"))
            return bad
        return loss.item()

    messages: list[str] = []
    checkpoint = tmp_path / "training.pt"
    fit(
        network,
        ImageBatches.of(data),
        replace(RECIPE, epochs=2),
        backward,
        seed=0,
        checkpoint=checkpoint,
        checkpoint_seconds=0.0,
        on_step=lambda done, of, loss: rates.append(loss),
        on_message=messages.append,
    )
    assert steps == [*range(16), *range(15, 32)]
    assert torch.isfinite(network.weight).all()
    assert "back to step 15 of 32 at 0.5 of the learning rate" in messages[0]
    assert read_checkpoint(checkpoint)["guard"]["rollbacks"] == 1
    assert rates[-1] < rates[0]


def test_a_checkpoint_of_another_version_is_refused_with_both_versions(
    data: ImageData, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "supernet.pt"
    train(data, "vit-tiny", checkpoint)
    content = read_checkpoint(checkpoint)
    torch.save({**content, "version": 7}, checkpoint)
    with pytest.raises(UserError, match="has version 7, this program writes and reads 2"):
        train(data, "vit-tiny", checkpoint)


def test_a_training_ends_with_the_average_of_its_weights(data: ImageData, tmp_path: Path) -> None:
    def ended(stop_at: int | None = None, checkpoint: Path | None = None) -> torch.Tensor:
        torch.manual_seed(0)
        network = torch.nn.Linear(64, 10)

        def backward(images: torch.Tensor, targets: torch.Tensor, step: int) -> float:
            loss = torch.nn.functional.cross_entropy(network(images.flatten(1)), targets)
            loss.backward()
            path.append(network.weight.detach().clone())
            return loss.item()

        def on_step(done: int, of: int, loss: float) -> None:
            if done == stop_at:
                raise Killed

        recipe = replace(RECIPE, ema=0.5)
        fit(
            network,
            ImageBatches.of(data, subset(data.train, 256, seed=0)),
            recipe,
            backward,
            seed=0,
            checkpoint=checkpoint,
            checkpoint_seconds=0.0,
            on_step=on_step,
        )
        path.append(network.weight.detach().clone())
        return network.weight

    path: list[torch.Tensor] = []
    average = ended()
    weights = torch.stack(path[:-1])
    assert not torch.equal(average, weights[-1])
    assert (average >= weights.amin(0) - 0.1).all()
    assert (average <= weights.amax(0) + 0.1).all()
    with pytest.raises(Killed):
        ended(stop_at=2, checkpoint=tmp_path / "t.pt")
    assert torch.equal(ended(checkpoint=tmp_path / "t.pt"), average)
    assert torch.equal(ended(checkpoint=tmp_path / "t.pt"), average), "a finished one"


@pytest.mark.parametrize(
    ("largest", "expected"), [(16, "--batch-size 16 fits"), (0, "every smaller")]
)
def test_the_error_for_a_batch_that_does_not_fit_names_a_size_that_does(
    data: ImageData, largest: int, expected: str
) -> None:
    """A real allocation of more memory than any machine has."""
    network = torch.nn.Linear(64, 10)

    def backward(images: torch.Tensor, targets: torch.Tensor, step: int) -> float:
        if len(images) > largest:
            torch.empty(len(images) << 50)
        return network(images.flatten(1)).sum().item()

    with pytest.raises(UserError, match=f"out of memory at a batch of 64.*{expected}"):
        fit(network, ImageBatches.of(data), RECIPE, backward, seed=0)


def test_each_step_runs_the_largest_the_smallest_and_random_subnets(data: ImageData) -> None:
    supernet = Supernet(load_space("mobilenet-tiny", image_size=8, channels=1))
    space = supernet.space
    drawn = space.decode(space.sample(2, seed=1))
    ran: list[Architecture] = []
    forward = supernet.forward

    def spy(x: torch.Tensor, arch: Architecture) -> torch.Tensor:
        ran.append(arch)
        return forward(x, arch)

    supernet.forward = spy  # type: ignore[method-assign, assignment]
    backward = sandwich(supernet, RECIPE, seed=0, draw=lambda rng, n: drawn[:n])
    images = torch.randn(8, 1, 8, 8)
    backward(images, torch.arange(8), 0)
    assert ran == [space.largest, space.smallest, *drawn]
    gradients = [p.grad for p in supernet.parameters()]
    assert all(g is not None for g in gradients)


@pytest.mark.slow
def test_training_lowers_the_loss_of_the_smallest_subnet(data: ImageData) -> None:
    """It is trained by in-place distillation only, without labels."""
    torch.manual_seed(0)
    supernet = Supernet(load_space("mobilenet-tiny", image_size=8, channels=1))
    recipe = recipe_for(supernet.space, 4.0)
    fit(supernet, ImageBatches.of(data), recipe, sandwich(supernet, recipe, seed=0), seed=0)
    from evaluators.accuracy.inherited import InheritedAccuracy

    evaluator = InheritedAccuracy(supernet, data, data.train.images[:256])
    assert evaluator(supernet.space.smallest)["accuracy"] > 0.25
    assert evaluator(supernet.space.largest)["accuracy"] > 0.5


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [RECIPE.rate(step, 100) for step in range(100)]
    peak = int(np.argmax(rates))
    assert 8 <= peak <= 11
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) <= RECIPE.learning_rate
    assert rates[-1] < 0.01 * RECIPE.learning_rate


def test_batches_of_an_epoch_contain_each_image_at_most_once() -> None:
    batches = [training_batch(100, 32, seed=1, step=step) for step in range(6)]
    for epoch in (batches[:3], batches[3:]):
        assert len(set(torch.cat(epoch).tolist())) == 96
    assert batches[0].tolist() != batches[3].tolist()


@pytest.mark.parametrize(("epochs", "mixed"), [(MIXED_FROM - 1, False), (MIXED_FROM, True)])
def test_a_long_training_mixes_images(data: ImageData, epochs: float, mixed: bool) -> None:
    """As many batches as the recipe says; their targets are probabilities."""
    kinds = []

    def backward(batch: torch.Tensor, targets: torch.Tensor, step: int) -> float:
        kinds.append(targets.is_floating_point())
        return 0.0

    batches = ImageBatches.of(data)
    recipe = Recipe(epochs, batch_size=len(batches), mixing=0.4)
    fit(torch.nn.Linear(2, 2), batches, recipe, backward, seed=0)
    assert len(kinds) == epochs
    assert any(kinds) == mixed
    assert not mixed or 9 < sum(kinds) < 27


def test_denormal_numbers_are_zero_in_a_training_and_nowhere_else(data: ImageData) -> None:
    tiny = torch.tensor([1e-30])
    seen = []

    def backward(batch: torch.Tensor, targets: torch.Tensor, step: int) -> float:
        seen.append(bool(tiny * 1e-10 == 0))
        return 0.0

    fit(torch.nn.Linear(2, 2), ImageBatches.of(data), Recipe(0.1), backward, seed=0)
    assert seen
    assert all(seen)
    assert tiny * 1e-10 > 0
