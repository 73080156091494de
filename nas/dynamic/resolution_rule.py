"""Which network an image is worth, decided from what a cheap one said of it.

A rule reads the cheap pass's logits and predicts, linearly, how likely each network is right about
the image; it takes the network with the best odds for its price. One price of a multiply-accumulate
serves all images, and is set so that the mean compute meets a budget. As in Zhu et al. ("Dynamic
resolution network", 2021) a resolution is chosen for each image by what a small network sees; as in
Wang et al. ("Resolution adaptive networks", 2020) that network's own answer stands where it is
sure. Knows arrays of logits only, neither networks nor images.
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

PROBABILITIES = 3
"""So many of the largest probabilities are looked at."""

FOLDS = 2
STEPS = 60
PRICES = 200
"""Prices that are tried where an accuracy is asked for."""


@dataclass(frozen=True)
class Rule:
    """The level of an image from the logits of the cheap pass.

    `levels` are ids of subnets; the first is the cheap pass itself, and its answer stands where
    that level is chosen. `macs` is what each costs. `weights` is `(levels, features)`, `bias`
    `(levels,)`; `price` is what a multiply-accumulate costs in odds.
    """

    levels: tuple[str, ...]
    macs: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    price: float

    @property
    def own_macs(self) -> int:
        """Multiply-accumulates of the rule itself for one image; none where it has no choice."""
        return sum(len(row) for row in self.weights)

    @property
    def costs(self) -> tuple[int, ...]:
        """All that an image of each level costs: the cheap pass, the rule, its own pass."""
        always = self.macs[0] + self.own_macs
        return (always, *(always + macs for macs in self.macs[1:]))

    def choose(self, logits: Tensor) -> Tensor:
        """Levels `(n,)` int64 of images with these logits `(n, classes)` of the cheap pass."""
        if not self.weights:
            return torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return self.worth(features(logits)).argmax(dim=1)

    def worth(self, seen: Tensor) -> Tensor:
        """Odds of each level less its price, `(n, levels)`, from `features` of the cheap pass."""
        weights = torch.tensor(self.weights, dtype=torch.float32, device=seen.device)
        bias = torch.tensor(self.bias, dtype=torch.float32, device=seen.device)
        extra = torch.tensor([0, *self.macs[1:]], dtype=torch.float32, device=seen.device)
        return torch.addmm(bias, seen, weights.T).sigmoid() - self.price * extra

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Rule:
        """What `to_json` gave."""
        weights = tuple(tuple(row) for row in content["weights"])
        levels, macs, bias = (tuple(content[name]) for name in ("levels", "macs", "bias"))
        return cls(levels, macs, weights, bias, float(content["price"]))


def features(logits: Tensor) -> Tensor:
    """What of the logits `(n, classes)` the rule sees, `(n, features)`.

    The largest probabilities in order, their lead over the next, and the entropy as a share of
    the most that there can be: how sure the network is, whatever of.
    """
    logs = logits.float().log_softmax(dim=1)
    probabilities = logs.exp()
    classes = logits.shape[1]
    top = probabilities.topk(min(PROBABILITIES, classes), dim=1).values
    entropy = -(probabilities * logs).sum(dim=1, keepdim=True) / np.log(max(classes, 2))
    lead = (top[:, :1] - top[:, 1:2]).sqrt() if classes > 1 else top
    return torch.cat([top, lead, entropy], dim=1)


@dataclass(frozen=True)
class Ladder:
    """What several networks said of the same images, to fit a rule on.

    Args:
        levels: ids, the cheap pass first.
        macs: of each, for one image.
        seen: `features` of the cheap pass's logits, `(n, features)`.
        right: whether each level labels an image rightly, `(n, levels)` bool.
    """

    levels: tuple[str, ...]
    macs: tuple[int, ...]
    seen: Tensor
    right: npt.NDArray[np.bool_]

    def part(self, rows: npt.NDArray[np.intp]) -> Ladder:
        """The same of some images."""
        return replace(self, seen=self.seen[torch.from_numpy(rows)], right=self.right[rows])

    def fitted(self) -> Rule:
        """A rule fitted on these images, at a price of 0."""
        if len(self.levels) == 1:
            return Rule(self.levels, self.macs, (), (), 0.0)
        x = self.seen.double().numpy()
        fits = [_logistic(x, self.right[:, level]) for level in range(len(self.levels))]
        weights = tuple(tuple(weights.tolist()) for weights, _ in fits)
        return Rule(self.levels, self.macs, weights, tuple(bias for _, bias in fits), 0.0)

    def chosen(self, rule: Rule) -> npt.NDArray[np.int64]:
        """The level of each image, `(n,)`."""
        if not rule.weights:
            return np.zeros(len(self.seen), dtype=np.int64)
        return rule.worth(self.seen).argmax(dim=1).numpy()

    def score(self, rule: Rule) -> tuple[float, float]:
        """Share of the images labelled rightly, and mean multiply-accumulates."""
        levels = self.chosen(rule)
        costs = np.array(rule.costs, dtype=np.float64)
        right = np.take_along_axis(self.right, levels[:, None], axis=1)
        return float(right.mean()), float(costs[levels].mean())


def _logistic(x: Floats, y: npt.NDArray[np.bool_]) -> tuple[Floats, float]:
    """Weights and bias of a logistic regression on features as they are."""
    from sklearn.linear_model import LogisticRegression

    if y.all() or not y.any():
        # Nothing to learn: the odds of half an image more and less.
        share = (y.sum() + 0.5) / (len(y) + 1)
        return np.zeros(x.shape[1]), float(np.log(share / (1 - share)))
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    model = LogisticRegression(max_iter=1000).fit((x - mean) / spread, y)
    weights = model.coef_[0] / spread
    return weights, float(model.intercept_[0] - weights @ mean)


Pricing = Callable[[Ladder, Rule], Rule | None]
"""Gives a fitted rule its price; None where no price does what is asked for."""


def within(budget: float) -> Pricing:
    """The lowest price at which images cost at most `budget` on average."""

    def pricing(ladder: Ladder, rule: Rule) -> Rule | None:
        if rule.costs[0] > budget:
            return None
        if ladder.score(rule)[1] <= budget:
            return rule
        low, high = 0.0, _prohibitive(rule)
        for _ in range(STEPS):
            middle = (low + high) / 2
            if ladder.score(replace(rule, price=middle))[1] <= budget:
                high = middle
            else:
                low = middle
        return replace(rule, price=high)

    return pricing


def reaching(accuracy: float) -> Pricing:
    """The price at which images cost least and the accuracy is reached."""

    def pricing(ladder: Ladder, rule: Rule) -> Rule | None:
        # Squares: most happens where another pass is nearly free.
        prices = _prohibitive(rule) * np.linspace(0, 1, PRICES) ** 2
        rules = [replace(rule, price=float(price)) for price in prices]
        scores = [(ladder.score(tried), tried.price) for tried in rules]
        reached = [(macs, price) for (share, macs), price in scores if share >= accuracy]
        return replace(rule, price=min(reached)[1]) if reached else None

    return pricing


def _prohibitive(rule: Rule) -> float:
    """A price at which no odds are worth another pass."""
    return 1.0 / min(rule.macs[1:], default=1)


def crossed(ladder: Ladder, pricing: Pricing) -> tuple[float, float] | None:
    """Accuracy and mean multiply-accumulates on images that the rule was not fitted on.

    Each fold is judged by a rule of the others. None where one of them gets no price.
    """
    order = np.random.default_rng(0).permutation(len(ladder.seen))
    scores = []
    for held in np.array_split(order, FOLDS):
        rest = ladder.part(np.setdiff1d(order, held))
        rule = pricing(rest, rest.fitted())
        if rule is None:
            return None
        scores.append(ladder.part(held).score(rule))
    accuracy, macs = np.mean(scores, axis=0)
    return float(accuracy), float(macs)


def ladders(
    macs: Sequence[int], resolutions: Sequence[int], right: npt.NDArray[np.bool_]
) -> list[list[int]]:
    """What is worth trying, as indices of networks: a cheap pass, then what is above it.

    Each network is a cheap pass once. Above it is, of each resolution, the network that is most
    often right, where it costs more and is more often right than everything below it. Then come
    the networks alone, which decide nothing: the peers that a rule must beat.

    Args:
        right: whether each network labels an image rightly, `(n, networks)`.
    """
    share, every = right.mean(axis=0), range(len(macs))
    found = []
    for cheap in every:
        best: dict[int, int] = {}
        for index in (i for i in every if macs[i] > macs[cheap]):
            other = best.setdefault(resolutions[index], index)
            if share[index] > share[other]:
                best[resolutions[index]] = index
        ladder = [cheap]
        for index in sorted(best.values(), key=lambda i: macs[i]):
            if share[index] > share[ladder].max():
                ladder.append(index)
        if len(ladder) > 1:
            found.append(ladder)
    return [*found, *([index] for index in every)]
