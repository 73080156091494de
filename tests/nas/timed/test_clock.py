"""The clock of a search: it goes on after a restart with what was left."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nas.run.footprint_process import FOOTPRINT_FILE
from nas.timed.clock import FILE, Clock
from search_spaces.errors import UserError


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


def write_footprint(folder: Path, seconds: float, watt_hours: float) -> None:
    totals = {"seconds": seconds, "kwh": watt_hours / 1e3}
    content = {"sessions": [], "totals": totals}
    (folder / FOOTPRINT_FILE).write_text(json.dumps(content))


def test_an_energy_is_a_time_at_the_measured_power(tmp_path: Path) -> None:
    write_footprint(tmp_path, seconds=60.0, watt_hours=0.5)  # 30 W
    clock = Clock(tmp_path, None, time.monotonic() - 60, energy=3.0)
    assert clock.watts == pytest.approx(30)
    assert clock.seconds == pytest.approx(360)
    assert clock.left == pytest.approx(300, abs=1)
    # The least of both limits holds.
    assert Clock(tmp_path, 100.0, energy=3.0).seconds == 100.0
    assert Clock(tmp_path, 1000.0, energy=3.0).seconds == pytest.approx(360)


def test_the_power_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_footprint(tmp_path, seconds=60.0, watt_hours=0.5)
    clock = Clock(tmp_path, None, energy=3.0)
    assert clock.seconds == pytest.approx(360)
    write_footprint(tmp_path, seconds=60.0, watt_hours=1.0)
    assert clock.seconds == pytest.approx(360)
    monkeypatch.setattr("nas.timed.clock.SECONDS_BETWEEN_READINGS", 0.0)
    assert clock.seconds == pytest.approx(180)


def test_an_energy_without_a_measurement_is_refused(tmp_path: Path) -> None:
    Clock(tmp_path, 10.0).wait_for_power(0.0)
    with pytest.raises(UserError, match="--energy needs the power of this machine"):
        Clock(tmp_path, None, energy=3.0).wait_for_power(0.1)
    write_footprint(tmp_path, seconds=60.0, watt_hours=0.5)
    Clock(tmp_path, None, energy=3.0).wait_for_power(0.0)


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
