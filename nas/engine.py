"""The search, from a specification to an exported network.

Reads top to bottom: what may be proposed, the supernet, the evaluations, the frontier, the
winner. Each part leaves its result in the run folder before the next begins, so a killed search
resumes at the part it was in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.accuracy import accuracy, calibration_batches, recalibrate
from evaluators.augmentation import Augmentation
from evaluators.budget import Budget, BudgetedSpace
from evaluators.costs import CostTables
from evaluators.data import ImageData, Split, load_data
from evaluators.inherited import InheritedAccuracy
from nas import run as runs
from nas import specification as spec
from nas.export import export
from nas.files import write_text
from nas.fit import fit, recipe_for
from nas.frontier import knee, objective
from nas.progress import Quiet, Reporter
from nas.run import Run
from nas.specification import Specification
from nas.strategies import Candidates, make_strategy
from nas.study import Evaluation, Study
from nas.supernet import Supernet
from nas.supernet_training import sandwich
from nas.training import train
from nas.workers import Ended, Workers, check_reachable, open_workers
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.modules import channels_last
from search_spaces.space import SearchSpace

SURVEY = 100_000
"""Random architectures priced to describe a space and to set the hypervolume's reference."""

SUPERNET_IMAGES = 400_000
"""Images that the supernet trains on by default: 10 epochs of CIFAR-10."""

FINE_TUNING_RATE = 0.5
"""The winner starts from inherited weights: half the learning rate of a fresh network."""


