"""How a language model draws the tokens that it goes on with. Imports nothing that takes time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search_spaces.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """Settings of the draws.

    Attributes:
        tokens: number of tokens to draw.
        temperature: divides the logits: below 1, improbable tokens are drawn more rarely than in
            the text; 0 takes the most probable token every time.
        seed: of the draws.
        most: draw among this many most probable tokens; all by default.

    Raises:
        UserError: for a setting without a meaning: below 0 a temperature would draw the least
            probable tokens.
    """

    tokens: int = 200
    temperature: float = 0.8
    seed: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        least = {"tokens": (self.tokens, 1), "temperature": (self.temperature, 0)}
        least |= {"seed": (self.seed, 0), "most": (1 if self.most is None else self.most, 1)}
        for name, (value, low) in least.items():
            if not low <= value < math.inf:
                raise UserError(f"{name} is {value}, expected {low} or more")
