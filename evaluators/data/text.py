"""Text for language models: `evaluators.data.dataset.Data` of tokens, with the loss as metric.

Parts are contiguous and disjoint: the first tokens are for training, the next for validation, and
the last for testing. The loss is in nats per token. Tokens are characters, or the pieces of a
tokenizer. Knows tokens. Does not know files (`files/text.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Augmentation
from evaluators.data.dataset import PARTS, Part, only, sample_indices
from evaluators.data.scoring import cross_entropy
from search_spaces.errors import UserError
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace
from search_spaces.token_ops import Embedding

SCORED_TOKENS = 65_536
"""Most tokens of the validation part to score a candidate on; the test part is used whole."""

SCORING_BATCH_TOKENS = 8_192
"""Tokens per batch in scoring."""


@dataclass(frozen=True)
class Vocabulary:
    """Meaning of token ids: characters, or the pieces of a tokenizer."""

    size: int
    characters: str = ""
    tokenizer: str = ""
    """JSON of a Hugging Face tokenizer, if tokens are not characters."""


@dataclass(frozen=True)
class TextData:
    """A text in three parts.

    `train`, `validation` and `test` are token ids `(n,)` int32. `context` is the number of tokens
    of a training window, the longest context of the space; 0 before `for_space`.
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    vocabulary: Vocabulary
    context: int = 0
    origins: Mapping[str, str] = field(default_factory=dict)

    metric: ClassVar[str] = "loss"
    unit: ClassVar[str] = "tokens"
    augmentation: ClassVar[tuple[str, ...]] = ()
    label_smoothing: ClassVar[float] = 0.0

    @property
    def worst(self) -> float:
        """Loss in nats per token of a uniform guess."""
        return math.log(self.vocabulary.size)

    @property
    def samples(self) -> str:
        """Windows of the longest context."""
        return f"windows of {self.context} tokens"

    @property
    def space_options(self) -> Mapping[str, int]:
        """Size of the vocabulary."""
        return {"vocabulary": self.vocabulary.size}

    @property
    def description(self) -> Mapping[str, Any]:
        """Size of the vocabulary, and its characters in order, if tokens are characters."""
        known = {"vocabulary": self.vocabulary.size}
        return {**known, "characters": self.vocabulary.characters or None}

    @property
    def files(self) -> Mapping[str, str]:
        """The tokenizer, if there is one."""
        tokenizer = self.vocabulary.tokenizer
        return {"tokenizer.json": tokenizer} if tokenizer else {}

    def part(self, name: Part) -> Tensor:
        """The token ids of a part, `(n,)`."""
        if name == "searched":
            return torch.cat([self.train, self.validation])
        ids: Tensor = getattr(self, name)
        return ids

    def extent(self, part: Part) -> int:
        """Number of tokens."""
        return len(self.part(part))

    def for_space(self, space: SearchSpace) -> TextData:
        """The same text with windows of the longest context of the space.

        Raises:
            UserError: if a part is too short for a window, or the space is not over these tokens.
        """
        shape = space.input_shape(space.largest)
        *_, (_, (*_, last)) = space.ops(space.largest)
        if len(shape) != 1 or len(last.out_shape) != 2:
            raise UserError(f"space {space.name} has no language models, but {self.name} is text")
        check_vocabulary(self.name, self.vocabulary.size, space)
        for name in PARTS:
            if self.extent(name) <= shape[0]:
                raise UserError(
                    f"{self.name}: the {name} part has {self.extent(name)} tokens, expected more "
                    f"than {shape[0]}, the longest context of {space.name}"
                )
        return replace(self, context=shape[0])

    def only(self, *parts: Part) -> TextData:
        """The same with all other parts empty."""
        return only(self, parts)

    def batches(self, part: Part = "train", augmentation: Augmentation | None = None) -> Windows:
        """Windows of `context` tokens of a part, without augmentation."""
        return Windows(self.name, self.part(part), self.context)

    def score(self, network: nn.Module, part: Part, shape: Shape) -> dict[str, float]:
        """Loss in nats per token, as `loss`.

        Every token is predicted from the tokens before it in its window. Windows do not overlap and
        have the length of the network's own context, so networks with a longer context benefit from
        it. Of the validation part at most `SCORED_TOKENS` are used, spread evenly over it.
        """
        most = SCORED_TOKENS if part == "validation" else None
        return {"loss": loss(network, self.part(part), shape[0], most)}

    def names(self, part: Part) -> None:
        """None: windows of a text have no names."""

    def labelled(self, part: Part) -> tuple[Tensor, Tensor]:
        """Not supported: text has no labels.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.name} has {self.samples} without labels")

    def calibration(self, count: int, seed: int, part: Part = "train") -> Tensor:
        """Random windows `(n, context)` int32 of a part."""
        windows = Windows(self.name, self.part(part), self.context)
        return windows.at(sample_indices(len(windows), count, seed) * self.context)[:, :-1]

    def inputs(self, samples: Tensor, shape: Shape, device: torch.device) -> Iterable[Tensor]:
        """The first tokens of windows, `(batch, *shape)` int64, in batches."""
        for part in samples.split(max(1, SCORING_BATCH_TOKENS // shape[0])):
            yield part[:, : shape[0]].long().to(device)


@dataclass(frozen=True)
class Windows:
    """Windows of a text, each token with the one that follows it.

    An epoch has as many windows as fit side by side. Each is shifted by a random offset below its
    length every time, so that over a training every token occurs at every position of a window.

    Attributes:
        noise: share of the tokens that a network reads in training that are others, drawn from the
            text (Xie et al., "Data noising as smoothing in neural network language models", 2017).
    """

    name: str
    ids: Tensor
    context: int
    noise: float = 0.0

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name of the text, and number and length of windows."""
        return {"windows": len(self), "context": self.context, "data": self.name}

    def __len__(self) -> int:
        return max(0, len(self.ids) - 1) // max(1, self.context)

    def draw(
        self, indices: Tensor, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Token ids and those that follow them, each `(batch, context)` int64."""
        shift = torch.randint(self.context, indices.shape, generator=generator)
        last = len(self.ids) - self.context - 1
        window = self.at((indices * self.context + shift).clamp(max=last))
        read, following = window[:, :-1], window[:, 1:]
        if self.noise:
            others = self.ids[torch.randint(len(self.ids), read.shape, generator=generator)]
            read = read.where(torch.rand(read.shape, generator=generator) >= self.noise, others)
        return read.long().to(device), following.long().to(device)

    def mixed(self, share: float) -> Self:
        """The same with a share of the tokens that are read replaced by others."""
        return replace(self, noise=share)

    def at(self, starts: Tensor) -> Tensor:
        """Windows that begin at `starts` `(n,)`, with the token after each: `(n, context + 1)`."""
        return self.ids[starts[:, None] + torch.arange(self.context + 1)]


@torch.no_grad()
def loss(network: nn.Module, ids: Tensor, context: int, most: int | None = None) -> float:
    """Mean loss in nats per token of a text `(n,)`, in disjoint windows of `context` tokens.

    Args:
        most: largest number of tokens to use, in windows spread evenly over the text; by default
            all tokens of whole windows.
    """
    device = next(network.parameters()).device
    windows = Windows("", ids, context)
    count = len(windows) if most is None else min(len(windows), max(1, most // context))
    starts = torch.arange(count) * len(windows) // count * context
    training = network.training
    network.eval()
    total = 0.0
    for part in starts.split(max(1, SCORING_BATCH_TOKENS // context)):
        window = windows.at(part).long().to(device)
        total += cross_entropy(network(window[:, :-1]), window[:, 1:]).item() * len(part)
    network.train(training)
    return total / count


def check_vocabulary(name: str, ids: int, space: SearchSpace) -> None:
    """Check that the embedding of a space has room for the token ids.

    Raises:
        UserError: if it has not.
    """
    ops = [op for _, block in space.ops(space.largest) for op in block]
    known = min(op.vocabulary for op in ops if isinstance(op, Embedding))
    if ids > known:
        raise UserError(f"{name} has {ids:,} different tokens, but space {space.name} {known:,}")
