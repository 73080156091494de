"""Says what is in a data set and what a search does with it, in words and as JSON: `nas data`.

Knows surveys. Does not read data (`evaluators/data/files`), and does not write pages (`sheet.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evaluators.data.dataset import PARTS
from evaluators.data.files.division import Duplicates, Place
from evaluators.data.files.images import find_images
from evaluators.data.files.kinds import kind_of_data
from evaluators.data.files.sentences import find_sentences
from evaluators.data.files.survey import (
    ImageSurvey,
    SentenceSurvey,
    survey_images,
    survey_sentences,
)
from evaluators.data.files.text import load_text
from evaluators.data.text import TextData
from nas.commands.data.sheet import image_page, sentence_page
from nas.commands.show.console import make_console, print_json
from nas.commands.show.data import named_classes
from search_spaces.catalogue import samples_of
from search_spaces.errors import UserError
from search_spaces.files import check_writable, write_text

MOST_CLASSES = 20
"""Most classes of the table."""

MOST_NAMES = 10
"""Most unreadable files, and most groups of equal samples, that are listed."""

MOST_IN_GROUP = 4
"""Most samples of a group of equal ones that are listed."""

Survey = ImageSurvey | SentenceSurvey


def describe_and_print(
    name: str, *, space: str | None, image_size: int | None, html: Path | None, as_json: bool
) -> bool:
    """Print what is in a data set; write its page if a file is given.

    Returns:
        Whether a search would refuse the data.

    Raises:
        UserError: for data that are of no kind, or have no parts or classes.
    """
    if html is not None:
        check_writable(html.parent)
    errors = Console(stderr=True)
    with errors.status(f"reading {name}") if errors.is_terminal else nullcontext():
        kind = kind_of_data(name) if space is None else samples_of(space)
        if kind != "images" and image_size is not None:
            raise UserError(f"--image-size is for images, and {name} is read as {kind}")
        if kind == "text":
            return _describe_text(load_text(name), html, as_json=as_json)
        survey: Survey
        if kind == "images":
            images = find_images(name)
            survey = survey_images(images, image_size)
            page = None if html is None else image_page(survey, images)
        else:
            sentences = find_sentences(name)
            survey = survey_sentences(sentences)
            page = None if html is None else sentence_page(survey, sentences)
    if html is not None and page is not None:
        write_text(html, page)
    if as_json:
        print_json(to_json(survey))
    else:
        _print(make_console(), survey)
        if html is not None:
            make_console(soft_wrap=True).print(f"page in {html}", markup=False)
    return survey.refused is not None


def to_json(survey: Survey) -> dict[str, Any]:
    """The survey as JSON."""
    images = isinstance(survey, ImageSurvey)
    parts = {
        name: {
            "samples": part.samples,
            "from": part.origin,
            "why": part.reason,
            "by_class": dict(zip(survey.classes, part.by_class, strict=True)),
        }
        for name, part in survey.division.parts.items()
    }
    content: dict[str, Any] = {
        "data": survey.name,
        "kind": "images" if images else "sentences",
        "classes": list(survey.classes),
        "parts": parts,
    }
    if isinstance(survey, ImageSurvey):
        content |= {
            "width": spread([width for width, _ in survey.sizes]),
            "height": spread([height for _, height in survey.sizes]),
            "modes": dict(survey.modes),
            "image_size": survey.image_size,
            "resizing": survey.resizing,
            "unreadable": [{"file": file, "reason": why} for file, why in survey.unreadable],
        }
    else:
        content["words"] = spread(survey.words)
    duplicates = survey.duplicates
    return {
        **content,
        "equal_samples": {
            "surplus": duplicates.surplus,
            "groups": [_group_json(group, survey.classes) for group in duplicates.groups],
            "groups_in_several_parts": len(duplicates.across),
            "groups_of_several_classes": len(duplicates.contradicting),
        },
        "refused": survey.refused,
    }


def spread(values: Sequence[int]) -> dict[str, int] | None:
    """Least, median and largest of whole numbers; None without any."""
    if not values:
        return None
    ordered = np.sort(np.asarray(values))
    return {
        "min": int(ordered[0]),
        "median": int(ordered[(len(ordered) - 1) // 2]),
        "max": int(ordered[-1]),
    }


def _group_json(group: Sequence[Place], classes: Sequence[str]) -> list[dict[str, str]]:
    return [{"part": p.part, "name": p.name, "class": classes[p.label]} for p in group]


def balance(classes: Sequence[str], counts: Sequence[int]) -> str:
    """The largest and the smallest class, in words."""
    most, least = int(np.argmax(counts)), int(np.argmin(counts))
    if counts[most] == counts[least]:
        return f"{counts[most]:,} of each class"
    ratio = f", {counts[most] / counts[least]:.3g} times as many" if counts[least] else ""
    return (
        f"most of '{classes[most]}', {counts[most]:,}; fewest of '{classes[least]}', "
        f"{counts[least]:,}{ratio}"
    )


def _print(console: Console, survey: Survey) -> None:
    what = "images" if isinstance(survey, ImageSurvey) else "sentences"

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    say(f"{survey.name}: {what}, {len(survey.classes):,} classes: {named_classes(survey.classes)}")
    table = Table(box=None, pad_edge=False)
    for header in ("part", what, "from", "because"):
        table.add_column(header, justify="right" if header == what else "left", overflow="fold")
    for name, part in survey.division.parts.items():
        table.add_row(name, f"{part.samples:,}", _plain(part.origin or "-"), _plain(part.reason))
    console.print(table)
    console.print(_classes(survey))
    train = survey.division.parts["train"].by_class
    say(f"training part: {balance(survey.classes, train)}")
    if isinstance(survey, ImageSurvey):
        for side, index in (("width", 0), ("height", 1)):
            found = spread([size[index] for size in survey.sizes])
            if found is not None:
                say(f"{side}: {found['min']} to {found['max']} pixels, median {found['median']}")
        say("modes: " + ", ".join(f"{mode} {n:,}" for mode, n in survey.modes.items()))
        if survey.resizing:
            say(f"in a search: {survey.resizing}")
        _say_names(say, "not readable", [f"{file}: {why}" for file, why in survey.unreadable])
    else:
        found = spread(survey.words)
        if found is not None:
            say(f"words: {found['min']} to {found['max']}, median {found['median']}")
        say("in a search: needs --space bert-mini or another space of sentences")
    _say_duplicates(say, survey.duplicates, survey.classes)
    if survey.refused is not None:
        say(f"a search refuses these data: {survey.refused}")


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _classes(survey: Survey) -> Table:
    """Samples of each class by part, the largest classes first where not all are shown."""
    parts = survey.division.parts
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    for name in parts:
        table.add_column(name, justify="right")
    order = list(range(len(survey.classes)))
    if len(order) > MOST_CLASSES:
        train = parts["train"].by_class
        order = sorted(order, key=lambda i: -train[i])
        half = MOST_CLASSES // 2
        order = [*order[:half], *order[-half:]]
    for place, index in enumerate(order):
        if len(survey.classes) > MOST_CLASSES and place == MOST_CLASSES // 2:
            table.add_row(f"... {len(survey.classes) - MOST_CLASSES:,} more (--json has all)")
        counts = (f"{part.by_class[index]:,}" for part in parts.values())
        table.add_row(_plain(survey.classes[index]), *counts)
    return table


def _say_names(say: Any, what: str, names: Sequence[str]) -> None:
    say(f"{what}: {len(names):,}" if names else f"{what}: none")
    for name in names[:MOST_NAMES]:
        say(f"  {name}")
    if len(names) > MOST_NAMES:
        say(f"  ... {len(names) - MOST_NAMES:,} more (--json has all)")


def _say_duplicates(say: Any, duplicates: Duplicates, classes: Sequence[str]) -> None:
    groups = duplicates.groups
    if not groups:
        say("equal samples: none")
        return
    say(
        f"equal samples: {duplicates.surplus:,} repeat another, in {len(groups):,} groups; "
        f"{len(duplicates.across):,} groups in several parts, "
        f"{len(duplicates.contradicting):,} of several classes"
    )
    # The worst first: of several parts, then of several classes.
    worst = (
        sorted(
            groups, key=lambda g: (g not in duplicates.across, g not in duplicates.contradicting)
        )
        if len(groups) < 1000
        else [*duplicates.across, *groups]
    )
    for group in list(dict.fromkeys(worst))[:MOST_NAMES]:
        some = [f"{p.name} ({p.part}, {classes[p.label]})" for p in group[:MOST_IN_GROUP]]
        more = f" and {len(group) - MOST_IN_GROUP} more" if len(group) > MOST_IN_GROUP else ""
        say(f"  {' = '.join(some)}{more}")
    if len(groups) > MOST_NAMES:
        say(f"  ... {len(groups) - MOST_NAMES:,} more (--json has all)")


def _describe_text(data: TextData, html: Path | None, *, as_json: bool) -> bool:
    """Print what is in a text."""
    if html is not None:
        raise UserError(f"--html shows images and sentences, and {data.name} is a text")
    whole = max(1, sum(data.extent(part) for part in PARTS))
    parts = {
        part: {
            "samples": data.extent(part),
            "from": data.origins.get(part, ""),
            "why": "the end of the text" if data.origins.get(part) == "held out" else "",
        }
        for part in PARTS
    }
    if as_json:
        print_json(
            {
                "data": data.name,
                "kind": "text",
                "unit": data.unit,
                "vocabulary": data.vocabulary.size,
                "parts": parts,
                "refused": None,
            }
        )
        return False
    console = make_console(soft_wrap=True)
    console.print(
        f"{data.name}: a text with {data.vocabulary.size:,} different tokens", markup=False
    )
    for part, found in parts.items():
        where = ", ".join(str(found[key]) for key in ("from", "why") if found[key])
        count = data.extent(part)
        console.print(
            f"{part}: {count:,} {data.unit}, {count / whole:.0%}"
            + (f" ({where})" if where else ""),
            markup=False,
        )
    return False
