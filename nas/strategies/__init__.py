"""Search strategies, which propose the next architecture to evaluate.

To add one, write a module here and add its name to `STRATEGIES` and `make_strategy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.costs.budget import Budget
from evaluators.costs.distribution import Probabilities
from evaluators.prediction.prior import Prior
from evaluators.prediction.proxy_features import ProxyFeatures
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates, Strategy
from nas.strategies.random import RandomStrategy
from search_spaces.errors import UserError, unknown

STRATEGIES = ("evolution", "darts", "optuna", "nsga2", "regularized-evolution", "random")
"""Names of all strategies."""


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
    priors: Mapping[str, Prior] | None = None,
) -> Strategy:
    """Create a strategy by name.

    Args:
        name: one of `STRATEGIES`.
        candidates: the rows that may be proposed.
        objectives: the objectives of the search.
        seed: of the strategy's random draws.
        sampler: for `optuna`, the name of the Optuna sampler.
        options: for `optuna`, arguments of the sampler.
        measured: bounds on metrics that are known only after an evaluation.
        bins: for `evolution`, number of ranges of MACs that get equal shares of the proposals.
        proxies: for `evolution`, additional features of its predictor.
        probabilities: for `darts`, the result of its relaxation.
        priors: for `evolution`, what earlier searches say, by metric.

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
            candidates,
            objectives,
            seed=seed,
            measured=measured,
            bins=bins,
            proxies=proxies,
            priors=priors,
        )
    if name == "darts":
        from nas.strategies.darts import DartsStrategy

        if probabilities is None:
            raise UserError("strategy darts needs a relaxation of the supernet")
        return DartsStrategy(candidates, probabilities)
    raise unknown("strategy", name, STRATEGIES)


def check_sampler(name: str) -> None:
    """Check the name of a sampler of the strategy `optuna`.

    Raises:
        UserError: for an unknown name.
    """
    from nas.strategies.optuna_sampler import sampler_name

    sampler_name(name)


__all__ = [
    "STRATEGIES",
    "Candidates",
    "Strategy",
    "check_sampler",
    "make_strategy",
]
