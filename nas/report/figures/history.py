"""Figures of the progress of a search: hypervolume, predictor, relaxation, race and trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evaluators.metrics import Metric
from nas.report.figures.style import DASHES, LIGHT, dumbbells, new_figure, style, text
from nas.run import history
from nas.run.folder import Run
from nas.run.history import HypervolumeHistory
from nas.run.results import ScoredArchitecture

MAX_CURVES = 12
"""Largest number of learning curves in one figure; more could not be distinguished."""


def progress(found: HypervolumeHistory | Run, *, against: str = "evaluations") -> go.Figure:
    """The hypervolume of a search.

    Args:
        found: a run, or the history that `nas.run.history.progress` returns.
        against: the horizontal axis, `evaluations` or `hours`.
    """
    reached = _progress_of(found) if isinstance(found, Run) else found
    x: Sequence[float | None] = reached.evaluations
    words = "evaluations"
    if against == "hours":
        short = max((h for h in reached.hours if h is not None), default=0.0) < 1
        x = [None if h is None else h * (60 if short else 1) for h in reached.hours]
        words = f"{'minutes' if short else 'hours'} since the first evaluation began"
    figure = new_figure(words, "hypervolume")
    figure.update_yaxes(rangemode="nonnegative")
    figure.add_scatter(
        x=x,
        y=reached.hypervolumes,
        mode="lines",
        line={"shape": "hv", "color": LIGHT["accent"], "width": 2},
        name="hypervolume",
    )
    return figure


def _progress_of(run: Run) -> HypervolumeHistory:
    from nas.task.task import Task  # imports torch

    evaluations, objectives = run.evaluations(), run.objectives
    known = Task(run.specification, run.folder).worst
    worst = history.references(evaluations, objectives, known)
    return history.progress(evaluations, objectives, worst)


def predictor(found: Sequence[Mapping[str, Any]] | Run) -> go.Figure:
    """Error and Kendall's τ of the predictor on evaluations that it was not fitted to."""
    fits = history.predictor(found.evaluations()) if isinstance(found, Run) else found
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for row, (key, colour, words) in enumerate(
        (("error", "bound", "error"), ("tau", "accent", "Kendall's τ")), start=1
    ):
        figure.add_scatter(
            x=[fit["after"] for fit in fits],
            y=[fit[key] for fit in fits],
            mode="lines+markers",
            line={"color": LIGHT[colour], "dash": "solid" if row == 1 else "dot"},
            marker={"size": 5},
            name=words,
            text=[fit["model"] for fit in fits],
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=words, row=row, col=1)
    figure.update_xaxes(title_text="evaluations", row=2, col=1)
    style(figure, 380)
    return figure


def relaxation(
    found: Sequence[Mapping[str, Any]] | Run, high: Mapping[str, float] | None = None
) -> go.Figure:
    """Expected costs and multipliers λ over the steps of `darts`, with the budget.

    Args:
        found: a run, or the points of its trajectory.
        high: upper bounds by metric; those of the run by default.
    """
    if isinstance(found, Run):
        high = found.specification.high
    points = history.relaxation(found) if isinstance(found, Run) else found
    costs = list(points[0]["expected"]) if points else []
    prices = list(points[-1]["multipliers"]) if points else []
    figure = make_subplots(
        rows=len(costs) + 1, cols=1, shared_xaxes=True, vertical_spacing=0.12 / (len(costs) + 1)
    )
    steps = [point["step"] for point in points]
    for row, metric in enumerate(costs, start=1):
        figure.add_scatter(
            x=steps,
            y=[point["expected"][metric] for point in points],
            mode="lines",
            line={"color": LIGHT["accent"]},
            name=f"expected {Metric.of(metric).axis}",
            row=row,
            col=1,
        )
        if high and metric in high:
            figure.add_scatter(
                x=[steps[0], steps[-1]],
                y=[high[metric]] * 2,
                mode="lines",
                line={"color": LIGHT["bound"], "dash": "dash"},
                name=f"budget {Metric.of(metric).quantity(high[metric])}",
                row=row,
                col=1,
            )
        figure.update_yaxes(title_text=f"E[{Metric.of(metric).axis}]", row=row, col=1)
    for index, name in enumerate(prices):
        figure.add_scatter(
            x=steps,
            y=[point["multipliers"].get(name) for point in points],
            mode="lines",
            line={"color": LIGHT["third"], "dash": DASHES[index % len(DASHES)]},
            name=f"λ of {Metric.of(name).axis}",
            row=len(costs) + 1,
            col=1,
        )
    figure.update_yaxes(title_text="λ", row=len(costs) + 1, col=1)
    figure.update_yaxes(rangemode="nonnegative")
    figure.update_xaxes(title_text="step", row=len(costs) + 1, col=1)
    style(figure, 180 + 180 * len(costs))
    return figure


def curves(found: Mapping[str, Sequence[Mapping[str, Any]]] | Run) -> go.Figure:
    """Learning curves of architectures that were trained individually.

    Against the share of each training: the trainings of a race have a tenth of the winner's steps.
    """
    all_of = history.curves(found) if isinstance(found, Run) else found
    figure = new_figure("share of the training", "training loss")
    for index, (name, points) in enumerate(list(all_of.items())[:MAX_CURVES]):
        last = points[-1].get("steps") or points[-1]["step"] or 1
        figure.add_scatter(
            x=[point["step"] / last for point in points],
            y=[point["loss"] for point in points],
            mode="lines",
            line={
                "color": list(LIGHT.values())[index % 4],
                "dash": DASHES[index // 4 % len(DASHES)],
            },
            name=text(name.replace("-epochs", " epochs").replace("-", ", ")),
            text=[f"step {point['step']:,}" for point in points],
        )
    figure.update_xaxes(tickformat=".0%")
    return figure


def race(finalists: Sequence[ScoredArchitecture], metric: str, winner: str) -> go.Figure:
    """Validation scores of the finalists in the search and after their race.

    Args:
        finalists: of a run's summary.
        metric: what they were scored by.
        winner: id of the one that won.
    """
    ordered = sorted(finalists, key=lambda finalist: finalist.id == winner)
    figure = dumbbells(
        [f"{f.id[:8]}{' (winner)' if f.id == winner else ''}" for f in ordered],
        {
            "in the search": [f.metrics.get(metric) for f in ordered],
            "after the race": [f.after_race for f in ordered],
        },
        f"validation {Metric.of(metric).axis}",
    )
    if Metric.of(metric).is_share(max((f.after_race or 0.0 for f in finalists), default=2.0)):
        figure.update_xaxes(tickformat=".1%")
    return figure
