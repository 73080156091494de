"""Figures of the influence of choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from evaluators.metrics import Metric
from nas.report.figures.style import LIGHT, dumbbells, new_figure, text


def importance(found: Mapping[str, Mapping[str, float]], most: int = 16) -> go.Figure:
    """Importance of each choice for each objective.

    Args:
        found: result of `nas.report.findings.choices.importance`.
        most: largest number of choices, by their importance for the first objective.
    """
    first = next(iter(found.values()), {})
    names = list(first)[:most][::-1]
    height = 110 + (14 + 10 * len(found)) * len(names)
    figure = new_figure("share of importance", "", height=height)
    patterns = ("", "/", ".", "x")
    for index, (metric, shares) in enumerate(found.items()):
        figure.add_bar(
            x=[shares.get(name, 0.0) for name in names],
            y=[text(name) for name in names],
            orientation="h",
            marker={
                "color": list(LIGHT.values())[index % 4],
                "pattern": {"shape": patterns[index % len(patterns)]},
            },
            name=text(f"for {Metric.of(metric).axis}"),
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
    figure = dumbbells(
        [f"{name} = {option}" for name, option, *_ in widest],
        {
            "among all": [row[2] for row in widest],
            "on the frontier": [row[3] for row in widest],
        },
        "share of the architectures",
    )
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure
