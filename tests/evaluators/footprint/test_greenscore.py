"""GreenScore: the formula, its limits, and invalid inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.footprint.greenscore import GreenScore
from search_spaces.errors import UserError

REFERENCE = GreenScore("three networks", macs_max=1e9, co2_max=2.0)


def test_the_formula() -> None:
    score = GreenScore("r", 1e9, 2.0, alpha=0.5, beta=2.0).score(0.8, 1e8, 1.0)
    assert score == pytest.approx(0.8 * 10**0.5 * 2**2)
    assert isinstance(score, float)


def test_the_most_costly_network_scores_its_accuracy() -> None:
    assert REFERENCE.score(0.76, 1e9, 2.0) == pytest.approx(0.76)


def test_halving_compute_and_carbon_is_worth_five_percent_of_accuracy() -> None:
    assert REFERENCE.score(0.7, 5e8, 1.0) == pytest.approx(0.7 * 1.05, rel=1e-3)


def test_a_tenth_of_the_cost_does_not_pay_for_a_tenth_of_the_accuracy() -> None:
    assert REFERENCE.score(0.08, 1e8, 0.2) < REFERENCE.score(0.8, 1e9, 2.0)
    steep = GreenScore("r", 1e9, 2.0, alpha=1, beta=1)
    assert steep.score(0.08, 1e8, 0.2) > steep.score(0.8, 1e9, 2.0)


def test_many_networks_are_scored_at_once() -> None:
    accuracy, macs, co2 = np.array([0.7, 0.8]), np.array([5e8, 1e9]), np.array([1.0, 2.0])
    scores = REFERENCE.score(accuracy, macs, co2)
    each = [REFERENCE.score(*network) for network in zip(accuracy, macs, co2, strict=True)]
    np.testing.assert_allclose(scores, each)


def test_nan_stays_nan() -> None:
    assert np.isnan(REFERENCE.score(np.array([np.nan, 0.8]), 1e9, 2.0)).tolist() == [True, False]


@given(
    accuracy=st.floats(0.01, 1),
    macs=st.floats(1e3, 1e12),
    co2=st.floats(1e-6, 1e6),
    factor=st.floats(1.01, 1e3),
)
def test_less_of_either_never_scores_less(
    accuracy: float, macs: float, co2: float, factor: float
) -> None:
    score = REFERENCE.score(accuracy, macs, co2)
    assert REFERENCE.score(accuracy, macs / factor, co2) > score
    assert REFERENCE.score(accuracy, macs, co2 / factor) > score


def test_without_carbon_beta_is_zero_and_the_text_says_so() -> None:
    with pytest.raises(UserError, match="no CO2 is known: expected beta = 0"):
        GreenScore("r", 1e9)
    compute = GreenScore("r", 1e9, alpha=0.07, beta=0)
    assert compute.score(0.7, 5e8) == pytest.approx(0.7 * 2**0.07)
    assert "no CO2" in str(compute)


def test_the_text_of_a_score_names_exponents_and_reference() -> None:
    assert str(REFERENCE) == (
        "accuracy × (1e+09 / FLOPs)^0.035 × (2 / CO2)^0.035, relative to three networks"
    )


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_values_not_above_zero_are_refused(value: float) -> None:
    with pytest.raises(UserError, match="macs_max"):
        GreenScore("r", value, 1.0)
    with pytest.raises(UserError, match="co2_max"):
        GreenScore("r", 1.0, value)
    with pytest.raises(UserError, match=r"macs = .*expected above zero"):
        REFERENCE.score(0.5, value, 1.0)
    with pytest.raises(UserError, match=r"co2 = .*expected above zero"):
        REFERENCE.score(np.array([0.5, 0.5]), 1.0, np.array([1.0, value]))


def test_negative_exponents_accuracies_and_missing_carbon_are_refused() -> None:
    with pytest.raises(UserError, match="alpha = -1"):
        GreenScore("r", 1.0, 1.0, alpha=-1)
    with pytest.raises(UserError, match=r"accuracy -0\.1"):
        REFERENCE.score(-0.1, 1.0, 1.0)
    with pytest.raises(UserError, match="needs the CO2"):
        REFERENCE.score(0.5, 1.0)
