"""The process that measures a search: codecarbon's readings, written as sessions of a run.

Started by `footprint.py`, whose docstring says what is measured and how it ends. What goes wrong
here is a line on standard output and never an error of the search. Knows codecarbon and the file.
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
from search_spaces.files import write_text

FILE = "footprint.json"

READY = "ready"
"""What this process says once it measures; anything else it says is a remark."""

SECONDS_BETWEEN_SAMPLES = 15.0
"""How often codecarbon reads counters; it looks at the load of processors every second."""

PATIENCE = 3.0
"""Seconds that a search must last to be measured."""

PUE = 1.0

MODES = {
    "intel_rapl": "RAPL counters",
    "windows_emi": "RAPL counters",
    "intel_power_gadget": "Intel Power Gadget",
    "cpu_load": "an estimate from load and thermal design power",
    "constant": "an estimate from thermal design power",
}
"""How codecarbon knows a processor's energy, by its word for it."""


@dataclass(frozen=True)
class Session:
    """One time that a run went on; energies in kWh, carbon in kg CO2e."""

    start: str
    seconds: float
    """Measured; those before the tracker was ready are not."""
    unmeasured_seconds: float
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
    """The sessions of a run, to which codecarbon's readings of one more are added."""

    def __init__(self, folder: Path, region: Region, started: float | None = None) -> None:
        """Read what there is; `started` is when the session began, as `time.time` says it."""
        self.path = folder / FILE
        self.region = region
        self.started = time.time() if started is None else started
        self.remark: str | None = None
        self._earlier = self._read()

    def record(self, energy: Any, measured_by: str) -> None:
        """Take codecarbon's figures since the start of this session, and write the file."""
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
            return list(json.loads(self.path.read_text(encoding="utf-8"))["sessions"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError):
            # Kept aside: a search must go on, and what cannot be read may still be mended.
            self.remark = f"{self.path} could not be read: earlier sessions are not in its totals"
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".unreadable.json"))
            return []


def totals(sessions: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sums over sessions of seconds, kWh and kg with its range."""
    names = ("seconds", "kwh", "kg", "kg_low", "kg_high")
    return {name: sum(float(session[name]) for session in sessions) for name in names}


def follow(folder: str, region: str, every: str, started: str) -> None:
    """What the measuring process does, until its standard input closes."""
    with contextlib.suppress(OSError):
        os.nice(5)
    done = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        done.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    # Many searches are over before codecarbon is loaded: they are not to pay for that.
    if done.wait(PATIENCE):
        return
    recorder = Recorder(Path(folder), load_region(region), float(started))
    remark = write_readings(recorder, done, float(every))
    for line in (recorder.remark, remark):
        if line is not None:
            say(line)


def write_readings(recorder: Recorder, done: threading.Event, every: float) -> str | None:
    """Measure and record every so many seconds until `done`; the remark if that fails."""
    try:
        tracker, readings = _tracker(recorder.region)
        tracker.start()
        say(READY)
        by = _measured_by(tracker)
        over = False
        while not over:
            over = done.wait(every)
            tracker.stop() if over else tracker.flush()
            if not readings:
                return "codecarbon measured nothing here"
            recorder.record(readings.pop(), by)
        return None
    except Exception as error:  # measuring is never worth a search
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return f"energy is not measured: {' '.join(reason.split())}"


def say(line: str) -> None:
    """To the search; which may be gone."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _tracker(region: Region) -> tuple[Any, list[Any]]:
    """An offline tracker, and the list that its readings are put in."""
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.output_methods.base_output import BaseOutput

    # Its first lines come before it reads the level that it is given.
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    readings: list[Any] = []

    class Kept(BaseOutput):
        def out(self, total: Any, delta: Any) -> None:
            readings.append(total)

    # All that a configuration file of the user's could turn into files or requests is said here.
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
    """What stands behind the figures, in words."""
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
