"""Coverage of bootstrap intervals, and agreement with the normal approximation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from evaluators.accuracy.interval import mean_interval, share_interval, statistic_interval


@pytest.mark.parametrize(("share", "n"), [(0.9, 1000), (0.5, 100), (0.98, 5000)])
def test_a_shares_interval_is_about_two_standard_errors_each_way(share: float, n: int) -> None:
    low, high = share_interval(share, n)
    error = (share * (1 - share) / n) ** 0.5
    assert low == pytest.approx(share - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(share + 1.96 * error, abs=0.25 * error)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = mean_interval(rng.exponential(1.0, 60))
        inside += low <= 1.0 <= high
    assert 0.85 <= inside / 200 <= 0.99


def test_all_right_and_all_wrong_have_no_width() -> None:
    assert share_interval(1.0, 50) == (1.0, 1.0)
    assert share_interval(0.0, 50) == (0.0, 0.0)


def test_rows_of_a_statistic_stay_together() -> None:
    x = np.arange(20.0)
    whole = statistic_interval(lambda a, b: kendalltau(a, b).statistic, x, 3 * x)
    assert whole == pytest.approx((1.0, 1.0))
    low, high = statistic_interval(
        lambda a, b: kendalltau(a, b).statistic, x, np.random.default_rng(1).normal(size=20)
    )
    assert low < 0 < high
