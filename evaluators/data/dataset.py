"""What a search is for: samples in three parts that never overlap, and how a network is judged.

One protocol over images (`data.py`), text (`text.py`) and labelled sentences (`sentences.py`), so
that nothing which trains, scores, counts or exports asks what the samples are. Training samples
train, validation samples score candidates during the search, test samples judge the winner and are
seen by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Augmentation
from evaluators.data.batches import Batches
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace

Part = Literal["train", "validation", "test", "searched"]
"""`searched` is training and validation together: all that a search may see."""


PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Data(Protocol):
    """A data set in parts, with what a network must know of it."""

    @property
    def name(self) -> str:
        """As it was asked for."""
        ...

    @property
    def metric(self) -> str:
        """What a network is judged by: `accuracy`, of which more is better, or `loss`."""
        ...

    @property
    def worst(self) -> float:
        """The metric of a network that knows nothing."""
        ...

    @property
    def unit(self) -> str:
        """What `extent` counts, in plural: `images`, `tokens`, `sentences`."""
        ...

    @property
    def samples(self) -> str:
        """What a training batch is of, in plural: `images`, `windows of 256 tokens`, ..."""
        ...

    @property
    def augmentation(self) -> tuple[str, ...]:
        """Names of the augmentations that suit the samples."""
        ...

    @property
    def label_smoothing(self) -> float:
        """What suits the metric: none where it is the loss itself."""
        ...

    @property
    def space_options(self) -> Mapping[str, int]:
        """What a space must be built with, as arguments of `search_spaces.catalogue.load_space`."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """What someone who uses a trained network must know of its inputs and outputs, as JSON."""
        ...

    @property
    def files(self) -> Mapping[str, str]:
        """Text files that the use of a trained network takes, by name."""
        ...

    def extent(self, part: Part) -> int:
        """How much there is of a part."""
        ...

    def for_space(self, space: SearchSpace) -> Self:
        """The same data as networks of a space take them.

        Raises:
            UserError: if they cannot.
        """
        ...

    def only(self, *parts: Part) -> Self:
        """The same data with all other parts empty: for workers, which see no test samples."""
        ...

    def batches(self, part: Part = "train", augmentation: Augmentation | None = None) -> Batches:
        """Samples to train on; with the data's own augmentation by default."""
        ...

    def score(self, network: nn.Module, part: Part, shape: Shape) -> dict[str, float]:
        """The metric of a network on a part, by name.

        Args:
            network: on any device, in any mode, which it is left in.
            shape: of one sample as the network takes it, `space.input_shape(arch)`.
        """
        ...

    def labelled(self, part: Part) -> tuple[Tensor, Tensor]:
        """The samples of a part, as `inputs` takes them, and their labels `(n,)`.

        Raises:
            UserError: for data whose samples have no labels.
        """
        ...

    def calibration(self, count: int, seed: int, part: Part = "train") -> Tensor:
        """At most so many samples of a part, drawn at random, as the data keep them."""
        ...

    def inputs(self, samples: Tensor, shape: Shape, device: torch.device) -> Iterable[Tensor]:
        """Samples that `calibration` gave as a network's inputs of that shape, in batches."""
        ...


Parted = TypeVar("Parted", bound=Any)


def only(data: Parted, parts: Iterable[Part]) -> Parted:
    """Data that are a dataclass with a field for each part, with all other parts empty."""
    kept = {"train", "validation"} if "searched" in parts else set(parts)
    empty: Parted = replace(
        data, **{name: getattr(data, name)[:0] for name in PARTS if name not in kept}
    )
    return empty


def drawn(n: int, count: int, seed: int) -> Tensor:
    """Indices of at most `count` of `n` samples, each once, in random order: `(count,)` int64."""
    return torch.from_numpy(np.random.default_rng(seed).choice(n, min(count, n), replace=False))
