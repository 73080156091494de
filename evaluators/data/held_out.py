"""Parts of a data set that it does not bring itself: held out of its training samples, by class.

Knows labels. Does not know what is labelled.
"""

from __future__ import annotations

from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.errors import UserError


class Labelled(Protocol):
    """Samples with labels `(n,)` int64, of which some can be taken by their indices."""

    @property
    def labels(self) -> Tensor:
        """Which class each sample is of."""
        ...

    def __getitem__(self, indices: Tensor) -> Self:
        """The samples with these indices."""
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
    """Hold out the parts that are missing, a `share` of all samples each, by class.

    `name`, `classes` and `what` are for the error's text.

    Raises:
        UserError: if a class has too few samples to be in every part.
    """
    for missing in ("test", "validation"):
        if missing in parts:
            continue
        train = parts["train"]
        keep, held = stratified(train.labels.numpy(), share, seed, name, classes, what)
        # The share is of all samples, whichever part is taken out first.
        if missing == "test":
            share = share / (1 - share)
        parts = {
            **parts,
            "train": train[torch.from_numpy(keep)],
            missing: train[torch.from_numpy(held)],
        }
    return parts


def stratified(
    labels: npt.NDArray[np.int64],
    share: float,
    seed: int,
    name: str = "data",
    classes: tuple[str, ...] = (),
    what: str = "images",
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split indices of `(n,)` labels into the rest and a `share` of each class, both sorted.

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
                "test; expected at least 3 a class"
            )
        held.append(members[:count])
        rest.append(members[count:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(held))
