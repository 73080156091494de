"""The search, from a specification to an exported network.

Reads top to bottom: what may be proposed, the supernet, the evaluations, the frontier, the
winner. Each part leaves its result in the run folder before the next begins, so a killed search
resumes at the part it was in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.expected import ExpectedCosts
from evaluators.inherited import InheritedAccuracy
from evaluators.proxy_features import LEARNT, ProxyFeatures
from evaluators.zero_cost import ZeroCost
from evaluators.zero_cost_proxies import PROXIES
from nas import run as runs
from nas import specification as spec
from nas.files import write_text
from nas.fit import fit, recipe_for
from nas.fresh import FreshWeights, Weights, calibration_images
from nas.frontier import knee, objective
from nas.progress import Quiet, Reporter
from nas.run import Run
from nas.specification import Specification
from nas.strategies import Candidates, Probabilities, Strategy, make_strategy
from nas.strategies.candidates import Row
from nas.study import Evaluation, Study
from nas.supernet import Supernet
from nas.supernet_training import sandwich
from nas.task import Task
from nas.winner import finalists, race, train_winner
from nas.workers import Ended, Evaluator, Workers, check_reachable, open_workers
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown
from search_spaces.modules import channels_last
from search_spaces.space import SearchSpace

ONE_THREAD_MACS = 5_000_000
"""Networks below this are faster on one thread than on several: meeting costs more than working."""


@dataclass(frozen=True)
class Outcome:
    """What a search gives back."""

    task: Task
    run: Run
    frontier: list[Evaluation]
    winner: Evaluation
    summary: dict[str, Any]


def search(
    specification: Specification,
    folder: Path | str,
    *,
    workers: int = 0,
    ray_address: str | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Outcome:
    """Search as specified and leave everything in `folder`.

    Args:
        workers: evaluations at a time, on Ray actors; 0 evaluates in this process.
        ray_address: a Ray cluster to run the actors on.
        resume: go on with the run in `folder`.

    Raises:
        UserError: for anything in the specification or the folder that cannot be used.
    """
    reporter = reporter or Quiet()
    folder = Path(folder)
    _check_device(specification.device)
    _check_folder(folder, specification, resume=resume)
    if ray_address is not None:
        check_reachable(ray_address)
    task = Task(specification)
    check_strategy(task)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from error
    with runs.lock(folder):
        write_text(folder / "specification.json", spec.to_json(specification))
        run = Run(folder)
        study = Study(run.study_path, task.space, run.objectives)
        evaluator, strategy = prepare(task, run, reporter)
        done = study.evaluations()
        for evaluation in done:
            strategy.tell(task.space.encode([evaluation.arch])[0], evaluation)
        wanted = specification.trials - len(done)
        if wanted > 0:
            with (
                _open_pool(task, run, evaluator, workers, ray_address) as pool,
                reporter.evaluations(specification.trials, len(done)) as show,
            ):
                for row, ended in _evaluate(strategy, pool, task.space, wanted):
                    evaluation = _judged(task, strategy, row, ended)
                    study.add(evaluation)
                    strategy.tell(row, evaluation)
                    done.append(evaluation)
                    show(done, run.objectives, task.worst, strategy.status)
        good = [e for e in done if e.error is None]
        if not good:
            raise AllFailed(next((e.error or "" for e in done), "nothing was evaluated"))
        if not any(e.feasible for e in good):
            raise NothingFeasible(runs.nothing_feasible(good, run.budget))
        summary = finish(task, run, evaluator, done, reporter)
    front = runs.frontier(good, run.objectives)
    winner = next(e for e in good if e.arch.id == summary["winner"]["id"])
    return Outcome(task, run, front, winner, summary)


class AllFailed(Exception):
    """Every evaluation failed; the message is the first one's reason."""


class NothingFeasible(Exception):
    """Nothing evaluated is within the bounds; the message has the nearest ones."""


def check_strategy(task: Task) -> None:
    """Make the strategy once, so that what is wrong with it is told before anything is spent.

    Raises:
        UserError: for a strategy that cannot be, a bound on an unknown metric, or a budget that
            nothing meets.
    """
    specification = task.specification
    _ = task.function
    for name in specification.objectives:
        metric = objective(name).metric
        if task.kind != "function" and metric not in (*task.tables.metrics, *task.metrics):
            raise unknown("objective", name, [*task.metrics, *task.tables.metrics])
    _ = task.measured
    _check_proxies(task)
    if specification.strategy == "darts":
        if task.kind != "supernet":
            raise UserError(
                f"strategy darts relaxes a supernet: it needs --evaluator supernet, not "
                f"{specification.evaluator}"
            )
        _ = task.budgeted
        ExpectedCosts(task.tables, (specification.penalty_metric,))
        return
    _strategy(task)


