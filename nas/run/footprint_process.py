"""The process that measures a search: writes codecarbon's readings as sessions of a run.

Started by `footprint.py`, whose docstring describes what is measured and how the process ends. A
failure here is printed as a line on standard output and never becomes an error of the search. Knows
codecarbon and the file `footprint.json`. Does not know what the search does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hardware_profiles.electricity.grid import Region, load_region
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_text

FOOTPRINT_FILE = "footprint.json"

READY = "ready"
"""Line that this process prints when it starts measuring; every other line is a remark."""

SECONDS_BETWEEN_SAMPLES = 15.0
"""Interval at which codecarbon reads counters; it samples the processors' load every second."""

MIN_SECONDS = 3.0
"""Minimum duration of a search that is measured, in seconds."""

PUE = 1.0
"""Power usage effectiveness: no data centre's overhead is added."""

MODES = {
    "intel_rapl": "RAPL counters",
    "windows_emi": "RAPL counters",
    "intel_power_gadget": "Intel Power Gadget",
    "cpu_load": "an estimate from load and thermal design power",
    "constant": "an estimate from thermal design power",
}
"""Source of a processor's energy, by codecarbon's name for it."""


@dataclass(frozen=True)
class Session:
    """One start or resumption of a run; energies in kWh, carbon in kg CO2e."""

    start: str
    """Time in UTC, ISO 8601."""
    seconds: float
    """Measured duration."""
    unmeasured_seconds: float
    """Duration before the tracker was ready."""
    kwh: float
    cpu_kwh: float
    gpu_kwh: float
    memory_kwh: float
    kg: float
    kg_low: float
    kg_high: float
    region: str
    grams_per_kwh: float
    grams_source: str
    pue: float
    measured_by: str
    codecarbon: str


class Recorder:
    """Adds codecarbon's readings to a run's file as one more session.

    Args:
        folder: the run's folder; the sessions of an existing file are kept.
        region: region whose carbon intensity converts energy to carbon.
        started: start of the session in seconds since 1970; now by default.
    """

    def __init__(self, folder: Path, region: Region, started: float | None = None) -> None:
        self.path = folder / FOOTPRINT_FILE
        self.region = region
        self.started = time.time() if started is None else started
        self.remark: str | None = None
        self._earlier = self._read()

    def record(self, energy: Any, measured_by: str) -> None:
        """Write the file with the figures of this session.

        Args:
            energy: codecarbon's totals since the start of the session.
            measured_by: sources of the figures, in words.
        """
        kwh, seconds = float(energy.energy_consumed), float(energy.duration)
        grams = self.region.intensity, self.region.low, self.region.high
        kg, kg_low, kg_high = (kwh * PUE * intensity / 1e3 for intensity in grams)
        session = Session(
            start=datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 3),
            unmeasured_seconds=round(max(0.0, time.time() - self.started - seconds), 3),
            kwh=kwh,
            cpu_kwh=float(energy.cpu_energy),
            gpu_kwh=float(energy.gpu_energy),
            memory_kwh=float(energy.ram_energy),
            kg=kg,
            kg_low=kg_low,
            kg_high=kg_high,
            region=self.region.code,
            grams_per_kwh=self.region.intensity,
            grams_source=f"{self.region.source}, {self.region.year or 'year not stated'}",
            pue=PUE,
            measured_by=measured_by,
            codecarbon=version("codecarbon"),
        )
        sessions = [*self._earlier, asdict(session)]
        content = {"sessions": sessions, "totals": totals(sessions)}
        write_text(self.path, json.dumps(content, indent=2) + "\n")

    def _read(self) -> list[dict[str, Any]]:
        try:
            return list(read_json(self.path)["sessions"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError):
            # Renamed rather than overwritten: the file may still be repaired by hand.
            self.remark = f"{self.path} could not be read: earlier sessions are not in its totals"
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".unreadable.json"))
            return []


def totals(sessions: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sums over sessions of seconds, kWh, and kg CO2e with its range."""
    names = ("seconds", "kwh", "kg", "kg_low", "kg_high")
    return {name: sum(float(session[name]) for session in sessions) for name in names}


def follow(folder: str, region: str, every: str, started: str) -> None:
    """Main function of the measuring process: measures until its standard input closes.

    Args:
        folder: the run's folder.
        region: code of a region.
        every: seconds between writes.
        started: start of the session in seconds since 1970.
    """
    with contextlib.suppress(OSError):
        os.nice(5)
    done = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        done.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    # Many searches end before codecarbon is imported: they should not wait for it.
    if done.wait(MIN_SECONDS):
        return
    recorder = Recorder(Path(folder), load_region(region), float(started))
    remark = write_readings(recorder, done, float(every))
    for line in (recorder.remark, remark):
        if line is not None:
            print_line(line)


def write_readings(recorder: Recorder, done: threading.Event, every: float) -> str | None:
    """Measure and write a record every `every` seconds until `done` is set.

    Returns:
        The reason in one line if that fails, otherwise None.
    """
    try:
        tracker, readings = _tracker(recorder.region)
        tracker.start()
        print_line(READY)
        by = _measured_by(tracker)
        over = False
        while not over:
            over = done.wait(every)
            tracker.stop() if over else tracker.flush()
            if not readings:
                return "codecarbon measured nothing here"
            recorder.record(readings.pop(), by)
        return None
    except Exception as error:  # a failed measurement must not end a search
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return f"energy is not measured: {' '.join(reason.split())}"


def print_line(line: str) -> None:
    """Send a line to the search, which may have ended."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _tracker(region: Region) -> tuple[Any, list[Any]]:
    """An offline tracker, and the list that receives its readings."""
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.output_methods.base_output import BaseOutput

    # codecarbon logs before it applies its own `log_level`.
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    readings: list[Any] = []

    class Kept(BaseOutput):
        def out(self, total: Any, delta: Any) -> None:
            readings.append(total)

    # A user's configuration file could enable files or requests: every such option is set here.
    tracker = OfflineEmissionsTracker(
        country_iso_code=None,
        region=None,
        cloud_provider=None,
        cloud_region=None,
        force_carbon_intensity_g_co2e_kwh=region.intensity,
        electricitymaps_api_token=None,
        emissions_endpoint=None,
        output_methods=[],
        output_handlers=[Kept()],
        output_dir=".",
        api_call_interval=-1,
        measure_power_secs=SECONDS_BETWEEN_SAMPLES,
        tracking_mode="machine",
        allow_multiple_runs=True,
        log_level="critical",
        pue=PUE,
        wue=0,
    )
    return tracker, readings


def _measured_by(tracker: Any) -> str:
    """Sources of the figures, in words."""
    parts = []
    for hardware in getattr(tracker, "_hardware", ()):
        kind = type(hardware).__name__
        if kind == "CPU":
            mode = getattr(hardware, "_mode", "")
            parts.append(f"processor by {MODES.get(mode, mode or 'an unknown way')}")
        elif kind == "GPU":
            parts.append("GPU by its driver (NVML or AMD SMI)")
        elif kind == "RAM":
            parts.append("memory by an estimate from its size")
        else:
            parts.append(f"{kind} by its own counters")
    return ", ".join(parts) or "unknown"
