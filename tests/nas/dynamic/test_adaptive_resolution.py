"""Resolution-adaptive inference: what is decided for each image, and what that costs."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.costs.tables import CostTables
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData
from nas.dynamic.adaptive_resolution import (
    AdaptiveResolution,
    Predictions,
    at_resolutions,
    calibrate,
    predict,
    score,
)
from nas.dynamic.network import DynamicNetwork
from nas.dynamic.resolution_rule import Ladder, Rule, features, ladders, reaching, within
from nas.dynamic.saving import save_dynamic
from nas.supernet.shared_weights import Supernet
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError


@cache
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dynamic network of one architecture at three resolutions, and a smaller one."""
    torch.manual_seed(0)
    space, data = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10), digits()
    place = tmp_path_factory.mktemp("adaptive") / "d"
    save_dynamic(
        InheritedAccuracy(Supernet(space).eval(), data, data.train.images[:64]),
        [*at_resolutions(space, space.largest), space.smallest],
        CostTables(space),
        place,
    )
    return place


def split_rule(network: DynamicNetwork, images: torch.Tensor) -> Rule:
    """A rule that sends about a third of these images to each of three resolutions."""
    smallest = network.subnets[0]
    chosen = [smallest, *(s for s in network.subnets if s.macs > 500_000)][:3]
    inputs = features(network.network(smallest)(network.preprocess(images, smallest)))
    low, high = inputs[:, -1].quantile(torch.tensor([1 / 3, 2 / 3])).tolist()
    # Level k wins where entropy is beyond the k-th third: lines that cross at the quantiles.
    scale = 40.0
    slopes = (0.0, scale, 2 * scale)
    bias = (0.0, -scale * low, -scale * (low + high))
    weights = tuple((0.0,) * (inputs.shape[1] - 1) + (slope,) for slope in slopes)
    return Rule(
        tuple(s.id for s in chosen), tuple(s.macs for s in chosen), weights, bias, price=0.0
    )


@pytest.fixture
def adaptive(folder: Path) -> AdaptiveResolution:
    network = DynamicNetwork.load(folder)
    return AdaptiveResolution(network, split_rule(network, digits().validation.images[:60]))


# Running


def test_every_image_gets_the_answer_of_the_network_that_was_chosen_for_it(
    adaptive: AdaptiveResolution,
) -> None:
    images = digits().validation.images[:60]
    given = adaptive.run(images)
    network = adaptive.dynamic
    assert np.bincount(given.levels.numpy()).tolist() == pytest.approx([20, 20, 20], abs=2)
    for level, subnet in enumerate(adaptive.subnets):
        alone = network.network(subnet)(network.preprocess(images, subnet))
        rows = given.levels == level
        torch.testing.assert_close(given.logits[rows], alone[rows], rtol=1e-5, atol=1e-5)
    assert (adaptive(images) == given.logits).all()


def test_images_are_decided_for_one_by_one_as_in_a_batch(adaptive: AdaptiveResolution) -> None:
    images = digits().validation.images[:24]
    whole = adaptive.run(images)
    parts = [adaptive.run(images[i : i + 1]) for i in range(len(images))]
    assert torch.cat([p.levels for p in parts]).tolist() == whole.levels.tolist()
    assert torch.cat([p.macs for p in parts]).tolist() == whole.macs.tolist()
    torch.testing.assert_close(
        torch.cat([p.logits for p in parts]), whole.logits, rtol=1e-5, atol=1e-5
    )


def test_what_a_batch_is_said_to_cost_is_what_torch_counts_while_it_runs(
    adaptive: AdaptiveResolution,
) -> None:
    images = digits().validation.images[:37]
    with FlopCounterMode(display=False) as counter:
        given = adaptive.run(images)
    assert counter.get_total_flops() == 2 * int(given.macs.sum())
    assert len(set(given.macs.tolist())) == 3


def test_the_score_of_a_split_counts_every_image_once(adaptive: AdaptiveResolution) -> None:
    split = digits().validation[:300]
    scored = score(adaptive, split)
    given = adaptive.run(split.images)
    assert scored.macs == pytest.approx(given.macs.double().mean().item())
    right = (given.logits.argmax(1) == split.labels).double().mean()
    assert scored.accuracy == pytest.approx(right.item(), abs=1 / 300)
    assert sum(scored.shares) == pytest.approx(1)


