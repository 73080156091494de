"""Proxies as features: exact where computed, predicted elsewhere, each computed once."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import spearmanr

from evaluators.accuracy.zero_cost import ZeroCost
from evaluators.costs.tables import CostTables
from evaluators.prediction.features import Features
from evaluators.prediction.predictor import Predictor
from evaluators.prediction.proxy_features import MAX_DEVIATIONS, ProxyFeatures
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.space import SearchSpace


class Counted(ZeroCost):
    """Counts how often each architecture was scored."""

    asked: ClassVar[Counter[Architecture]] = Counter()

    def __call__(self, arch: Architecture) -> dict[str, float]:
        self.asked[arch] += 1
        return super().__call__(arch)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("mobilenet-tiny", image_size=8, channels=1)


@pytest.fixture(scope="module")
def evaluator(space: SearchSpace) -> Counted:
    return Counted.on_noise(space, ["synflow", "naswot"], images=8)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def extra(space: SearchSpace, evaluator: Counted) -> ProxyFeatures:
    return ProxyFeatures(evaluator, CostTables(space), space.sample(80, seed=0))


def test_models_order_unseen_rows_as_the_proxies_do(
    space: SearchSpace, extra: ProxyFeatures
) -> None:
    rows = space.sample(30, seed=1)
    modelled = extra(rows)
    assert modelled.shape == (30, 2)
    assert modelled.dtype == np.float64
    own = extra.exact(rows)
    for column in range(2):
        assert spearmanr(modelled[:, column], own[:, column]).statistic > 0.6


def test_rows_with_computed_proxies_have_exact_values(
    space: SearchSpace, extra: ProxyFeatures
) -> None:
    rows = space.sample(40, seed=2)
    before = extra(rows)
    extra.exact(rows[:20])
    after = extra(rows)
    assert np.array_equal(after[20:], before[20:])
    assert not np.allclose(after[:20], before[:20])
    order = np.argsort(extra.exact(rows[:20])[:, 0], kind="stable")
    assert (np.diff(after[:20][order, 0]) >= 0).all()
    assert np.abs(after[:20]).max() <= MAX_DEVIATIONS


def test_no_proxy_is_computed_twice(
    space: SearchSpace, extra: ProxyFeatures, evaluator: Counted
) -> None:
    rows = space.sample(10, seed=3)
    first = extra.exact(np.concatenate([rows, rows]))
    assert np.array_equal(first[:10], first[10:])
    assert np.array_equal(extra.exact(rows), first[:10])
    assert max(evaluator.asked.values()) == 1


def test_a_predictor_uses_proxies_as_features(space: SearchSpace, extra: ProxyFeatures) -> None:
    tables = CostTables(space)
    rows = np.unique(space.sample(60, seed=4), axis=0)
    _, totals = Features(tables, extra)(rows)
    _, plain = Features(tables)(rows)
    assert totals.shape[1] == plain.shape[1] + 2
    predictor = Predictor(tables, extra=extra)
    values = extra.exact(rows)[:, 1]
    predictor.fit(rows[:30], values[:30])
    assert spearmanr(predictor.predict(rows[30:])[0], values[30:]).statistic > 0.6
