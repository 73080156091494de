"""The panels of the report that need no answer from the page: a title, words, a figure, a table.

Each figure has a table that says the same, for readers of either. Knows what a panel says. Does not
know HTML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluators.device_prices import Target
from evaluators.metrics import label
from evaluators.sizes import format_metric
from nas.report import figures, trust
from nas.report.choices import LEAST, SAMPLE, Chosen
from nas.run import footprint
from nas.run import history as told
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import Objective

ROWS = 12
"""Of a table that stands for a curve."""


@dataclass(frozen=True)
class Panel:
    """One of the report's panels; `table` is a head and rows of texts."""

    key: str
    title: str
    text: str
    figure: Any = None
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None

    def told(self) -> dict[str, Any]:
        """For the page; plotly's own JSON, which it draws as it is."""
        head, rows = self.table or ((), ())
        return {
            "key": self.key,
            "title": self.title,
            "text": self.text,
            "figure": None if self.figure is None else json.loads(self.figure.to_json()),
            "head": list(head),
            "rows": [list(row) for row in rows],
        }


def on_choices(
    importances: Mapping[str, Mapping[str, float]],
    shares: Sequence[Mapping[str, Any]],
    chosen: Chosen,
) -> list[Panel]:
    """Which choices matter, and which options the frontier prefers."""
    panels = []
    if importances:
        names = list(next(iter(importances.values())))
        sampled = f" of {SAMPLE:,} of them, drawn at random" if len(chosen.codes) > SAMPLE else ""
        panels.append(
            Panel(
                "importance",
                "Importance of each choice",
                "How much a choice decides whether an architecture is among the best tenth of "
                f"those evaluated{sampled} (PED-ANOVA, by Optuna). FLOPs follow from the choices "
                "alone, so their importance says where compute goes.",
                figures.importance(importances),
                (
                    ("choice", *(f"for {label(metric)}" for metric in importances)),
                    [
                        [n, *(f"{shares_.get(n, 0.0):.1%}" for shares_ in importances.values())]
                        for n in names
                    ],
                ),
            )
        )
    else:
        text = f"Importances need {LEAST} evaluations that did not fail; there are fewer yet."
        panels.append(Panel("importance", "Importance of each choice", text))
    rows = [
        (choice.name, option, share["all"][index], share["front"][index], share["on"])
        for choice, share in zip(chosen.choices, shares, strict=True)
        for index, option in enumerate(choice.options)
        if len(choice.options) > 1 and share["on"][0]
    ]
    panels.append(
        Panel(
            "options",
            "Options that the frontier prefers",
            "How often each option is taken, on the run's frontier against all evaluated, among "
            "those that have the choice. The widest gaps are drawn; the table has all of them.",
            figures.preferences(rows) if rows else None,
            (
                ("choice", "option", "among all", "on the frontier", "of all", "of the frontier"),
                [
                    [name, str(option), f"{every:.1%}", f"{front:.1%}", str(on[0]), str(on[1])]
                    for name, option, every, front, on in rows
                ],
            ),
        )
    )
    return panels


def on_progress(
    run: Run,
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    worst: Mapping[str, float],
) -> list[Panel]:
    """How the search went."""
    panels = _hypervolumes(evaluations, objectives, worst)
    panels += _predictor(run, told.predictor(evaluations))
    points = told.relaxation(run)
    if points:
        panels.append(_relaxation(points, run.specification.high))
    panels.append(_failures(told.failures(evaluations)))
    panels.append(_footprint(run))
    panels.append(_curves(run, told.curves(run)))
    return panels


def _hypervolumes(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    worst: Mapping[str, float],
) -> list[Panel]:
    reached = told.progress(evaluations, objectives, worst)
    if not reached.hypervolumes:
        return []
    words = ", ".join(
        f"{label(o.metric)} {format_metric(o.metric, worst[o.metric])}"
        for o in objectives
        if o.metric in worst
    )
    text = (
        f"The share of the box up to {words or 'the worst values'} that the frontier dominates: "
        f"{reached.hypervolumes[-1]:.4f} after {reached.evaluations[-1]:,} evaluations."
    )
    at = _spread(len(reached.evaluations))
    rows = [
        [
            f"{reached.evaluations[i]:,}",
            "" if (hours := reached.hours[i]) is None else f"{hours:.3g}",
            f"{reached.hypervolumes[i]:.4f}",
        ]
        for i in at
    ]
    head = ("evaluations", "hours", "hypervolume")
    panels = [
        Panel(
            "hypervolume",
            "Hypervolume against evaluations",
            text,
            figures.progress(reached),
            (head, rows),
        )
    ]
    if reached.hours[-1] is not None:
        over_time = figures.progress(reached, against="hours")
        text = "The same over the time that passed, interruptions among it."
        panels.append(Panel("hypervolume-time", "Hypervolume against time", text, over_time))
    return panels


def _predictor(run: Run, fits: Sequence[Mapping[str, Any]]) -> list[Panel]:
    title = "The predictor's error"
    if not fits:
        if run.specification.strategy != "evolution":
            return [Panel("predictor", title, "This strategy has no predictor.")]
        return [Panel("predictor", title, "The predictor was not fitted yet.")]
    last = fits[-1]
    text = (
        f"On evaluations that it was not fitted to: at last an error of {last['error']:.3g} and a "
        f"Kendall's τ of {last['tau']:.2f} ({last['model']})."
    )
    rows = [
        [f"{f['after']:,}", str(f["model"]), f"{f['error']:.3g}", f"{f['tau']:.2f}"]
        for f in (fits[i] for i in _spread(len(fits)))
    ]
    head = ("after evaluations", "model", "error", "τ")
    return [Panel("predictor", title, text, figures.predictor(fits), (head, rows))]


