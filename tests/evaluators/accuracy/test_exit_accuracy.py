"""Accuracy and mean MACs with exits, on images not used to fit thresholds; time saved."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from evaluators.accuracy.exit_accuracy import (
    ExitAccuracy,
    cross_fitted,
    exit_costs,
    outcomes,
    recalibrate_exits,
)
from evaluators.accuracy.exit_timing import TRIES, WARM_UP, time_saved
from evaluators.accuracy.thresholds import Outcomes, operate, within_loss
from evaluators.costs.exit_costs import ExitCosts
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData
from evaluators.metrics import MEAN_MACS, WHOLE_ACCURACY
from nas.supernet.exit_supernet import ExitSupernet
from search_spaces.catalogue import load_space
from search_spaces.exits.heads import exits_of
from search_spaces.exits.network import ExitNetwork, confidence


@cache
def data() -> ImageData:
    return load_data("digits")


@cache
def evaluator() -> ExitAccuracy:
    torch.manual_seed(0)
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    return ExitAccuracy(ExitSupernet(space), data(), data().train.images[:128], loss=0.3)


@torch.no_grad()
def test_outcomes_are_the_predictions_of_the_network() -> None:
    space = evaluator().supernet.space
    network = evaluator().recalibrated(space.largest)
    shape = space.input_shape(space.largest)
    samples = outcomes(network, data(), "validation", shape)
    assert samples.whole == data().score(network, "validation", shape)["accuracy"]
    thresholds = (float(np.quantile(samples.confidence[:, 0], 0.6)),) * len(network.exits)
    network.set_thresholds(thresholds)
    costs = exit_costs(space, space.largest, 2)
    operation = operate(samples, thresholds, costs)
    # The network itself, with samples leaving early, on all images at once.
    assert operation.accuracy == data().score(network, "validation", shape)["accuracy"]
    assert 0 < operation.rates[0] < 1
    assert sum(operation.rates) == pytest.approx(1)


def test_scoring_is_deterministic_and_leaves_the_supernet_as_it_was() -> None:
    score = evaluator()
    assert isinstance(score.supernet, ExitSupernet)
    before = {key: value.clone() for key, value in score.supernet.state_dict().items()}
    space = score.supernet.space
    first, second = score(space.largest), score(space.largest)
    assert first == second
    assert all((before[k] == v).all() for k, v in score.supernet.state_dict().items())
    assert {"accuracy", MEAN_MACS, WHOLE_ACCURACY, "exit1_rate", "exit2_rate"} == first.keys()
    costs = exit_costs(space, space.largest, 2)
    assert costs.least <= first[MEAN_MACS] <= costs.whole + sum(costs.heads)


def test_each_half_is_scored_at_the_thresholds_of_the_other() -> None:
    rng = np.random.default_rng(0)
    samples = Outcomes(rng.random((100, 1)).astype(np.float32), rng.random((100, 2)) < 0.8)
    # In one half the exit is always right, in the other always wrong.
    samples.right[::2, 0], samples.right[1::2, 0] = True, False
    costs = ExitCosts((10, 10), (1,))
    operation = cross_fitted(samples, costs, 0.0)
    from_even = within_loss(samples[slice(0, None, 2)], costs, 0.0)
    from_odd = within_loss(samples[slice(1, None, 2)], costs, 0.0)
    assert from_even == (0.0,)
    judged = [
        operate(samples[slice(i, None, 2)], t, costs) for i, t in enumerate((from_odd, from_even))
    ]
    assert operation.accuracy == pytest.approx(np.mean([o.accuracy for o in judged]))
    assert operation.macs == pytest.approx(np.mean([o.macs for o in judged]))
    assert judged[1].accuracy == 0


def test_heads_are_recalibrated_on_every_image_whatever_the_thresholds() -> None:
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    blocks = space.ops(space.largest)
    statistics = []
    for threshold in (0.0, math.inf):
        torch.manual_seed(0)
        network = ExitNetwork(blocks, exits_of(blocks), [threshold] * 2).eval()
        generator = torch.Generator().manual_seed(1)
        shape = space.input_shape(space.largest)
        recalibrate_exits(network, [torch.randn(16, *shape, generator=generator)])
        assert not network.training
        statistics.append([b.clone() for name, b in network.named_buffers() if "running" in name])
    assert any((b != 0).any() and (b != 1).any() for b in statistics[0])
    assert all((a == b).all() for a, b in zip(*statistics, strict=True))


@torch.no_grad()
def test_time_is_measured_with_exits_and_without() -> None:
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    blocks = space.ops(space.largest)
    network = ExitNetwork(blocks, exits_of(blocks), [0.0, 0.0])
    ran: list[int] = []
    network.blocks["head"].register_forward_hook(lambda m, i, o: ran.append(len(o)))
    saving = time_saved(network, [torch.randn(4, *space.input_shape(space.largest))], pairs=6)
    assert saving.batch == 4
    assert saving.whole_ms > 0
    assert saving.exits_ms > 0
    assert saving.quartiles[0] <= saving.ratio <= saving.quartiles[1]
    # One run of each pair goes to the end; interrupted pairs are repeated.
    assert WARM_UP + 6 <= len(ran) <= WARM_UP + 6 * TRIES


def test_confidence_is_the_margin_between_the_two_most_probable_classes() -> None:
    probabilities = torch.tensor([[0.5, 0.1, 0.4], [0.2, 0.7, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(confidence(probabilities.log()), torch.tensor([0.1, 0.5, 0.0]))


def test_a_part_is_scored_in_evaluation_mode_and_the_mode_is_restored() -> None:
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    blocks = space.ops(space.largest)
    network = ExitNetwork(blocks, exits_of(blocks)).train()
    before = [b.clone() for b in network.buffers()]
    outcomes(network, data(), "validation", space.input_shape(space.largest))
    assert network.training
    assert all((a == b).all() for a, b in zip(before, network.buffers(), strict=True))
