"""A panel of the report: a title, a text, a figure and a table with the data of the figure.

Does not know HTML, nor what panels there are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Panel:
    """One panel; `table` consists of column headings and rows of texts.

    `pictures` are base64 PNGs with their captions.
    """

    key: str
    title: str
    text: str
    figure: Any = None
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    pictures: Sequence[tuple[str, str]] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON for the page; the figure is plotly's own JSON."""
        head, rows = self.table or ((), ())
        return {
            "key": self.key,
            "title": self.title,
            "text": self.text,
            "figure": None if self.figure is None else json.loads(self.figure.to_json()),
            "head": list(head),
            "rows": [list(row) for row in rows],
            "pictures": [list(picture) for picture in self.pictures],
        }
