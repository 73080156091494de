"""Panels about the progress of the search: what it reached, what it learnt, what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.metrics import Metric
from nas.report import figures
from nas.report.panels.panel import Panel
from nas.run import footprint, history
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import Objective

CURVE_ROWS = 12
"""Rows in the table of a curve."""


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


def _spread(count: int) -> list[int]:
    """At most `CURVE_ROWS` indices below `count`, evenly spaced, with both ends."""
    if count <= CURVE_ROWS:
        return list(range(count))
    return [round(i * (count - 1) / (CURVE_ROWS - 1)) for i in range(CURVE_ROWS)]
