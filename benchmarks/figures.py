"""Writes docs/figures.md, and the README's table of figures, from `benchmarks/results/*.json`.

    python benchmarks/figures.py            # write both
    python benchmarks/figures.py --check    # exit 1 if either is not what would be written

Knows the layout of the page and the order of its topics, which are in `figures_costs.py`,
`figures_accuracy.py`, `figures_time.py` and `figures_dynamic.py`; how a number is rounded is in
`figures_format.py`.
Runs no benchmark and needs the standard library only.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path

from figures_accuracy import by_hand, fidelity, proxies, regret, strategies, supernet
from figures_costs import carbon, counting, files, installation, kills, latency, pricing, workers
from figures_dynamic import dynamic, tokens
from figures_format import Results, Row, load
from figures_time import quarter_of_an_hour, timed

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "figures.md"
README = ROOT / "README.md"
START, END = "<!-- figures -->", "<!-- /figures -->"

INTRODUCTION = """\
# Figures

Every number on this page is read from a file in `benchmarks/results/` by `python
benchmarks/figures.py`; a test compares the page with what the script writes. Each row names the
command that measures it. That command prints the table, compares with a peer in the same run where
there is one, and writes the file with its settings, seed, machine and versions. `DIR` and `FILE`
stand for a path to data. FLOPs are multiply-accumulates (1 MAC = 1 FLOP).
"""

TOPICS = (
    counting,
    timed,
    supernet,
    strategies,
    by_hand,
    dynamic,
    tokens,
    proxies,
    latency,
    workers,
    kills,
    files,
    carbon,
    installation,
)
HEADLINE = (pricing, regret, fidelity, quarter_of_an_hour)
"""The README's rows: two where the engine is ahead of its peer, two where it is not."""


def cells(row: Row) -> str:
    """A row's first three cells; a percent sign is set apart in all of them."""
    text = f"| {row.what} | {row.measured} | {row.peer or '–'} |"
    return re.sub(r"(?<=\d)%", " %", text)


def table(rows: list[Row]) -> str:
    """A markdown table with the command that measures each row."""
    lines = ["| what | measured | peer in the same run | command |", "| --- | --- | --- | --- |"]
    lines += [f"{cells(r)} `{r.command}` |" for r in rows]
    return "\n".join(lines)


def short_table(rows: list[Row]) -> str:
    """The README's table, without commands."""
    lines = ["| what | measured | peer in the same run |", "| --- | --- | --- |"]
    lines += [cells(r) for r in rows]
    return "\n".join(lines)


def machines(results: Results) -> str:
    """One line for each machine and set of versions, with the dates of its results."""
    dates: dict[str, list[str]] = {}
    for result in results.values():
        m = result.machine
        versions = ", ".join(f"{n} {m[n]}" for n in ("python", "torch", "optuna", "ray") if n in m)
        named = f"{m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB ({versions})"
        dates.setdefault(named, []).append(result.date)
    lines = [f"- {named}: {min(on)} to {max(on)}" for named, on in sorted(dates.items())]
    return "Measured on shared machines, beside other work:\n\n" + "\n".join(lines) + "\n"


def page(results: Results) -> str:
    """docs/figures.md."""
    parts = [INTRODUCTION, machines(results)]
    for topic in (make(results) for make in TOPICS):
        parts.append(f"## {topic.title}\n\n{table(topic.rows)}\n")
        parts.extend(f"{textwrap.fill(text, 100)}\n" for text in topic.remarks)
    return "\n".join(parts)


def readme(text: str, results: Results) -> str:
    """The README with the table between its markers replaced."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{short_table([row(results) for row in HEADLINE])}\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Write both files, or say which one is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check = parser.parse_args(arguments).check
    results = load(RESULTS)
    stale = 0
    old = README.read_text(encoding="utf-8")
    for path, text in ((PAGE, page(results)), (README, readme(old, results))):
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale = 1
            print(f"{path.relative_to(ROOT)} is stale: run python benchmarks/figures.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return stale


if __name__ == "__main__":
    sys.exit(main())
