"""Draws figures of a run for notebooks and for the report; each function returns a plotly figure.

    from nas import Run, figures

    figures.frontier(Run("runs/c10"), x="params")

The report shows the same figures; in dark mode its page replaces the colours of `LIGHT` by those of
`DARK`. Knows plotly. Does not compute the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evaluators.metrics import Metric
from evaluators.sizes import format_size
from hardware_profiles.latency.measured import MeasuredTable
from nas.run import history, ranking
from nas.run.folder import Run
from nas.run.history import HypervolumeHistory
from nas.run.objectives import knee
from nas.run.objectives import objective as objective_of
from nas.studies.fidelity_result import Fidelity
from search_spaces.errors import unknown

LIGHT = {"accent": "#0b6e99", "muted": "#8a94a3", "bound": "#b4470f", "third": "#6b4fa0"}
DARK = {"accent": "#58bfe8", "muted": "#7d8896", "bound": "#f0a35e", "third": "#b9a1f0"}

GL_POINTS = 3000
"""Number of points above which a figure in a notebook is drawn with WebGL."""

MAX_CURVES = 12
"""Largest number of learning curves in one figure; more could not be distinguished."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def _figure(x: str, y: str, *, height: int = 320) -> go.Figure:
    figure = go.Figure()
    _style(figure, height)
    figure.update_xaxes(title_text=_text(x))
    figure.update_yaxes(title_text=_text(y))
    return figure


def _text(words: object) -> str:
    """Escape a text of the run: plotly interprets some HTML in its texts."""
    return escape(str(words), quote=False)


def _style(figure: go.Figure, height: int) -> None:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 70, "r": 16, "t": 24, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(automargin=True, zeroline=False, gridcolor="rgba(128,128,128,.22)")
    figure.update_yaxes(automargin=True, zeroline=False, gridcolor="rgba(128,128,128,.22)")


def frontier(run: Run, x: str = "macs", y: str | None = None) -> go.Figure:
    """Every evaluated architecture, the frontier of two metrics, the knee and the budget.

    Args:
        x: metric on the horizontal axis.
        y: metric on the vertical axis; by default the first objective.

    Raises:
        UserError: for a metric that the run does not have.
    """
    y = run.objectives[0].metric if y is None else y
    done = [e for e in run.evaluations() if e.error is None]
    known = dict.fromkeys(name for e in done for name in e.metrics)
    for name in (x, y):
        if done and name not in known:
            raise unknown("metric", name, known)
    objectives = (objective_of(y), objective_of(x))
    have = [e for e in done if x in e.metrics and y in e.metrics]
    front = sorted(ranking.frontier(have, objectives), key=lambda e: e.metrics[x])
    figure = _figure(Metric.of(x).axis, Metric.of(y).axis, height=460)
    scatter = figure.add_scattergl if len(have) > GL_POINTS else figure.add_scatter
    scatter(
        x=[e.metrics[x] for e in have],
        y=[e.metrics[y] for e in have],
        mode="markers",
        marker={"size": 5, "color": LIGHT["muted"], "opacity": 0.5},
        name="evaluated",
        text=[e.arch.id for e in have],
    )
    figure.add_scatter(
        x=[e.metrics[x] for e in front],
        y=[e.metrics[y] for e in front],
        mode="lines+markers",
        line={
            "shape": "hv" if Metric.of(x).less_is_better else "vh",
            "color": LIGHT["accent"],
            "width": 2,
        },
        marker={"size": 8},
        name="frontier",
        text=[e.arch.id for e in front],
    )
    if front:
        at = front[knee(ranking.values(front, objectives), objectives)]
        figure.add_scatter(
            x=[at.metrics[x]],
            y=[at.metrics[y]],
            mode="markers",
            marker={"symbol": "diamond-open", "size": 15, "color": LIGHT["bound"]},
            name="knee",
            text=[at.arch.id],
        )
    for name, bound in run.specification.high.items():
        words = f"budget {Metric.of(name).quantity(bound)}"
        line = {"line": {"dash": "dash", "color": LIGHT["bound"]}, "annotation_text": words}
        if name == x:
            figure.add_vline(x=bound, **line)
        elif name == y:
            figure.add_hline(y=bound, **line)
    if Metric.of(y).is_share(max((e.metrics[y] for e in have), default=2.0)):
        figure.update_yaxes(tickformat=".1%")
    return figure


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
    figure = _figure(words, "hypervolume")
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

    worst = Task(run.specification, run.folder).worst
    return history.progress(run.evaluations(), run.objectives, worst)


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
    _style(figure, 380)
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
    _style(figure, 180 + 180 * len(costs))
    return figure


