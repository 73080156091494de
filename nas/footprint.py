"""What a search itself takes: energy and carbon of this machine, measured by codecarbon as it runs.

`RUN/footprint.json` lists one session for each time the run was started or resumed, and their
totals. It is rewritten about once a minute, so a kill loses that at most. Nothing else is written,
nothing is printed and nothing is sent: the tracker is codecarbon's offline one, without outputs,
with the intensity of a region of `hardware_profiles.grid`.

Measured is the whole machine, other programs with it, without a data centre's overhead (PUE 1).
Where the system has no counters, codecarbon estimates from load and thermal design power; the file
says which. Measuring never stops a search: whatever fails is one remark. A tracker takes a second
or two to look at the hardware, so it starts in a thread beside the search and misses that much.

Knows codecarbon. Does not know what runs.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hardware_profiles.grid import Region, load_region
from search_spaces.errors import UserError
from search_spaces.files import write_text

FILE = "footprint.json"

SECONDS_BETWEEN_WRITES = 60.0

SECONDS_BETWEEN_SAMPLES = 15.0
"""How often codecarbon reads counters; it looks at the load of processors every second."""

SECONDS_TO_END = 5.0
"""For the last reading, at most; it takes milliseconds."""

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


class Footprint:
    """The sessions of a run, and what went wrong in measuring the one that goes on."""

    def __init__(self, folder: Path, region: Region) -> None:
        self.path = folder / FILE
        self.region = region
        self.remark: str | None = None
        """Why something is missing, in one line; None where nothing is."""
        self.start = datetime.now(UTC).isoformat(timespec="seconds")
        self._clock = time.monotonic()
        self._earlier = self._read()
        self._current: Session | None = None

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Every session so far, the one that goes on last."""
        current = [asdict(self._current)] if self._current is not None else []
        return [*self._earlier, *current]

    @property
    def totals(self) -> dict[str, float]:
        """Seconds, kWh and kg of all sessions."""
        return totals(self.sessions)

    def record(self, energy: Any, measured_by: str) -> None:
        """Take codecarbon's figures since the start of this session, and write the file."""
        kwh, seconds = float(energy.energy_consumed), float(energy.duration)
        grams = self.region.intensity, self.region.low, self.region.high
        kg, kg_low, kg_high = (kwh * PUE * intensity / 1e3 for intensity in grams)
        self._current = Session(
            start=self.start,
            seconds=round(seconds, 3),
            unmeasured_seconds=round(max(0.0, time.monotonic() - self._clock - seconds), 3),
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
        content = {"sessions": self.sessions, "totals": self.totals}
        write_text(self.path, json.dumps(content, indent=2) + "\n")

    def _read(self) -> list[dict[str, Any]]:
        try:
            return list(json.loads(self.path.read_text(encoding="utf-8"))["sessions"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError):
            # Kept aside: a search must go on, and what cannot be read may still be mended.
            self.remark = f"{self.path} cannot be read; earlier sessions are not in its totals"
            try:
                self.path.replace(self.path.with_suffix(".unreadable.json"))
            except OSError:
                self.remark += " and not kept"
            return []


def totals(sessions: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sums over sessions of seconds, kWh and kg with its range."""
    names = ("seconds", "kwh", "kg", "kg_low", "kg_high")
    return {name: sum(float(session[name]) for session in sessions) for name in names}


def summary(folder: Path) -> str | None:
    """What a run has taken so far, in one line with its range; None where nothing is known."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        sessions, all_of = content["sessions"], content["totals"]
        regions = ", ".join(dict.fromkeys(session["region"] for session in sessions))
        by = "; ".join(dict.fromkeys(session["measured_by"] for session in sessions))
        grams, low, high = (1e3 * all_of[name] for name in ("kg", "kg_low", "kg_high"))
        return (
            f"{1e3 * all_of['kwh']:.3g} Wh and {grams:.3g} g CO2e ({low:.3g} to {high:.3g}, grid "
            f"{regions}), by codecarbon: {by}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def measured(
    folder: Path, region: str = "world", *, every: float = SECONDS_BETWEEN_WRITES
) -> Iterator[Footprint]:
    """Measure this machine while the body runs, and keep `folder/footprint.json` up to date.

    Args:
        folder: the run's, which exists.
        region: whose intensity turns energy into carbon, as `load_region` reads it.
        every: seconds between writes.

    Raises:
        UserError: for an unknown region, before anything runs; for nothing else.
    """
    footprint = Footprint(folder, load_region(region))
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=_follow, args=(footprint, ready, done, every), name="footprint", daemon=True
    )
    thread.start()
    try:
        yield footprint
    finally:
        # Whoever is quicker than the tracker's start is not made to wait for it.
        done.set()
        if ready.is_set():
            thread.join(SECONDS_TO_END)
        else:
            footprint.remark = "over before codecarbon was ready: this session is not measured"


def _follow(
    footprint: Footprint, ready: threading.Event, done: threading.Event, every: float
) -> None:
    """Start a tracker, write its figures every so often, and once more at the end."""
    try:
        tracker, readings = _tracker(footprint.region)
        tracker.start()
        if done.is_set():
            tracker.stop()
            return
        ready.set()
        by = _measured_by(tracker)
        while True:
            over = done.wait(every)
            tracker.stop() if over else tracker.flush()
            if not readings:
                footprint.remark = "codecarbon measured nothing here"
                return
            footprint.record(readings.pop(), by)
            if over:
                return
    except Exception as error:  # measuring is never worth a search
        ready.set()
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        footprint.remark = f"energy is not measured: {' '.join(reason.split())}"


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
