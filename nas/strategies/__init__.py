"""Strategies: who proposes the next architecture. A new one is a file here and a name below."""

from __future__ import annotations

from collections.abc import Sequence

from nas.frontier import Objective
from nas.strategies.candidates import Candidates, Strategy
from nas.strategies.random import RandomStrategy
from search_spaces.errors import unknown

STRATEGIES = ("optuna", "random")


def make_strategy(
    name: str, candidates: Candidates, objectives: Sequence[Objective], *, sampler: str, seed: int
) -> Strategy:
    """Return the strategy of this name; `sampler` is for `optuna`.

    Raises:
        UserError: for an unknown strategy or sampler.
    """
    if name == "random":
        return RandomStrategy(candidates)
    if name == "optuna":
        from nas.strategies.optuna_sampler import OptunaStrategy

        return OptunaStrategy(candidates, objectives, sampler=sampler, seed=seed)
    raise unknown("strategy", name, STRATEGIES)


def check_sampler(name: str) -> None:
    """Raise a `UserError` unless `name` is a sampler of the strategy `optuna`."""
    from nas.strategies.optuna_sampler import sampler_name

    sampler_name(name)


__all__ = ["STRATEGIES", "Candidates", "Strategy", "check_sampler", "make_strategy"]