def _check_proxies(task: Task) -> None:
    for name in task.specification.proxies:
        if name not in PROXIES:
            raise unknown("zero-cost proxy", name, PROXIES)
    if task.specification.proxies and task.specification.strategy != "evolution":
        raise UserError("--proxies are features of the predictor that --strategy evolution has")
    if task.specification.proxies and not task.trains:
        raise UserError("--proxies look at images: they need --data")


def _strategy(
    task: Task,
    probabilities: Probabilities | None = None,
    proxies: ProxyFeatures | None = None,
) -> Strategy:
    specification = task.specification
    return make_strategy(
        specification.strategy,
        Candidates(task.budgeted, specification.seed),
        [objective(name) for name in specification.objectives],
        seed=specification.seed,
        sampler=specification.sampler,
        options=specification.sampler_options,
        measured=task.measured,
        bins=specification.bins,
        proxies=proxies,
        probabilities=probabilities,
    )


def prepare(task: Task, run: Run, reporter: Reporter) -> tuple[Evaluator | None, Strategy]:
    """The evaluator (None where candidates are trained) and the strategy, ready to go."""
    specification = task.specification
    if specification.strategy == "darts":
        from nas.relaxation import Relaxation, relaxed_evaluator

        options = Relaxation(
            penalty=specification.penalty,
            metric=specification.penalty_metric,
            ramp=specification.penalty_ramp,
        )
        if specification.estimator is not None:
            options = replace(options, estimator=specification.estimator)
        relaxed, probabilities = relaxed_evaluator(task, run, reporter, options)
        return relaxed, _strategy(task, probabilities)
    return evaluator_of(task, run, reporter), _strategy(task, proxies=proxy_features(task))


def proxy_features(task: Task) -> ProxyFeatures | None:
    """More features for the predictor of `evolution`, or None where none were asked for."""
    specification = task.specification
    if not specification.proxies:
        return None
    names, seed = specification.proxies, specification.seed
    evaluator = ZeroCost.on_images(task.space, task.data, names, seed=seed)
    rows = task.budgeted.sample(LEARNT, np.random.default_rng((seed, 3)))
    return ProxyFeatures(evaluator, task.tables, rows)


def evaluator_of(task: Task, run: Run, reporter: Reporter) -> Evaluator | None:
    """What scores candidates, as specified; None where they are trained one by one."""
    if task.kind == "supernet":
        return inherited_evaluator(task, run, reporter)
    if task.kind == "proxy":
        specification = task.specification
        return ZeroCost.on_images(
            task.space, task.data, [specification.evaluator], seed=specification.seed
        )
    if task.kind == "table":
        return task.table
    if task.kind == "function":
        return task.function
    return None


def starting_weights(task: Task, run: Run, reporter: Reporter) -> Weights:
    """Where the training of a run's architectures starts: from the supernet, if there is one.

    Raises:
        UserError: for a run that has no images to train on.
    """
    if task.kind == "supernet":
        inherited, _ = prepare(task, run, reporter)
        assert isinstance(inherited, InheritedAccuracy)
        return inherited
    if not task.trains:
        raise UserError(
            f"{run.folder} has no images to train on: it was searched with "
            f"{task.specification.evaluator} and without --data"
        )
    return FreshWeights.of(task)


def _open_pool(
    task: Task, run: Run, evaluator: Evaluator | None, workers: int, ray_address: str | None
) -> AbstractContextManager[Workers]:
    """Where candidates are evaluated: trained by Ray Tune, or scored by workers."""
    seconds = task.specification.time_limit
    if evaluator is None:
        from nas.tuning import DEFAULT_WORKERS, open_tuning

        count = workers or DEFAULT_WORKERS
        return open_tuning(task, run, count, ray_address, seconds=seconds)
    return open_workers(evaluator, workers, ray_address, seconds)


def _judged(task: Task, strategy: Strategy, row: Row, ended: Ended) -> Evaluation:
    """An ended evaluation with its costs, held against the bounds and the objectives."""
    costs = {metric: float(value) for metric, value in task.tables.cost(ended.arch).items()}
    metrics = {**ended.metrics, **costs}
    error = ended.error
    violation = 0.0
    if error is None:
        named = [objective(name).metric for name in task.specification.objectives]
        missing = [m for m in (*named, *task.measured.metrics) if m not in metrics]
        if missing:
            error = f"the evaluator gave no {missing[0]}"
        elif task.measured.metrics:
            bounded = {m: metrics[m] for m in task.measured.metrics}
            violation = float(task.measured.violation(bounded))
    state = strategy.state_of(row)
    return Evaluation(ended.arch, metrics, ended.seconds, error, state, violation)


