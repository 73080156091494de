"""What is in a data set: sizes and modes of images, what cannot be read, equal samples, classes.

Reads every sample once, images in threads, and keeps none. Does not know how the survey is shown
(`nas/commands/data`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ImageOps

from evaluators.data.deep_colours import deep_pixels
from evaluators.data.files.division import Division, Duplicates, divide, duplicates_of
from evaluators.data.files.images import Found
from evaluators.data.files.sentences import FoundSentences
from evaluators.data.files.sizes import Size, resizing
from evaluators.data.pixels import CHUNK, WIDE_MODES, open_image, plain

PIXELS = "pixels"
"""The mode of an image that is a list of numbers."""

DIGEST_BYTES = 16


@dataclass(frozen=True)
class ImageSurvey:
    """What is in a data set of images, and what a search does with it."""

    name: str
    classes: tuple[str, ...]
    division: Division
    sizes: tuple[Size, ...]
    """Of every readable image, width and height in pixels."""
    modes: Mapping[str, int]
    """Number of images by Pillow's mode; `PIXELS` for lists of numbers."""
    unreadable: tuple[tuple[str, str], ...]
    """File or row, and the reason."""
    duplicates: Duplicates
    image_size: int | None
    """Size that a search resizes to; None where no training image can be read."""
    resizing: str

    @property
    def refused(self) -> str | None:
        """Why a search cannot use the data; None if it can."""
        if self.unreadable:
            name, reason = self.unreadable[0]
            return f"{name} cannot be read ({reason})"
        return self.division.refused


@dataclass(frozen=True)
class SentenceSurvey:
    """What is in a data set of sentences with labels, and what a search does with it."""

    name: str
    classes: tuple[str, ...]
    division: Division
    words: tuple[int, ...]
    """Number of words of every sentence."""
    duplicates: Duplicates

    @property
    def refused(self) -> str | None:
        """Why a search cannot use the data; None if it can."""
        return self.division.refused


@dataclass(frozen=True)
class _Look:
    """What one image is, or why it cannot be read."""

    size: Size = (0, 0)
    mode: str = ""
    digest: bytes = b""
    """Of the upright pixels, transparent ones on white: equal for equal images."""
    error: str | None = None


def survey_images(found: Found, image_size: int | None = None) -> ImageSurvey:
    """Survey images.

    Args:
        found: the images.
        image_size: size that a search would be given.
    """
    looks = {part: _looks(values, f"{found.name}: {part}") for part, values in found.images.items()}
    division = divide(found, "images")
    good = [look for of_part in looks.values() for look in of_part if look.error is None]
    training = [look.size for look in looks["train"] if look.error is None]
    scaled = resizing(training, image_size) if training else None
    return ImageSurvey(
        found.name,
        found.classes,
        division,
        tuple(look.size for look in good),
        dict(Counter(look.mode for look in good).most_common()),
        tuple(
            (found.sample_name(part, row), look.error)
            for part, of_part in looks.items()
            for row, look in enumerate(of_part)
            if look.error is not None
        ),
        duplicates_of((looks[p.source][p.row].digest, p) for p in division.places),
        None if scaled is None else scaled.size,
        "" if scaled is None else scaled.words,
    )


def survey_sentences(found: FoundSentences) -> SentenceSurvey:
    """Survey sentences with labels."""
    division = divide(found, "sentences")
    texts = [(found.texts[p.source][p.row], p) for p in division.places]
    return SentenceSurvey(
        found.name,
        found.classes,
        division,
        tuple(len(text.split()) for text, _ in texts),
        duplicates_of((_digest(text.encode("utf-8", "replace")), p) for text, p in texts),
    )


def _looks(values: Sequence[Any], where: str) -> list[_Look]:
    def chunk(start: int) -> list[_Look]:
        stop = min(start + CHUNK, len(values))
        return [_look(values[row], where, row) for row in range(start, stop)]

    with ThreadPoolExecutor() as pool:
        return [look for looks in pool.map(chunk, range(0, len(values), CHUNK)) for look in looks]


def _look(value: Any, where: str, row: int) -> _Look:
    # Pillow raises errors of many kinds for a broken file, as `pixels.decode` knows too.
    try:
        image = open_image(value, where, row)
        if isinstance(image, np.ndarray):
            return _Look((image.shape[1], image.shape[0]), PIXELS, _digest_of_pixels(image))
        size, mode = image.size, image.mode
        deep = deep_pixels(image)
        if deep is not None:
            return _Look(size, mode, _digest_of_pixels(deep))
        if image.getexif():
            image = ImageOps.exif_transpose(image)
        if not mode.startswith(WIDE_MODES):
            image = plain(image)
        return _Look(size, mode, _digest_of_pixels(np.asarray(image)))
    except Exception as error:
        return _Look(error=_reason(error.__cause__ or error))


def _reason(error: BaseException) -> str:
    text = (str(error).splitlines() or [""])[0]
    return "no image" if not text or "cannot identify" in text else text


def _digest_of_pixels(pixels: Any) -> bytes:
    return _digest(f"{pixels.shape} {pixels.dtype} ".encode() + pixels.tobytes())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
