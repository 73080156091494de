"""Writes a profiled network as one self-contained HTML page that opens offline.

The page has an icicle chart of the compute by module, the most expensive modules and suggested
savings. Knows plotly and HTML. Does not know how a network is counted or measured.
"""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

from evaluators.counting.counts import COUNT_CONVENTION, Count
from evaluators.counting.hints import hints
from evaluators.sizes import format_size
from hardware_profiles.peak import Peak
from nas.commands.profile.table import describe_peak, hint_modules, roofline_point

MAX_ROWS = 20
"""Maximum number of rows of a table."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #888; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  background: light-dark(#fff, #16181c); color: light-dark(#1b1f24, #e6e8eb); }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td:first-child { font-family: ui-monospace, monospace; font-size: .85rem; }
.figures { display: flex; flex-wrap: wrap; gap: 2rem; }
.figures div { min-width: 8rem; } .figures b { display: block; font-size: 1.3rem; }
.faint { color: var(--faint); } .gap { color: light-dark(#a15c00, #f0b060); }
.wide { overflow-x: auto; }
"""


def page(count: Count, peak: Peak | None, note: str | None) -> str:
    """Return the page as HTML.

    Args:
        count: the counted network.
        peak: peak of the device; None if nothing was measured.
        note: the reason why nothing was measured.
    """
    total = count.root.total()
    name = escape(count.root.name)
    figures = [
        ("FLOPs", f"{count.macs:,}"),
        ("parameters", f"{count.params:,}"),
        ("activations", format_size(total.activation_bytes, "B")),
        ("element operations", format_size(total.elementwise)),
    ]
    if total.forward_seconds is not None:
        figures.append(("forward pass", f"{total.forward_seconds * 1e3:.2f} ms"))
    if total.backward_seconds:
        figures.append(("backward pass", f"{total.backward_seconds * 1e3:.2f} ms"))
    point = roofline_point(total, peak) if peak is not None else None
    if point is not None:
        figures.append(("of the device's peak", f"{point.share:.0%}, {point.bound}-bound"))
    summary = "".join(f"<div>{label}<b>{value}</b></div>" for label, value in figures)
    inputs = ", ".join(f"{n} {'×'.join(map(str, s))}" for n, s in count.inputs.items())
    gaps = "".join(
        f'<p class="gap">Not counted: {escape(op)}, {gap.calls} calls, first in '
        f"<code>{escape(gap.path or count.root.name)}</code>"
        + (f", {gap.share_of_time:.1%} of the time" if gap.share_of_time is not None else "")
        + "</p>"
        for op, gap in count.uncounted.items()
    )
    chart = icicle(count).to_html(
        full_html=False, include_plotlyjs=True, config={"displaylogo": False, "responsive": True}
    )
    convention = COUNT_CONVENTION + ("" if peak is None else f" The {describe_peak(peak)}.")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}: compute by module</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>
<body><h1>{name} <span class="faint">at {escape(inputs)}</span></h1>
<div class="figures">{summary}</div>
{f'<p class="gap">{escape(note)}</p>' if note else ""}{gaps}
<h2>Compute by module</h2>
<p class="faint">The width is FLOPs, the colour the kind of op. Click a module to zoom in.</p>
{chart}
<h2>Most expensive modules</h2><div class="wide">{_expensive_modules(count, peak)}</div>
<h2>Possible savings</h2><div class="wide">{_hints(count)}</div>
<p class="faint">{escape(convention)}</p>
</body></html>
"""


COLOURS = {
    "convolution": "#3b7dd8",
    "linear": "#2f9e77",
    "attention": "#d9822b",
    "other": "#9a6fb0",
}


def icicle(count: Count) -> go.Figure:
    """Chart of the modules as nested bars whose widths are their multiply-accumulates."""
    ids, labels, parents, values, colours, texts = [], [], [], [], [], []
    whole = count.macs or 1
    for path, node in count.root.walk():
        total = node.total()
        if path and not total.own_macs:
            continue
        ids.append(path or "/")
        labels.append(path.rpartition(".")[2] or node.name)
        parents.append("" if not path else path.rpartition(".")[0] or "/")
        values.append(total.own_macs)
        main = max(total.macs, key=lambda kind: total.macs[kind])
        colours.append(COLOURS[main])
        texts.append(
            f"{node.type} {path}<br>{total.own_macs:,} FLOPs ({total.own_macs / whole:.1%})"
            f"<br>{total.params:,} parameters"
            + (f"<br>{total.forward_seconds * 1e3:.2f} ms" if total.forward_seconds else "")
        )
    figure = go.Figure(
        go.Icicle(
            ids=ids,
            labels=labels,
            parents=parents,
            values=values,
            branchvalues="total",
            marker={"colors": colours},
            hovertext=texts,
            hoverinfo="text",
            maxdepth=5,
            tiling={"orientation": "v"},
            textfont={"color": "#fff"},
        )
    )
    figure.update_layout(
        height=460, margin={"l": 0, "r": 0, "t": 0, "b": 0}, paper_bgcolor="rgba(0,0,0,0)"
    )
    return figure


def _expensive_modules(count: Count, peak: Peak | None) -> str:
    leaves = [(p, n) for p, n in count.root.walk() if n.own_macs or n.forward_seconds]
    timed = count.root.total().forward_seconds is not None
    leaves.sort(key=lambda item: -((item[1].forward_seconds or 0) if timed else item[1].own_macs))
    head = ["module", "type", "FLOPs", "share", "parameters"]
    head += ["forward", "GFLOP/s", "of peak", "bound"] if timed and peak else []
    rows = []
    for path, node in leaves[:MAX_ROWS]:
        cells = [
            escape(path or node.name),
            f"{escape(node.type)} {_detail(node.details)}",
            format_size(node.own_macs),
            f"{node.own_macs / (count.macs or 1):.1%}",
            format_size(node.params),
        ]
        if timed and peak:
            point = roofline_point(node, peak)
            cells.append(f"{(node.forward_seconds or 0) * 1e3:.3f} ms")
            cells += (
                [f"{point.flops_per_second / 1e9:.1f}", f"{point.share:.0%}", point.bound]
                if point
                else ["", "", ""]
            )
        rows.append(cells)
    return _table(head, rows)


def _detail(details: dict[str, object]) -> str:
    if "kernel" in details:
        kernel, groups = details["kernel"], details["groups"]
        assert isinstance(kernel, list)
        grouped = f", {groups} groups" if groups != 1 else ""
        return f'<span class="faint">{"×".join(map(str, kernel))}{grouped}</span>'
    if "tokens" in details:
        return f'<span class="faint">{details["tokens"]} tokens</span>'
    return ""


def _hints(count: Count) -> str:
    found = hints(count)[:MAX_ROWS]
    if not found:
        return "<p>No savings found.</p>"
    rows = [
        [
            escape(hint_modules(h, count)),
            escape(h.what),
            format_size(h.macs),
            format_size(h.macs - h.saved),
            f"{h.saved / count.macs:.1%}",
        ]
        for h in found
    ]
    return _table(["module", "suggestion", "FLOPs now", "FLOPs then", "saved of all"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    text = {1}
    top = "".join(f'<th{_text(i in text)} scope="col">{h}</th>' for i, h in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{_text(i in text)}>{c}</td>" for i, c in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _text(is_text: bool) -> str:
    return ' class="text"' if is_text else ""
