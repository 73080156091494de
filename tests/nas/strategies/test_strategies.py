"""Strategies: within the budget, never twice, resumable, better than chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cached_tables import tables_of
from evaluators.accuracy.zero_cost import ZeroCost
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from evaluators.prediction.proxy_features import ProxyFeatures
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective, objective
from nas.strategies import Candidates, Strategy, make_strategy
from nas.strategies.optuna_sampler import SAMPLERS, OptunaStrategy, sampler_name
from search_spaces.architecture import Architecture
from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace

OBJECTIVES = (objective("accuracy"), objective("macs"))
BUDGET = 2_000_000
ALL = [
    ("random", ""),
    ("evolution", ""),
    ("nsga2", ""),
    ("regularized-evolution", ""),
    ("optuna", "tpe"),
]
LEARNING = [case for case in ALL if case[0] != "random"]
IN_LARGE_SPACES = sorted(set(SAMPLERS) - {"grid"})
OPTIONS = {"partialfixed": {"fixed_params": {"stage4_width": 64}}}


def strategy_of(
    name: str,
    sampler: str = "nsga2",
    seed: int = 0,
    objectives: tuple[Objective, ...] = OBJECTIVES,
    **more: Any,
) -> tuple[Strategy, Candidates]:
    budgeted = BudgetedSpace(tables_of("mobilenet-cifar"), Budget({"macs": BUDGET}, {}))
    candidates = Candidates(budgeted, seed)
    made = make_strategy(name, candidates, objectives, sampler=sampler, seed=seed, **more)
    return made, candidates


def fits_of_proposals(monkeypatch: pytest.MonkeyPatch, told: int) -> list[int]:
    """Rows of each fit of `evolution` in the 128 proposals after so many evaluations."""
    from evaluators.prediction.predictor import Predictor

    monkeypatch.setattr("nas.strategies.remembered.MOST", 128)
    fits: list[int] = []
    fit = Predictor.fit

    def counted(self: Predictor, rows: np.ndarray, values: Any) -> None:
        fits.append(len(rows))
        fit(self, rows, values)

    strategy, candidates = strategy_of("evolution")
    for _ in range(told):
        row = candidates.draw()
        assert row is not None
        strategy.tell(row, evaluate(row))
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "fit", counted)
        for _ in range(128):
            assert strategy.propose() is not None
    return fits


def test_what_evolution_does_for_a_proposal_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = fits_of_proposals(monkeypatch, 300), fits_of_proposals(monkeypatch, 1200)
    assert max(late) < 128
    assert len(late) <= len(early)


def test_evolution_fits_seldom_while_a_thousand_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strategy: Any = strategy_of("evolution")[0]
    for row in [strategy.propose() for _ in range(10)]:
        strategy.tell(row, evaluate(row))
    select, batches = strategy._select, []

    def counted(targets: list[Any], *given: Any) -> Any:
        batches.append(len(targets))
        return select(targets, *given)

    monkeypatch.setattr(strategy, "_select", counted)
    for _ in range(1000):
        assert strategy.propose() is not None
    assert batches[0] == 1
    assert batches[-1] >= 50
    assert len(batches) < 100


def evaluate(row: np.ndarray) -> Evaluation:
    """A substitute for accuracy that is easy to optimise: wide late stages and 7x7 kernels."""
    space = tables_of("mobilenet-cifar").space
    (arch,) = space.decode(row[None])
    costs = tables_of("mobilenet-cifar").cost(arch)
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


@pytest.mark.parametrize("sampler", IN_LARGE_SPACES)
def test_every_sampler_keeps_the_budget_and_repeats_nothing(sampler: str) -> None:
    trials = 24 if sampler in ("gp", "tpe") else 60
    options = OPTIONS.get(sampler, {})
    done = search(strategy_of("optuna", sampler, options=options)[0], trials)
    assert all(e.metrics["macs"] <= BUDGET for e in done)
    assert len({e.arch for e in done}) == trials


@pytest.mark.parametrize("name", ["random", "evolution", "regularized-evolution"])
def test_other_strategies_keep_the_budget_and_repeat_nothing(name: str) -> None:
    done = search(strategy_of(name)[0], 200)
    assert all(e.metrics["macs"] <= BUDGET for e in done)
    assert len({e.arch for e in done}) == 200


@pytest.mark.parametrize(("name", "sampler"), LEARNING)
def test_strategies_learn(name: str, sampler: str) -> None:
    """The last third of the proposals is better than those of random search."""
    trials = 120
    alone = (objective("accuracy"),)
    learnt = search(strategy_of(name, sampler, objectives=alone)[0], trials)[-40:]
    random = search(strategy_of("random")[0], 50)
    means = [np.mean([e.metrics["accuracy"] for e in part]) for part in (learnt, random)]
    assert means[0] > means[1] + 0.05


@pytest.mark.parametrize(("name", "sampler"), ALL)
def test_a_seed_gives_the_same_proposals(name: str, sampler: str) -> None:
    first, second = (search(strategy_of(name, sampler)[0], 50) for _ in range(2))
    assert [e.arch for e in first] == [e.arch for e in second]
    assert search(strategy_of(name, sampler, seed=1)[0], 5)[0].arch != first[0].arch


@pytest.mark.parametrize(("name", "sampler"), ALL)
def test_a_resumed_strategy_repeats_nothing_and_keeps_its_state(name: str, sampler: str) -> None:
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
    space = tables_of("mobilenet-cifar").space
    for evaluation in done:
        after.tell(space.encode([evaluation.arch])[0], evaluation)
    more = search(after, 40)
    assert not {e.arch for e in more} & {e.arch for e in done}
    if name != "random":
        random = search(strategy_of("random", seed=5)[0], 50)
        mean = np.mean([e.metrics["accuracy"] for e in more])
        assert mean > np.mean([e.metrics["accuracy"] for e in random]) + 0.05


@pytest.mark.parametrize(("name", "sampler"), ALL)
def test_a_small_space_is_searched_completely(name: str, sampler: str) -> None:
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


def test_a_grid_covers_a_small_space_and_refuses_a_large_one() -> None:
    small = tables_of("nasbench201")
    candidates = Candidates(BudgetedSpace(small, Budget({"macs": 40_000_000}, {})), seed=0)
    strategy = make_strategy("optuna", candidates, OBJECTIVES, sampler="grid", seed=0)
    rows = [strategy.propose() for _ in range(20)]
    assert len({row.tobytes() for row in rows if row is not None}) == 20
    with pytest.raises(UserError, match="sampler grid lists every architecture"):
        strategy_of("optuna", "grid")


def test_options_of_a_sampler_are_used_and_checked() -> None:
    fixed, _ = strategy_of("optuna", "partialfixed", options=OPTIONS["partialfixed"])
    archs = [e.arch for e in search(fixed, 40)]
    assert sum(a["stage4_width"] == 64 for a in archs[16:]) > 12  # the others were repaired
    with pytest.raises(UserError, match="unknown option of sampler tpe 'gama': did you mean 'gamm"):
        strategy_of("optuna", "tpe", options={"gama": 1})
    with pytest.raises(UserError, match="sampler nsga2: "):
        strategy_of("optuna", "nsga2", options={"population_size": 0})
    with pytest.raises(UserError, match="fixed_params"):
        strategy_of("optuna", "partialfixed")


def test_a_block_that_is_off_has_no_choices_in_a_conditional_samplers_trials() -> None:
    strategy, candidates = strategy_of("optuna", "tpe")
    assert isinstance(strategy, OptunaStrategy)
    search(strategy, 40)
    space = candidates.space
    seen_off = 0
    for trial in strategy._study.get_trials(deepcopy=False):
        for choice in space.choices:
            if choice.parent is not None and choice.parent in trial.params:
                options = space.choices[space.column[choice.parent]].options
                on = options[trial.params[choice.parent]] in choice.active_for
                assert (choice.name in trial.params) == on
                seen_off += not on
    assert seen_off > 0


@pytest.mark.parametrize(("name", "sampler"), [("evolution", ""), ("nsga2", ""), ("optuna", "tpe")])
def test_bounds_on_measured_metrics_are_learnt(name: str, sampler: str) -> None:
    """A metric that rises with accuracy: most of the later proposals are within its bound."""
    bound = Budget({"latency": 0.55}, {})
    alone = (objective("accuracy"),)
    strategy, _ = strategy_of(name, sampler, objectives=alone, measured=bound)
    done = []
    for _ in range(140):
        row = strategy.propose()
        assert row is not None
        plain = evaluate(row)
        metrics = {**plain.metrics, "latency": plain.metrics["accuracy"]}
        violation = float(bound.violation({"latency": metrics["latency"]}))
        done.append(Evaluation(plain.arch, metrics, violation=violation))
        strategy.tell(row, done[-1])
    kept = [e for e in done[-60:] if e.feasible]
    assert len(kept) >= 25
    unbound = search(strategy_of(name, sampler, objectives=alone)[0], 140)[-60:]
    assert len(kept) > sum(e.metrics["accuracy"] <= 0.55 for e in unbound)
    random = search(strategy_of("random", objectives=alone)[0], 60)
    most = max(e.metrics["accuracy"] for e in kept)
    assert most >= max(e.metrics["accuracy"] for e in random if e.metrics["accuracy"] <= 0.55)


def test_proxies_are_computed_for_evaluated_rows_and_a_shortlist() -> None:
    tiny = tables_of("mobilenet-tiny")
    budgeted = BudgetedSpace(tiny, Budget({"macs": 300_000}, {}))
    scored = []

    class Counted(ZeroCost):
        def __call__(self, arch: Architecture) -> dict[str, float]:
            scored.append(arch)
            return {"naswot": float(tiny.cost(arch)["macs"])}

    evaluator = Counted.on_noise(tiny.space, ("naswot",), images=4)
    rows = budgeted.sample(30, np.random.default_rng(0))
    proxies = ProxyFeatures(evaluator, tiny, rows)
    candidates = Candidates(budgeted, 0)
    strategy = make_strategy("evolution", candidates, OBJECTIVES, seed=0, proxies=proxies)
    recorded = set()
    for step in range(24):
        row = strategy.propose()
        assert row is not None
        (arch,) = tiny.space.decode(row[None])
        metrics = {"accuracy": 0.5 + step / 100, "macs": float(tiny.cost(arch)["macs"])}
        strategy.tell(row, Evaluation(arch, metrics))
        recorded.add(arch)
    known = set(scored)
    assert len(known) == len(scored)  # each once
    assert len(recorded - known) <= 1  # no predictor has been fitted to the last one
    shortlisted = known - recorded - set(tiny.space.decode(rows))
    assert 0 < len(shortlisted) <= 32 * 12


def test_samplers_have_optunas_class_names_too() -> None:
    assert sampler_name("NSGAIIISampler") == "nsga3"
    assert sampler_name("TPESampler") == "tpe"
    with pytest.raises(UserError, match="unknown sampler 'tpee': did you mean 'tpe'"):
        sampler_name("tpee")
