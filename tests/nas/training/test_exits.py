"""Training a network together with its exits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from evaluators.accuracy.exit_accuracy import outcomes, recalibrate_exits
from evaluators.accuracy.thresholds import operate, within_budget, within_loss
from evaluators.costs.exit_costs import ExitCosts
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageBatches, ImageData, subset
from nas.training.checkpoint import read_checkpoint
from nas.training.exits import JointLossWeights, joint_loss, train_with_exits
from nas.training.loop import recipe_for
from search_spaces.catalogue import load_space
from search_spaces.exits.heads import exits_of
from search_spaces.exits.network import ExitNetwork
from search_spaces.ops import Shape
from search_spaces.serial import Blocks


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits")


def blocks_of(name: str) -> tuple[Blocks, Shape]:
    space = load_space(name, image_size=8, channels=1, classes=10)
    (arch,) = space.decode(space.sample(1, 5))
    return space.ops(arch), space.input_shape(arch)


def fresh(name: str, seed: int = 0) -> tuple[ExitNetwork, Blocks, Blocks, Shape]:
    blocks, shape = blocks_of(name)
    exits = exits_of(blocks, 2)
    torch.manual_seed(seed)
    return ExitNetwork(blocks, exits), blocks, exits, shape


@pytest.mark.parametrize("hard", [True, False])
def test_the_loss_is_a_weighted_sum_over_exits(hard: bool) -> None:
    torch.manual_seed(0)
    early, last = torch.randn(6, 4), torch.randn(6, 4)
    targets = torch.randint(0, 4, (6,)) if hard else torch.rand(6, 4).softmax(dim=1)
    total, end = joint_loss(
        [early, last], targets, JointLossWeights(0.5, 0.25), label_smoothing=0.1
    )
    on_targets = F.cross_entropy(early, targets, label_smoothing=0.1)
    on_end = -(last.softmax(1) * early.log_softmax(1)).sum(1).mean()
    assert end == F.cross_entropy(last, targets, label_smoothing=0.1)
    torch.testing.assert_close(total, end + 0.5 * (0.75 * on_targets + 0.25 * on_end))


def test_the_last_exit_gets_no_gradient_from_early_exits() -> None:
    early = torch.randn(6, 4, requires_grad=True)
    last = torch.randn(6, 4, requires_grad=True)
    targets = torch.randint(0, 4, (6,))
    joint_loss([early, last], targets, JointLossWeights(1.0, 1.0))[0].backward()
    alone = last.detach().requires_grad_()
    F.cross_entropy(alone, targets).backward()
    torch.testing.assert_close(last.grad, alone.grad)
    assert early.grad is not None
    assert early.grad.any()


def test_all_exits_learn_and_early_exits_save_macs(data: ImageData) -> None:
    name = "mobilenet-tiny"
    network, blocks, exits, shape = fresh(name)
    space = load_space(name, image_size=8, channels=1, classes=10)
    train_with_exits(network, data.batches(), recipe_for(space, 10.0), shape, seed=1)
    images = data.inputs(data.train.images[:256], shape, torch.device("cpu"))
    recalibrate_exits(network, images)
    said = outcomes(network, data, "validation", shape)
    assert (said.right.mean(axis=0) > 0.6).all()
    costs = ExitCosts.of(blocks, exits)
    thresholds = within_loss(said, costs, 0.02, caution=0)
    operation = operate(said, thresholds, costs)
    assert operation.macs < 0.95 * costs.whole
    network.set_thresholds(thresholds)
    score = data.score(network, "validation", shape)["accuracy"]
    assert score == pytest.approx(operation.accuracy)
    assert score >= said.whole - 0.02 - 1e-9
    budget = within_budget(said, costs, (costs.least + costs.whole) / 2)
    assert operate(said, budget, costs).macs <= (costs.least + costs.whole) / 2


def test_a_completed_training_is_restored_from_its_checkpoint(
    data: ImageData, tmp_path: Path
) -> None:
    batches = ImageBatches.of(data, subset(data.train, 320, seed=0))
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    recipe = recipe_for(space, 2.0)

    network, _, _, shape = fresh("mobilenet-tiny")
    train_with_exits(network, batches, recipe, shape, seed=1)
    again = fresh("mobilenet-tiny")[0]
    path = tmp_path / "training.pt"
    train_with_exits(again, batches, recipe, shape, seed=1, checkpoint=path)
    assert read_checkpoint(path)["step"] == recipe.steps(len(batches))
    other = fresh("mobilenet-tiny", seed=3)[0]
    train_with_exits(other, batches, recipe, shape, seed=1, checkpoint=path)
    for key, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
        assert torch.equal(value, other.state_dict()[key])