def _relaxation(points: Sequence[Mapping[str, Any]], high: Mapping[str, float]) -> Panel:
    costs = list(points[0]["expected"])
    prices = list(points[-1]["multipliers"])
    rows = [
        [
            f"{p['step']:,}",
            *(format_metric(m, p["expected"][m]) for m in costs),
            *(f"{p['multipliers'].get(m, 0.0):.3g}" for m in prices),
            f"{p['entropy']:.2f}",
        ]
        for p in (points[i] for i in _spread(len(points)))
    ]
    head = (
        "step",
        *(f"expected {label(m)}" for m in costs),
        *(f"λ of {label(m)}" for m in prices),
        "entropy",
    )
    text = (
        "What the probabilities of all options expect to cost, and the price λ that the budget "
        f"puts on it. Entropy, 1 where nothing is decided: {points[-1]['entropy']:.2f} at the end."
    )
    figure = figures.relaxation(points, high)
    return Panel("relaxation", "λ and expected costs of the relaxation", text, figure, (head, rows))


def _failures(found: Mapping[str, Any]) -> Panel:
    if not found["failed"]:
        return Panel("failures", "Failures", "No evaluation failed.")
    more = f" {found['other_reasons']} more reasons are rarer." if found["other_reasons"] else ""
    rows = [[r["reason"], f"{r['count']:,}", f"{r['first']:,}", r["id"]] for r in found["reasons"]]
    return Panel(
        "failures",
        "Failures",
        f"{found['failed']:,} evaluations failed; the search went on without them.{more}",
        table=(("reason", "times", "first at evaluation", "architecture"), rows),
    )


def _footprint(run: Run) -> Panel:
    title, words = "Energy and carbon of the search", footprint.summary(run.folder)
    if words is None:
        text = "Not known: the search was too short to be measured, or codecarbon could not."
        return Panel("footprint", title, text)
    rows = [
        [
            str(session.get("start", "")),
            f"{session.get('seconds', 0.0) / 60:.1f}",
            f"{1e3 * session.get('kwh', 0.0):.3g}",
            f"{1e3 * session.get('kg', 0.0):.3g}",
            f"{1e3 * session.get('kg_low', 0.0):.3g} to {1e3 * session.get('kg_high', 0.0):.3g}",
        ]
        for session in (footprint.read(run.folder) or {}).get("sessions", [])
    ]
    head = ("session began", "minutes", "Wh", "g CO2e", "range")
    return Panel("footprint", title, f"{words}.", table=(head, rows))


def _curves(run: Run, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Panel:
    title = "Learning curves"
    if not found:
        text = f"No architecture was trained alone with a curve yet: nas train {run.folder}"
        return Panel("curves", title, text)
    rows = [
        [name, f"{points[-1]['step']:,}", f"{points[0]['loss']:.3f}", f"{points[-1]['loss']:.3f}"]
        for name, points in found.items()
    ]
    text = f"The training loss of {len(found)} trainings of single architectures."
    if len(found) > figures.CURVES:
        text += f" {figures.CURVES} are drawn."
    head = ("training", "steps", "first loss", "last loss")
    return Panel("curves", title, text, figures.curves(found), (head, rows))


def on_trust(run: Run, targets: Sequence[Target]) -> list[Panel]:
    """How far scores and latencies can be trusted."""
    result, words = trust.fidelity(run)
    table = None
    if result is not None:
        rows = result["architectures"]
        head = ("architecture", "FLOPs", f"inherited {result['metric']}", "alone")
        table = (
            head,
            [
                [
                    r["id"],
                    format_metric("macs", r["macs"]),
                    format_metric(result["metric"], r["inherited"]),
                    format_metric(result["metric"], r["alone"]),
                ]
                for r in rows
            ],
        )
    drawn = None if result is None else figures.fidelity(result)
    panels = [Panel("fidelity", "Fidelity of the supernet", words, drawn, table)]
    if not targets:
        text = "The run has no device: nas report RUN --device NAME prices its networks on one."
        panels.append(Panel("latency", "Accuracy of the latency table", text))
    for index, (measured, words) in enumerate(trust.latencies(targets)):
        figure, table = None, None
        if measured is not None:
            figure = figures.latency_check(measured)
            table = (
                ("FLOPs", "predicted ms", "measured ms", "error"),
                [
                    [
                        format_metric("macs", n.macs),
                        f"{n.predicted_ms or 0.0:.3f}",
                        f"{n.ms:.3f}",
                        f"{(n.predicted_ms or 0.0) / n.ms - 1:+.1%}",
                    ]
                    for n in measured.checked
                ],
            )
        title = f"Latencies on {targets[index].name}"
        panels.append(Panel(f"latency-{index}", title, words, figure, table))
    return panels


def _spread(count: int) -> list[int]:
    """About `ROWS` of so many indices, evenly, with both ends."""
    if count <= ROWS:
        return list(range(count))
    return [round(i * (count - 1) / (ROWS - 1)) for i in range(ROWS)]
