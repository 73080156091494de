"""The protocol of data sets: samples in three disjoint parts, and the metric of a network on them.

It is implemented by images (`images.py`), text (`text.py`) and labelled sentences (`sentences.py`),
so that training, scoring, counting and export do not depend on the kind of samples. Training
samples are for training, validation samples for scoring candidates during the search, and test
samples for the winner only. Does not know files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Augmentation
from evaluators.data.batches import Batches
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace

Names = npt.NDArray[np.object_]
"""Names `(n,)` of samples: files, rows or sentences."""

Part = Literal["train", "validation", "test", "searched"]
"""`searched` is training and validation together, all that a search may use."""

PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Data(Protocol):
    """A data set in parts."""

    @property
    def name(self) -> str:
        """Name or path that the data were loaded by."""
        ...

    @property
    def metric(self) -> str:
        """Name of the metric of a network on these data: `accuracy` or `loss`."""
        ...

    @property
    def worst(self) -> float:
        """Value of the metric of a network that guesses."""
        ...

    @property
    def unit(self) -> str:
        """Unit of `extent`, in plural: `images`, `tokens`, `sentences`."""
        ...

    @property
    def samples(self) -> str:
        """Elements of a training batch, in plural: `images`, `windows of 256 tokens`, ..."""
        ...

    @property
    def augmentation(self) -> tuple[str, ...]:
        """Names of the augmentations applied by default."""
        ...

    @property
    def label_smoothing(self) -> float:
        """Label smoothing in training by default: 0 if the metric is the loss itself."""
        ...

    @property
    def space_options(self) -> Mapping[str, int]:
        """Arguments of `search_spaces.catalogue.load_space` that the data determine."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """Description of inputs and outputs for users of a trained network, as JSON."""
        ...

    @property
    def files(self) -> Mapping[str, str]:
        """Contents of text files that users of a trained network need, by file name."""
        ...

    @property
    def origins(self) -> Mapping[str, str]:
        """File or folder of each part, `held out`, or nothing."""
        ...

    def extent(self, part: Part) -> int:
        """Size of a part, in `unit`."""
        ...

    def for_space(self, space: SearchSpace) -> Self:
        """The same data, prepared for the networks of a space.

        Raises:
            UserError: if the space does not accept such data.
        """
        ...

    def only(self, *parts: Part) -> Self:
        """The same data with all other parts empty; workers get no test samples."""
        ...

    def batches(self, part: Part = "train", augmentation: Augmentation | None = None) -> Batches:
        """Samples of a part to train on; with the default augmentation if none is given."""
        ...

    def score(self, network: nn.Module, part: Part, shape: Shape) -> dict[str, float]:
        """The metric of a network on a part, by name.

        Args:
            network: on any device and in any mode; its mode is restored.
            shape: input shape of one sample, `space.input_shape(arch)`.
        """
        ...

    def names(self, part: Part) -> Sequence[str] | None:
        """Name of each sample of a part, by which a user finds it; None where there is none."""
        ...

    def labelled(self, part: Part) -> tuple[Tensor, Tensor]:
        """The samples of a part, for `inputs`, and their labels `(n,)`.

        Raises:
            UserError: for data whose samples have no labels.
        """
        ...

    def calibration(self, count: int, seed: int, part: Part = "train") -> Tensor:
        """At most `count` random samples of a part, for `inputs`."""
        ...

    def inputs(self, samples: Tensor, shape: Shape, device: torch.device) -> Iterable[Tensor]:
        """Samples of `calibration` or `labelled` as inputs of `shape`, in batches on `device`."""
        ...


def describe_parts(data: Data) -> str:
    """The parts of a data set with their sizes and origins, in one line."""

    def described(part: Part) -> str:
        origin = data.origins.get(part)
        return f"{part} {data.extent(part):,}" + (f" ({origin})" if origin else "")

    return " · ".join(map(described, PARTS))


Parted = TypeVar("Parted", bound=Any)


def only(data: Parted, parts: Iterable[Part]) -> Parted:
    """A copy of `data`, a dataclass with a field per part, with all other parts empty."""
    kept = {"train", "validation"} if "searched" in parts else set(parts)
    empty: Parted = replace(
        data, **{name: getattr(data, name)[:0] for name in PARTS if name not in kept}
    )
    return empty


def sample_indices(n: int, count: int, seed: int) -> Tensor:
    """At most `count` distinct random indices below `n`, in random order: `(count,)` int64."""
    return torch.from_numpy(np.random.default_rng(seed).choice(n, min(count, n), replace=False))
