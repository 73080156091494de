"""How samples with labels are divided into the parts of a search, and which of them are equal.

Says it, with names and reasons; `held_out.py` divides. Knows labels and names of samples. Does not
know what a sample is (`survey.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evaluators.data.dataset import PARTS
from evaluators.data.held_out import SPLIT_SEED, held_out
from search_spaces.errors import UserError


class FoundSamples(Protocol):
    """Samples with labels by part, as files have them."""

    @property
    def name(self) -> str:
        """Name or path of the data."""
        ...

    @property
    def labels(self) -> Mapping[str, Sequence[int]]:
        """Index of the class of each sample, by part."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def origins(self) -> Mapping[str, str]:
        """File or folder of each part, where it has one."""
        ...

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why it is of that part, where files are."""
        ...

    @property
    def share(self) -> float:
        """Share of all samples that is held out for each part that is missing."""
        ...

    def sample_name(self, part: str, row: int) -> str:
        """The file of a sample, or its part and row."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a sample is."""

    part: str
    """Its part in a search."""
    source: str
    """Its part in the files."""
    row: int
    """Its index there."""
    name: str
    label: int
    """Index of its class."""


@dataclass(frozen=True)
class PartOfSearch:
    """The samples of a part, as a search uses it."""

    samples: int
    by_class: tuple[int, ...]
    origin: str
    """File or folder that they come from, or `held out`; empty for data known by name."""
    reason: str
    """Why they are of this part."""


@dataclass(frozen=True)
class Division:
    """The parts of a search."""

    parts: Mapping[str, PartOfSearch]
    places: tuple[Place, ...]
    refused: str | None
    """Why a search refuses to hold samples out; None if it does not."""


@dataclass(frozen=True)
class Duplicates:
    """Groups of samples that are equal to the last pixel or letter."""

    groups: tuple[tuple[Place, ...], ...]

    @property
    def surplus(self) -> int:
        """Samples beyond the first of each group."""
        return sum(len(group) - 1 for group in self.groups)

    @property
    def across(self) -> tuple[tuple[Place, ...], ...]:
        """The groups with samples of several parts: what is tested, or chosen by, was trained on.

        Most come of holding out: of two equal samples, one may be held out.
        """
        return tuple(g for g in self.groups if len({place.part for place in g}) > 1)

    @property
    def contradicting(self) -> tuple[tuple[Place, ...], ...]:
        """The groups with samples of several classes."""
        return tuple(g for g in self.groups if len({place.label for place in g}) > 1)


def duplicates_of(digests: Iterable[tuple[bytes, Place]]) -> Duplicates:
    """The groups of samples with equal digests; an empty digest is equal to none."""
    groups: dict[bytes, list[Place]] = {}
    for digest, place in digests:
        if digest:
            groups.setdefault(digest, []).append(place)
    return Duplicates(tuple(tuple(group) for group in groups.values() if len(group) > 1))


@dataclass(frozen=True)
class _Rows:
    """Samples by their labels `(n,)` and their indices in the part of the files."""

    labels: Tensor
    rows: Tensor

    def __getitem__(self, indices: Tensor) -> _Rows:
        return _Rows(self.labels[indices], self.rows[indices])


def divide(found: FoundSamples, what: str) -> Division:
    """The parts of a search, as it makes them.

    Args:
        what: the samples in plural, for the reason of a refusal.
    """
    given = {
        part: _Rows(torch.tensor(labels, dtype=torch.int64), torch.arange(len(labels)))
        for part, labels in found.labels.items()
    }
    split, refused = given, None
    try:
        split = held_out(given, found.name, found.classes, found.share, SPLIT_SEED, what)
    except UserError as error:
        refused = str(error)
    parts, places = dict[str, PartOfSearch](), list[Place]()
    for part in (p for p in PARTS if p in split):
        source = part if part in given else "train"
        labels, rows = split[part].labels.tolist(), split[part].rows.tolist()
        counts = np.bincount(labels, minlength=len(found.classes))
        held = part not in given
        reason = (
            f"{found.share:.0%} of the samples, of each class alike, with a fixed seed"
            if held
            else found.reasons.get(part, "as the data set names it")
        )
        origin = "held out" if held else found.origins.get(part, "")
        parts[part] = PartOfSearch(len(rows), tuple(counts.tolist()), origin, reason)
        places += [
            Place(part, source, row, found.sample_name(source, row), label)
            for row, label in zip(rows, labels, strict=True)
        ]
    return Division(parts, tuple(places), refused)
