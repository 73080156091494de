"""The division of a search's time."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.timed.law import EPOCHS_POWER
from nas.timed.plan import (
    LEAST_CLOSING,
    LEAST_FINAL_STEPS,
    LEAST_STEPS,
    MOST_LOST,
    TAUGHT_LEAD,
    TEACHER_SHARE,
    expected_end,
    order_kept,
    plan_time,
    race_gain,
)
from search_spaces.errors import UserError

seconds_ = st.floats(min_value=60, max_value=1e5)
steps_ = st.floats(min_value=1e-4, max_value=0.1)
spreads = st.floats(min_value=0.0, max_value=0.4)


@given(seconds=seconds_, step=steps_, spread=spreads)
def test_race_winner_and_closing_add_up_to_the_time(
    seconds: float, step: float, spread: float
) -> None:
    plan = plan_time(seconds, step, spread=spread)
    assert plan.race + plan.final + plan.closing == pytest.approx(seconds)
    assert plan.final > seconds / 2


@given(seconds=seconds_, step=steps_, spread=spreads)
def test_each_rung_trains_fewer_networks_for_longer(
    seconds: float, step: float, spread: float
) -> None:
    rungs = plan_time(seconds, step, spread=spread).rungs
    assert rungs[0].seconds >= LEAST_STEPS * step * (1 - 1e-9)
    trained = 0.0
    for one, following in pairwise(rungs):
        assert following.networks < one.networks
        trained += one.seconds
        assert trained + following.seconds == pytest.approx(3 * trained)


def test_the_more_unlike_the_candidates_the_more_of_them_race() -> None:
    races = [plan_time(900, 0.01, spread=spread) for spread in (0.0, 0.05, 0.1, 0.3)]
    numbers = [plan.rungs[0].networks for plan in races]
    assert numbers[0] == 1
    assert numbers == sorted(numbers)
    assert numbers[-1] >= 6
    shares = [plan.race / plan.seconds for plan in races]
    assert shares[1] < 0.06
    assert shares == sorted(shares)


def test_a_race_loses_what_its_losers_train() -> None:
    """Of two equal networks, one trains in vain."""
    assert race_gain(2, 0.05, 0.0) == pytest.approx(EPOCHS_POWER * math.log(0.95))
    # 6 networks for one segment, 2 of them for two more: 5 + 2 segments are lost.
    assert race_gain(6, 0.03, 0.0) == pytest.approx(EPOCHS_POWER * math.log(1 - 0.21))
    assert race_gain(27, 0.08, 0.3) == -math.inf
    assert MOST_LOST < 0.08 * 26


def test_a_race_of_two_finds_the_better_one_as_often_as_it_is_seen() -> None:
    """Of two normal deviates the larger is 1 / sqrt(pi) above the mean; half of the training
    shows `1 - 0.17 log 2` of it."""
    gain = race_gain(2, 0.29, 1.0) - EPOCHS_POWER * math.log(1 - 0.29)
    assert gain == pytest.approx((1 + 0.17 * math.log(0.29)) / math.sqrt(math.pi), abs=0.04)


def test_a_bound_on_the_trials_bounds_the_race() -> None:
    assert plan_time(900, 0.01, spread=0.2, most=2).rungs[0].networks == 2
    (rung,) = plan_time(900, 0.01, spread=0.2, most=1).rungs
    assert rung.networks == 1


def test_slow_steps_leave_no_room_for_a_race() -> None:
    plan = plan_time(60, 0.2, spread=0.05)
    assert [rung.networks for rung in plan.rungs] == [1]
    assert plan.reasons[0].startswith("no race")


def test_a_time_too_short_for_a_single_training_names_the_least() -> None:
    least = LEAST_CLOSING + LEAST_FINAL_STEPS * 0.1
    with pytest.raises(UserError, match=f"at least {least + 4:.0f}s"):
        plan_time(least - 1, 0.1, spread=0.1, spent=4.0)
    assert plan_time(least, 0.1, spread=0.1).final > 0


def test_a_short_race_does_not_overrule_the_law() -> None:
    # After a share of the training, one is 6 % better than the law says, and the other as it says.
    lucky = {"reached": -0.56, "now": 0.5, "then": 0.77}
    better = {"reached": -0.5, "now": 0.5, "then": 0.85}
    assert expected_end(**lucky, share=0.01) > expected_end(**better, share=0.01)
    # At the end, only what was reached counts.
    assert expected_end(-1.0, 0.8, 0.8, 1.0) == pytest.approx(-1.0)
    assert expected_end(-1.1, 0.8, 0.8, 1.0) < expected_end(-1.0, 0.9, 0.9, 1.0)


def test_what_a_share_shows_is_the_more_the_longer_it_is() -> None:
    shares = [1e-6, 0.01, 0.1, 1.0]
    kept = [order_kept(share) for share in shares]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0.0, 1.0)


@given(seconds=seconds_, step=steps_, spread=spreads)
def test_a_teacher_trains_before_a_winner_that_would_end_behind_it(
    seconds: float, step: float, spread: float
) -> None:
    few = plan_time(seconds, step, spread=spread, lead=TAUGHT_LEAD - 0.01)
    many = plan_time(seconds, step, spread=spread, lead=TAUGHT_LEAD)
    assert few == plan_time(seconds, step, spread=spread)
    assert (few.teacher, many.teacher) == (0.0, TEACHER_SHARE * seconds)
    assert many.race + many.teacher + many.final + many.closing == pytest.approx(seconds)
    assert many.rungs == few.rungs
    assert many.reasons[-1].startswith("teacher of the winner: it should err 8% less")
