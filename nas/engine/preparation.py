"""Prepares a search: checks its specification, builds its strategy and its evaluator.

Trains the supernet, or relaxes it for `darts`. Does not evaluate candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from evaluators.accuracy.exit_accuracy import ExitAccuracy
from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.accuracy.zero_cost import ZeroCost
from evaluators.accuracy.zero_cost_proxies import PROXIES
from evaluators.costs.distribution import Probabilities
from evaluators.costs.expected import ExpectedCosts
from evaluators.metrics import GREENSCORE
from evaluators.prediction.proxy_features import SAMPLED_ROWS, ProxyFeatures
from hardware_profiles.electricity.grid import load_region
from nas.engine.finish.exits import check_training
from nas.progress import Reporter
from nas.run.folder import Run
from nas.run.specification import Specification
from nas.run.storage.address import check as check_storage
from nas.strategies import Candidates, Strategy, make_strategy
from nas.supernet.alternation import Relaxation, TrajectoryPoint
from nas.supernet.job import SupernetTraining
from nas.supernet.relaxation import relax
from nas.supernet.shared_weights import Supernet
from nas.task.compute import check_device, choose_threads
from nas.task.loading import check_batch
from nas.task.starting_weights import (
    FreshWeights,
    Weights,
    fresh_supernet,
    inherited_from,
    largest_scores,
)
from nas.task.task import Task
from nas.training.curve import Curve
from nas.training.job import steps_of
from nas.training.logs import log as logs
from nas.workers.data_parallel import train_data_parallel
from nas.workers.pool import Evaluator
from nas.workers.resources import THIS_PROCESS, Resources
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown

DEFAULT_FINALISTS: int = Specification.model_fields["finalists"].default


def check(task: Task) -> Strategy | None:
    """Check a specification before anything is trained; build the strategy where that is cheap.

    Returns:
        The strategy; None where it needs a relaxation or proxies, which `prepare` computes.

    Raises:
        UserError: for a strategy that cannot be built, a bound on an unknown metric, or a budget
            that no architecture meets.
    """
    specification = task.specification
    _check_storage(task)
    check_device(specification.device)
    load_region(specification.region)
    _ = task.function
    for metric in (o.metric for o in task.objectives):
        if "," in metric:  # a function could return it, and its user means two
            raise UserError(f"one --objective for each metric: '{metric}' has a comma")
        green = (GREENSCORE,) if task.kind == "function" or "accuracy" in task.metrics else ()
        known = [*task.metrics, *green, *task.tables.metrics]
        if task.kind != "function" and metric not in known:
            raise unknown("objective", metric, known)
    _ = task.measured
    _check_proxies(task)
    if specification.early_exit is not None:
        _check_exits(task)
    if specification.teacher and task.kind != "supernet":
        raise UserError("--teacher is a subnet of the supernet: it needs --evaluator supernet")
    if task.trains:
        _check_data(task)
    if task.kind == "halving" and not specification.limited:
        raise UserError("evaluator halving divides a time: it needs --time, such as --time 10m")
    if specification.limited and task.trains and task.kind != "halving":
        limit = "--energy" if specification.time is None else "--time"
        raise UserError(
            f"{limit} divides the trainings of evaluator halving: expected no --evaluator "
            f"{specification.evaluator} with data"
        )
    most = specification.trials
    if specification.finalists > max(most, DEFAULT_FINALISTS) and not specification.limited:
        raise UserError(
            f"--finalists {specification.finalists} are chosen from --trials {most} "
            f"architectures: expected --finalists {most} or less"
        )
    _ = task.budgeted
    if specification.learn_from and specification.strategy != "evolution":
        raise UserError("--learn-from is a prior of evolution: it needs --strategy evolution")
    if specification.strategy == "darts":
        if task.kind != "supernet":
            raise UserError(
                f"strategy darts relaxes a supernet: it needs --evaluator supernet, not "
                f"{specification.evaluator}"
            )
        if task.space.size == 1:
            raise UserError(
                f"strategy darts relaxes choices, and {task.space.name} has one architecture"
            )
        ExpectedCosts(task.tables, (specification.penalty_metric,))
        return None
    if specification.strategy == "optuna" and specification.sampler_options:
        from nas.strategies.optuna_sampler import rehearse

        rehearse(specification.sampler, specification.sampler_options, task.space, task.objectives)
    return None if specification.proxies else _strategy(task)


def _check_storage(task: Task) -> None:
    """Raise a `UserError` for a storage that cannot be used, and for reuse where nothing is equal.

    A timed race trains for as long as its machine and its other candidates leave.
    """
    specification = task.specification
    if specification.storage is not None:
        check_storage(specification.storage)
    if specification.reuse and specification.storage is None:
        raise UserError("--reuse looks in a storage of several runs: it needs --storage ADDRESS")
    if specification.reuse and task.kind == "halving":
        raise UserError("--reuse cannot be combined with --evaluator halving: no two are equal")


def _check_data(task: Task) -> None:
    """Raise a `UserError` if the evaluator or the strategy cannot use the data."""
    data, specification = task.data, task.specification
    if specification.strategy == "darts":
        _only_images(task, "strategy darts")
        check_batch(data, specification.batch_size, len(task.images.train) // 2, "in each half")
    if task.kind == "proxy" or specification.proxies:
        _only_images(task, "a zero-cost proxy")


def _check_exits(task: Task) -> None:
    """Raise a `UserError` for settings that early exits cannot be combined with."""
    specification = task.specification
    if task.kind != "supernet" or specification.strategy == "darts":
        raise UserError(
            "--early-exit trains its own supernet: it needs --evaluator supernet and a strategy "
            "other than darts"
        )
    plain = {"distillation": "soft", "widening": False}
    changed = [name for name, value in plain.items() if getattr(specification, name) != value]
    if specification.sampling == "attentive":
        changed.append("sampling attentive")
    if changed:
        raise UserError(f"--early-exit cannot be combined with --{changed[0]}")
    check_training(specification)
    _only_images(task, "--early-exit")


def _only_images(task: Task, what: str) -> None:
    if task.samples != "images":
        raise UserError(f"{what} needs a space of images; {task.space.name} takes {task.samples}")


def _check_proxies(task: Task) -> None:
    for name in task.specification.proxies:
        if name not in PROXIES:
            raise unknown("zero-cost proxy", name, PROXIES)
    if task.specification.proxies and task.specification.strategy != "evolution":
        raise UserError(
            "--proxies are features of evolution's predictor: they need --strategy evolution"
        )
    if task.specification.proxies and not task.trains:
        raise UserError("--proxies are computed on images: they need --data")


def _strategy(
    task: Task,
    probabilities: Probabilities | None = None,
    proxies: ProxyFeatures | None = None,
) -> Strategy:
    specification = task.specification
    return make_strategy(
        specification.strategy,
        Candidates(task.budgeted, specification.seed),
        task.objectives,
        seed=specification.seed,
        sampler=specification.sampler,
        options=specification.sampler_options,
        measured=task.measured,
        bins=specification.bins,
        proxies=proxies,
        probabilities=probabilities,
        priors=task.priors,
    )


def prepare(
    task: Task,
    run: Run,
    reporter: Reporter,
    resources: Resources = THIS_PROCESS,
    strategy: Strategy | None = None,
) -> tuple[Evaluator | None, Strategy]:
    """The evaluator and the strategy of a search, ready to use.

    Args:
        strategy: as `check` returned it; built here where that is None.

    Returns:
        The evaluator, None where candidates train from scratch, and the strategy.
    """
    if task.specification.strategy == "darts":
        relaxed, probabilities = _relaxed(task, run, reporter)
        return relaxed, _strategy(task, probabilities)
    evaluator = evaluator_of(task, run, reporter, resources)
    return evaluator, strategy or _strategy(task, proxies=proxy_features(task))


def _relaxed(task: Task, run: Run, reporter: Reporter) -> tuple[InheritedAccuracy, Probabilities]:
    specification = task.specification
    options = Relaxation(
        penalty=specification.penalty,
        metric=specification.penalty_metric,
        ramp=specification.penalty_ramp,
    )
    if specification.estimator is not None:
        options = replace(options, estimator=specification.estimator)

    def on_point(point: TrajectoryPoint) -> None:
        reporter.remark(str(point))
        logs.record(run.trajectory, asdict(point))

    return relaxed_evaluator(task, run, reporter, options, on_point=on_point)


def proxy_features(task: Task) -> ProxyFeatures | None:
    """Additional features for the predictor of `evolution`; None where none are specified."""
    specification = task.specification
    if not specification.proxies:
        return None
    names, seed = specification.proxies, specification.seed
    evaluator = ZeroCost.on_images(task.space, task.images, names, seed=seed)
    rows = task.budgeted.sample(SAMPLED_ROWS, np.random.default_rng((seed, 3)))
    return ProxyFeatures(evaluator, task.tables, rows)


def evaluator_of(
    task: Task, run: Run, reporter: Reporter, resources: Resources = THIS_PROCESS
) -> Evaluator | None:
    """The specified evaluator; None where candidates train from scratch."""
    if task.kind == "supernet":
        return inherited_evaluator(task, run, reporter, resources)
    if task.kind == "proxy":
        specification = task.specification
        return ZeroCost.on_images(
            task.space, task.images, [specification.evaluator], seed=specification.seed
        )
    if task.kind == "table":
        return task.table
    if task.kind == "function":
        return task.function
    return None


def starting_weights(
    task: Task, run: Run, reporter: Reporter, resources: Resources = THIS_PROCESS
) -> Weights:
    """Weights from which architectures of a run train: the supernet's, if it has one.

    Raises:
        UserError: for a run that has no data to train on.
    """
    if task.specification.strategy == "darts":
        return _relaxed(task, run, reporter)[0]
    if task.kind == "supernet":
        return inherited_evaluator(task, run, reporter, resources)
    if not task.trains:
        raise UserError(
            f"{run.folder} has no data to train on: it was searched with "
            f"{task.specification.evaluator} and without --data"
        )
    return FreshWeights.of(task)


def supernet_training(task: Task) -> SupernetTraining:
    """The supernet's training as specified, on the training part alone."""
    specification = task.specification
    return SupernetTraining(
        task.budgeted,
        task.data.only("train").batches("train", task.schedule.augmentation),
        task.schedule.supernet_recipe,
        specification.seed,
        specification.sampling,
        specification.distillation,
        specification.widening,
        task.largest,
        specification.early_exit is not None,
    )