@dataclass(frozen=True)
class Task:
    """What a specification means: its data, space and tables, ready to search."""

    specification: Specification

    @cached_property
    def data(self) -> ImageData:
        """The images, loaded once."""
        return load_data(self.specification.data, image_size=self.specification.image_size)

    @cached_property
    def space(self) -> SearchSpace:
        """The space, fitted to the data's images and classes."""
        data = self.data
        return load_space(
            self.specification.space,
            image_size=data.image_size,
            channels=data.channels,
            classes=len(data.classes),
        )

    @cached_property
    def tables(self) -> CostTables:
        """What everything in the space costs."""
        return CostTables(self.space)

    @cached_property
    def budgeted(self) -> BudgetedSpace:
        """The part of the space within the budget."""
        budget = Budget(self.specification.high, self.specification.low)
        return BudgetedSpace(self.tables, budget)

    @cached_property
    def worst(self) -> dict[str, float]:
        """Reference value of each cost for the hypervolume: the ceiling, or the largest's cost."""
        return {**self.tables.cost(self.space.largest), **self.specification.high}

    @cached_property
    def supernet_epochs(self) -> float:
        """What was asked for, or enough for the data: small sets need more epochs."""
        asked = self.specification.supernet_epochs
        return asked or max(2.0, min(20.0, SUPERNET_IMAGES / len(self.data.train)))

    @cached_property
    def train_epochs(self) -> float:
        """What was asked for, or half as much again as the supernet by default."""
        asked = self.specification.train_epochs
        default = max(3.0, min(30.0, 1.5 * SUPERNET_IMAGES / len(self.data.train)))
        return default if asked is None else asked

    @cached_property
    def augmentation(self) -> Augmentation:
        """What was asked for, or the data's own."""
        names = self.specification.augmentation
        return Augmentation.from_names(self.data.augmentation if names is None else names)


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
    objectives = [objective(name) for name in specification.objectives]
    candidates = Candidates(task.budgeted, specification.seed)
    strategy = make_strategy(
        specification.strategy,
        candidates,
        objectives,
        sampler=specification.sampler,
        seed=specification.seed,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from error
    with runs.lock(folder):
        write_text(folder / "specification.json", spec.to_json(specification))
        run = Run(folder)
        study = Study(run.study_path, task.space, objectives)
        evaluator = inherited_evaluator(task, run, reporter)
        done = study.evaluations()
        for evaluation in done:
            strategy.tell(task.space.encode([evaluation.arch])[0], evaluation)
        wanted = specification.trials - len(done)
        if wanted > 0:
            open_them = partial(open_workers, evaluator, workers, ray_address)
            with open_them() as pool, reporter.evaluations(specification.trials, len(done)) as show:
                for ended, row, state in _evaluate(
                    strategy.propose, strategy.state_of, pool, task, wanted
                ):
                    costs = task.tables.cost(ended.arch)
                    metrics = {**ended.metrics, **{m: float(v) for m, v in costs.items()}}
                    evaluation = Evaluation(
                        ended.arch, metrics, ended.seconds, ended.error, dict(state)
                    )
                    study.add(evaluation)
                    strategy.tell(row, evaluation)
                    done.append(evaluation)
                    show(done, objectives, task.worst)
        good = [e for e in done if e.error is None]
        if not good:
            raise AllFailed(next((e.error or "" for e in done), "nothing was evaluated"))
        front = runs.frontier(good, objectives)
        winner = runs.best(front, objectives)
        summary = finish(task, run, evaluator, done, front, winner, reporter)
    return Outcome(task, run, front, winner, summary)


class AllFailed(Exception):
    """Every evaluation failed; the message is the first one's reason."""


def _evaluate(
    propose: Callable[[], Any],
    state_of: Callable[[Any], dict[str, object]],
    pool: Workers,
    task: Task,
    wanted: int,
) -> Any:
    """Keep all workers busy until `wanted` evaluations ended or nothing is left to propose."""
    rows: dict[Architecture, Any] = {}
    proposed = 0
    exhausted = False
    while True:
        while pool.idle and proposed < wanted and not exhausted:
            row = propose()
            if row is None:
                exhausted = True
                break
            (arch,) = task.space.decode(row[None])
            rows[arch] = row
            pool.submit(arch)
            proposed += 1
        if not rows:
            return
        ended: Ended = pool.next_ended()
        row = rows.pop(ended.arch)
        yield ended, row, state_of(row)


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
    recipe = recipe_for(task.space, task.supernet_epochs, batch_size=specification.batch_size)
    torch.manual_seed(specification.seed)
    supernet = Supernet(task.space)
    supernet = channels_last(supernet.to(specification.device))

    def draw(rng: np.random.Generator, n: int) -> list[Architecture]:
        return task.space.decode(task.budgeted.sample(n, rng))

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
    rng = np.random.default_rng(specification.seed)
    count = min(specification.calibration_images, len(data.train))
    chosen = torch.from_numpy(rng.choice(len(data.train), count, replace=False))
    return InheritedAccuracy(
        supernet, data.validation, data.train.images[chosen], data.normalisation
    )


def finish(
    task: Task,
    run: Run,
    evaluator: InheritedAccuracy,
    evaluations: list[Evaluation],
    front: list[Evaluation],
    winner: Evaluation,
    reporter: Reporter,
) -> dict[str, Any]:
    """Train the winner, score it on the test split, export it and write the summary."""
    specification = task.specification
    existing = run.summary()
    if existing and (existing["evaluations"], existing["winner"]["id"]) == (
        len(evaluations),
        winner.arch.id,
    ):
        return existing
    test = train_winner(task, run, evaluator, winner.arch, run.folder / "winner", reporter)
    objectives = run.objectives
    points = runs.values(front, objectives)
    summary = {
        "space": task.space.name,
        "data": task.data.name,
        "budget": str(run.budget),
        "evaluations": len(evaluations),
        "failed": sum(e.error is not None for e in evaluations),
        "hypervolume": runs.hypervolume(front, objectives, task.worst),
        "frontier": [{"id": e.arch.id, **e.metrics} for e in front],
        "knee": front[knee(points, objectives)].arch.id,
        "winner": {
            **runs.architecture_json(winner.arch),
            **task.tables.cost(winner.arch),
            "validation_accuracy": winner.metrics.get("accuracy"),
            "test_accuracy": test,
            "test_images": len(task.data.test),
        },
        "seed": specification.seed,
    }
    write_text(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def train_winner(
    task: Task,
    run: Run,
    evaluator: InheritedAccuracy,
    arch: Architecture,
    folder: Path,
    reporter: Reporter,
) -> float:
    """Fine-tune an architecture from inherited weights, export it, return its test accuracy.

    It trains on the training and validation images together: the search is over, and the test
    split is the only one that judges it.
    """
    specification = task.specification
    data = task.data
    network = evaluator.recalibrated(arch).to(specification.device)
    size = task.space.input_shape(arch)[-1]
    both = Split(
        torch.cat([data.train.images, data.validation.images]),
        torch.cat([data.train.labels, data.validation.labels]),
    )
    if task.train_epochs > 0:
        recipe = recipe_for(task.space, task.train_epochs, batch_size=specification.batch_size)
        recipe = recipe.scaled(FINE_TUNING_RATE)
        with reporter.training("winner", recipe.steps(len(both))) as on_step:
            train(
                network,
                data,
                recipe,
                size,
                seed=specification.seed,
                split=both,
                checkpoint=run.training_checkpoint(arch, recipe.epochs),
                on_step=on_step,
            )
    device = torch.device(specification.device)
    recalibrate(
        network, calibration_batches(evaluator.calibration, data.normalisation, size, device)
    )
    test = accuracy(network, data.test, data.normalisation, size)
    metrics = {"test_accuracy": test, "test_images": len(data.test)}
    with reporter.stage(f"exporting to {folder}"):
        export(network, arch, task.tables, data, folder, metrics=metrics, overwrite=True)
    return test
