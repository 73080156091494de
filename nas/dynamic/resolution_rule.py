"""Selects a network for each image from the logits of a cheap network.

A rule reads the logits of the cheap pass and predicts, with a logistic regression, the probability
that each network classifies the image correctly; it selects the network with the highest
probability minus price. One price per multiply-accumulate applies to all images and is set so that
the mean compute meets a budget. As in Zhu et al. ("Dynamic resolution network", 2021) a small
network selects a resolution for each image; as in Wang et al. ("Resolution adaptive networks",
2020) that network's own prediction is used where it is confident. Knows arrays of logits. Does not
know networks or images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]

TOP_PROBABILITIES = 3
"""Number of the largest probabilities among the features."""

FOLDS = 2

BISECTION_STEPS = 60

PRICES = 200
"""Number of prices that are tried to reach an accuracy."""


@dataclass(frozen=True)
class Rule:
    """Selects the level of an image from the logits of the cheap pass.

    Args:
        levels: ids of subnets; the first is the cheap pass, whose prediction is final for images
            of that level.
        macs: multiply-accumulates of each level's own pass.
        weights: `(levels, features)`; empty if there is only one level.
        bias: `(levels,)`.
        price: price of a multiply-accumulate, in probability.
    """

    levels: tuple[str, ...]
    macs: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    price: float

    @property
    def own_macs(self) -> int:
        """Multiply-accumulates of the rule itself per image; 0 if there is only one level."""
        return sum(len(row) for row in self.weights)

    @property
    def costs(self) -> tuple[int, ...]:
        """MACs of an image of each level: the cheap pass, the rule and the level's own pass."""
        always = self.macs[0] + self.own_macs
        return (always, *(always + macs for macs in self.macs[1:]))

    def choose(self, logits: Tensor) -> Tensor:
        """Levels `(n,)` int64 of images from their logits `(n, classes)` of the cheap pass."""
        if not self.weights:
            return torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return self.utility(features(logits)).argmax(dim=1)

    def utility(self, inputs: Tensor) -> Tensor:
        """Probability minus price of each level, `(n, levels)`.

        Args:
            inputs: `features` of the cheap pass, `(n, features)`.
        """
        weights = torch.tensor(self.weights, dtype=torch.float32, device=inputs.device)
        bias = torch.tensor(self.bias, dtype=torch.float32, device=inputs.device)
        extra = torch.tensor([0, *self.macs[1:]], dtype=torch.float32, device=inputs.device)
        return torch.addmm(bias, inputs, weights.T).sigmoid() - self.price * extra

    def to_json(self) -> dict[str, Any]:
        """The JSON form, which `from_json` reads."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Rule:
        """Read what `to_json` returned."""
        weights = tuple(tuple(row) for row in content["weights"])
        levels, macs, bias = (tuple(content[name]) for name in ("levels", "macs", "bias"))
        return cls(levels, macs, weights, bias, float(content["price"]))


def features(logits: Tensor) -> Tensor:
    """Features `(n, features)` that a rule reads, from logits `(n, classes)`.

    The largest probabilities in descending order, the root of the difference of the first two, and
    the entropy as a fraction of its maximum. They measure confidence independently of the class.
    """
    logs = logits.float().log_softmax(dim=1)
    probabilities = logs.exp()
    classes = logits.shape[1]
    top = probabilities.topk(min(TOP_PROBABILITIES, classes), dim=1).values
    entropy = -(probabilities * logs).sum(dim=1, keepdim=True) / np.log(max(classes, 2))
    margin = (top[:, :1] - top[:, 1:2]).sqrt() if classes > 1 else top
    return torch.cat([top, margin, entropy], dim=1)


@dataclass(frozen=True)
class Ladder:
    """Predictions of several networks on the same images, to fit a rule on.

    Args:
        levels: ids of subnets, the cheap pass first.
        macs: multiply-accumulates of each per image.
        features: `features` of the cheap pass's logits, `(n, features)`.
        correct: whether each level classifies an image correctly, `(n, levels)` bool.
    """

    levels: tuple[str, ...]
    macs: tuple[int, ...]
    features: Tensor
    correct: npt.NDArray[np.bool_]

    def subset(self, rows: npt.NDArray[np.intp]) -> Ladder:
        """The same networks on some of the images."""
        features = self.features[torch.from_numpy(rows)]
        return replace(self, features=features, correct=self.correct[rows])

    def fitted(self) -> Rule:
        """A rule fitted on these images, with a price of 0."""
        if len(self.levels) == 1:
            return Rule(self.levels, self.macs, (), (), 0.0)
        x = self.features.double().numpy()
        fits = [_logistic(x, self.correct[:, level]) for level in range(len(self.levels))]
        weights = tuple(tuple(weights.tolist()) for weights, _ in fits)
        return Rule(self.levels, self.macs, weights, tuple(bias for _, bias in fits), 0.0)

    def chosen(self, rule: Rule) -> npt.NDArray[np.int64]:
        """The level that a rule selects for each image, `(n,)`."""
        if not rule.weights:
            return np.zeros(len(self.features), dtype=np.int64)
        return rule.utility(self.features).argmax(dim=1).numpy()

    def score(self, rule: Rule) -> tuple[float, float]:
        """Accuracy of a rule on these images, and its mean multiply-accumulates per image."""
        levels = self.chosen(rule)
        costs = np.array(rule.costs, dtype=np.float64)
        correct = np.take_along_axis(self.correct, levels[:, None], axis=1)
        return float(correct.mean()), float(costs[levels].mean())


def _logistic(x: Floats, y: npt.NDArray[np.bool_]) -> tuple[Floats, float]:
    """Weights and bias of a logistic regression, for features that are not standardised."""
    from sklearn.linear_model import LogisticRegression

    if y.all() or not y.any():
        # One class only: a constant probability, with half an image added to each class.
        share = (y.sum() + 0.5) / (len(y) + 1)
        return np.zeros(x.shape[1]), float(np.log(share / (1 - share)))
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    model = LogisticRegression(max_iter=1000).fit((x - mean) / spread, y)
    weights = model.coef_[0] / spread
    return weights, float(model.intercept_[0] - weights @ mean)


Pricing = Callable[[Ladder, Rule], Rule | None]
"""Sets the price of a fitted rule; returns None if no price meets the requirement."""


def within(budget: float) -> Pricing:
    """Select the lowest price at which the mean MACs per image are at most `budget`."""

    def pricing(ladder: Ladder, rule: Rule) -> Rule | None:
        if rule.costs[0] > budget:
            return None
        if ladder.score(rule)[1] <= budget:
            return rule
        low, high = 0.0, _prohibitive(rule)
        for _ in range(BISECTION_STEPS):
            middle = (low + high) / 2
            if ladder.score(replace(rule, price=middle))[1] <= budget:
                high = middle
            else:
                low = middle
        return replace(rule, price=high)

    return pricing


def reaching(accuracy: float) -> Pricing:
    """Select the price of the fewest mean MACs at which `accuracy` is reached."""

    def pricing(ladder: Ladder, rule: Rule) -> Rule | None:
        # Squared spacing: decisions change most at low prices.
        prices = _prohibitive(rule) * np.linspace(0, 1, PRICES) ** 2
        rules = [replace(rule, price=float(price)) for price in prices]
        scores = [(ladder.score(tried), tried.price) for tried in rules]
        reached = [(macs, price) for (score, macs), price in scores if score >= accuracy]
        return replace(rule, price=min(reached)[1]) if reached else None

    return pricing


def _prohibitive(rule: Rule) -> float:
    """A price so high that no image gets a second pass."""
    return 1.0 / min(rule.macs[1:], default=1)


def cross_validated(ladder: Ladder, pricing: Pricing) -> tuple[float, float] | None:
    """Cross-validated accuracy and mean multiply-accumulates per image.

    Each fold is scored with a rule that was fitted on the others. None if a rule gets no price.
    """
    order = np.random.default_rng(0).permutation(len(ladder.features))
    scores = []
    for held in np.array_split(order, FOLDS):
        rest = ladder.subset(np.setdiff1d(order, held))
        rule = pricing(rest, rest.fitted())
        if rule is None:
            return None
        scores.append(ladder.subset(held).score(rule))
    accuracy, macs = np.mean(scores, axis=0)
    return float(accuracy), float(macs)


def ladders(
    macs: Sequence[int], resolutions: Sequence[int], correct: npt.NDArray[np.bool_]
) -> list[list[int]]:
    """Candidate ladders as indices of networks: a cheap pass, then its higher levels.

    Each network is the cheap pass of one ladder. Its higher levels are the most accurate network
    of each resolution that costs more, if it is more accurate than all levels below it. The single
    networks follow, without a rule, as baselines.

    Args:
        macs: multiply-accumulates of each network.
        resolutions: resolution of each network.
        correct: whether each network classifies an image correctly, `(n, networks)`.
    """
    accuracy, every = correct.mean(axis=0), range(len(macs))
    found = []
    for cheap in every:
        best: dict[int, int] = {}
        for index in (i for i in every if macs[i] > macs[cheap]):
            other = best.setdefault(resolutions[index], index)
            if accuracy[index] > accuracy[other]:
                best[resolutions[index]] = index
        ladder = [cheap]
        for index in sorted(best.values(), key=lambda i: macs[i]):
            if accuracy[index] > accuracy[ladder].max():
                ladder.append(index)
        if len(ladder) > 1:
            found.append(ladder)
    return [*found, *([index] for index in every)]
