"""A few lines on the data of a search, for `nas search --dry-run`; `nas data` says more.

Knows data that are loaded. Does not read files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluators.data.dataset import PARTS, Data, describe_parts
from evaluators.data.images import ImageData
from evaluators.data.sentences import SentenceData

MOST_NAMED = 12
"""Most classes whose names are written out."""

LONGEST_NAME = 24
"""Most letters of a name."""


def named_classes(classes: Sequence[str]) -> str:
    """The names of classes, shortened where they are many or long."""
    short = [c if len(c) <= LONGEST_NAME else f"{c[: LONGEST_NAME - 3]}..." for c in classes]
    if len(short) <= MOST_NAMED:
        return ", ".join(short)
    return f"{', '.join(short[: MOST_NAMED - 2])}, ... {short[-1]}"


def data_lines(data: Data) -> list[tuple[str, str]]:
    """What a search does with its data: pairs of a heading and a line."""
    lines = [("data", f"{data.name}: {describe_parts(data)}")]
    if isinstance(data, ImageData | SentenceData):
        lines.append(("classes", f"{len(data.classes):,}: {named_classes(data.classes)}"))
        counts = class_counts(data)
        least, most = int(counts.min()), int(counts.max())
        each = f"{most:,} of each" if least == most else f"{least:,} to {most:,} of each"
        lines.append(("training part", f"{each} class"))
    if isinstance(data, ImageData):
        channels = "grey" if data.channels == 1 else "colour"
        lines.append(("images", f"{channels}; {data.resizing or 'as they are'}"))
    elif isinstance(data, SentenceData):
        lines.append(("sentences", f"{data.sequence} tokens of {data.vocabulary:,}"))
    else:
        lines.append(("text", f"parts in {data.unit}"))
    return lines


def data_json(data: Data) -> dict[str, Any]:
    """The same as JSON."""
    content: dict[str, Any] = {
        "name": data.name,
        "parts": {p: {"samples": data.extent(p), "from": data.origins.get(p, "")} for p in PARTS},
    }
    if isinstance(data, ImageData | SentenceData):
        content["classes"] = dict(zip(data.classes, class_counts(data).tolist(), strict=True))
    if isinstance(data, ImageData):
        content |= {"image_size": data.image_size, "resizing": data.resizing}
    return content


def class_counts(data: ImageData | SentenceData) -> Any:
    """Training samples of each class, `(classes,)`."""
    return np.bincount(data.train.labels.numpy(), minlength=len(data.classes))
