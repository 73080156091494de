"""Kills searches at random moments and resumes them: is anything lost, doubled or different?

    python benchmarks/kills.py --kills 200

A chain is one run that is killed once in each of its phases (supernet, search, race, winner,
export), by Ctrl-C, SIGTERM or SIGKILL, and continued with `--resume` each time, until it ends. Each
process logs its phases and its evaluations to a file of its own, with which the study is compared:

- lost: an evaluation that ended more than half a second before a SIGKILL, or at any time before a
  signal that is handled, and is not in the study.
- doubled: an architecture or a trial number that is in the study twice.
- result: the summary at the end equals, in all digits, that of a run that nobody disturbed. Neither
  a search by `--time` nor one on workers is deterministic: of those the number of trials is
  compared (workers), and that a winner was exported (both).

Results are added to `benchmarks/results/kills.json`; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from hardware_profiles.machine import describe
from nas.run.folder import Run
from search_spaces.files import write_text

FILE = Path(__file__).parent / "results" / "kills.json"

COMMON = ["--space", "mobilenet-tiny", "--data", "digits", "--max-flops", "300k"]
TRAINED = ["--supernet-epochs", "2", "--train-epochs", "3", "--finalists", "3"]
TRIALS = 24
MODES = {
    "one process": [*COMMON, *TRAINED, "--trials", str(TRIALS)],
    "two workers": [*COMMON, *TRAINED, "--trials", str(TRIALS), "--workers", "2"],
    "--time": [*COMMON, "--time", "20s"],
}
TURNS = ("one process", "one process", "--time", "one process", "two workers")
"""Modes of successive chains."""

PHASES = ("supernet", "search", "race", "winner", "export")
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL}

DELAY = 0.5
"""Seconds within which a study writes an evaluation."""

LONGEST = 180.0
"""Seconds after which a process that does not end counts as hung."""

PROGRAM = """
import functools, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a background shell
log = open(sys.argv.pop(1), "a", buffering=1)

def logged(kind, function, name):
    @functools.wraps(function)
    def call(self, *arguments, **named):
        print(time.time(), kind, name(*arguments), sep="\\t", file=log)
        return function(self, *arguments, **named)
    return call

from nas.progress import Live
Live.training = logged("phase", Live.training, lambda name, steps: name)
Live.stage = logged("phase", Live.stage, lambda name: name)
Live.evaluations = logged("phase", Live.evaluations, lambda trials, done: "search")
from nas.run.study import Study
plain = Study.add
def add(self, evaluation):
    plain(self, evaluation)
    print(time.time(), "evaluation", evaluation.arch.id, sep="\\t", file=log)
    time.sleep(0.05)  # so that a kill finds the search
Study.add = add
from nas.cli import main
main()
"""


@dataclass
class Kill:
    """One kill, and what was found after it."""

    chain: int
    mode: str
    phase: str
    signal: str
    code: int
    code_right: bool
    command_printed: bool
    """Whether the last line has the command that resumes; True for SIGKILL, which prints none."""
    cursor_shown: bool
    ended: int
    """Evaluations that had ended by then, in all processes of the chain."""
    lost: int
    doubled: int
    processes_left: int


@dataclass
class End:
    """How the run of a chain ended."""

    chain: int
    mode: str
    code: int
    trials: int
    doubled: int
    leftovers: int
    """Temporary folders and files of exports and checkpoints that are still there."""
    result: str
    """`equal`, `different`, or `complete` where the search is not deterministic."""
    message: str = ""


@dataclass
class Process:
    """A running `nas search` on a pseudo-terminal, and its log."""

    popen: subprocess.Popen[bytes]
    log: Path
    shown: bytearray = field(default_factory=bytearray)
    reader: threading.Thread | None = None

    def lines(self, kind: str) -> list[tuple[float, str]]:
        """Time and text of the complete lines of a kind."""
        if not self.log.exists():
            return []
        whole, _, _ = self.log.read_text(encoding="utf-8").rpartition("\n")
        rows = (line.split("\t") for line in whole.splitlines())
        return [(float(at), text) for at, found, text in rows if found == kind]

    @property
    def phase(self) -> str | None:
        """The phase that began last."""
        begun = self.lines("phase")
        return phase_of(begun[-1][1]) if begun else None

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        code = self.popen.wait(LONGEST)
        if self.reader is not None:
            self.reader.join(5)
        return code

    @property
    def said(self) -> str:
        """What was printed, without escape sequences, on one line."""
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown.decode(errors="replace"))
        return " ".join(text.split())


def phase_of(name: str) -> str:
    """The phase of a stage's name."""
    if name.startswith("exporting"):
        return "export"
    return name if name in PHASES else "race"


