"""The footprint of a search: units, sums over sessions, and failures that do not stop it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from hardware_profiles.electricity.grid import load_region
from nas.run import footprint, footprint_process
from nas.run.footprint import measure, summary
from nas.run.footprint_process import FOOTPRINT_FILE, Recorder
from search_spaces.errors import UserError

PATIENCE = 60.0

START = footprint._start


@pytest.fixture(autouse=True)
def energy_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the switch of the other tests."""
    monkeypatch.setattr(footprint, "_start", START)


def content(run: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run / FOOTPRINT_FILE).read_text())
    return read


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; a busy machine may take long."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def wrote(run: Path, sessions: int = 1) -> bool:
    return (run / FOOTPRINT_FILE).exists() and len(content(run)["sessions"]) == sessions


def reading(kwh: float, seconds: float = 10.0) -> SimpleNamespace:
    """A reading as codecarbon passes it."""
    return SimpleNamespace(
        energy_consumed=kwh, duration=seconds, cpu_energy=kwh, gpu_energy=0.0, ram_energy=0.0
    )


def test_energy_times_intensity_is_carbon_with_the_regions_range(tmp_path: Path) -> None:
    region = load_region("fr")
    Recorder(tmp_path, region).record(reading(kwh=2.0), "counters")
    (session,) = content(tmp_path)["sessions"]
    assert session["pue"] == 1.0
    assert session["kg"] == pytest.approx(2.0 * region.intensity / 1000)
    assert session["kg_low"] == pytest.approx(2.0 * region.low / 1000)
    assert session["kg_high"] == pytest.approx(2.0 * region.high / 1000)
    assert session["region"] == "FR"
    assert session["grams_per_kwh"] == region.intensity
    assert session["measured_by"] == "counters"


def test_later_readings_of_a_session_replace_earlier_ones(tmp_path: Path) -> None:
    found = Recorder(tmp_path, load_region("world"))
    for kwh in (0.1, 0.2, 0.3):
        found.record(reading(kwh, seconds=100 * kwh), "counters")
    assert len(content(tmp_path)["sessions"]) == 1
    assert content(tmp_path)["totals"]["kwh"] == 0.3
    assert content(tmp_path)["totals"]["seconds"] == 30


def test_a_resumed_run_adds_a_session_to_the_totals(tmp_path: Path) -> None:
    for kwh, region in ((0.1, "fr"), (0.2, "us"), (0.3, "us")):
        Recorder(tmp_path, load_region(region)).record(reading(kwh), "counters")
    read = content(tmp_path)
    assert [session["kwh"] for session in read["sessions"]] == [0.1, 0.2, 0.3]
    assert read["totals"]["kwh"] == pytest.approx(0.6)
    grams = 0.1 * load_region("fr").intensity + 0.5 * load_region("us").intensity
    assert read["totals"]["kg"] == pytest.approx(grams / 1000)
    line = summary(tmp_path)
    assert line is not None
    assert line.startswith("600 Wh and ")
    assert "(" in line
    assert " to " in line
    assert "FR, US" in line


def test_a_run_that_was_not_measured_has_no_summary(tmp_path: Path) -> None:
    assert summary(tmp_path) is None


def test_codecarbon_writes_into_the_run_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run, here = tmp_path / "run", tmp_path / "here"
    run.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    # A user's configuration must not enable files or requests.
    (here / ".codecarbon.config").write_text(
        "[codecarbon]\nsave_to_file = true\nsave_to_api = true\noutput_methods = csv,api\n"
        "emissions_endpoint = http://localhost:9\nlog_level = debug\npue = 2\n"
    )
    for session in (1, 2):
        with measure(run, "fr", every=0.2) as found:
            wait_for(lambda count=session: wrote(run, count))  # type: ignore[misc]
        assert found.remark is None
    assert [path.name for path in run.iterdir()] == [FOOTPRINT_FILE]
    assert [path.name for path in here.iterdir()] == [".codecarbon.config"]
    assert capfd.readouterr() == ("", "")
    first, second = content(run)["sessions"]
    assert first["kwh"] > 0
    assert first["kwh"] == pytest.approx(
        first["cpu_kwh"] + first["gpu_kwh"] + first["memory_kwh"], rel=1e-6
    )
    assert first["kg"] == pytest.approx(first["kwh"] * load_region("fr").intensity / 1000)
    assert "processor by" in first["measured_by"]
    assert first["codecarbon"]
    assert content(run)["totals"]["kwh"] == pytest.approx(first["kwh"] + second["kwh"])


