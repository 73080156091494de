"""What a search itself takes: energy and carbon of this machine, measured by codecarbon as it runs.

`RUN/footprint.json` lists one session for each time the run was started or resumed, and their
totals. It is rewritten about once a minute. Nothing else is written, nothing is printed and nothing
is sent: the tracker is codecarbon's offline one, without outputs, with the intensity of a region of
`hardware_profiles.grid`.

Measured is the whole machine, other programs with it, without a data centre's overhead (PUE 1).
Where the system has no counters, codecarbon estimates from load and thermal design power; the file
says which. A process of its own does it, so that neither its imports nor its faults are the
search's: whatever fails is one remark. It ends when the search does, however that ends, since it
waits at a pipe that closes then; after a kill it still writes its last figures. It takes a second
or two to look at the hardware, and misses that much.

Knows that process (`footprint_process.py`) and its file. Does not know what runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware_profiles.electricity.grid import Region, load_region
from nas.run.footprint_process import FILE, READY

SECONDS_BETWEEN_WRITES = 60.0

SECONDS_TO_END = 5.0
"""For the last reading, at most; it takes milliseconds."""


@dataclass
class Footprint:
    """A run that is being measured."""

    folder: Path
    remark: str | None = None
    """Why something is missing, in one line, once the run is over; None where nothing is."""


@contextlib.contextmanager
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
    place, footprint = load_region(region), Footprint(folder)
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
    """The measuring process. Its input is a pipe that closes when this process ends."""
    # By path: this package need not be installed, nor the working folder be its own.
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); " + (
        "from nas.run.footprint_process import follow; follow(*sys.argv[1:])"
    )
    arguments = (str(folder.absolute()), region.code, str(every), str(time.time()))
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt from the keyboard is the search's alone
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    return process


def _end(process: subprocess.Popen[bytes]) -> str | None:
    """Let it write its last figures; one that does not measure yet is not waited for."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout as output:
        said = output.read() or b""
        process.stdin.close()
        if not said and process.poll() is None:
            return _killed(
                process, "over before codecarbon was ready: this session is not measured"
            )
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return _killed(process, "codecarbon did not end in time: its last minute is missing")
        said += output.read() or b""
    remarks = [line for line in said.decode(errors="replace").splitlines() if line != READY]
    if process.returncode and not remarks:
        return f"energy is not measured: the measuring process ended with {process.returncode}"
    return remarks[-1] if remarks else None


def _killed(process: subprocess.Popen[bytes], remark: str) -> str:
    process.kill()
    process.wait()
    return remark


def read(folder: Path) -> dict[str, Any] | None:
    """`sessions` and `totals` of a run's file; None where there is none, or none that is whole."""
    try:
        content: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        sessions, _ = content["sessions"], content["totals"]
        return content if all(isinstance(session, dict) for session in sessions) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def places(sessions: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Whose grids the sessions drew on, and what measured them; each once."""
    regions, by = (
        dict.fromkeys(str(session[name]) for session in sessions)
        for name in ("region", "measured_by")
    )
    return ", ".join(regions), "; ".join(by)


def summary(folder: Path) -> str | None:
    """What a run has taken so far, in one line with its range; None where nothing is known."""
    content = read(folder)
    if content is None:
        return None
    try:
        all_of = content["totals"]
        regions, by = places(content["sessions"])
        grams, low, high = (1e3 * all_of[name] for name in ("kg", "kg_low", "kg_high"))
        return (
            f"{1e3 * all_of['kwh']:.3g} Wh and {grams:.3g} g CO2e ({low:.3g} to {high:.3g}, grid "
            f"{regions}), by codecarbon: {by}"
        )
    except (KeyError, TypeError):
        return None
