"""How quickly a run with many evaluations is reported: the page, its size, a click, `nas frontier`.

    python benchmarks/report_speed.py --trials 20000

The run is fabricated: random architectures of a space with their true costs, an accuracy that grows
with FLOPs and noise, written into the study's file at once (adding them one by one would take half
an hour). What is timed is the commands as users start them, imports among it, and in Chromium the
time from the click until the page has answered (metrics and announcement, drawn) and until all
pictures of the network are drawn.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from report import emit

import numpy as np

from evaluators.costs.tables import CostTables
from nas.run import specification as spec
from nas.run.objectives import objective
from nas.run.study import Study
from search_spaces.catalogue import load_space

FRONTIER_CLICKS, OTHER_CLICKS = 15, 15


def fabricate(folder: Path, space_name: str, trials: int, seed: int) -> None:
    """Write a run as a search would have left it, without a winner."""
    folder.mkdir(parents=True, exist_ok=True)
    specification = spec.make(
        {
            "space": space_name,
            "evaluator": "own.py:score",
            "trials": trials,
            "seed": seed,
            "objectives": ("accuracy", "macs"),
        }
    )
    (folder / "specification.json").write_text(spec.to_json(specification), encoding="utf-8")
    space = load_space(space_name)
    Study(folder / "study.db", space, [objective("accuracy"), objective("macs")])
    rows = np.unique(space.sample(2 * trials, seed), axis=0)
    rows = np.random.default_rng(seed).permutation(rows)[:trials]
    costs = CostTables(space).score(rows)
    rng = np.random.default_rng(seed)
    scale = np.log(costs["macs"] / costs["macs"].min())
    accuracy = 0.55 + 0.3 * scale / scale.max() + rng.normal(0, 0.02, trials)
    start = datetime(2026, 1, 1)
    distributions = [
        json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": c.options}})
        for c in space.choices
    ]
    active = space.active(rows)
    with closing(sqlite3.connect(folder / "study.db")) as connection, connection:
        insert = connection.executemany
        insert(
            "INSERT INTO trials VALUES (?, ?, 1, 'COMPLETE', ?, ?)",
            (
                (n + 1, n, *2 * (str(start + timedelta(seconds=2.0 * n, microseconds=1)),))
                for n in range(trials)
            ),
        )
        insert(
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
            "VALUES (?, ?, ?, ?)",
            (
                (n + 1, choice.name, float(rows[n, at]), distributions[at])
                for n in range(trials)
                for at, choice in enumerate(space.choices)
                if active[n, at]
            ),
        )
        values = [(accuracy[n], float(costs["macs"][n])) for n in range(trials)]
        insert(
            "INSERT INTO trial_values (trial_id, objective, value, value_type) "
            "VALUES (?, ?, ?, 'FINITE')",
            ((n + 1, i, v) for n, pair in enumerate(values) for i, v in enumerate(pair)),
        )
        archs = space.decode(rows)
        insert(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
            (
                (n + 1, key, json.dumps(value))
                for n in range(trials)
                for key, value in _attributes(archs[n].id, accuracy[n], costs, n).items()
            ),
        )
        insert(
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (?, ?, '0.0')",
            ((n + 1, "constraints:budget") for n in range(trials)),
        )


def _attributes(arch: str, accuracy: float, costs: Any, n: int) -> dict[str, Any]:
    metrics = {"accuracy": float(accuracy)}
    metrics |= {name: float(values[n]) for name, values in costs.items()}
    # As evolution keeps it: its predictor is refitted after 64 evaluations.
    fits = n // 64
    quality = {
        "model": "gaussian process",
        "tau": 0.8 - 0.3 / (1 + fits),
        "error": 0.02 + 0.02 / (1 + fits),
    }
    sampler = {} if n < 64 else {"predictor": quality}
    return {"arch": arch, "metrics": metrics, "seconds": 2.0, "sampler": sampler}


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of a command, and seconds of a processor: other work beside it adds to the first."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


CLICK = """
(index) => new Promise((done) => {
  const began = performance.now();
  const [x, y] = frontier.pixel(index);
  const box = frontier.plot.getBoundingClientRect();
  const at = { clientX: box.left + x, clientY: box.top + y, bubbles: true };
  const target = document.elementFromPoint(at.clientX, at.clientY) || frontier.plot;
  target.dispatchEvent(new PointerEvent("pointerdown", at));
  target.dispatchEvent(new PointerEvent("pointerup", at));
  let answered = 0;
  const look = () => {
    if (!answered) answered = performance.now() - began;
    const icicle = document.querySelector("#architecture-body .js-plotly-plot");
    if (icicle) done([answered, performance.now() - began]);
    else requestAnimationFrame(look);
  };
  // The frame after the answer was put into the page is the first in which it is seen.
  requestAnimationFrame(() => setTimeout(look, 0));
})
"""


def clicks(path: Path, seed: int) -> tuple[float, list[float], list[float]]:
    """Seconds to open the page, and milliseconds of each click: to its answer, to all pictures."""
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    answers, whole = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1360, "height": 1000})
        began = time.perf_counter()
        page.goto(path.absolute().as_uri())
        page.wait_for_selector("#chart .point")
        opened = time.perf_counter() - began
        page.wait_for_timeout(1500)
        members = page.evaluate("frontier.members")
        count = page.evaluate("report.count")
        rng = np.random.default_rng(seed)
        chosen = [*rng.choice(members, min(FRONTIER_CLICKS, len(members)), replace=False)]
        chosen += [*rng.integers(0, count, OTHER_CLICKS)]
        for index in chosen:
            answer, all_of = page.evaluate(CLICK, int(index))
            answers.append(answer)
            whole.append(all_of)
            page.wait_for_timeout(250)
        browser.close()
    return opened, answers, whole


def _rows(what: str, times: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    return [
        _row(f"{what}, s", [seconds for seconds, _ in times]),
        _row(f"{what}, s of a processor", [processor for _, processor in times]),
    ]


def _row(what: str, values: Sequence[float]) -> dict[str, Any]:
    return {"what": what, "median": median(values), "best": min(values), "worst": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--space", default="mobilenet-cifar")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="keep the fabricated run in this folder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch) / "run"
        if not (folder / "study.db").exists():
            fabricate(folder, options.space, options.trials, options.seed)
        out = Path(scratch) / "report.html"
        nas = [sys.executable, "-m", "nas.cli"]
        written = [
            timed([*nas, "report", str(folder), "--out", str(out)]) for _ in range(options.repeats)
        ]
        listed = [timed([*nas, "frontier", str(folder), "--json"]) for _ in range(options.repeats)]
        opened, answers, whole = clicks(out, options.seed)
        megabytes = out.stat().st_size / 1e6
        rows = [
            *_rows("nas report", written),
            *_rows("nas frontier --json", listed),
            _row("the page, MB", [megabytes]),
            _row("opening the page, s", [opened]),
            _row("a click until the answer, ms", answers),
            _row("a click until all pictures, ms", whole),
        ]
    emit("report_speed", rows, vars(options) | {"keep": str(options.keep)}, options.json)


if __name__ == "__main__":
    main()