def _evaluate(
    strategy: Strategy, pool: Workers, space: SearchSpace, wanted: int
) -> Iterator[tuple[Row, Ended]]:
    """Keep all workers busy until `wanted` evaluations ended or nothing is left to propose."""
    running: dict[Architecture, Row] = {}
    left = wanted
    while True:
        while pool.idle and left:
            row = strategy.propose()
            if row is None:
                left = 0
                break
            (arch,) = space.decode(row[None])
            running[arch] = row
            pool.submit(arch)
            left -= 1
        if not running:
            return
        ended = pool.next_ended()
        yield running.pop(ended.arch), ended


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"device '{device}' cannot be used: {first}") from error


def _check_folder(folder: Path, specification: Specification, *, resume: bool) -> None:
    exists = (folder / "specification.json").exists()
    if exists and not resume:
        raise UserError(f"{folder} holds a run already: use --resume, or another --out")
    if exists:
        spec.check_resumable(Run(folder).specification, specification, folder)
    elif folder.is_file() or (folder.exists() and any(_visible(folder))):
        raise UserError(f"{folder} is neither empty nor a run: use another --out")


def _visible(folder: Path) -> list[Path]:
    """What a user would see in it: the lock of a search that ended early is nothing."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def inherited_evaluator(task: Task, run: Run, reporter: Reporter) -> InheritedAccuracy:
    """Train the supernet, or take it from its checkpoint, and make its evaluator."""
    specification = task.specification
    data = task.data
    if task.tables.cost(task.space.largest)["macs"] < ONE_THREAD_MACS:
        torch.set_num_threads(1)
    recipe = recipe_for(task.space, task.supernet_epochs, batch_size=specification.batch_size)
    torch.manual_seed(specification.seed)
    supernet = Supernet(task.space)
    supernet = channels_last(supernet.to(specification.device))

    def draw(rng: np.random.Generator, n: int) -> list[Architecture]:
        return task.space.decode(task.budgeted.spread(n, rng))

    with reporter.training("supernet", recipe.steps(len(data.train))) as on_step:
        fit(
            supernet,
            data,
            recipe,
            sandwich(supernet, recipe, seed=specification.seed, draw=draw),
            seed=specification.seed,
            augmentation=task.augmentation,
            checkpoint=run.supernet_checkpoint,
            on_step=on_step,
        )
    return InheritedAccuracy(
        supernet, data.validation, calibration_images(task), data.normalisation
    )


def finish(
    task: Task,
    run: Run,
    evaluator: Evaluator | None,
    evaluations: list[Evaluation],
    reporter: Reporter,
) -> dict[str, Any]:
    """Race the finalists, train the winner, score it on the test split, export it, sum up.

    Without images the winner is the best that was evaluated, and nothing is trained.
    """
    specification = task.specification
    objectives = run.objectives
    front = runs.frontier(evaluations, objectives)
    starters = finalists(task, evaluations, run)
    existing = run.summary()
    if existing and (existing["evaluations"], [e["id"] for e in existing["finalists"]]) == (
        len(evaluations),
        [e.arch.id for e in starters],
    ):
        return existing
    raced: dict[str, float] = {}
    winner, tested = starters[0], {}
    if task.trains:
        start: Weights = FreshWeights.of(task)
        if isinstance(evaluator, InheritedAccuracy):
            start = evaluator
        raced = race(task, run, start, starters, reporter)
        winner = max(starters, key=lambda e: raced.get(e.arch.id, 0.0))
        test = train_winner(task, run, start, winner.arch, run.folder / "winner", reporter)
        tested = {"test_accuracy": test, "test_images": len(task.data.test)}
    points = runs.values(front, objectives)
    summary = {
        "space": task.space.name,
        "data": task.data.name if task.trains else None,
        "evaluator": specification.evaluator,
        "strategy": specification.strategy,
        "budget": str(run.budget),
        "evaluations": len(evaluations),
        "failed": sum(e.error is not None for e in evaluations),
        "first_failure": next((e.error for e in evaluations if e.error is not None), None),
        "hypervolume": runs.hypervolume(front, objectives, task.worst),
        "frontier": [{"id": e.arch.id, **e.metrics} for e in front],
        "knee": front[knee(points, objectives)].arch.id,
        "finalists": [
            {"id": e.arch.id, **e.metrics, "accuracy_after_race": raced.get(e.arch.id)}
            for e in starters
        ],
        "winner": {
            **runs.architecture_json(winner.arch),
            **task.tables.cost(winner.arch),
            "validation_accuracy": winner.metrics.get("accuracy"),
            **tested,
        },
        "seed": specification.seed,
    }
    write_text(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary
