"""How long an installation takes, from an empty environment with empty caches.

    python benchmarks/setup_time.py                       # the rows that the results lack
    python benchmarks/setup_time.py --rows search         # one row, measured again
    python benchmarks/setup_time.py --rows                # no row: only the table in the docs

Each row copies the checkout into a scratch folder, where it has no `.venv`, and runs the command
with pip's and uv's caches in that folder. Then a short search runs twice: the first one compiles
the modules that it imports, unless the installer did. Rows are saved one by one, and the table in
docs/installing.md is written from them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import RESULTS, emit

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "installing.md"
START, END = "<!-- install timings -->", "<!-- /install timings -->"

PIP = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt"
COMMANDS = {
    "search": ("run-time packages, make", "make .venv/.installed"),
    "pip": ("run-time packages, pip", f"{PIP} -e ."),
    "test": ("developers' packages too, make", "make .venv/.developers"),
    "pip-dev": ("developers' packages too, pip", f"{PIP} -e '.[dev]'"),
}
SEARCH = "search --max-flops 300k --trials 4 --supernet-epochs 0.5 --train-epochs 0.5 --quiet"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "runs", "build", "dist", "site", "*.egg-info", ".*_cache", "__pycache__"
)


def measure(name: str) -> dict[str, Any]:
    """Install once as `COMMANDS[name]` does, then search twice."""
    what, command = COMMANDS[name]
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Path(scratch) / "checkout"
        shutil.copytree(ROOT, checkout, ignore=LEFT_OUT)
        environment = os.environ | {
            "PIP_CACHE_DIR": f"{scratch}/pip",
            "UV_CACHE_DIR": f"{scratch}/uv",
            "OMP_NUM_THREADS": "1",
        }
        # Of this process, and of machines where imports may not write compiled modules.
        for variable in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"):
            environment.pop(variable, None)
        load = os.getloadavg()[0]
        seconds, processor = timed(["bash", "-c", command], checkout, environment)
        venv = checkout / ".venv"
        megabytes = size(venv)
        packages = len(list(venv.glob("lib/python*/site-packages/*.dist-info")))
        nas = [str(venv / "bin" / "nas"), *shlex.split(SEARCH)]
        searches = [
            timed([*nas, "--out", f"{scratch}/run{i}"], Path(scratch), environment)[0]
            for i in range(2)
        ]
    return {
        "name": name,
        "what": what,
        "command": command,
        "seconds": seconds,
        "processor seconds": processor,
        "first search, s": searches[0],
        "second search, s": searches[1],
        "packages": packages,
        "MB": megabytes,
        "load before": load,
    }


def timed(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[float, float]:
    """Seconds of a command, and seconds of processor time, which other work affects less."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def size(folder: Path) -> int:
    """Megabytes of the files below a folder."""
    return round(sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6)


def table(rows: Mapping[str, Mapping[str, Any]], cores: int) -> str:
    """The page's table in Markdown, and how it was measured; `rows` by their names."""
    lines = [
        "| what | time | processor time | size | command |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r['what']} | {r['seconds']:.0f} s | {r['processor seconds']:.0f} s "
        f"| {r['MB'] / 1000:.1f} GB | `{r['command']}` |"
        for r in rows.values()
    ]
    low, high = (f(row["load before"] for row in rows.values()) for f in (min, max))
    compiling = rows["search"]["first search, s"] - rows["search"]["second search, s"]
    text = (
        f"Each row was measured once by `python benchmarks/setup_time.py`, on {cores} cores shared "
        f"with other work (load {low:.1f} to {high:.1f}), in an empty environment with empty "
        "caches. `make` does not compile modules at installation; Python compiles them on first "
        f"import, so the first search took {compiling:.0f} s longer than the second."
    )
    return "\n".join([*lines, "", textwrap.fill(text, 100, break_on_hyphens=False)])


def write(text: str, page: Path) -> None:
    """Put the table between the page's markers; the closing one is added if it is not there."""
    before, rest = page.read_text(encoding="utf-8").split(START)
    after = rest.partition(END)[2] if END in rest else rest
    page.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """The saved results."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", nargs="*", choices=COMMANDS, help="measure these rows again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    path = options.json or RESULTS / "setup_time.json"
    rows = {row["name"]: row for row in read(path)["rows"]} if path.exists() else {}
    missing = [name for name in COMMANDS if name not in rows]
    settings = {"search": SEARCH, "uv on the path": shutil.which("uv") is not None}
    for name in missing if options.rows is None else options.rows:
        rows[name] = measure(name)
        emit("setup_time", [rows[n] for n in COMMANDS if n in rows], settings, path)
    if not options.json:
        saved = read(path)
        write(table({r["name"]: r for r in saved["rows"]}, saved["machine"]["cores"]), PAGE)


if __name__ == "__main__":
    main()
