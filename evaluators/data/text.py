"""A text that a language model learns to go on with: `evaluators.dataset.Data` of tokens.

Its parts are contiguous and do not overlap: the first tokens train, the next ones validate, the
last ones test. A network is judged by its loss, in nats a token. Tokens are the text's characters,
or what a `tokenizer.json` makes of it. Knows tokens. Does not know files beyond how they are asked
for (`text_files.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Augmentation
from evaluators.data.dataset import PARTS, Part, drawn, only
from evaluators.data.scoring import cross_entropy
from search_spaces.errors import UserError
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace
from search_spaces.token_ops import Embedding

SCORED_TOKENS = 65_536
"""Tokens of the validation part that score a candidate; the test part is scored whole."""

SCORING_BATCH_TOKENS = 8_192


@dataclass(frozen=True)
class Vocabulary:
    """What token ids stand for: characters, or the pieces of a tokenizer."""

    size: int
    characters: str = ""
    tokenizer: str = ""
    """JSON of Hugging Face's `tokenizers`, where it is not characters."""


@dataclass(frozen=True)
class TextData:
    """A text in three parts.

    `train`, `validation` and `test` are token ids `(n,)` int32. `context` is how many tokens a
    training window has, the longest context of the space; 0 before there is a space.
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    vocabulary: Vocabulary
    context: int = 0

    metric: ClassVar[str] = "loss"
    unit: ClassVar[str] = "tokens"
    augmentation: ClassVar[tuple[str, ...]] = ()
    label_smoothing: ClassVar[float] = 0.0

    @property
    def worst(self) -> float:
        """Nats a token of a guess among all tokens."""
        return math.log(self.vocabulary.size)

    @property
    def samples(self) -> str:
        """Windows of the longest context."""
        return f"windows of {self.context} tokens"

    @property
    def space_options(self) -> Mapping[str, int]:
        """The number of token ids."""
        return {"vocabulary": self.vocabulary.size}

    @property
    def description(self) -> Mapping[str, Any]:
        """What ids stand for: the characters in their order, where they are characters."""
        known = {"vocabulary": self.vocabulary.size}
        return {**known, "characters": self.vocabulary.characters or None}

    @property
    def files(self) -> Mapping[str, str]:
        """The tokenizer, where there is one."""
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
        """With windows of the space's longest context.

        Raises:
            UserError: if a part is too short for one, or the space is not over these tokens.
        """
        shape = space.input_shape(space.largest)
        *_, (_, (*_, last)) = space.ops(space.largest)
        if len(shape) != 1 or len(last.out_shape) != 2:
            raise UserError(f"space {space.name} is no language model, and {self.name} is text")
        check_vocabulary(self.name, self.vocabulary.size, space)
        for name in PARTS:
            if self.extent(name) <= shape[0]:
                raise UserError(
                    f"{self.name}: the {name} part has {self.extent(name)} tokens, expected more "
                    f"than the longest context of {space.name}, {shape[0]}"
                )
        return replace(self, context=shape[0])

    def only(self, *parts: Part) -> TextData:
        """The same with no tokens in all other parts."""
        return only(self, parts)

    def batches(self, part: Part = "train", augmentation: Augmentation | None = None) -> Windows:
        """Windows of `context` tokens; nothing augments a text."""
        return Windows(self.name, self.part(part), self.context)

    def score(self, network: nn.Module, part: Part, shape: Shape) -> dict[str, float]:
        """Nats a token, as `loss`.

        Every token of a window is predicted from those before it in its window. Windows follow one
        another without overlap and are as long as the network's own context, so that what a longer
        context tells is in its favour. Of the validation part there are at most `SCORED_TOKENS`,
        spread evenly over it.
        """
        most = SCORED_TOKENS if part == "validation" else None
        return {"loss": loss(network, self.part(part), shape[0], most)}

    def labelled(self, part: Part) -> tuple[Tensor, Tensor]:
        """Nothing: a text has no labels.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.name} has {self.samples}, and no labels")

    def calibration(self, count: int, seed: int, part: Part = "train") -> Tensor:
        """Random windows of a part `(n, context)` int32."""
        windows = Windows(self.name, self.part(part), self.context)
        return windows.at(drawn(len(windows), count, seed) * self.context)[:, :-1]

    def inputs(self, samples: Tensor, shape: Shape, device: torch.device) -> Iterable[Tensor]:
        """Their first tokens `(batch, *shape)` int64."""
        for part in samples.split(max(1, SCORING_BATCH_TOKENS // shape[0])):
            yield part[:, : shape[0]].long().to(device)


@dataclass(frozen=True)
class Windows:
    """Windows of a text with the token that follows each of their tokens.

    An epoch has as many as fit side by side. Each is shifted by less than its length, at random
    each time, so that every token is at every place of a window in the course of a training.
    """

    name: str
    ids: Tensor
    context: int

    @property
    def identity(self) -> Mapping[str, Any]:
        """The text's name, and how many windows of which length it has."""
        return {"windows": len(self), "context": self.context, "data": self.name}

    def __len__(self) -> int:
        return max(0, len(self.ids) - 1) // max(1, self.context)

    def draw(
        self, indices: Tensor, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Token ids and the next ones, each `(batch, context)` int64."""
        shift = torch.randint(self.context, indices.shape, generator=generator)
        last = len(self.ids) - self.context - 1
        window = self.at((indices * self.context + shift).clamp(max=last)).long().to(device)
        return window[:, :-1], window[:, 1:]

    def at(self, starts: Tensor) -> Tensor:
        """The windows that begin at `(n,)` places, and the token after each: `(n, context + 1)`."""
        return self.ids[starts[:, None] + torch.arange(self.context + 1)]


@torch.no_grad()
def loss(network: nn.Module, ids: Tensor, context: int, most: int | None = None) -> float:
    """Mean nats a token of a text `(n,)` in windows of `context` tokens that do not overlap.

    Args:
        most: how many tokens count at most, in windows spread evenly over the text; by default all
            but the few at its end that make no whole window.
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
    """Raise a `UserError` if a space's embedding has no place for so many token ids."""
    ops = [op for _, block in space.ops(space.largest) for op in block]
    known = min(op.vocabulary for op in ops if isinstance(op, Embedding))
    if ids > known:
        raise UserError(f"{name} has {ids:,} different tokens, and space {space.name} {known:,}")