def test_switching_the_network_changes_nothing_for_adaptive_images(
    adaptive: AdaptiveResolution,
) -> None:
    images = digits().validation.images[:10]
    before = adaptive(images)
    adaptive.dynamic.use(adaptive.dynamic.subnets[-1])
    assert (adaptive(images) == before).all()


def test_a_rule_is_kept_beside_its_network(adaptive: AdaptiveResolution, folder: Path) -> None:
    with pytest.raises(UserError, match="calibrate a rule first"):
        AdaptiveResolution.load(folder)
    adaptive.save(folder)
    again = AdaptiveResolution.load(folder)
    assert again.rule == adaptive.rule
    images = digits().validation.images[:20]
    torch.testing.assert_close(again(images), adaptive(images))
    (folder / "adaptive.json").write_text('{"levels": []}')
    with pytest.raises(UserError, match="cannot read"):
        AdaptiveResolution.load(folder)


def test_a_rule_over_other_subnets_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="unknown subnet"):
        AdaptiveResolution(DynamicNetwork.load(folder), Rule(("x",), (1,), (), (), 0.0))


# The rule


def made(n: int, seed: int, costs: tuple[int, ...] = (100, 400, 900)) -> Ladder:
    """Images of which the sure ones are easy: a cheap pass is right where it is sure.

    Levels are right up to a difficulty each, with noise, and sureness tells the difficulty.
    """
    rng = np.random.default_rng(seed)
    difficulty = rng.uniform(0, 1, n)
    logits = torch.zeros(n, 10)
    logits[:, 0] = torch.from_numpy(6 * (1 - difficulty))
    limits = np.linspace(0.5, 0.95, len(costs))
    noise = rng.normal(0, 0.05, (n, len(costs)))
    right = difficulty[:, None] + noise < limits
    return Ladder(tuple("abcd"[: len(costs)]), costs, features(logits), right)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), budget=st.integers(200, 1500))
def test_the_mean_compute_of_the_images_it_is_priced_on_is_within_the_budget(
    seed: int, budget: int
) -> None:
    ladder = made(200, seed)
    rule = within(budget)(ladder, ladder.fitted())
    assert rule is not None
    _, macs = ladder.score(rule)
    assert macs <= budget
    more = within(budget + 300)(ladder, ladder.fitted())
    assert more is not None
    assert ladder.score(more)[1] >= macs


def test_nothing_is_within_a_budget_below_the_cheap_pass() -> None:
    ladder = made(50, 0)
    assert within(99)(ladder, ladder.fitted()) is None


def test_a_rule_beats_fixed_networks_on_images_it_never_saw() -> None:
    ladder, unseen = made(2000, 1), made(2000, 2)
    fixed = unseen.correct.mean(axis=0)
    rule = within(600)(ladder, ladder.fitted())
    assert rule is not None
    accuracy, macs = unseen.score(rule)
    assert macs < 640
    # The largest network alone takes 900; what lies below 600 alone is right less often.
    assert accuracy > fixed[1] + 0.1
    assert accuracy > fixed[2] - 0.03


def test_an_accuracy_is_reached_at_less_compute_than_the_best_network() -> None:
    ladder = made(1000, 3)
    best = float(ladder.correct.mean(axis=0).max())
    rule = reaching(best - 0.01)(ladder, ladder.fitted())
    assert rule is not None
    accuracy, macs = ladder.score(rule)
    assert accuracy >= best - 0.01
    assert macs < 900
    assert reaching(1.01)(ladder, ladder.fitted()) is None


def test_costs_of_levels_contain_the_cheap_pass_and_the_rule_itself() -> None:
    rule = made(200, 0).fitted()
    own = 3 * features(torch.zeros(1, 10)).shape[1]
    assert rule.costs == (100 + own, 500 + own, 1000 + own)
    assert made(50, 0, (100,)).fitted().costs == (100,)


def test_rules_survive_json() -> None:
    rule = within(500)(made(200, 0), made(200, 0).fitted())
    assert rule is not None
    assert Rule.from_json(rule.to_json()) == rule


def test_a_level_that_is_always_right_or_never_needs_no_fit() -> None:
    ladder = made(100, 0)
    right = ladder.correct.copy()
    right[:, 0], right[:, 2] = False, True
    rule = Ladder(ladder.levels, ladder.macs, ladder.features, right).fitted()
    utility = rule.utility(ladder.features)
    assert (utility[:, 0] < 0.01).all()
    assert (utility[:, 2] > 0.99).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), networks=st.integers(1, 7))
def test_ladders_rise_in_cost_and_accuracy_and_have_one_network_a_resolution(
    seed: int, networks: int
) -> None:
    rng = np.random.default_rng(seed)
    macs = rng.integers(1, 1000, networks).tolist()
    sizes = rng.integers(1, 4, networks).tolist()
    right = rng.random((30, networks)) < rng.random(networks)
    found = ladders(macs, sizes, right)
    assert found[-networks:] == [[i] for i in range(networks)]
    share = right.mean(axis=0)
    for cheap, *above in found[:-networks]:
        steps = [cheap, *above]
        assert above
        assert all(macs[a] <= macs[b] for a, b in pairwise(steps))
        assert all(share[a] < share[b] for a, b in pairwise(steps))
        assert macs[cheap] < macs[above[0]]
        assert len({sizes[i] for i in above}) == len(above)


# Calibration


def predictions_of(network: DynamicNetwork, ladder: Ladder) -> Predictions:
    """Predictions of the first subnets with the content of a ladder."""
    subnets = network.subnets[:3]
    return Predictions(subnets, (ladder.features,) * 3, ladder.correct)


def test_calibration_keeps_the_budget_and_the_loss_of_accuracy(folder: Path) -> None:
    network = DynamicNetwork.load(folder)
    macs = tuple(s.macs for s in network.subnets[:3])
    predictions = predictions_of(network, made(1500, 4, macs))
    best = predictions.correct.mean(axis=0).max()
    budget = macs[0] + macs[1]
    rule = calibrate(predictions, max_flops=budget)
    ladder = predictions.ladder([macs.index(m) for m in rule.macs])
    accuracy, cost = ladder.score(rule)
    assert cost <= budget
    within_alone = max(
        share
        for share, m in zip(predictions.correct.mean(axis=0), macs, strict=True)
        if m <= budget
    )
    assert accuracy > within_alone
    rule = calibrate(predictions, max_loss=0.01)
    ladder = predictions.ladder([macs.index(m) for m in rule.macs])
    accuracy, cost = ladder.score(rule)
    assert accuracy >= best - 0.01
    assert cost < macs[2]


def test_one_network_alone_is_chosen_where_deciding_gains_nothing(folder: Path) -> None:
    network = DynamicNetwork.load(folder)
    ladder = made(300, 5)
    right = np.zeros_like(ladder.correct)
    right[:, 0] = True
    predictions = Predictions(network.subnets[:3], (ladder.features,) * 3, right)
    rule = calibrate(predictions, max_flops=10**9)
    assert rule.levels == (network.subnets[0].id,)
    assert rule.costs == (network.subnets[0].macs,)
    given = AdaptiveResolution(network, rule).run(digits().validation.images[:4])
    assert given.macs.tolist() == [network.subnets[0].macs] * 4


def test_impossible_calibrations_are_one_line_errors(folder: Path) -> None:
    network = DynamicNetwork.load(folder)
    predictions = predictions_of(network, made(60, 0))
    with pytest.raises(UserError, match="either"):
        calibrate(predictions)
    with pytest.raises(UserError, match="either"):
        calibrate(predictions, max_flops=1e6, max_loss=0.1)
    with pytest.raises(UserError, match="the cheapest takes"):
        calibrate(predictions, max_flops=10)


def test_predictions_record_where_each_subnet_is_correct(folder: Path) -> None:
    network, split = DynamicNetwork.load(folder), digits().validation[:50]
    predictions = predict(network, split)
    assert predictions.subnets == network.subnets
    for index, subnet in enumerate(network.subnets):
        network.use(subnet)
        logits = network(split.images)
        assert (predictions.correct[:, index] == (logits.argmax(1) == split.labels).numpy()).all()
        torch.testing.assert_close(predictions.features[index], features(logits))


def test_a_space_without_resolutions_has_the_architecture_alone() -> None:
    space = load_space("nasbench201")
    assert at_resolutions(space, space.largest) == [space.largest]
