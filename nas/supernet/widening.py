"""Progressive widening: which options a supernet's subnets may take as its training goes on.

At first the largest network alone, then smaller options, one group of choices after the other, in
the order of Cai et al. ("Once-for-all", 2020, section 3.3): kernels, depths, widths. Here it is
one schedule inside one training. Knows choices by the last part of their names.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from search_spaces.architecture import Architecture
from search_spaces.space import Choice, SearchSpace

GROUPS: tuple[tuple[str, ...], ...] = (
    ("kernel",),
    ("depth",),
    ("expand", "width", "heads", "group", "ratio"),
)
"""Name endings in the order in which they open; every other choice is open from the start."""

LARGEST_SHARE = 0.2
"""Share of the steps in which only the largest option of each of these choices is trained."""

OPEN_AT = 0.7
"""Share of the steps after which all options are open."""


class Widening:
    """The lowest option of each choice at each step.

    Raises:
        ValueError: for a space that has no choice to widen.
    """

    def __init__(self, space: SearchSpace, steps: int) -> None:
        self.space = space
        self.steps = steps
        groups = [[c for c in space.choices if _group(c) == n] for n in range(len(GROUPS))]
        self._opening = [
            # One option more at a time, for all choices of the group that have so many.
            (choice, option, place)
            for place, (choices, option) in enumerate(
                (choices, option)
                for choices in groups
                for option in range(max((len(c.options) for c in choices), default=1) - 2, -1, -1)
            )
            for choice in choices
            if option < len(choice.options) - 1
        ]
        if not self._opening:
            raise ValueError(f"space {space.name} has no choice to widen")
        self._places = 1 + max(place for *_, place in self._opening)

    def lowest(self, step: int) -> npt.NDArray[np.uint8]:
        """The index of the cheapest option that may be taken, by choice: `(choices,)`."""
        lowest = np.zeros(len(self.space.choices), dtype=np.uint8)
        for choice in self.space.choices:
            if _group(choice) is not None:
                lowest[self.space.column[choice.name]] = len(choice.options) - 1
        begin, end = LARGEST_SHARE * self.steps, OPEN_AT * self.steps
        for choice, option, place in self._opening:
            if step >= begin + (end - begin) * place / self._places:
                column = self.space.column[choice.name]
                lowest[column] = min(lowest[column], option)
        return lowest

    def within(self, archs: Iterable[Architecture], step: int) -> list[Architecture]:
        """The same architectures with options raised to what is open at the step."""
        rows = np.maximum(self._whole(archs), self.lowest(step)[None])
        return self.space.decode(self.space.canonical(rows))

    def _whole(self, archs: Iterable[Architecture]) -> npt.NDArray[np.uint8]:
        """Rows whose inactive choices have their largest option, as they become active here."""
        rows = [
            [
                c.options.index(arch[c.name]) if c.name in arch else len(c.options) - 1
                for c in self.space.choices
            ]
            for arch in archs
        ]
        return np.array(rows, dtype=np.uint8)


def _group(choice: Choice) -> int | None:
    """Which group a choice belongs to: the first whose ending its name has."""
    ending = choice.name.rsplit("_", 1)[-1]
    return next((n for n, names in enumerate(GROUPS) if ending in names), None)
