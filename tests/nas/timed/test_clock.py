"""The clock of a search: it goes on after a restart with what was left."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nas.timed.clock import FILE, Clock


def test_a_clock_counts_from_the_given_start(tmp_path: Path) -> None:
    clock = Clock(tmp_path, 100.0, time.monotonic() - 30)
    assert clock.spent == pytest.approx(30, abs=1)
    assert clock.left == pytest.approx(70, abs=1)


def test_what_was_spent_before_a_restart_counts(tmp_path: Path) -> None:
    Clock(tmp_path, 100.0, time.monotonic() - 60).save()
    again = Clock(tmp_path, 100.0)
    assert again.left == pytest.approx(40, abs=1)
    assert Clock(tmp_path, 50.0).left == 0.0


def test_a_longer_time_on_resuming_adds_to_what_is_left(tmp_path: Path) -> None:
    Clock(tmp_path, 100.0, time.monotonic() - 100).save()
    assert Clock(tmp_path, 160.0).left == pytest.approx(60, abs=1)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"spent": null}', '{"seconds": 3}'])
def test_a_broken_file_counts_as_nothing_spent(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert Clock(tmp_path, 10.0).left == pytest.approx(10, abs=1)


def test_ticks_write_at_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(tmp_path, 100.0)
    clock.tick(1, 2, 0.3)
    assert not (tmp_path / FILE).exists()
    monkeypatch.setattr("nas.timed.clock.SECONDS_BETWEEN_WRITES", 0.0)
    clock.tick()
    assert json.loads((tmp_path / FILE).read_text())["seconds"] == 100.0
