"""The static panels of the report, each with a title, a text, a figure and a table.

The table of a panel has the data of its figure. Knows the content of panels. Does not know HTML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluators.device_prices import Target
from evaluators.metrics import Metric
from nas.report import figures, trust
from nas.report.choices import MIN_EVALUATIONS, SAMPLE_SIZE, ChosenOptions, OptionShares
from nas.run import footprint, history
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import Objective

CURVE_ROWS = 12
"""Rows in the table of a curve."""


@dataclass(frozen=True)
class Panel:
    """One panel; `table` consists of column headings and rows of texts."""

    key: str
    title: str
    text: str
    figure: Any = None
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON for the page; the figure is plotly's own JSON."""
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
    shares: Sequence[OptionShares],
    chosen: ChosenOptions,
) -> list[Panel]:
    """Panels about choices: their importance, and the options that the frontier prefers."""
    panels = []
    if importances:
        names = list(next(iter(importances.values())))
        sampled = ""
        if len(chosen.codes) > SAMPLE_SIZE:
            sampled = f" (computed from a random sample of {SAMPLE_SIZE:,})"
        panels.append(
            Panel(
                "importance",
                "Importance of each choice",
                "How much a choice determines whether an architecture is among the best 10 % of "
                f"those evaluated{sampled}, by Optuna's PED-ANOVA. FLOPs depend on the choices "
                "alone, so their importance shows where compute is spent.",
                figures.importance(importances),
                (
                    ("choice", *(f"for {Metric.of(metric).axis}" for metric in importances)),
                    [
                        [n, *(f"{shares_.get(n, 0.0):.1%}" for shares_ in importances.values())]
                        for n in names
                    ],
                ),
            )
        )
    else:
        text = f"Importances need at least {MIN_EVALUATIONS} successful evaluations."
        panels.append(Panel("importance", "Importance of each choice", text))
    rows = [
        (choice.name, option, share.evaluated[index], share.frontier[index], share.counts)
        for choice, share in zip(chosen.choices, shares, strict=True)
        for index, option in enumerate(choice.options)
        if len(choice.options) > 1 and share.counts[0]
    ]
    panels.append(
        Panel(
            "options",
            "Options that the frontier prefers",
            "Share of each option on the run's frontier and among all evaluated architectures that "
            "have the choice. The figure has the largest differences, the table all options.",
            figures.preferences(rows) if rows else None,
            (
                (
                    *("choice", "option", "share of all", "share of the frontier"),
                    *("all with the choice", "on the frontier with the choice"),
                ),
                [
                    [name, str(option), f"{all_:.1%}", f"{front:.1%}", str(count[0]), str(count[1])]
                    for name, option, all_, front, count in rows
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
    """Panels about the progress of the search."""
    panels = _hypervolumes(evaluations, objectives, worst)
    panels += _predictor(run, history.predictor(evaluations))
    points = history.relaxation(run)
    if points:
        panels.append(_relaxation(points, run.specification.high))
    panels.append(_failures(history.failures(evaluations)))
    panels.append(_footprint(run))
    panels.append(_curves(run, history.curves(run)))
    return panels


def _hypervolumes(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    worst: Mapping[str, float],
) -> list[Panel]:
    reached = history.progress(evaluations, objectives, worst)
    if not reached.hypervolumes:
        return []
    words = ", ".join(
        f"{Metric.of(o.metric).axis} {Metric.of(o.metric).format(worst[o.metric])}"
        for o in objectives
        if o.metric in worst
    )
    text = (
        f"Share of the objective space up to {words or 'the worst values'} that the frontier "
        f"dominates: {reached.hypervolumes[-1]:.4f} after {reached.evaluations[-1]:,} evaluations."
    )
    indices = _spread(len(reached.evaluations))
    rows = [
        [
            f"{reached.evaluations[i]:,}",
            "" if (hours := reached.hours[i]) is None else f"{hours:.3g}",
            f"{reached.hypervolumes[i]:.4f}",
        ]
        for i in indices
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
        text = "The same hypervolume over elapsed time, interruptions included."
        panels.append(Panel("hypervolume-time", "Hypervolume against time", text, over_time))
    return panels


def _predictor(run: Run, fits: Sequence[Mapping[str, Any]]) -> list[Panel]:
    title = "Error of the predictor"
    if not fits:
        if run.specification.strategy != "evolution":
            return [Panel("predictor", title, "This strategy has no predictor.")]
        return [Panel("predictor", title, "The predictor has not been fitted yet.")]
    last = fits[-1]
    text = (
        f"Measured on evaluations that the predictor was not fitted to. Most recent fit: error "
        f"{last['error']:.3g}, Kendall's τ {last['tau']:.2f} ({last['model']})."
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
            *(Metric.of(m).format(p["expected"][m]) for m in costs),
            *(f"{p['multipliers'].get(m, 0.0):.3g}" for m in prices),
            f"{p['entropy']:.2f}",
        ]
        for p in (points[i] for i in _spread(len(points)))
    ]
    head = (
        "step",
        *(f"expected {Metric.of(m).axis}" for m in costs),
        *(f"λ of {Metric.of(m).axis}" for m in prices),
        "entropy",
    )
    text = (
        "Expected costs under the probabilities of all options, and the multiplier λ of each "
        f"bound of the budget. Final entropy of the probabilities: {points[-1]['entropy']:.2f} (1 "
        "is uniform, 0 is decided)."
    )
    figure = figures.relaxation(points, high)
    return Panel("relaxation", "Expected costs and λ of the relaxation", text, figure, (head, rows))


def _failures(found: Mapping[str, Any]) -> Panel:
    if not found["failed"]:
        return Panel("failures", "Failures", "No evaluation failed.")
    more = f" {found['other_reasons']} rarer reasons are omitted." if found["other_reasons"] else ""
    rows = [[r["reason"], f"{r['count']:,}", f"{r['first']:,}", r["id"]] for r in found["reasons"]]
    return Panel(
        "failures",
        "Failures",
        f"{found['failed']:,} evaluations failed; the search continued without them.{more}",
        table=(("reason", "times", "first at evaluation", "architecture"), rows),
    )


def _footprint(run: Run) -> Panel:
    title, words = "Energy and carbon of the search", footprint.summary(run.folder)
    if words is None:
        text = "Not measured: the search was too short, or codecarbon could not measure."
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
    head = ("start of session", "minutes", "Wh", "g CO2e", "range")
    return Panel("footprint", title, f"{words}.", table=(head, rows))


def _curves(run: Run, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Panel:
    title = "Learning curves"
    if not found:
        text = f"No stand-alone training has a learning curve yet; run nas train {run.folder}"
        return Panel("curves", title, text)
    rows = [
        [name, f"{points[-1]['step']:,}", f"{points[0]['loss']:.3f}", f"{points[-1]['loss']:.3f}"]
        for name, points in found.items()
    ]
    text = f"Training loss of individually trained architectures, {len(found)} in total."
    if len(found) > figures.MAX_CURVES:
        text += f" The figure shows {figures.MAX_CURVES}."
    head = ("training", "steps", "first loss", "last loss")
    return Panel("curves", title, text, figures.curves(found), (head, rows))


def on_trust(run: Run, targets: Sequence[Target]) -> list[Panel]:
    """Panels about the reliability of scores and latencies."""
    result, words = trust.fidelity(run)
    table = None
    if result is not None:
        rows, score = result.architectures, Metric.of(result.metric)
        head = ("architecture", "FLOPs", f"inherited {result.metric}", "stand-alone")
        table = (
            head,
            [
                [
                    r.id,
                    Metric.of("macs").format(r.macs),
                    score.format(r.inherited),
                    score.format(r.alone),
                ]
                for r in rows
            ],
        )
    drawn = None if result is None else figures.fidelity(result)
    panels = [Panel("fidelity", "Fidelity of the supernet", words, drawn, table)]
    if not targets:
        text = "The run has no device; nas report RUN --device NAME prices its networks on one."
        panels.append(Panel("latency", "Accuracy of the latency table", text))
    for index, (measured, words) in enumerate(trust.latencies(targets)):
        figure, table = None, None
        if measured is not None:
            figure = figures.latency_check(measured)
            table = (
                ("FLOPs", "predicted ms", "measured ms", "error"),
                [
                    [
                        Metric.of("macs").format(n.macs),
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
    """At most `CURVE_ROWS` indices below `count`, evenly spaced, with both ends."""
    if count <= CURVE_ROWS:
        return list(range(count))
    return [round(i * (count - 1) / (CURVE_ROWS - 1)) for i in range(CURVE_ROWS)]
