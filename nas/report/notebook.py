"""A run as HTML for a notebook: the frontier as a picture and a table, in a few kilobytes.

The picture is SVG without scripts, so that it shows in any viewer of notebooks, offline too;
`nas.figures` draws interactive ones. Knows runs. Does not know notebooks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from evaluators.metrics import COUNTED, Metric
from nas.report.figures import LIGHT
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import directed, knee

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 44
TICKS = 6
"""Most intervals between the ticks of an axis."""

TABLE_ROWS = 20


def run_html(run: Run, note: str = "") -> str:
    """Return the frontier of a run as HTML: picture, table, and a line below.

    Args:
        note: text of that line.
    """
    evaluations = run.evaluations()
    front = run.front(evaluations)
    if not front:
        return f"<p>{escape(str(run.folder))}: no architecture within the budget yet</p>"
    return (
        f"<div><p>frontier of {escape(str(run.folder))}</p>"
        f"{frontier_svg(run, evaluations)}{_table(run, front)}<p>{escape(note)}</p></div>"
    )


def frontier_svg(run: Run, evaluations: Sequence[Evaluation]) -> str:
    """Return the first objective against FLOPs as SVG: evaluations, frontier, winner, budget."""
    y, x = run.objectives[0].metric, "macs"
    done = [e for e in evaluations if e.feasible and x in e.metrics and y in e.metrics]
    front = [e for e in run.front(evaluations) if e in done]
    bound = run.budget.high.get(x)
    xs = [e.metrics[x] for e in done]
    across = _Axis([*xs, *([] if bound is None else [bound])], LEFT, WIDTH - RIGHT)
    up = _Axis([e.metrics[y] for e in done], HEIGHT - BOTTOM, TOP)

    def place(evaluation: Evaluation) -> tuple[float, float]:
        return across.at(evaluation.metrics[x]), up.at(evaluation.metrics[y])

    parts = [*_grid(across, up, x, y)]
    if bound is not None:
        parts.append(
            f'<line x1="{across.at(bound):.1f}" y1="{TOP}" x2="{across.at(bound):.1f}" '
            f'y2="{HEIGHT - BOTTOM}" stroke="{LIGHT["bound"]}" stroke-dasharray="5 4"/>'
        )
    parts += [
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{LIGHT["muted"]}" opacity="0.6"/>'
        for a, b in map(place, done)
    ]
    steps = ""
    # Of more than two objectives the run's frontier goes up and down between these two.
    pair = [directed(name, run.objectives) for name in (y, x)]
    for a, b in map(place, ranking.frontier(done, pair)):
        steps += f"M{a:.1f} {b:.1f}" if not steps else f"H{a:.1f}V{b:.1f}"
    if steps:
        end = across.ends[1] if bound is None else bound
        steps += f"H{across.at(end):.1f}"
        parts.append(f'<path d="{steps}" fill="none" stroke="{LIGHT["accent"]}" stroke-width="2"/>')
    for evaluation in front:
        a, b = place(evaluation)
        name = f"{evaluation.arch.id}: {Metric.of(y).format(evaluation.metrics[y])} at "
        name += Metric.of(x).quantity(evaluation.metrics[x])
        parts.append(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{LIGHT["accent"]}">'
            f"<title>{escape(name)}</title></circle>"
        )
        if evaluation.arch.id == run.winner:
            parts.append(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="8" fill="none" '
                f'stroke="{LIGHT["bound"]}" stroke-width="2"/>'
            )
    label = f"{Metric.of(y).axis} against {Metric.of(x).axis}, {len(done)} architectures"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(label)}" '
        f'font-family="sans-serif" font-size="12" fill="currentColor">{"".join(parts)}</svg>'
    )


class _Axis:
    """Values on a line of pixels, and round values between."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        low, high = min(values, default=0.0), max(values, default=1.0)
        margin = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
        self.ends = low - margin, high + margin
        self._pixels = start, stop

    def at(self, value: float) -> float:
        """The pixel of a value."""
        (low, high), (start, stop) = self.ends, self._pixels
        return start + (value - low) / (high - low) * (stop - start)

    @property
    def ticks(self) -> list[float]:
        """Multiples of 1, 2 or 5 times a power of ten between the ends."""
        low, high = self.ends
        power = 10.0 ** math.floor(math.log10((high - low) / TICKS))
        step = next(s * power for s in (1, 2, 5, 10) if s * power * TICKS >= high - low)
        return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _grid(across: _Axis, up: _Axis, x: str, y: str) -> list[str]:
    foot = HEIGHT - BOTTOM
    parts = []
    for value in across.ticks:
        at = f"{across.at(value):.1f}"
        parts.append(
            f'<line x1="{at}" y1="{foot}" x2="{at}" y2="{foot + 4}" stroke="currentColor"/>'
            f'<text x="{at}" y="{foot + 17}" text-anchor="middle">'
            f"{Metric.of(x).format(value)}</text>"
        )
    for value in up.ticks:
        at = f"{up.at(value):.1f}"
        parts.append(
            f'<line x1="{LEFT}" y1="{at}" x2="{WIDTH - RIGHT}" y2="{at}" stroke="currentColor" '
            f'opacity="0.15"/><text x="{LEFT - 6}" y="{at}" dy="4" text-anchor="end">'
            f"{Metric.of(y).format(value)}</text>"
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(Metric.of(x).axis)}</text>"
        f'<text transform="rotate(-90)" x="{-(TOP + foot) / 2:.0f}" y="13" text-anchor="middle">'
        f"{escape(Metric.of(y).axis)}</text>"
    )
    return parts


def _table(run: Run, front: Sequence[Evaluation]) -> str:
    """Objectives, counts and bounded metrics of the frontier, at most `TABLE_ROWS` of it."""
    wanted = dict.fromkeys((*(o.metric for o in run.objectives), *COUNTED, *run.budget.metrics))
    names = [name for name in wanted if name in front[0].metrics]
    at_knee = front[knee(ranking.values(front, run.objectives), run.objectives)]
    head = "".join(f"<th>{escape(Metric.of(name).axis)}</th>" for name in names)
    rows = []
    step = max(1, math.ceil(len(front) / TABLE_ROWS))
    for index, evaluation in enumerate(front):
        notes = ["winner"] if evaluation.arch.id == run.winner else []
        notes += ["knee"] if evaluation is at_knee else []
        if index % step and not notes:
            continue
        cells = "".join(
            f"<td>{escape(Metric.of(name).cell(evaluation.metrics.get(name)))}</td>"
            for name in names
        )
        rows.append(f"<tr><td>{evaluation.arch.id}</td>{cells}<td>{', '.join(notes)}</td></tr>")
    return (
        f"<table><thead><tr><th>id</th>{head}<th></th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
