"""How the time of a search is divided between the race and the winner's training.

The race is successive halving (Jamieson and Talwalkar, 2016): all candidates train for a first
segment, the best third of them for two more such segments, and so on; the winner goes on from there
until the time is over, so that no part of its training is lost. The losers' training is: a race has
as many candidates, and trains them as long, as should lower the winner's error most, what the
shorter training of the winner costs taken off. Knows seconds. Does not know networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from nas.timed.law import EPOCHS_POWER
from search_spaces.errors import UserError

NUMBERS = (2, 3, 4, 6, 9, 12, 18, 27)
"""Numbers of candidates that are considered."""

SHARES = (0.015, 0.02, 0.03, 0.05, 0.08)
"""Shares of the time for a first segment that are considered."""

MOST_LOST = 0.3
"""Most of the time that may be lost with the losers' training."""

FORGETTING = 0.17
"""How far the order after a part of a training is that at its end: their correlation is 1 less this
for each e-fold of time between them. Measured on how far 11 random networks are from the law after
a quarter, a half and one epoch, and at the end of a minute (`benchmarks/learning_curves.py`)."""

TAUGHT_LEAD, TEACHER_SHARE = 0.08, 0.25
"""How far the log error of a teacher should be below that of the winner, were that to train all the
time, from which it trains before it, and the share of the time that it takes. One that led by 0.12
by the law took 0.07 off the log error, one that led by 0.08 took 0.01 off, about what a quarter of
the time is worth (`benchmarks/teaching.py`)."""

DRAWS = 2000
"""Random races by which a plan is valued."""

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
    teacher: float = 0.0
    """Of the training of the winner's teacher; 0: it has none."""

    @property
    def race(self) -> float:
        """Seconds of the race."""
        return sum(rung.networks * rung.seconds for rung in self.rungs)

    @property
    def final(self) -> float:
        """Seconds of the winner's training after the race and its teacher's."""
        return self.seconds - self.race - self.teacher - self.closing


def plan_time(
    seconds: float,
    step: float,
    *,
    spread: float,
    most: int | None = None,
    spent: float = 0.0,
    lead: float = -math.inf,
) -> TimePlan:
    """Divide the time that is left.

    Args:
        seconds: what is left.
        step: seconds of a training step of a typical network.
        spread: deviation of the log errors in which the candidates' trainings would end.
        most: networks at most; None for as many as serve.
        spent: what is spent already, on reading the data and measuring.
        lead: how far the log error of a teacher should be below that of the winner, were that to
            train all the time.

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
    teacher = 0.0
    taught: tuple[str, ...] = ()
    if lead >= TAUGHT_LEAD:
        teacher = TEACHER_SHARE * seconds
        taught = (
            f"teacher of the winner: it should err {-math.expm1(-lead):.0%} less after a quarter "
            "of the time than the winner alone after all of it",
        )
    shortest = LEAST_STEPS * step / seconds
    shares = [share for share in SHARES if share >= shortest] or [shortest]
    plans = [
        (race_gain(number, share, spread), number, share)
        for number, share in product(NUMBERS, shares)
        if most is None or number <= most
    ]
    gain, number, share = max(plans, key=lambda plan: plan[0], default=(0.0, 1, 0.0))
    if gain <= 0:
        first = max(SHARES[0] * seconds, LEAST_STEPS * step)
        reason = "no race: it would cost more of the winner's training than it would bring"
        return TimePlan(seconds, (Rung(1, first),), closing, (reason, *taught), teacher)
    rungs = tuple(Rung(networks, length * share * seconds) for networks, length in _rungs(number))
    reasons = (
        f"race of {number} networks, {rungs[0].seconds:.0f} s each at first: should lower the "
        f"error by {gain:.1%}, the shorter training of the winner included",
        "no supernet: within the time short trainings order networks better",
        *taught,
    )
    return TimePlan(seconds, rungs, closing, reasons, teacher)


def order_kept(share: float) -> float:
    """Correlation of how far networks are from the law after a share of a training and at its end.

    It is also how much of what is seen after that share should be left at the end.
    """
    return max(0.0, 1 + FORGETTING * math.log(share))


def expected_end(reached: float, now: float, then: float, share: float) -> float:
    """Log error that a network should end with, up to a constant of the data.

    What the law expects, and what should be left by then of how far the network is from it now.

    Args:
        reached: its log error after a share of its training.
        now: the law's score of that share; higher is better.
        then: the law's score of all of the training.
        share: of the training, from 0 to 1.
    """
    return order_kept(share) * (reached + now) - then


@cache
def race_gain(networks: int, share: float, spread: float) -> float:
    """What a race should take off the log error of one of its networks that trains all the time.

    The mean of random races: the networks' errors differ by `spread`, and what a rung shows of them
    is the closer to their end the longer it is (`FORGETTING`).

    Args:
        networks: candidates.
        share: of the time, for the first segment of each.
        spread: deviation of the log errors in which their trainings would end.
    """
    rungs = _rungs(networks)
    lost = share * sum((count - 1) * length for count, length in rungs)
    if lost > MOST_LOST:
        return -math.inf
    rng = np.random.default_rng(0)
    ends = rng.standard_normal((DRAWS, networks))
    left = np.tile(np.arange(networks), (DRAWS, 1))
    trained = 0.0
    for (_, length), following in zip(rungs, [*rungs[1:], (1, 0)], strict=True):
        trained += share * length
        known = order_kept(trained)
        seen = known * ends + math.sqrt(1 - known**2) * rng.standard_normal(ends.shape)
        left = _best(left, seen, following[0])
    gained = float(np.take_along_axis(ends, left, axis=1).mean())
    return spread * gained + EPOCHS_POWER * math.log(1 - lost)


def _best(
    left: npt.NDArray[np.int64], seen: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.int64]:
    """Of the networks left of each race `(races, left)`, the `count` that seem best."""
    order = np.argsort(-np.take_along_axis(seen, left, axis=1), axis=1)
    return np.take_along_axis(left, order[:, :count], axis=1)


def _rungs(networks: int) -> list[tuple[int, int]]:
    """Networks of each rung, and how many first segments long each trains there."""
    rungs, length = [(networks, 1)], SURVIVORS - 1
    while (networks := networks // SURVIVORS) >= 2:
        rungs.append((networks, length))
        length *= SURVIVORS
    return rungs
