"""What all figures have in common: colours, axes, and text that is safe in plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

LIGHT = {"accent": "#0b6e99", "muted": "#8a94a3", "bound": "#b4470f", "third": "#6b4fa0"}
DARK = {"accent": "#58bfe8", "muted": "#7d8896", "bound": "#f0a35e", "third": "#b9a1f0"}

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def new_figure(x: str, y: str, *, height: int = 320) -> go.Figure:
    """An empty figure with two named axes; `height` in pixels."""
    figure = go.Figure()
    style(figure, height)
    figure.update_xaxes(title_text=text(x))
    figure.update_yaxes(title_text=text(y))
    return figure


def text(words: object) -> str:
    """Escape a text of the run: plotly interprets some HTML in its texts."""
    return escape(str(words), quote=False)


def style(figure: go.Figure, height: int) -> None:
    """Set what all figures share; `height` in pixels."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 70, "r": 16, "t": 24, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(automargin=True, zeroline=False, gridcolor="rgba(128,128,128,.22)")
    figure.update_yaxes(automargin=True, zeroline=False, gridcolor="rgba(128,128,128,.22)")


def dumbbells(
    names: Sequence[str], ends: Mapping[str, Sequence[float | None]], axis: str
) -> go.Figure:
    """Two values of each name, joined by a line; the names are escaped here."""
    figure = new_figure(axis, "", height=110 + 26 * len(names))
    labels = [text(name) for name in names]
    figure.add_scatter(
        x=[end for pair in zip(*ends.values(), strict=True) for end in (*pair, None)],
        y=[label for label in labels for _ in range(3)],
        mode="lines",
        line={"color": LIGHT["muted"], "width": 2},
        showlegend=False,
        hoverinfo="skip",
    )
    looks = (("circle-open", "muted"), ("diamond", "accent"))
    for (words, values), (symbol, colour) in zip(ends.items(), looks, strict=True):
        figure.add_scatter(
            x=list(values),
            y=labels,
            mode="markers",
            marker={"symbol": symbol, "size": 11, "color": LIGHT[colour], "line": {"width": 2}},
            name=words,
        )
    return figure