def start(arguments: list[str], log: Path) -> Process:
    """Start `nas search` in a session of its own."""
    parent, child = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200"}
    popen = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(log), "search", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=child,
        env=environment,
        start_new_session=True,
    )
    os.close(child)
    process = Process(popen, log)

    def read() -> None:
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while part := os.read(parent, 65536):
                process.shown += part
        os.close(parent)

    process.reader = threading.Thread(target=read, daemon=True)
    process.reader.start()
    return process


def kill_at(process: Process, phase: str, number: int, delay: float) -> tuple[str, float] | None:
    """Send a signal `delay` seconds after a phase began.

    Returns:
        The phase in which the signal was sent and the time; None if the process ended before.
    """
    until = time.monotonic() + LONGEST
    while not any(phase_of(name) == phase for _, name in process.lines("phase")):
        if process.popen.poll() is not None or time.monotonic() > until:
            return None
        time.sleep(0.01)
    time.sleep(delay)
    if process.popen.poll() is not None:
        return None
    found = process.phase or phase
    sent = time.time()
    if number == signal.SIGINT:
        os.killpg(process.popen.pid, number)  # as a terminal does
    else:
        os.kill(process.popen.pid, number)
    return found, sent


def doubled(run: Run) -> int:
    """Architectures that a study has more than once."""
    ids = [e.arch.id for e in run.evaluations()]
    return len(ids) - len(set(ids))


def left_in_session(process: Process) -> int:
    """Processes of the killed one's session that live on after ten seconds."""
    for _ in range(40):
        found = subprocess.run(
            ["ps", "-o", "pid=,stat=", "-s", str(process.popen.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.splitlines()
        alive = [line for line in found if "Z" not in line.split()[1]]
        if not alive:
            return 0
        time.sleep(0.25)
    return len(alive)


def leftovers(folder: Path) -> int:
    """Temporary files and folders in a run."""
    return sum(
        path.name.startswith(".export-") or path.name.endswith(".tmp") for path in folder.rglob("*")
    )


def result_of(folder: Path) -> dict[str, Any]:
    """What a run ended with."""
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content


def undisturbed(mode: str, place: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The result of a run that is not killed, and the seconds of each phase."""
    folder = place / "undisturbed"
    process = start([*MODES[mode], "--out", str(folder)], place / "undisturbed.log")
    if process.wait() != 0:
        raise SystemExit(f"the undisturbed run failed: {process.said[-500:]}")
    begun = process.lines("phase")
    ends = [at for at, _ in begun[1:]] + [time.time()]
    seconds: dict[str, float] = {}
    for (at, name), end in zip(begun, ends, strict=True):
        seconds[phase_of(name)] = seconds.get(phase_of(name), 0.0) + min(end - at, 10.0)
    return result_of(folder), seconds


def chain(
    number: int,
    mode: str,
    place: Path,
    expected: dict[str, Any],
    seconds: dict[str, float],
    seed: int,
) -> Iterator[Kill | End]:
    """Kill one run in each of its phases; yields a row for each kill, then the end."""
    rng = random.Random(f"{seed}-{number}")
    folder = place / f"run-{number}"
    log = place / f"run-{number}.log"
    arguments = [*MODES[mode], "--out", str(folder)]
    evaluated: list[tuple[float, str]] = []
    for phase in [p for p in PHASES if p in seconds]:
        name = rng.choice(list(SIGNALS))
        log.unlink(missing_ok=True)
        process = start(arguments, log)
        sent = kill_at(process, phase, SIGNALS[name], rng.uniform(0, seconds[phase]))
        code = process.wait()
        arguments = ["--out", str(folder), "--resume"]
        arguments += ["--workers", "2"] if mode == "two workers" else []
        evaluated += process.lines("evaluation")
        if sent is None or code == 0:  # it ended before the signal
            if code != 0:
                yield ended(number, mode, code, folder, expected, process.said[-300:])
                return
            continue
        hard = name == "SIGKILL"
        in_study = {e.arch.id for e in Run(folder).evaluations()} if evaluated else set()
        late = sent[1] - DELAY if hard else float("inf")
        said = process.said
        yield Kill(
            number,
            mode,
            sent[0],
            name,
            code,
            code == (-signal.SIGKILL if hard else 130),
            hard or ("--resume" in said[-400:] and "continue with: nas search" in said[-400:]),
            hard or process.shown.rfind(b"\x1b[?25h") >= process.shown.rfind(b"\x1b[?25l"),
            len(evaluated),
            sum(arch not in in_study for at, arch in evaluated if at < late),
            doubled(Run(folder)) if evaluated else 0,
            left_in_session(process),
        )
        # What a kill lost within the half second may be evaluated again.
        evaluated = [(at, arch) for at, arch in evaluated if arch in in_study]
    process = start(arguments, log)
    code = process.wait()
    yield ended(number, mode, code, folder, expected, "" if code == 0 else process.said[-300:])


def ended(
    number: int, mode: str, code: int, folder: Path, expected: dict[str, Any], message: str
) -> End:
    """The end of a run, compared with the undisturbed one."""
    if code != 0:
        return End(number, mode, code, 0, 0, leftovers(folder), "failed", message)
    found = result_of(folder)
    complete = (folder / "winner" / "model.safetensors").exists()
    if mode != "--time":
        complete = complete and found["evaluations"] == expected["evaluations"]
    result = "complete" if complete else "incomplete"
    if mode == "one process":
        result = "equal" if complete and found == expected else "different"
        different = [key for key in expected if found.get(key) != expected[key]]
        message = ", ".join(different)
    run = Run(folder)
    trials = len(run.evaluations())
    return End(number, mode, code, trials, doubled(run), leftovers(folder), result, message)


def read(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows so far, without those of a chain that did not end."""
    if not file.exists():
        return {"kills": [], "ends": []}
    content = json.loads(file.read_text())["rows"]
    kills, ends = ([row for row in content if row["kind"] == kind] for kind in ("kill", "end"))
    whole = {row["chain"] for row in ends}
    return {"kills": [row for row in kills if row["chain"] in whole], "ends": ends}


def write(file: Path, rows: dict[str, list[dict[str, Any]]], kills: int, seed: int) -> None:
    """Write the rows, as other benchmarks write theirs."""
    content = {
        "benchmark": "kills",
        "command": f"python benchmarks/kills.py --kills {kills}",
        "date": date.today().isoformat(),
        "machine": describe(),
        "settings": {"seed": seed, "trials": TRIALS},
        "rows": [*rows["kills"], *rows["ends"]],
    }
    write_text(file, json.dumps(content, indent=1) + "\n")


def measure(kills: int, file: Path, *, seed: int = 0, modes: tuple[str, ...] = TURNS) -> None:
    """Add chains to a file of results until it has that number of kills."""
    rows = read(file)
    known: dict[str, tuple[dict[str, Any], dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        while len(rows["kills"]) < kills:
            number = len(rows["ends"])
            mode = modes[number % len(modes)]
            place = Path(temporary) / mode.strip("-").replace(" ", "-")
            place.mkdir(exist_ok=True)
            if mode not in known:
                known[mode] = undisturbed(mode, place)
            for row in chain(number, mode, place, *known[mode], seed):
                kind = "kill" if isinstance(row, Kill) else "end"
                rows[f"{kind}s"].append({"kind": kind, **asdict(row)})
                print(row, flush=True)
                write(file, rows, kills, seed)
    show(rows)


def show(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table: a line for each mode, phase and signal, and how the runs ended."""
    print(
        f"{'mode':12} {'phase':9} {'signal':8} kills  lost doubled  exit code, command, cursor "
        "right  processes left"
    )
    for mode in MODES:
        for phase in PHASES:
            for name in SIGNALS:
                of = [
                    row
                    for row in rows["kills"]
                    if (row["mode"], row["phase"], row["signal"]) == (mode, phase, name)
                ]
                if not of:
                    continue
                lost, twice, left = (
                    sum(row[key] for row in of) for key in ("lost", "doubled", "processes_left")
                )
                right = [
                    sum(row[key] for row in of)
                    for key in ("code_right", "command_printed", "cursor_shown")
                ]
                print(
                    f"{mode:12} {phase:9} {name:8} {len(of):5} {lost:5} {twice:7}  "
                    f"{right[0]:9}, {right[1]:7}, {right[2]:6} {left:21}"
                )
    for mode in MODES:
        of = [row for row in rows["ends"] if row["mode"] == mode]
        if of:
            results = {r: sum(row["result"] == r for row in of) for r in {e["result"] for e in of}}
            left = sum(row["leftovers"] for row in of)
            print(f"{mode}: {len(of)} runs ended: {results}, leftovers {left}")


def main() -> None:
    """Read the options, kill, print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--kills", type=int, default=200, help="all kills, earlier ones included")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=FILE)
    given = options.parse_args()
    measure(given.kills, given.out, seed=given.seed)


if __name__ == "__main__":
    main()
