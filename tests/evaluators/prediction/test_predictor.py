"""The predictor: features derived from the space, and models with calibrated uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from cached_tables import tables_of
from evaluators.prediction.features import Features
from evaluators.prediction.predictor import MIN_EVALUATIONS, Predictor
from evaluators.prediction.surrogates import GaussianProcess, Surrogate, Trees

SPACES = ("mobilenet-cifar", "vit-cifar", "nasbench201", "macro")


def worth(name: str, rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """A made-up accuracy: active options add up, and two of them interact."""
    space = tables_of(name).space
    rng = np.random.default_rng(seed)
    active = space.active(rows)
    value = np.zeros(len(rows))
    for column, count in enumerate(space.option_counts):
        value += np.sort(rng.normal(size=count))[rows[:, column]] * active[:, column]
    value += 0.5 * (rows[:, 0] == 1) * (rows[:, -1] == 1)
    return 1 / (1 + np.exp(-value / len(space.option_counts) ** 0.5))


@pytest.mark.parametrize("name", SPACES)
def test_features_tell_all_architectures_apart(name: str) -> None:
    tables = tables_of(name)
    rows = np.unique(tables.space.sample(500, 0), axis=0)
    positions, totals = Features(tables)(rows)
    assert len(np.unique(np.concatenate([positions, totals], axis=1), axis=0)) == len(rows)
    assert np.isfinite(positions).all()
    assert np.isfinite(totals).all()


def test_an_inactive_choice_leaves_no_trace_in_the_features() -> None:
    tables = tables_of("mobilenet-cifar")
    space = tables.space
    rows = space.sample(300, 0)
    other = rows.copy()
    off = ~space.active(rows)
    assert off.any()
    other[off] = (space.option_counts - 1)[np.nonzero(off)[1]]
    for a, b in zip(Features(tables)(rows), Features(tables)(space.canonical(other)), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("name", SPACES)
def test_unseen_rows_are_ranked_with_a_known_quality(name: str) -> None:
    tables = tables_of(name)
    rows = np.unique(tables.space.sample(600, 1), axis=0)
    rng = np.random.default_rng(0)
    rng.shuffle(rows)
    values = worth(name, rows)
    predictor = Predictor(tables)
    predictor.fit(rows[:150], values[:150])
    mean, deviation = predictor.predict(rows[150:])
    tau = kendalltau(mean, values[150:]).statistic
    quality = predictor.quality
    assert quality is not None
    assert tau > 0.6
    assert quality.tau == pytest.approx(tau, abs=0.15)
    error = np.abs(mean - values[150:])
    assert quality.error == pytest.approx(error.mean(), rel=0.6)
    # Errors above three standard deviations are rare: the uncertainty is calibrated.
    assert (error < 3 * deviation + 1e-9).mean() > 0.85


def test_the_mean_of_many_is_the_mean() -> None:
    tables = tables_of("mobilenet-cifar")
    rows = tables.space.sample(9000, 2)
    predictor = Predictor(tables)
    predictor.fit(rows[:100], worth("mobilenet-cifar", rows[:100]))
    assert predictor.mean(rows) == pytest.approx(predictor.predict(rows)[0], abs=2e-3)
    assert predictor.mean(rows[:0]).shape == (0,)


@pytest.mark.parametrize("model", [GaussianProcess(), GaussianProcess(smooth=False), Trees()])
def test_uncertainty_is_smaller_near_fitted_rows(model: Surrogate) -> None:
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(80, 6)).astype(np.float32)
    totals = rng.normal(size=(80, 3)).astype(np.float32)
    values = positions[:, 0] - totals[:, 1]
    values = (values - values.mean()) / values.std()
    model.fit(positions, totals, values.astype(np.float64), tune=True)
    _, seen = model.predict(positions, totals)
    far, away = model.predict(4 * positions, 4 * totals)
    assert away.mean() > seen.mean()
    assert spearmanr(far, values).statistic > 0.7


def test_left_out_predictions_are_those_without_the_row() -> None:
    """The closed form against fits without each row."""
    rng = np.random.default_rng(1)
    positions = rng.normal(size=(30, 5)).astype(np.float32)
    totals = rng.normal(size=(30, 2)).astype(np.float32)
    values = positions[:, 0] + 0.3 * rng.normal(size=30)
    values = (values - values.mean()) / values.std()
    whole = GaussianProcess()
    whole.fit(positions, totals, values, tune=True)
    _, left_out = whole.left_out()
    for index in (0, 7, 29):
        kept = np.arange(30) != index
        without = GaussianProcess()
        without._log = whole._log.copy()
        without.fit(positions[kept], totals[kept], values[kept], tune=False)
        mean, _ = without.predict(positions[[index]], totals[[index]])
        assert mean[0] == pytest.approx(left_out[index], abs=2e-3)


def test_a_long_tail_of_failures_does_not_hide_the_good_ones() -> None:
    tables = tables_of("nasbench201")
    rows = np.unique(tables.space.sample(400, 3), axis=0)
    values = worth("nasbench201", rows)
    spoilt = np.where(np.arange(len(rows)) % 8 == 0, -50.0, values)
    predictor = Predictor(tables)
    predictor.fit(rows[:200], spoilt[:200])
    good = np.arange(len(rows))[200:][np.arange(len(rows))[200:] % 8 != 0]
    assert spearmanr(predictor.mean(rows[good]), values[good]).statistic > 0.5


def test_the_same_evaluations_give_the_same_predictions() -> None:
    tables = tables_of("macro")
    rows = tables.space.sample(60, 4)
    values = worth("macro", rows)
    first, second = Predictor(tables, seed=3), Predictor(tables, seed=3)
    first.fit(rows, values)
    second.fit(rows, values)
    assert (first.predict(rows)[0] == second.predict(rows)[0]).all()


def test_constant_values_and_too_few_evaluations() -> None:
    tables = tables_of("macro")
    rows = tables.space.sample(20, 5)
    predictor = Predictor(tables)
    predictor.fit(rows, np.full(20, 0.5))
    mean, deviation = predictor.predict(rows)
    assert mean == pytest.approx(np.full(20, 0.5), abs=1e-6)
    assert np.isfinite(deviation).all()
    with pytest.raises(ValueError, match="too few"):
        predictor.fit(rows[: MIN_EVALUATIONS - 1], np.zeros(MIN_EVALUATIONS - 1))
