"""Measures the energy and carbon of a search itself on this machine, with codecarbon.

`RUN/footprint.json` lists one session for each time the run was started or resumed, and their
totals. It is rewritten about once a minute. Nothing else is written, nothing is printed and nothing
is sent: the tracker is codecarbon's offline tracker, without outputs, with the carbon intensity of
a region of `hardware_profiles.electricity.grid`.

The whole machine is measured, other programs included, without a data centre's overhead (PUE 1).
Where the system has no counters, codecarbon estimates from load and thermal design power; the file
records which method was used. The measurement runs in a separate process, so that its imports and
failures do not affect the search: every failure is reported as one remark. The process ends with
the search, however that ends, because it waits on a pipe that is closed then; after a kill it still
writes its last figures. Detecting the hardware takes a second or two, which are not measured.

Knows that process (`footprint_process.py`) and its file. Does not know what is being measured.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware_profiles.electricity.grid import Region, load_region
from nas.run.footprint_process import FOOTPRINT_FILE, READY
from search_spaces.files import read_json

SECONDS_BETWEEN_WRITES = 60.0

SECONDS_TO_END = 5.0
"""Timeout for the last reading, which takes milliseconds."""


@dataclass
class FootprintMeasurement:
    """The measurement of one session of a run."""

    folder: Path
    remark: str | None = None
    """Set at the end of the session: the reason in one line if figures are missing, else None."""


@contextlib.contextmanager
def measure(
    folder: Path, region: str = "world", *, every: float = SECONDS_BETWEEN_WRITES
) -> Iterator[FootprintMeasurement]:
    """Measure this machine while the body runs, and keep `folder/footprint.json` up to date.

    Args:
        folder: the run's folder; it must exist.
        region: region whose carbon intensity converts energy to carbon; see `load_region`.
        every: seconds between writes.

    Raises:
        UserError: for an unknown region, before the body runs. Failures of the measurement do not
            raise; they are in the `remark` of the yielded object.
    """
    place, footprint = load_region(region), FootprintMeasurement(folder)
    process = None
    try:
        process = _start(folder, place, every)
    except OSError as error:
        footprint.remark = f"energy is not measured: {error}"
    try:
        yield footprint
    finally:
        if process is not None:
            footprint.remark = _end(process)


def _start(folder: Path, region: Region, every: float) -> subprocess.Popen[bytes]:
    """Start the measuring process. Its input is a pipe that closes when this process ends."""
    # By path: the package may not be installed and the working folder may be any.
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); " + (
        "from nas.run.footprint_process import follow; follow(*sys.argv[1:])"
    )
    arguments = (str(folder.absolute()), region.code, str(every), str(time.time()))
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a keyboard interrupt must reach the search only
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    return process


def _end(process: subprocess.Popen[bytes]) -> str | None:
    """End the process after its last write, or kill it if it is not measuring yet.

    Returns:
        The remark; None if nothing is missing.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout as output:
        printed = output.read() or b""
        process.stdin.close()
        if not printed and process.poll() is None:
            return _killed(
                process, "over before codecarbon was ready: this session is not measured"
            )
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return _killed(process, "codecarbon did not end in time: its last minute is missing")
        printed += output.read() or b""
    remarks = [line for line in printed.decode(errors="replace").splitlines() if line != READY]
    if process.returncode and not remarks:
        return f"energy is not measured: the measuring process ended with {process.returncode}"
    return remarks[-1] if remarks else None


def _killed(process: subprocess.Popen[bytes], remark: str) -> str:
    """Kill the process and return the remark."""
    process.kill()
    process.wait()
    return remark


def read(folder: Path) -> dict[str, Any] | None:
    """Read `sessions` and `totals` of a run's file; None if it is missing or incomplete."""
    try:
        content: dict[str, Any] = read_json(folder / FOOTPRINT_FILE)
        sessions, _ = content["sessions"], content["totals"]
        return content if all(isinstance(session, dict) for session in sessions) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def places(sessions: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The regions of the sessions and their methods of measurement, each listed once."""
    regions, by = (
        dict.fromkeys(str(session[name]) for session in sessions)
        for name in ("region", "measured_by")
    )
    return ", ".join(regions), "; ".join(by)


def summary(folder: Path) -> str | None:
    """The energy and carbon of a run so far, in one line with the range; None if not measured."""
    content = read(folder)
    if content is None:
        return None
    try:
        total = content["totals"]
        regions, by = places(content["sessions"])
        grams, low, high = (1e3 * total[name] for name in ("kg", "kg_low", "kg_high"))
        return (
            f"{1e3 * total['kwh']:.3g} Wh and {grams:.3g} g CO2e ({low:.3g} to {high:.3g}, grid "
            f"{regions}), by codecarbon: {by}"
        )
    except (KeyError, TypeError):
        return None
