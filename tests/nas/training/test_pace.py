"""Paces: by steps and by time."""

from __future__ import annotations

import pytest

from nas.training.loop import Recipe
from nas.training.pace import StepPace, TimePace


class FakeTime:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("nas.training.pace.time.monotonic", lambda: self.now)


def test_steps() -> None:
    pace = StepPace(8)
    assert [pace.progress(step) for step in (0, 2, 8)] == [0, 0.25, 1]
    assert pace.steps(3) == 8


def test_time_starts_with_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeTime(monkeypatch)
    pace = TimePace(10)
    clock.now += 50
    assert pace.progress(0) == 0
    clock.now += 4
    assert pace.progress(20) == pytest.approx(0.4)
    assert pace.steps(20) == 50
    clock.now += 6
    assert pace.progress(30) == 1
    assert pace.steps(30) == 30


def test_a_restart_goes_on_with_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeTime(monkeypatch)
    before = TimePace(10, first=7)
    before.progress(7)
    clock.now += 6
    after = TimePace(10)
    after.load_state_dict(before.state_dict())
    clock.now += 1000
    assert after.progress(27) == pytest.approx(0.6)
    clock.now += 2
    assert after.progress(30) == pytest.approx(0.8)
    assert after.steps(31) == 7 + 30


def test_what_is_left_may_change_and_survives_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeTime(monkeypatch)
    end = clock.now + 10
    before = TimePace(lambda: end - clock.now)
    before.progress(0)
    clock.now += 4
    assert before.progress(8) == pytest.approx(0.4)
    end += 6  # as if the machine used less power than expected
    assert before.progress(8) == pytest.approx(4 / 16)
    # What is left does not count the time between the two sessions.
    after, end = TimePace(lambda: end - clock.now), end + 1000
    after.load_state_dict(before.state_dict())
    clock.now += 1000
    assert after.progress(8) == pytest.approx(4 / 16)
    clock.now += 6
    assert after.progress(20) == pytest.approx(10 / 16)
    clock.now += 6
    assert after.progress(32) == 1


def test_no_time_has_ended() -> None:
    assert TimePace(0).progress(0) == 1


@pytest.mark.parametrize(
    ("recipe", "step", "progress", "expected"),
    [
        (Recipe(1, learning_rate=1.0, schedule="constant", warmup_steps=9), 0, 0.5, 0.1),
        (Recipe(1, learning_rate=1.0, schedule="constant", warmup_steps=9), 9, 0.0, 1.0),
        (Recipe(1, learning_rate=1.0, schedule="constant", warmup_steps=9), 90, 0.99, 1.0),
        (Recipe(1, learning_rate=1.0, schedule="linear", warmup_steps=9, decay=0.5), 50, 0.5, 1.0),
        (Recipe(1, learning_rate=1.0, schedule="linear", warmup_steps=9, decay=0.5), 75, 0.75, 0.5),
        (Recipe(1, learning_rate=1.0, schedule="linear", warmup_steps=9, decay=0.5), 99, 0.9, 0.2),
        # The same by time as by steps, where both have come as far.
        (Recipe(1, learning_rate=1.0, warmup=0.0), 50, 0.5, 0.5),
        (Recipe(1, learning_rate=1.0, warmup=0.0), 50, None, 0.5),
    ],
)
def test_learning_rates(recipe: Recipe, step: int, progress: float | None, expected: float) -> None:
    assert recipe.rate(step, 100, progress) == pytest.approx(expected)


def test_a_checkpoint_of_before_has_the_same_identity() -> None:
    assert "schedule" not in Recipe(1).identity
    assert Recipe(1, schedule="linear").identity["schedule"] == "linear"
