"""The report as one file: the page's parts, plotly and the contents, put together.

Plotly and the contents stand in it as they are, not compressed: a page must open from a disk in any
browser, and at once. Nothing in it is fetched, which a policy of its own enforces. Knows files and
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
    "frontier.js",
    "drawing.js",
    "architecture.js",
    "comparison.js",
    "panels.js",
    "main.js",
)
"""In the order in which they need each other."""

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def page(contents: dict[str, Any], *, title: str, address: str = "") -> str:
    """The whole page.

    Args:
        address: where the contents of a live run are, on the same server; none for a file.
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
    """JSON that may stand within a script element: nothing in it ends that."""
    text = json.dumps(contents, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _part(name: str) -> str:
    return files("nas.report").joinpath("assets", name).read_text(encoding="utf-8")