def inherited_evaluator(
    task: Task, run: Run, reporter: Reporter, resources: Resources = THIS_PROCESS
) -> InheritedAccuracy:
    """Train the supernet, or load it from its checkpoint, and build its evaluator."""
    idle = choose_threads(task)
    training = supernet_training(task)
    if not run.supernet_checkpoint.exists() and run.has_evaluations:
        reporter.note(
            f"{run.supernet_checkpoint} is gone: the supernet trains again, "
            f"{steps_of(training):,} steps"
        )
    if idle and not resources.trainers:
        training = replace(training, second_thread=True)
    with reporter.training("supernet", steps_of(training)) as on_step:
        validate = None if training.exits else partial(largest_scores, task)
        curve = Curve(run.supernet_curve, training.recipe, on_step, validate)
        supernet = train_data_parallel(
            training,
            run.supernet_checkpoint,
            workers=resources.trainers,
            address=resources.address,
            device=task.specification.device,
            on_step=curve,
            watch=curve.watch,
            on_message=reporter.note,
        )
    assert isinstance(supernet, Supernet)
    points = task.specification.early_exit
    if points is not None:
        return ExitAccuracy(supernet, task.data, task.calibration, loss=points / 100)
    return inherited_from(supernet, task)


STOCK = 512
"""Subnets within the budget, spread over its range, that the weights' sandwiches draw from."""


def relaxed_evaluator(
    task: Task,
    run: Run,
    reporter: Reporter,
    options: Relaxation | None = None,
    *,
    on_point: Callable[[TrajectoryPoint], None] | None = None,
) -> tuple[InheritedAccuracy, list[npt.NDArray[np.float64]]]:
    """Train supernet and probabilities, or load them from their checkpoint.

    Returns:
        The evaluator over the trained weights, and the final probabilities of each choice.
    """
    specification, data, space = task.specification, task.images, task.space
    recipe = task.schedule.supernet_recipe
    supernet = fresh_supernet(task)

    # Where few rows are within the budget, drawing one takes longer than a training step.
    stock = task.budgeted.spread(STOCK, np.random.default_rng((specification.seed, 2)))

    def draw(rng: np.random.Generator, n: int) -> list[Architecture]:
        return space.decode(stock[rng.integers(len(stock), size=n)])

    with reporter.training("relaxation", recipe.steps(len(data.train))) as on_step:
        probabilities = relax(
            supernet,
            task.tables,
            task.budgeted.budget,
            data,
            recipe,
            options or Relaxation(),
            seed=specification.seed,
            draw=draw,
            augmentation=task.schedule.augmentation,
            checkpoint=run.folder / "relaxation.pt",
            trajectory=run.trajectory,
            on_step=on_step,
            on_point=on_point,
            on_message=reporter.note,
        )
    return inherited_from(supernet, task), probabilities
