"""Labelled sentences: `evaluators.data.dataset.Data` of token ids, with accuracy as metric.

Each sentence is `[CLS] pieces [SEP]`, padded to one length; attention ignores padding. Knows token
ids. Does not know how sentences become ids, nor files (`files/sentences.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Augmentation
from evaluators.data.dataset import Names, Part, only, sample_indices
from evaluators.data.scoring import SCORING_BATCH, share_correct
from evaluators.data.text import check_vocabulary
from search_spaces.errors import UserError
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace

PADDING = 0
"""Token id of padding."""


@dataclass(frozen=True)
class Sentences:
    """Token ids `(n, sequence)` int32, padded with `PADDING`, labels `(n,)` int64, and texts."""

    ids: Tensor
    labels: Tensor
    texts: Names | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor | slice) -> Sentences:
        at = indices if isinstance(indices, slice) else indices.numpy()
        texts = None if self.texts is None else self.texts[at]
        return Sentences(self.ids[indices], self.labels[indices], texts)


@dataclass(frozen=True)
class SentenceData:
    """Labelled sentences in three parts; `tokenizer` is the JSON of a Hugging Face tokenizer."""

    name: str
    train: Sentences
    validation: Sentences
    test: Sentences
    classes: tuple[str, ...]
    vocabulary: int
    tokenizer: str
    origins: Mapping[str, str] = field(default_factory=dict)

    metric: ClassVar[str] = "accuracy"
    worst: ClassVar[float] = 0.0
    unit: ClassVar[str] = "sentences"
    samples: ClassVar[str] = "sentences"
    augmentation: ClassVar[tuple[str, ...]] = ()
    label_smoothing: ClassVar[float] = 0.1

    @property
    def sequence(self) -> int:
        """Number of tokens of a sentence, including padding."""
        return int(self.train.ids.shape[1])

    @property
    def space_options(self) -> Mapping[str, int]:
        """Sequence length, size of the vocabulary, number of classes, and the id of padding."""
        return {
            "sequence": self.sequence,
            "vocabulary": self.vocabulary,
            "classes": len(self.classes),
            "padding": PADDING,
        }

    @property
    def description(self) -> Mapping[str, Any]:
        """Names of the classes, and the id of padding."""
        return {"classes": list(self.classes), "padding": PADDING}

    @property
    def files(self) -> Mapping[str, str]:
        """The tokenizer, which pads and truncates."""
        return {"tokenizer.json": self.tokenizer}

    def part(self, name: Part) -> Sentences:
        """The sentences of a part."""
        if name == "searched":
            parts = (self.train, self.validation)
            return Sentences(
                torch.cat([p.ids for p in parts]), torch.cat([p.labels for p in parts])
            )
        sentences: Sentences = getattr(self, name)
        return sentences

    def extent(self, part: Part) -> int:
        """Number of sentences."""
        return len(self.part(part))

    def for_space(self, space: SearchSpace) -> SentenceData:
        """The same sentences.

        Raises:
            UserError: if the space does not classify sentences of these tokens.
        """
        shape = space.input_shape(space.largest)
        *_, (_, (*_, last)) = space.ops(space.largest)
        if len(shape) != 1 or last.out_shape != (len(self.classes),):
            raise UserError(
                f"space {space.name} does not classify sentences into the {len(self.classes)} "
                f"classes of {self.name}"
            )
        if shape[0] > self.sequence:
            raise UserError(
                f"space {space.name} takes {shape[0]} tokens, but the sentences of {self.name} "
                f"have {self.sequence}"
            )
        check_vocabulary(self.name, self.vocabulary, space)
        return self

    def only(self, *parts: Part) -> SentenceData:
        """The same with all other parts empty."""
        return only(self, parts)

    def batches(
        self, part: Part = "train", augmentation: Augmentation | None = None
    ) -> SentenceBatches:
        """The sentences of a part, without augmentation."""
        return SentenceBatches(self.name, self.part(part))

    def score(self, network: nn.Module, part: Part, shape: Shape) -> dict[str, float]:
        """Share of correctly classified sentences, as `accuracy`."""
        ids, labels = self.labelled(part)
        device = next(network.parameters()).device
        return {"accuracy": share_correct(network, self.inputs(ids, shape, device), labels)}

    def names(self, part: Part) -> Sequence[str] | None:
        """The sentences of a part; None where they are not kept."""
        texts = self.part(part).texts
        return None if texts is None else [str(text) for text in texts]

    def labelled(self, part: Part) -> tuple[Tensor, Tensor]:
        """Token ids `(n, sequence)` int32 and their labels."""
        sentences = self.part(part)
        return sentences.ids, sentences.labels

    def calibration(self, count: int, seed: int, part: Part = "train") -> Tensor:
        """Token ids `(n, sequence)` int32 of random sentences of a part."""
        ids = self.part(part).ids
        return ids[sample_indices(len(ids), count, seed)]

    def inputs(self, samples: Tensor, shape: Shape, device: torch.device) -> Iterable[Tensor]:
        """The first tokens of sentences, `(batch, *shape)` int64, in batches."""
        for part in samples.split(SCORING_BATCH):
            yield part[:, : shape[0]].long().to(device)


@dataclass(frozen=True)
class SentenceBatches:
    """Sentences to train on."""

    name: str
    sentences: Sentences

    @property
    def identity(self) -> Mapping[str, Any]:
        """Number of sentences and name of the data."""
        return {"sentences": len(self), "data": self.name}

    def __len__(self) -> int:
        return len(self.sentences)

    def mixed(self, share: float) -> Self:
        """The same: sentences are not mixed."""
        return self

    def draw(
        self, indices: Tensor, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Token ids `(batch, sequence)` int64 and labels `(batch,)`."""
        chosen = self.sentences[indices]
        return chosen.ids.long().to(device), chosen.labels.to(device)
