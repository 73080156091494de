"""Strategies: within the budget, never twice, resumable, better than chance."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from evaluators.budget import Budget, BudgetedSpace
from evaluators.costs import CostTables
from nas.frontier import Objective, objective
from nas.strategies import Candidates, Strategy, make_strategy
from nas.strategies.optuna_sampler import SAMPLERS, sampler_name
from nas.study import Evaluation
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace

OBJECTIVES = (objective("accuracy"), objective("macs"))
BUDGET = 2_000_000
THREE = [("random", "nsga2"), ("optuna", "nsga2"), ("optuna", "tpe")]


@cache
def tables() -> CostTables:
    return CostTables(load_space("mobilenet-cifar"))


def strategy_of(
    name: str, sampler: str = "nsga2", seed: int = 0, objectives: tuple[Objective, ...] = OBJECTIVES
) -> tuple[Strategy, Candidates]:
    budgeted = BudgetedSpace(tables(), Budget({"macs": BUDGET}, {}))
    candidates = Candidates(budgeted, seed)
    return make_strategy(name, candidates, objectives, sampler=sampler, seed=seed), candidates


def evaluate(row: np.ndarray) -> Evaluation:
    """A stand-in for accuracy that is easy to climb: wide late stages and 7x7 kernels."""
    space = tables().space
    (arch,) = space.decode(row[None])
    costs = tables().cost(arch)
    kernels = [v for k, v in arch.items() if k.endswith("kernel")]
    accuracy = sum(k == 7 for k in kernels) / len(kernels) + arch["stage4_width"] / 80
    return Evaluation(arch, {"accuracy": accuracy / 2, **{m: float(c) for m, c in costs.items()}})


def search(strategy: Strategy, trials: int) -> list[Evaluation]:
    done = []
    for _ in range(trials):
        row = strategy.propose()
        assert row is not None
        evaluation = evaluate(row)
        strategy.tell(row, evaluation)
        done.append(evaluation)
    return done


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_keeps_the_budget_and_repeats_nothing(sampler: str) -> None:
    trials = 24 if sampler in ("gp", "tpe") else 60
    done = search(strategy_of("optuna", sampler)[0], trials)
    assert all(e.metrics["macs"] <= BUDGET for e in done)
    assert len({e.arch for e in done}) == trials


def test_random_keeps_the_budget_and_repeats_nothing() -> None:
    done = search(strategy_of("random")[0], 300)
    assert all(e.metrics["macs"] <= BUDGET for e in done)
    assert len({e.arch for e in done}) == 300


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_samplers_learn(sampler: str) -> None:
    """The last third of what they propose beats what random search proposes."""
    trials = 120
    alone = (objective("accuracy"),)
    learnt = search(strategy_of("optuna", sampler, objectives=alone)[0], trials)[-40:]
    random = search(strategy_of("random")[0], 50)
    means = [np.mean([e.metrics["accuracy"] for e in part]) for part in (learnt, random)]
    assert means[0] > means[1] + 0.05


@pytest.mark.parametrize(("name", "sampler"), THREE)
def test_a_seed_gives_the_same_proposals(name: str, sampler: str) -> None:
    first, second = (search(strategy_of(name, sampler)[0], 50) for _ in range(2))
    assert [e.arch for e in first] == [e.arch for e in second]
    assert search(strategy_of(name, sampler, seed=1)[0], 5)[0].arch != first[0].arch


@pytest.mark.parametrize(("name", "sampler"), THREE)
def test_a_resumed_strategy_repeats_nothing_and_has_not_forgotten(name: str, sampler: str) -> None:
    alone = (objective("accuracy"),)
    before, _ = strategy_of(name, sampler, objectives=alone)
    done = []
    for _ in range(100):
        row = before.propose()
        assert row is not None
        evaluation = evaluate(row)
        state = before.state_of(row)
        before.tell(row, evaluation)
        done.append(Evaluation(evaluation.arch, evaluation.metrics, sampler=dict(state)))
    after, _ = strategy_of(name, sampler, seed=9, objectives=alone)
    space = tables().space
    for evaluation in done:
        after.tell(space.encode([evaluation.arch])[0], evaluation)
    more = search(after, 40)
    assert not {e.arch for e in more} & {e.arch for e in done}
    if name == "optuna":
        random = search(strategy_of("random", seed=5)[0], 50)
        mean = np.mean([e.metrics["accuracy"] for e in more])
        assert mean > np.mean([e.metrics["accuracy"] for e in random]) + 0.05


@pytest.mark.parametrize(("name", "sampler"), THREE)
def test_a_small_space_is_searched_to_its_end(name: str, sampler: str) -> None:
    def ops(a: int, b: int) -> tuple[Op, ...]:
        build = BlockBuilder(3, 8, 8)
        build.conv("conv", build.input, 4 * a * b, 3)
        return build.ops

    choices = (Choice("a", (1, 2, 3)), Choice("b", (1, 2, 3, 4)))
    space = SearchSpace("small", choices, (Block("only", ("a", "b"), ops),))
    small = CostTables(space)
    bound = small.cost({"a": 2, "b": 4})["macs"]
    candidates = Candidates(BudgetedSpace(small, Budget({"macs": bound}, {})), seed=0)
    strategy = make_strategy(name, candidates, OBJECTIVES, sampler=sampler, seed=0)
    seen = set()
    while (row := strategy.propose()) is not None:
        (arch,) = space.decode(row[None])
        cost = small.cost(arch)
        strategy.tell(row, Evaluation(arch, {"accuracy": 0.1 * arch["a"], "macs": cost["macs"]}))
        assert arch not in seen
        seen.add(arch)
    assert len(seen) == sum(a * b <= 8 for a in (1, 2, 3) for b in (1, 2, 3, 4))


def test_failed_evaluations_are_not_proposed_again() -> None:
    strategy, _ = strategy_of("optuna")
    failed = set()
    for _ in range(40):
        row = strategy.propose()
        assert row is not None
        evaluation = evaluate(row)
        assert evaluation.arch not in failed
        failed.add(evaluation.arch)
        strategy.tell(row, Evaluation(evaluation.arch, {}, error="no such luck"))


def test_samplers_go_by_optunas_names_too() -> None:
    assert sampler_name("NSGAIIISampler") == "nsga3"
    assert sampler_name("TPESampler") == "tpe"
    with pytest.raises(UserError, match="unknown sampler 'tpee': did you mean 'tpe'"):
        sampler_name("tpee")