def test_a_killed_run_keeps_its_last_readings(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom nas.run.footprint import measure\n"
        "with measure(Path(sys.argv[1]), every=0.2): time.sleep(120)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        wait_for(lambda: wrote(tmp_path))
        (child,) = psutil.Process(process.pid).children()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    psutil.wait_procs([child], timeout=PATIENCE)
    assert not child.is_running(), "it outlived its search"
    assert content(tmp_path)["totals"]["kwh"] > 0
    Recorder(tmp_path, load_region("world")).record(reading(1.0), "counters")
    assert content(tmp_path)["totals"]["kwh"] > 1.0


def test_an_exception_of_the_search_is_raised_and_its_session_measured(tmp_path: Path) -> None:
    def search() -> None:
        with measure(tmp_path, every=0.2):
            wait_for(lambda: wrote(tmp_path))
            raise RuntimeError("search")

    with pytest.raises(RuntimeError, match="search"):
        search()
    assert content(tmp_path)["totals"]["seconds"] > 0


@pytest.mark.parametrize("failing", ["start", "reading", "writing"])
def test_a_failed_measurement_is_one_remark(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no\ncounters")

    class Tracker:
        def start(self) -> None:
            if failing == "start":
                fail()

        def flush(self) -> None:
            if failing == "reading":
                fail()

        stop = flush

    monkeypatch.setattr(footprint_process, "_tracker", lambda region: (Tracker(), [reading(1.0)]))
    if failing == "writing":
        monkeypatch.setattr(footprint_process, "write_text", fail)
    done = threading.Event()
    done.set()
    remark = footprint_process.write_readings(Recorder(tmp_path, load_region("world")), done, 60)
    assert remark == "energy is not measured: RuntimeError: no counters"
    assert not list(tmp_path.iterdir())


def test_a_tracker_without_readings_is_one_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = SimpleNamespace(start=lambda: None, stop=lambda: None, flush=lambda: None)
    monkeypatch.setattr(footprint_process, "_tracker", lambda region: (nothing, []))
    recorder = Recorder(tmp_path, load_region("world"))
    remark = footprint_process.write_readings(recorder, threading.Event(), 0.01)
    assert remark == "codecarbon measured nothing here"


def test_a_process_that_fails_is_one_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint.sys, "executable", str(tmp_path / "nowhere"))
    with measure(tmp_path) as found:
        pass
    assert found.remark is not None
    assert found.remark.startswith("energy is not measured: ")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_remark(tmp_path: Path) -> None:
    run = tmp_path / "file"
    run.write_text("")
    with measure(run, every=0.1) as found:
        time.sleep(0.1)
        wait_for_the_process_to_end()
    assert found.remark is not None
    assert found.remark.startswith("energy is not measured: ")
    assert "Not a directory" in found.remark
    assert found.remark.count("\n") == 0
    assert run.read_text() == ""


def wait_for_the_process_to_end() -> None:
    """Wait for the measuring children of this process; a browser's driver may be another child."""
    me = psutil.Process()

    def measures(child: psutil.Process) -> bool:
        try:
            return any("footprint_process" in word for word in child.cmdline())
        except psutil.Error:  # it has ended meanwhile, or is a zombie
            return False

    wait_for(lambda: not any(map(measures, me.children())))


def test_a_search_quicker_than_the_tracker_does_not_wait_for_it(tmp_path: Path) -> None:
    with measure(tmp_path) as found:
        pass
    assert found.remark == "over before codecarbon was ready: this session is not measured"
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / FOOTPRINT_FILE).write_text("{")
    found = Recorder(tmp_path, load_region("world"))
    assert found.remark is not None
    assert "could not be read" in found.remark
    found.record(reading(1.0), "counters")
    assert content(tmp_path)["totals"]["kwh"] == 1.0
    assert (tmp_path / "footprint.unreadable.json").read_text() == "{"


def test_an_unknown_region_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown region 'frnace'"), measure(tmp_path, "frnace"):
        raise AssertionError("it ran")
    assert not list(tmp_path.iterdir())


def test_codecarbon_is_imported_only_to_measure() -> None:
    code = (
        "import sys, nas.run.footprint\n"
        "assert not {'codecarbon', 'pandas', 'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
