"""Strategies: who proposes the next architecture. A new one is a file here and a name below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.costs.budget import Budget
from evaluators.costs.distribution import Probabilities
from evaluators.prediction.proxy_features import ProxyFeatures
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates, Strategy
from nas.strategies.random import RandomStrategy
from search_spaces.errors import UserError, unknown

STRATEGIES = ("evolution", "darts", "optuna", "nsga2", "regularized-evolution", "random")


def make_strategy(
    name: str,
    candidates: Candidates,
    objectives: Sequence[Objective],
    *,
    seed: int,
    sampler: str = "nsga2",
    options: Mapping[str, Any] | None = None,
    measured: Budget | None = None,
    bins: int = 0,
    proxies: ProxyFeatures | None = None,
    probabilities: Probabilities | None = None,
) -> Strategy:
    """Return the strategy of this name.

    Args:
        sampler: which of Optuna's, for `optuna`.
        options: that sampler's own.
        measured: bounds on metrics that only an evaluation tells.
        bins: for `evolution`, ranges of MACs that are served alike.
        proxies: for `evolution`, more features of its predictor.
        probabilities: for `darts`, what its relaxation found.

    Raises:
        UserError: for an unknown strategy or sampler, or wrong options.
    """
    if name == "random":
        return RandomStrategy(candidates)
    if name in ("optuna", "nsga2"):
        from nas.strategies.optuna_sampler import OptunaStrategy

        sampler = sampler if name == "optuna" else name
        return OptunaStrategy(
            candidates,
            objectives,
            sampler=sampler,
            seed=seed,
            options=options,
            constrained=bool(measured and measured.metrics),
        )
    if name == "regularized-evolution":
        from nas.strategies.regularized_evolution import RegularizedEvolution

        return RegularizedEvolution(candidates, objectives, seed=seed)
    if name == "evolution":
        from nas.strategies.evolution import EvolutionStrategy

        return EvolutionStrategy(
            candidates, objectives, seed=seed, measured=measured, bins=bins, proxies=proxies
        )
    if name == "darts":
        from nas.strategies.darts import DartsStrategy

        if probabilities is None:
            raise UserError("strategy darts needs a relaxation of the supernet")
        return DartsStrategy(candidates, probabilities)
    raise unknown("strategy", name, STRATEGIES)


def check_sampler(name: str) -> None:
    """Raise a `UserError` unless `name` is a sampler of the strategy `optuna`."""
    from nas.strategies.optuna_sampler import sampler_name

    sampler_name(name)


__all__ = [
    "STRATEGIES",
    "Candidates",
    "Strategy",
    "check_sampler",
    "make_strategy",
]
