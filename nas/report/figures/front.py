"""The frontier of a run as a figure."""

from __future__ import annotations

import plotly.graph_objects as go

from evaluators.metrics import Metric
from nas.report.figures.style import LIGHT, new_figure
from nas.run import ranking
from nas.run.folder import Run
from nas.run.objectives import directed, knee
from search_spaces.errors import unknown

GL_POINTS = 3000
"""Number of points above which a figure in a notebook is drawn with WebGL."""


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
    objectives = tuple(directed(name, run.objectives) for name in (y, x))
    have = [e for e in done if x in e.metrics and y in e.metrics]
    front = sorted(ranking.frontier(have, objectives), key=lambda e: e.metrics[x])
    figure = new_figure(Metric.of(x).axis, Metric.of(y).axis, height=460)
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
            "shape": "vh" if objectives[1].maximise else "hv",
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
