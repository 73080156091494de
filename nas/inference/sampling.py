"""How a language model draws the tokens that it goes on with. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Settings of the draws.

    Attributes:
        tokens: number of tokens to draw.
        temperature: divides the logits: below 1, improbable tokens are drawn more rarely than in
            the text; 0 takes the most probable token every time.
        seed: of the draws.
        most: draw among this many most probable tokens; all by default.
    """

    tokens: int = 200
    temperature: float = 0.8
    seed: int = 0
    most: int | None = None
