"""The topic of docs/figures.md about searches with a time of their own: does one pay, and why.

Knows the keys that each benchmark writes, not how a table is laid out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from statistics import mean
from typing import Any

from figures_format import Results, Row, Topic, fixed, listed, percent, span

ENGINE, RANDOM = "engine", "random"


def timed(results: Results) -> Topic:
    rows = [
        *pays(results, "pays"),
        *pays(results, "pays_text"),
        *time_kept(results),
        *recipes(results),
        *orders(results),
        learning_law(results),
        *designs(results),
        *taught(results),
        *text_designs(results),
    ]
    return Topic(
        "A search with a time of its own",
        rows,
        [
            "Engine and peers share recipe, wall time and one thread each; a peer spends all of "
            "its time on the training of one network. The score is that of the test part, which "
            "neither law nor recipe was chosen by. What a training step takes was known to the "
            "engine from an earlier search; otherwise it spends 4 % of its time, at most 20 s, on "
            "measuring.",
            *(
                f"The last cells of `{name}.json` were run by `{results[name].command}`."
                for name in ("pays", "pays_text")
                if name in results
            ),
        ],
    )


def quarter_of_an_hour(results: Results) -> Row:
    """The README's row: 15 minutes at 3M FLOPs."""
    (row,) = (row for row in pays(results, "pays") if "--time 15m --max-flops 3M" in row.what)
    return row


def pays(results: Results, name: str) -> Iterator[Row]:
    """A row for each time and budget; means over the seeds."""
    if name not in results:
        return
    r = results[name]
    metric = "test loss" if name == "pays_text" else "test accuracy"
    shown = (lambda v: fixed(v, 3)) if metric == "test loss" else percent

    def scores(cells: list[Mapping[str, Any]]) -> str:
        seeds = f" (mean of {len(cells)})" if len(cells) > 1 else ""
        return f"{shown(mean(cell[metric] for cell in cells))}{seeds}"

    for minutes, budget in sorted({(c["minutes"], c["budget"]) for c in r.rows}, key=_by_size):
        cells = [c for c in r.rows if (c["minutes"], c["budget"]) == (minutes, budget)]
        sides = {c["side"]: [d for d in cells if d["side"] == c["side"]] for c in cells}
        mine = sides.pop(ENGINE, [])
        data = "tinyshakespeare, nats a character" if name == "pays_text" else "CIFAR-10"
        others = [
            f"{'a random network of the space' if side == RANDOM else side} {scores(of)}"
            for side, of in sides.items()
        ]
        if mine:
            what = f"`nas search --time {minutes:g}m --max-flops {budget}`"
            measured = scores(mine)
        else:  # cells are ordered by their scores
            what = f"networks set by hand to {budget} FLOPs in {minutes:g} min"
            measured, *others = others
        if others:
            what = f"{data}: {metric} of {what}"
            yield Row(what, measured, listed(*others), _command(cells, minutes, budget))


def time_kept(results: Results) -> Iterator[Row]:
    """How long the searches took, in shares of the time that each was given."""
    for name in ("pays", "pays_text"):
        rows = results[name].rows if name in results else []
        cells = [cell for cell in rows if cell["side"] == ENGINE]
        shares = [cell["minutes taken"] / cell["minutes"] for cell in cells]
        if not shares:
            continue
        minutes, budgets = (
            ",".join(dict.fromkeys(written(cell) for cell in cells))
            for written in (lambda cell: f"{cell['minutes']:g}", lambda cell: cell["budget"])
        )
        yield Row(
            f"wall time of searches by `--time` of {minutes} min at {budgets} FLOPs, start of the "
            f"process and export included: shares of what was given, runs: {len(shares)}",
            f"{span([100 * share for share in shares], 1)} %",
            "–",
            f"python benchmarks/pays.py --data DIR --max-flops {budgets} --minutes {minutes} "
            f"--seeds {1 + max(cell['seed'] for cell in cells)} --sides engine",
        )


def _command(cells: list[Mapping[str, Any]], minutes: float, budget: str) -> str:
    """The command that runs these cells; the file's own ran the last of them only."""
    sides = ";".join(dict.fromkeys(cell["side"] for cell in cells))
    seeds = 1 + max(cell["seed"] for cell in cells)
    return (
        f"python benchmarks/pays.py --data DIR --max-flops {budget} --minutes {minutes:g} "
        f"--seeds {seeds} --sides '{sides}' --json FILE"
    )


def _by_size(key: tuple[float, str]) -> tuple[float, float]:
    return key[0], float(key[1][:-1])


