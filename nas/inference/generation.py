"""A language model goes on with a text: token by token, drawn from its probabilities.

Knows tokens and draws. Does not know files or which network is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.inference.sampling import Sampling
from search_spaces.errors import UserError


@dataclass(frozen=True)
class Tokens:
    """Meaning of token ids: the characters of a network's description, or a tokenizer's pieces."""

    encode: Callable[[str], Sequence[int]]
    continuation: Callable[[Sequence[int], Sequence[int]], str]
    """The text of the second ids as it goes on after that of the first."""
    count: int
    """Ids with a meaning; a network may have outputs for more."""

    @classmethod
    def of_characters(cls, characters: str, place: str) -> Tokens:
        """Ids as indices into `characters`."""
        index = {character: number for number, character in enumerate(characters)}

        def encode(text: str) -> list[int]:
            unknown = next((character for character in text if character not in index), None)
            if unknown is not None:
                raise UserError(
                    f"{place} does not know the character {unknown!r}: it knows {characters!r}"
                )
            return [index[character] for character in text]

        def continuation(before: Sequence[int], ids: Sequence[int]) -> str:
            return "".join(characters[number] for number in ids)

        return cls(encode, continuation, len(characters))

    @classmethod
    def of_tokenizer(cls, tokenizer: Any) -> Tokens:
        """Ids of a `tokenizers.Tokenizer`, which is changed: it neither cuts nor fills up a text.

        Many write a space, or take one away, by the piece before: what follows a text is decoded
        with it.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()

        def continuation(before: Sequence[int], ids: Sequence[int]) -> str:
            start, whole = (str(tokenizer.decode(list(n))) for n in (before, [*before, *ids]))
            return whole[len(start) :] if whole.startswith(start) else str(tokenizer.decode(ids))

        return cls(
            lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
            continuation,
            tokenizer.get_vocab_size(),
        )


def of_network(config: Mapping[str, Any], tokenizer: Callable[[], Any], place: str) -> Tokens:
    """The tokens of a language model."""
    characters = config.get("characters")
    if isinstance(characters, str) and characters:
        return Tokens.of_characters(characters, place)
    return Tokens.of_tokenizer(tokenizer())


def generated(
    function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    prompt: Sequence[int],
    *,
    context: int,
    known: int,
    sampling: Sampling,
) -> list[int]:
    """Token ids that follow a prompt.

    Each is drawn from the probabilities after the last `context` tokens. Networks have a fixed
    length of input, so a shorter text is filled up behind; what stands behind a token does not
    change its probabilities.

    Args:
        function: from ids `(1, context)` int64 to logits `(1, context, vocabulary)`.
        prompt: at least one token.
        known: ids with a meaning; no other is drawn.

    Raises:
        UserError: for outputs that are not finite.
    """
    rng = np.random.default_rng(sampling.seed)
    ids = list(prompt)
    for _ in range(sampling.tokens):
        window = ids[-context:]
        padded = np.zeros((1, context), dtype=np.int64)
        padded[0, : len(window)] = window
        logits = function(padded)[0, len(window) - 1, :known].astype(np.float64)
        if not np.isfinite(logits).all():
            raise UserError("the network's outputs are not finite numbers")
        ids.append(_drawn(logits, sampling, rng))
    return ids[len(prompt) :]


def _drawn(logits: npt.NDArray[np.float64], sampling: Sampling, rng: np.random.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    if sampling.most is not None and sampling.most < len(logits):
        logits = np.where(logits < np.sort(logits)[-sampling.most], -np.inf, logits)
    shares = np.exp((logits - logits.max()) / sampling.temperature)
    return int(rng.choice(len(shares), p=shares / shares.sum()))
