"""What a search needs before its first evaluation: an evaluator and a strategy, as specified.

Trains the supernet or relaxes it where that is asked for. Does not evaluate candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from evaluators.accuracy.exit_accuracy import ExitAccuracy
from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.accuracy.zero_cost import ZeroCost
from evaluators.accuracy.zero_cost_proxies import PROXIES
from evaluators.costs.distribution import Probabilities
from evaluators.costs.expected import ExpectedCosts
from evaluators.prediction.proxy_features import LEARNT, ProxyFeatures
from hardware_profiles.electricity.grid import load_region
from nas.engine.exit_winner import check_training
from nas.engine.starting_weights import FreshWeights, Weights, fresh_supernet, inherited_from
from nas.engine.task import GREENSCORE, Task, check_batch
from nas.progress import Reporter
from nas.run.folder import Run
from nas.strategies import Candidates, Strategy, make_strategy
from nas.supernet.alternation import Point, Relaxation
from nas.supernet.job import SupernetTraining
from nas.supernet.relaxation import relax
from nas.supernet.shared_weights import Supernet
from nas.training.curve import Curve
from nas.training.job import steps_of
from nas.workers.data_parallel import train_together
from nas.workers.pool import Evaluator
from nas.workers.resources import ALONE, Crew
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown

ONE_THREAD_MACS = 5_000_000
"""Networks below this are faster on one thread than on several: meeting costs more than working."""


def check(task: Task) -> None:
    """Make the strategy once, so that what is wrong with it is told before anything is spent.

    Raises:
        UserError: for a strategy that cannot be, a bound on an unknown metric, or a budget that
            nothing meets.
    """
    specification = task.specification
    load_region(specification.region)
    _ = task.function
    for metric in (o.metric for o in task.objectives):
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


def _check_data(task: Task) -> None:
    """Raise a `UserError` where the data are not what the evaluator or the strategy takes."""
    data, specification = task.data, task.specification
    if specification.strategy == "darts":
        _only_images(task, "strategy darts")
        check_batch(data, specification.batch_size, len(task.images.train) // 2, "in each half")
    if task.kind == "proxy" or specification.proxies:
        _only_images(task, "a zero-cost proxy")


def _check_exits(task: Task) -> None:
    """Raise a `UserError` where early exits cannot be had, or not with these settings."""
    specification = task.specification
    if task.kind != "supernet" or specification.strategy == "darts":
        raise UserError(
            "--early-exit has its own supernet: it needs --evaluator supernet and another "
            "strategy than darts"
        )
    plain = {"distillation": "soft", "widening": False}
    changed = [name for name, value in plain.items() if getattr(specification, name) != value]
    if specification.sampling == "attentive":
        changed.append("sampling attentive")
    if changed:
        raise UserError(f"--early-exit trains its supernet plainly, without --{changed[0]}")
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
        task.objectives,
        seed=specification.seed,
        sampler=specification.sampler,
        options=specification.sampler_options,
        measured=task.measured,
        bins=specification.bins,
        proxies=proxies,
        probabilities=probabilities,
    )


def prepare(
    task: Task, run: Run, reporter: Reporter, crew: Crew = ALONE
) -> tuple[Evaluator | None, Strategy]:
    """The evaluator (None where candidates are trained) and the strategy, ready to go."""
    if task.specification.strategy == "darts":
        relaxed, probabilities = _relaxed(task, run, reporter)
        return relaxed, _strategy(task, probabilities)
    evaluator = evaluator_of(task, run, reporter, crew)
    return evaluator, _strategy(task, proxies=proxy_features(task))


def _relaxed(task: Task, run: Run, reporter: Reporter) -> tuple[InheritedAccuracy, Probabilities]:
    specification = task.specification
    options = Relaxation(
        penalty=specification.penalty,
        metric=specification.penalty_metric,
        ramp=specification.penalty_ramp,
    )
    if specification.estimator is not None:
        options = replace(options, estimator=specification.estimator)
    return relaxed_evaluator(
        task, run, reporter, options, on_point=lambda point: reporter.remark(str(point))
    )


def proxy_features(task: Task) -> ProxyFeatures | None:
    """More features for the predictor of `evolution`, or None where none were asked for."""
    specification = task.specification
    if not specification.proxies:
        return None
    names, seed = specification.proxies, specification.seed
    evaluator = ZeroCost.on_images(task.space, task.images, names, seed=seed)
    rows = task.budgeted.sample(LEARNT, np.random.default_rng((seed, 3)))
    return ProxyFeatures(evaluator, task.tables, rows)


def evaluator_of(task: Task, run: Run, reporter: Reporter, crew: Crew = ALONE) -> Evaluator | None:
    """What scores candidates, as specified; None where they are trained one by one."""
    if task.kind == "supernet":
        return inherited_evaluator(task, run, reporter, crew)
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


def starting_weights(task: Task, run: Run, reporter: Reporter, crew: Crew = ALONE) -> Weights:
    """Where the training of a run's architectures starts: from the supernet, if there is one.

    Raises:
        UserError: for a run that has no data to train on.
    """
    if task.specification.strategy == "darts":
        return _relaxed(task, run, reporter)[0]
    if task.kind == "supernet":
        return inherited_evaluator(task, run, reporter, crew)
    if not task.trains:
        raise UserError(
            f"{run.folder} has no data to train on: it was searched with "
            f"{task.specification.evaluator} and without --data"
        )
    return FreshWeights.of(task)


def supernet_training(task: Task) -> SupernetTraining:
    """The supernet's training as the task's specification has it, on the training part alone."""
    specification = task.specification
    return SupernetTraining(
        task.budgeted,
        task.data.only("train").batches("train", task.augmentation),
        task.recipe(task.supernet_epochs),
        specification.seed,
        specification.sampling,
        specification.distillation,
        specification.widening,
        specification.early_exit is not None,
    )


def inherited_evaluator(
    task: Task, run: Run, reporter: Reporter, crew: Crew = ALONE
) -> InheritedAccuracy:
    """Train the supernet, or take it from its checkpoint, and make its evaluator."""
    _choose_threads(task)
    training = supernet_training(task)
    with reporter.training("supernet", steps_of(training)) as on_step:
        supernet = train_together(
            training,
            run.supernet_checkpoint,
            workers=crew.trainers,
            address=crew.address,
            device=task.specification.device,
            on_step=Curve(run.supernet_curve, training.recipe, on_step),
            say=reporter.note,
        )
    assert isinstance(supernet, Supernet)
    points = task.specification.early_exit
    if points is not None:
        return ExitAccuracy(supernet, task.data, task.calibration, loss=points / 100)
    return inherited_from(supernet, task)


def _choose_threads(task: Task) -> None:
    if task.tables.cost(task.space.largest)["macs"] < ONE_THREAD_MACS:
        torch.set_num_threads(1)


STOCK = 512
"""Subnets within the budget, spread over its range, that the weights' sandwiches draw from."""


def relaxed_evaluator(
    task: Task,
    run: Run,
    reporter: Reporter,
    options: Relaxation | None = None,
    *,
    on_point: Callable[[Point], None] | None = None,
) -> tuple[InheritedAccuracy, list[npt.NDArray[np.float64]]]:
    """Train supernet and probabilities, or take them from their checkpoint.

    Returns:
        The evaluator over the trained weights, and the final probabilities of each choice.
    """
    specification, data, space = task.specification, task.images, task.space
    recipe = task.recipe(task.supernet_epochs)
    supernet = fresh_supernet(task)

    # Where few rows are within the budget, finding one takes longer than a step.
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
            augmentation=task.augmentation,
            checkpoint=run.folder / "relaxation.pt",
            trajectory=run.trajectory,
            on_step=on_step,
            on_point=on_point,
            say=reporter.note,
        )
    return inherited_from(supernet, task), probabilities