def recipes(results: Results) -> Iterator[Row]:
    """A row for each network: the recipe with Muon after half and all of the time."""
    if "recipes" not in results:
        return
    r = results["recipes"]
    for network in dict.fromkeys(row["network"] for row in r.rows):
        cells = {(row["muon"], row["seconds"]): row for row in r.rows if row["network"] == network}
        seconds = max(s for _, s in cells)
        muon = max(rate for rate, _ in cells)
        shown = (lambda v: fixed(v, 3)) if network == "gpt" else percent
        yield Row(
            f"{network}, {fixed(seconds)} s on one thread: "
            + ("validation loss" if network == "gpt" else "validation accuracy"),
            f"recipe with Muon {shown(cells[muon, seconds]['score'])}; in half of the time "
            f"{shown(cells[muon, seconds / 2]['score'])}",
            f"without Muon {shown(cells[0.0, seconds]['score'])}",
            r.command,
        )


def orders(results: Results) -> Iterator[Row]:
    """A row for each way of ordering networks."""
    if "fidelity_per_second" not in results:
        return
    r = results["fidelity_per_second"]
    s = r.settings
    for row in r.rows:
        yield Row(
            f"Kendall's τ with trainings of {fixed(s['epochs'])} epochs, {s['networks']} networks "
            f"of `cnn` at 16 pixels, ordered by {row['ordered by']}",
            f"{fixed(row['tau'], 2)}; within bands of ±10 % of FLOPs "
            f"{fixed(row['tau within bands'], 2)}; {fixed(row['seconds each'], 1)} s each",
            "–",
            r.command,
        )


def learning_law(results: Results) -> Row:
    r = results["learning_curves"]
    (fit,) = r.rows
    return Row(
        f"short learning curves on CIFAR-10: powers of the error in epochs, in FLOPs, and in both, "
        f"over {fit['networks']} random networks of `cnn-cifar`",
        listed(
            *(fixed(fit[name], 3) for name in ("epochs power", "MACs power", "power of both")),
            f"relative error of left-out networks {percent(fit['error of left-out networks'])}",
        ),
        "–",
        r.command,
    )


def text_designs(results: Results) -> Iterator[Row]:
    """The best design of a language model after each time."""
    if "text_designs" not in results:
        return
    r = results["text_designs"]
    for seconds, noise in sorted({(row["seconds"], row["noise"]) for row in r.rows}):
        rows = [row for row in r.rows if (row["seconds"], row["noise"]) == (seconds, noise)]
        best, *others = (
            f"{row['design']} {fixed(row['validation loss'], 3)}"
            for row in sorted(rows, key=lambda row: row["validation loss"])
        )
        replaced = f", {100 * noise:g} % of the tokens replaced" if noise else ""
        yield Row(
            f"designs of `gpt-conv` at 11M to 15M FLOPs after {seconds:g} s on one thread, "
            f"tinyshakespeare{replaced}: validation loss",
            best,
            listed(*others),
            f"python benchmarks/text_designs.py --data FILE --seconds {seconds:g} "
            f"--noise {noise:g}",
        )


def designs(results: Results) -> Iterator[Row]:
    """All designs of a budget after each time, the best first."""
    r = results["designs"]

    def group(row: Mapping[str, Any]) -> tuple[float, int]:
        return row["seconds"], 10 if row["macs"] > 5e6 else 3

    for seconds, budget in sorted(set(map(group, r.rows))):
        ended = [row for row in r.rows if group(row) == (seconds, budget)]
        best, *others = (
            f"{row['design']} {percent(row['validation accuracy'])} ({row['epochs']:.0f} epochs)"
            for row in sorted(ended, key=lambda row: -row["validation accuracy"])
        )
        yield Row(
            f"designs of `benchmarks/designs.py` at {budget}M FLOPs after {seconds:g} s on one "
            "thread, CIFAR-10's validation images, one seed",
            best,
            listed(*others),
            r.command,
        )


def taught(results: Results) -> Iterator[Row]:
    """Designs with a teacher, beside the same without one."""
    r = results["teaching"]

    def accuracy(row: Mapping[str, Any]) -> str:
        return f"{percent(row['validation accuracy'])} ({row['epochs']:.0f} epochs)"

    for row in r.rows:
        same = {key: row[key] for key in ("design", "seconds", "seed")}
        alone = [o for o in r.rows if same.items() <= o.items() and not o["taught by"]]
        if not row["taught by"] or not alone:
            continue
        teachers = [
            o for o in r.rows if row["taught by"] == f"{o['design']} after {o['seconds']:g} s"
        ]
        yield Row(
            f"design {row['design']} of `benchmarks/designs.py` after {row['seconds']:g} s on one "
            f"thread, taught by {row['taught by']}, CIFAR-10's validation images, one seed",
            accuracy(row),
            listed(
                f"alone {accuracy(alone[0])}",
                *(f"the teacher {accuracy(teacher)}" for teacher in teachers),
            ),
            re.sub(r"--design \S+", f"--design {row['design']}", r.command),
        )
