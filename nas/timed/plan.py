"""How the time of a search is divided between the race and the winner's training.

The race is successive halving (Jamieson and Talwalkar, 2016): all candidates train for a first
segment, the best third of them for two more such segments, and so on; the winner goes on from there
until the time is over, so that no part of its training is lost. Knows seconds. Does not know
networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from search_spaces.errors import UserError

RACE_SHARES = (0.15, 0.3)
"""Least and largest share of the time for the race, whose losers' trainings are lost."""

RACE_GROWTH = 0.1
"""Growth of that share for each tenfold time, from `SHORT` on."""

SHORT, SHORT_SEGMENT, SEGMENT_POWER = 300.0, 7.0, 0.75
"""A search of this time has first segments of so many seconds; others in proportion to this power
of their time, so that a longer search has more candidates and trains them longer."""

LEAST_STEPS = 60
"""Training steps of a first segment at least."""

SURVIVORS = 3
"""One of this many goes on after each rung, and has then trained this many times as long."""

LEAST_FINAL_STEPS = 200
"""Training steps of the winner at least."""

CLOSING_SHARE, LEAST_CLOSING = 0.005, 3.0
"""Share of the time, and seconds at least, for the score on the test part and the export."""


@dataclass(frozen=True)
class Rung:
    """A rung of the race: how many networks train, and for how many further seconds each."""

    networks: int
    seconds: float


@dataclass(frozen=True)
class TimePlan:
    """The division of a search's time, in seconds."""

    seconds: float
    rungs: tuple[Rung, ...]
    closing: float
    reasons: tuple[str, ...]

    @property
    def race(self) -> float:
        """Seconds of the race."""
        return sum(rung.networks * rung.seconds for rung in self.rungs)

    @property
    def final(self) -> float:
        """Seconds of the winner's training after the race."""
        return self.seconds - self.race - self.closing


def race_share(seconds: float) -> float:
    """Share of a time for the race."""
    least, most = RACE_SHARES
    return min(most, max(least, least + RACE_GROWTH * math.log10(seconds / SHORT)))


def plan_time(seconds: float, step: float, *, spent: float = 0.0) -> TimePlan:
    """Divide the time that is left.

    Args:
        seconds: what is left.
        step: seconds of a training step of a typical network.
        spent: what is spent already, on reading the data and measuring.

    Raises:
        UserError: if the time is too short for a single training.
    """
    closing = max(LEAST_CLOSING, CLOSING_SHARE * seconds)
    least = LEAST_CLOSING + LEAST_FINAL_STEPS * step
    if seconds < least:
        raise UserError(
            f"the time is too short for a single training: expected --time of at least "
            f"{math.ceil(spent + least)}s"
        )
    first = max(SHORT_SEGMENT * (seconds / SHORT) ** SEGMENT_POWER, LEAST_STEPS * step)
    share = race_share(seconds) * seconds
    count = int(share / (first * (1 + (SURVIVORS - 1) / SURVIVORS)))
    if count < 2:
        reason = (
            f"no race: {race_share(seconds):.0%} of the time have no room for two trainings of "
            f"{first:.0f} s"
        )
        return TimePlan(seconds, (Rung(1, first),), closing, (reason,))
    rungs, networks, length = [], count, first
    spent = 0.0
    while networks >= 2 and spent + networks * length <= 1.01 * share:
        rungs.append(Rung(networks, length))
        spent += networks * length
        length = (SURVIVORS - 1) * first * SURVIVORS ** (len(rungs) - 1)
        networks = max(1, networks // SURVIVORS)
    if not rungs:
        rungs = [Rung(count, first)]
    reasons = (
        f"race of {count} networks, {first:.0f} s each at first: every training counts, since the "
        "winner goes on from its own",
        "no supernet: within the time short trainings order networks better",
    )
    return TimePlan(seconds, tuple(rungs), closing, reasons)
