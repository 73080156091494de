"""Holds out validation and test parts from the training samples of a data set, by class.

Knows labels. Does not know what is labelled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.errors import UserError

HELD_OUT = 0.1
"""Share of all samples held out for each part that a data set lacks."""

SPLIT_SEED = 0
"""Default seed of that split, independent of a run's, so that runs are scored on equal samples."""


class Labelled(Protocol):
    """Samples with labels `(n,)` int64 that can be indexed."""

    @property
    def labels(self) -> Tensor:
        """Index of the class of each sample."""
        ...

    def __getitem__(self, indices: Tensor) -> Self:
        """The samples with `indices`."""
        ...


Samples = TypeVar("Samples", bound=Labelled)


def held_out(
    parts: dict[str, Samples],
    name: str,
    classes: tuple[str, ...],
    share: float,
    seed: int,
    what: str = "images",
) -> dict[str, Samples]:
    """Hold out each missing part as a `share` of all samples, stratified by class.

    `name`, `classes` and `what` are for the message of the error.

    Raises:
        UserError: if a class has too few samples to be in every part.
    """
    for missing in ("test", "validation"):
        if missing in parts:
            continue
        train = parts["train"]
        keep, held = stratified(train.labels.numpy(), share, seed, name, classes, what)
        # Both shares are of all samples, also of those held out first.
        if missing == "test":
            share = share / (1 - share)
        parts = {
            **parts,
            "train": train[torch.from_numpy(keep)],
            missing: train[torch.from_numpy(held)],
        }
    return parts


def origins_of(found: Collection[str], origins: Mapping[str, str]) -> dict[str, str]:
    """Where each part comes from, to be shown; empty for a part without a file of its own.

    Args:
        found: the parts that the data set has; the others are held out.
        origins: file or folder of each, where it has one.
    """
    parts = ("train", "validation", "test")
    return {part: origins.get(part, "" if part in found else "held out") for part in parts}


def stratified(
    labels: npt.NDArray[np.int64],
    share: float,
    seed: int,
    name: str = "data",
    classes: tuple[str, ...] = (),
    what: str = "images",
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split the indices of labels `(n,)` into a rest and a `share` of each class, both sorted.

    Raises:
        UserError: if a class has too few samples to be in every part.
    """
    rng = np.random.default_rng(seed)
    rest: list[npt.NDArray[np.int64]] = []
    held: list[npt.NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = max(1, round(share * len(members)))
        if len(members) <= count:
            title = classes[label] if classes else label
            raise UserError(
                f"{name}: class '{title}' has too few {what} to hold some out for validation and "
                "test: expected at least 3 per class"
            )
        held.append(members[:count])
        rest.append(members[count:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(held))
