"""Where a classifier is right and wrong: confusion matrix, accuracy by class, confident mistakes.

Knows predictions and labels. Imports no torch, unless a network is scored.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evaluators.accuracy.interval import share_interval

if TYPE_CHECKING:
    from torch import nn

    from evaluators.data.dataset import Data, Part
    from search_spaces.ops import Shape

MAX_MISTAKES = 50
"""Most mistakes that are kept, the most confident ones."""

PICTURES = 12
"""Mistakes whose images are kept."""

MAX_SIDE = 96
"""Largest side of such a picture, in pixels."""

IN_BRIEF = 3
"""Classes that a line of text names."""


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy on the samples of one class, with its 95 % interval."""

    label: str
    samples: int
    correct: int
    interval: tuple[float, float] | None
    """None without samples."""

    @property
    def accuracy(self) -> float | None:
        """Share of the samples that are classified correctly; None without samples."""
        return self.correct / self.samples if self.samples else None


@dataclass(frozen=True)
class Mistake:
    """A sample that is classified wrongly."""

    index: int
    """Its position in the part of the data that was scored."""
    name: str | None
    """Its file, row or sentence; None where it is not known."""
    label: str
    """Its class."""
    predicted: str
    probability: float
    """Of the predicted class."""
    picture: str | None = None
    """The image as the network sees it, as a base64 PNG; of the first `PICTURES` images only."""


@dataclass(frozen=True)
class ClassScores:
    """Predictions of a classifier on labelled samples, by class.

    Attributes:
        classes: their names in the network's order.
        confusion: `(classes, classes)`: samples of a class (row) by predicted class (column).
        mistakes: the most confident ones, the most confident first.
        unit: `images` or `sentences`.
    """

    classes: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    mistakes: tuple[Mistake, ...]
    unit: str = "images"

    @classmethod
    def of(
        cls,
        predicted: npt.NDArray[np.int64],
        confidence: npt.NDArray[np.floating[Any]],
        labels: npt.NDArray[np.int64],
        classes: Sequence[str],
        names: Sequence[str] | None = None,
        unit: str = "images",
    ) -> ClassScores:
        """Count the predictions of a classifier.

        Args:
            predicted: class of each sample, `(n,)`.
            confidence: probability of that class, `(n,)`.
            labels: the true classes, `(n,)`.
            names: of the samples, `(n,)`.
        """
        confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(confusion, (labels, predicted), 1)
        wrong = np.flatnonzero(predicted != labels)
        wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
        mistakes = (
            Mistake(
                index,
                None if names is None else names[index],
                classes[labels[index]],
                classes[predicted[index]],
                round(float(confidence[index]), 6),
            )
            for index in wrong.tolist()
        )
        return cls(tuple(classes), confusion, tuple(mistakes), unit)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the samples that are classified correctly."""
        return float(np.trace(self.confusion) / max(1, self.samples))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return share_interval(self.accuracy, self.samples)

    @property
    def by_class(self) -> list[ClassAccuracy]:
        """Accuracy on the samples of each class."""
        rows = zip(self.classes, self.confusion.sum(axis=1), np.diag(self.confusion), strict=True)
        return [
            ClassAccuracy(
                label,
                int(samples),
                int(correct),
                share_interval(correct / samples, int(samples)) if samples else None,
            )
            for label, samples, correct in rows
        ]

    @property
    def confusions(self) -> list[tuple[str, str, int]]:
        """Pairs of a class and another that it is taken for, with their number, most first."""
        rows, columns = np.nonzero(self.confusion)
        pairs = [
            (self.classes[row], self.classes[column], int(self.confusion[row, column]))
            for row, column in zip(rows, columns, strict=True)
            if row != column
        ]
        return sorted(pairs, key=lambda pair: -pair[2])

    @property
    def in_brief(self) -> str:
        """The least accurate classes and the most confident mistake; empty without mistakes."""
        known = [(one.accuracy, one.label) for one in self.by_class if one.accuracy is not None]
        least = sorted(pair for pair in known if pair[0] < 1)[:IN_BRIEF]
        if not least or not self.mistakes:
            return ""
        first = self.mistakes[0]
        name = f"sample {first.index}" if first.name is None else first.name
        return (
            f"least accurate: {', '.join(f'{label} {share:.1%}' for share, label in least)}; most "
            f"confident mistake: {name}, {first.label} taken for {first.predicted} "
            f"({first.probability:.1%})"
        )

    def to_json(self) -> dict[str, Any]:
        """The content of `scores.json`."""
        return {
            "samples": self.samples,
            "unit": self.unit,
            "accuracy": self.accuracy,
            "interval_95": list(self.interval),
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "by_class": [
                {
                    "label": one.label,
                    "samples": one.samples,
                    "correct": one.correct,
                    "accuracy": one.accuracy,
                    "interval_95": None if one.interval is None else list(one.interval),
                }
                for one in self.by_class
            ],
            "mistakes": [
                {
                    "index": one.index,
                    "name": one.name,
                    "label": one.label,
                    "predicted": one.predicted,
                    "probability": one.probability,
                    **({} if one.picture is None else {"picture": one.picture}),
                }
                for one in self.mistakes
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ClassScores:
        """The scores that `to_json` wrote.

        Raises:
            KeyError: for a content that lacks a field.
            ValueError: for one that is no matrix.
        """
        confusion = np.asarray(content["confusion"], dtype=np.int64)
        classes = tuple(content["classes"])
        if confusion.shape != (len(classes), len(classes)):
            raise ValueError(f"confusion of {confusion.shape} with {len(classes)} classes")
        mistakes = (Mistake(**one) for one in content["mistakes"])
        return cls(classes, confusion, tuple(mistakes), content["unit"])


def scored_classes(network: nn.Module, data: Data, part: Part, shape: Shape) -> ClassScores | None:
    """Predictions of a network on a part of its data, by class; its mode is restored.

    Args:
        shape: input shape of one sample.

    Returns:
        None for data without classes.
    """
    import torch

    classes = data.description.get("classes")
    if classes is None:
        return None
    samples, labels = data.labelled(part)
    device, training = next(network.parameters()).device, network.training
    predicted, confidence = [], []
    network.eval()
    with torch.no_grad():
        for inputs in data.inputs(samples, shape, device):
            probabilities = network(inputs).double().softmax(dim=1)
            highest = probabilities.max(dim=1)
            predicted.append(highest.indices.cpu().numpy())
            confidence.append(highest.values.cpu().numpy())
    network.train(training)
    found = ClassScores.of(
        np.concatenate(predicted),
        np.concatenate(confidence),
        labels.numpy(),
        classes,
        data.names(part),
        data.unit,
    )
    if data.unit != "images":
        return found
    first, rest = found.mistakes[:PICTURES], found.mistakes[PICTURES:]
    pictures = (replace(one, picture=_png(samples[one.index].numpy())) for one in first)
    return replace(found, mistakes=(*pictures, *rest))


def _png(image: npt.NDArray[np.uint8]) -> str:
    """An image `(channels, height, width)` as a base64 PNG, at most `MAX_SIDE` pixels large."""
    from PIL import Image

    planes = image.transpose(1, 2, 0)
    drawn = Image.fromarray(planes[:, :, 0] if planes.shape[2] == 1 else planes[:, :, :3])
    drawn.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
