"""Progressive widening: the options that subnets may have at each step of a supernet's training.

First the largest network only, then smaller options, one group of choices after the other, in the
order of Cai et al. ("Once-for-all", 2020, section 3.3): kernels, depths, widths. Here it is one
schedule within one training. Identifies choices by the last part of their names. Does not know
weights.
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
"""Last parts of choices' names in the order of opening; all other choices are open from the start.
"""

LARGEST_SHARE = 0.2
"""Share of the steps in which only the largest option of each of these choices is trained."""

OPEN_AT = 0.7
"""Share of the steps after which all options are open."""


class Widening:
    """The smallest permitted option of each choice at each step.

    Args:
        space: the space.
        steps: number of steps of the training.

    Raises:
        ValueError: for a space without a choice to widen.
    """

    def __init__(self, space: SearchSpace, steps: int) -> None:
        self.space = space
        self.steps = steps
        groups = [[c for c in space.choices if _group(c) == n] for n in range(len(GROUPS))]
        self._opening = [
            # One more option at a time, for all choices of the group that have it.
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
        """The index of the smallest permitted option of each choice at a step, `(choices,)`."""
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
        """Raise the options of architectures to those permitted at the step."""
        rows = np.maximum(self._whole(archs), self.lowest(step)[None])
        return self.space.decode(self.space.canonical(rows))

    def _whole(self, archs: Iterable[Architecture]) -> npt.NDArray[np.uint8]:
        """Rows of architectures; inactive choices have their largest option.

        Raising options can make them active.
        """
        rows = [
            [
                c.options.index(arch[c.name]) if c.name in arch else len(c.options) - 1
                for c in self.space.choices
            ]
            for arch in archs
        ]
        return np.array(rows, dtype=np.uint8)


def _group(choice: Choice) -> int | None:
    """The index in `GROUPS` of a choice; None if it is open from the start."""
    ending = choice.name.rsplit("_", 1)[-1]
    return next((n for n, names in enumerate(GROUPS) if ending in names), None)
