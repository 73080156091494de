"""The division of a search's time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.timed.plan import (
    LEAST_CLOSING,
    LEAST_FINAL_STEPS,
    LEAST_STEPS,
    Rung,
    plan_time,
    race_share,
)
from search_spaces.errors import UserError

seconds_ = st.floats(min_value=60, max_value=1e5)
steps_ = st.floats(min_value=1e-4, max_value=0.1)


@given(seconds=seconds_, step=steps_)
def test_race_winner_and_closing_add_up_to_the_time(seconds: float, step: float) -> None:
    plan = plan_time(seconds, step)
    assert plan.race + plan.final + plan.closing == pytest.approx(seconds)
    assert plan.final > seconds / 2
    assert plan.race <= 1.01 * race_share(seconds) * seconds or plan.rungs[0].networks == 1


@given(seconds=seconds_, step=steps_)
def test_each_rung_trains_fewer_networks_for_longer(seconds: float, step: float) -> None:
    rungs = plan_time(seconds, step).rungs
    assert rungs[0].seconds >= LEAST_STEPS * step
    trained = 0.0
    for one, following in pairwise(rungs):
        assert following.networks < one.networks
        trained += one.seconds
        assert trained + following.seconds == pytest.approx(3 * trained)


def test_five_minutes() -> None:
    plan = plan_time(300, 0.01)
    assert plan.rungs == (Rung(3, 7.0),)
    assert "race of 3 networks, 7 s each" in plan.reasons[0]


def test_a_longer_search_has_more_candidates_and_trains_them_longer() -> None:
    first, second = plan_time(3000, 0.01).rungs
    assert (first.networks, second.networks) == (11, 3)
    assert first.seconds == pytest.approx(7 * 10**0.75)
    assert second.seconds == pytest.approx(2 * first.seconds)


def test_slow_steps_leave_no_room_for_a_race() -> None:
    plan = plan_time(60, 0.2)
    assert [rung.networks for rung in plan.rungs] == [1]
    assert plan.reasons[0].startswith("no race")


def test_a_time_too_short_for_a_single_training_names_the_least() -> None:
    least = LEAST_CLOSING + LEAST_FINAL_STEPS * 0.1
    with pytest.raises(UserError, match=f"at least {least + 4:.0f}s"):
        plan_time(least - 1, 0.1, spent=4.0)
    assert plan_time(least, 0.1).final > 0