def curves(found: Mapping[str, Sequence[Mapping[str, Any]]] | Run) -> go.Figure:
    """Learning curves of architectures that were trained individually."""
    all_of = history.curves(found) if isinstance(found, Run) else found
    figure = _figure("step", "training loss")
    for index, (name, points) in enumerate(list(all_of.items())[:MAX_CURVES]):
        figure.add_scatter(
            x=[point["step"] for point in points],
            y=[point["loss"] for point in points],
            mode="lines",
            line={
                "color": list(LIGHT.values())[index % 4],
                "dash": DASHES[index // 4 % len(DASHES)],
            },
            name=_text(name.replace("-epochs", " epochs").replace("-", ", ")),
        )
    return figure


def importance(found: Mapping[str, Mapping[str, float]], most: int = 16) -> go.Figure:
    """Importance of each choice for each objective.

    Args:
        found: result of `nas.report.choices.importance`.
        most: largest number of choices, by their importance for the first objective.
    """
    first = next(iter(found.values()), {})
    names = list(first)[:most][::-1]
    height = 110 + (14 + 10 * len(found)) * len(names)
    figure = _figure("share of importance", "", height=height)
    patterns = ("", "/", ".", "x")
    for index, (metric, shares) in enumerate(found.items()):
        figure.add_bar(
            x=[shares.get(name, 0.0) for name in names],
            y=[_text(name) for name in names],
            orientation="h",
            marker={
                "color": list(LIGHT.values())[index % 4],
                "pattern": {"shape": patterns[index % len(patterns)]},
            },
            name=_text(f"for {Metric.of(metric).axis}"),
        )
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure


def preferences(
    rows: Sequence[tuple[str, object, float, float, object]], most: int = 16
) -> go.Figure:
    """Shares of options among all architectures and on the frontier: the largest differences.

    Args:
        rows: choice, option, share among all, share on the frontier; further items are ignored.
        most: largest number of options.
    """
    widest = sorted(rows, key=lambda row: -abs(row[3] - row[2]))[:most][::-1]
    names = [_text(f"{name} = {option}") for name, option, *_ in widest]
    figure = _figure("share of the architectures", "", height=110 + 26 * len(widest))
    figure.add_scatter(
        x=[end for row in widest for end in (row[2], row[3], None)],
        y=[name for name in names for _ in range(3)],
        mode="lines",
        line={"color": LIGHT["muted"], "width": 2},
        showlegend=False,
        hoverinfo="skip",
    )
    for column, words, symbol, colour in (
        (2, "among all", "circle-open", "muted"),
        (3, "on the frontier", "diamond", "accent"),
    ):
        figure.add_scatter(
            x=[float(row[column]) for row in widest],  # type: ignore[arg-type]
            y=names,
            mode="markers",
            marker={"symbol": symbol, "size": 11, "color": LIGHT[colour], "line": {"width": 2}},
            name=words,
        )
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure


def fidelity(result: Fidelity) -> go.Figure:
    """Inherited against stand-alone scores, from `RUN/fidelity.json`."""
    rows, metric = result.architectures, result.metric
    figure = _figure(
        f"inherited {Metric.of(metric).axis}", f"stand-alone {Metric.of(metric).axis}", height=380
    )
    figure.add_scatter(
        x=[row.inherited for row in rows],
        y=[row.alone for row in rows],
        mode="markers",
        marker={"size": 9, "color": LIGHT["accent"]},
        name="architectures",
        text=[f"{row.id}, {format_size(row.macs)} FLOPs" for row in rows],
        hovertemplate="%{text}<br>inherited %{x:.4f}, stand-alone %{y:.4f}<extra></extra>",
    )
    return figure


def latency_check(table: MeasuredTable) -> go.Figure:
    """Predicted against measured latencies of networks that are not part of the table."""
    measured = [network.ms for network in table.checked]
    predicted = [network.predicted_ms or 0.0 for network in table.checked]
    ends = [min(measured + predicted) * 0.95, max(measured + predicted) * 1.05]
    figure = _figure("measured milliseconds", "predicted milliseconds", height=380)
    for factor, words in ((0.9, "±10 %"), (1.1, None)):
        figure.add_scatter(
            x=ends,
            y=[factor * end for end in ends],
            mode="lines",
            line={"dash": "dot", "color": LIGHT["muted"]},
            name=words,
            showlegend=words is not None,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=measured,
        y=predicted,
        mode="markers",
        marker={"size": 9, "color": LIGHT["accent"]},
        name="unseen networks",
        text=[f"{format_size(network.macs)} FLOPs" for network in table.checked],
        hovertemplate="measured %{x:.3f} ms<br>predicted %{y:.3f} ms<br>%{text}<extra></extra>",
    )
    return figure


__all__ = [
    "curves",
    "fidelity",
    "frontier",
    "importance",
    "latency_check",
    "predictor",
    "preferences",
    "progress",
    "relaxation",
]
