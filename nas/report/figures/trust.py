"""Figures of the reliability of scores and latencies."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from evaluators.accuracy.class_scores import ClassScores
from evaluators.metrics import Metric
from evaluators.sizes import format_size
from hardware_profiles.latency.measured import MeasuredTable
from nas.report.figures.style import LIGHT, new_figure, text
from nas.studies.fidelity_result import Fidelity

MOST_LABELLED = 20
"""Most classes of a confusion matrix whose cells have numbers."""


def fidelity(result: Fidelity) -> go.Figure:
    """Inherited against stand-alone scores, from `RUN/fidelity.json`."""
    rows, metric = result.architectures, result.metric
    figure = new_figure(
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


def confusion(scores: ClassScores) -> go.Figure:
    """Share of each class (row) that is taken for each class (column)."""
    labels = [text(label) for label in scores.classes]
    counts = scores.confusion
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    few = len(labels) <= MOST_LABELLED
    figure = new_figure("predicted", "class", height=max(320, 120 + 26 * min(24, len(labels))))
    figure.add_heatmap(
        z=shares.tolist(),
        x=labels,
        y=labels,
        customdata=counts.tolist(),
        text=[[str(n) if n else "" for n in row] for row in counts.tolist()] if few else None,
        texttemplate="%{text}" if few else None,
        colorscale=[[0, "rgba(128,128,128,0.04)"], [1, LIGHT["accent"]]],
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate="%{y} taken for %{x}: %{customdata}, %{z:.1%}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return figure


def latency_check(table: MeasuredTable) -> go.Figure:
    """Predicted against measured latencies of networks that are not part of the table."""
    measured = [network.ms for network in table.checked]
    predicted = [network.predicted_ms or 0.0 for network in table.checked]
    ends = [min(measured + predicted) * 0.95, max(measured + predicted) * 1.05]
    figure = new_figure("measured milliseconds", "predicted milliseconds", height=380)
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
