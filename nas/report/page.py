"""Assembles the report as one HTML file: the page's assets, plotly and the contents.

Plotly and the contents are embedded uncompressed, so that the page opens quickly from a disk in any
browser. The page fetches nothing, which its content security policy enforces. Knows files and
escaping. Does not know what the contents mean.
"""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from typing import Any

PARTS = (
    "data.js",
    "theme.js",
    "saving.js",
    "winner.js",
    "frontier.js",
    "drawing.js",
    "architecture.js",
    "comparison.js",
    "trials.js",
    "panels.js",
    "links.js",
    "main.js",
)
"""Scripts in the order of their dependencies."""

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def page(contents: dict[str, Any], *, title: str, address: str = "") -> str:
    """The HTML of the whole page.

    Args:
        contents: see `nas.report.contents`.
        title: name of the run.
        address: address of a live run's contents on the same server; empty for a file.
    """
    from plotly.offline import get_plotlyjs

    parts = {
        "policy": POLICY + ("; connect-src 'self'" if address else ""),
        "address": escape(address),
        "title": escape(f"{title}: search report"),
        "style": _part("page.css"),
        "contents": embedded(contents),
        "plotly": get_plotlyjs(),
        "script": "\n".join(_part(name).replace('"use strict";\n', "") for name in PARTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def embedded(contents: dict[str, Any]) -> str:
    """JSON that is safe inside a script element: nothing in it can close the element."""
    text = json.dumps(contents, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _part(name: str) -> str:
    return files("nas.report").joinpath("assets", name).read_text(encoding="utf-8")
