"""Writes the contact sheet of a data set: one HTML file that opens offline, samples by class.

Knows surveys and HTML. Does not know how data are read.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from html import escape

from PIL import Image

from evaluators.data.files.division import Division, Place
from evaluators.data.files.images import Found
from evaluators.data.files.sentences import FoundSentences
from evaluators.data.files.survey import ImageSurvey, SentenceSurvey
from evaluators.data.pixels import decode, to_bytes
from search_spaces.errors import UserError

SAMPLES = 4
"""Samples of a class and part."""

MOST_CLASSES = 50
"""Most classes of a page."""

THUMBNAIL = 64
"""Largest size of a thumbnail, in pixels."""

LONGEST_TEXT = 160
"""Most letters of a sentence."""

Sample = Callable[[Place], str]
"""Returns a sample as HTML."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: light-dark(#5c6269, #9aa1a9); }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 70rem; padding: 0 1rem;
  background: light-dark(#fff, #16181c); color: light-dark(#1b1f24, #e6e8eb);
  overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
p { margin: .3rem 0; } .faint { color: var(--faint); }
.warning { color: light-dark(#9a3412, #f0b060); }
.class { border-top: 1px solid var(--line); padding: .4rem 0; }
.parts { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; }
.part { min-width: 0; } .samples { display: flex; flex-wrap: wrap; gap: .25rem; }
img { width: 64px; height: 64px; image-rendering: pixelated; display: block; }
blockquote { margin: 0; padding-left: .5rem; border-left: 2px solid var(--line); width: 100%; }
"""


def image_page(survey: ImageSurvey, found: Found) -> str:
    """The page of images, with thumbnails as a search would see them."""
    size = min(THUMBNAIL, survey.image_size or THUMBNAIL)

    def thumbnail(place: Place) -> str:
        name = escape(place.name, quote=True)
        try:
            pixels = decode(found.images[place.source][place.row], place.name, place.row, size)
            (small,) = to_bytes({"": [pixels]}, place.name)[""]
        except UserError:
            return f'<span class="warning" title="{name}">not readable</span>'
        buffer = io.BytesIO()
        Image.fromarray(small.squeeze()).save(buffer, "PNG")
        encoded = base64.b64encode(buffer.getvalue()).decode()
        return f'<img src="data:image/png;base64,{encoded}" alt="{name}" title="{name}">'

    facts = [survey.resizing, f"modes: {_counts(survey.modes)}"]
    problems = [f"{name}: {why}" for name, why in survey.unreadable[:MOST_CLASSES]]
    return _page(survey, facts, problems, thumbnail)


def sentence_page(survey: SentenceSurvey, found: FoundSentences) -> str:
    """The page of sentences."""

    def quotation(place: Place) -> str:
        text = found.texts[place.source][place.row]
        short = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
        return f"<blockquote>{escape(short)}</blockquote>"

    return _page(survey, [], [], quotation)


def _page(
    survey: ImageSurvey | SentenceSurvey,
    facts: list[str],
    problems: list[str],
    sample: Sample,
) -> str:
    division, name = survey.division, escape(survey.name)
    shown = survey.classes[:MOST_CLASSES]
    by_class: dict[tuple[int, str], list[Place]] = {}
    for place in division.places:
        chosen = by_class.setdefault((place.label, place.part), [])
        if place.label < MOST_CLASSES and len(chosen) < SAMPLES:
            chosen.append(place)
    classes = "".join(
        f'<section class="class"><h2>{escape(title)}</h2><div class="parts">'
        + "".join(_part(division, part, label, by_class, sample) for part in division.parts)
        + "</div></section>"
        for label, title in enumerate(shown)
    )
    more = len(survey.classes) - len(shown)
    lines = [
        f"{part}: {found.samples:,}{_origin(found.origin)} ({found.reason})"
        for part, found in division.parts.items()
    ]
    equal = survey.duplicates
    if equal.groups:
        problems.append(
            f"{equal.surplus:,} samples repeat another; {len(equal.across):,} groups of equal ones "
            f"are in several parts, {len(equal.contradicting):,} of several classes"
        )
    if survey.refused is not None:
        problems.insert(0, f"A search refuses these data: {survey.refused}")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}: samples by class</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>
<body><h1>{name} <span class="faint">{len(survey.classes):,} classes</span></h1>
{"".join(f"<p>{escape(line)}</p>" for line in [*lines, *filter(None, facts)])}
{"".join(f'<p class="warning">{escape(line)}</p>' for line in problems)}
{classes}
{f'<p class="faint">{more:,} more classes</p>' if more > 0 else ""}
</body></html>
"""


def _origin(origin: str) -> str:
    return f", {origin}" if origin == "held out" else f" from {origin}" if origin else ""


def _part(
    division: Division,
    part: str,
    label: int,
    places: Mapping[tuple[int, str], list[Place]],
    sample: Sample,
) -> str:
    count = division.parts[part].by_class[label]
    samples = "".join(sample(place) for place in places.get((label, part), []))
    return (
        f'<div class="part"><span class="faint">{part} {count:,}</span>'
        f'<div class="samples">{samples}</div></div>'
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())
