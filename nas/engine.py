"""The search, from a specification to an exported network.

Reads top to bottom: what may be proposed, the supernet, the evaluations, the frontier, the
winner. Each part leaves its result in the run folder before the next begins, so a killed search
resumes at the part it was in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.inherited import InheritedAccuracy
from nas import run as runs
from nas import specification as spec
from nas.files import write_text
from nas.fit import fit, recipe_for
from nas.frontier import knee, objective
from nas.progress import Quiet, Reporter
from nas.run import Run
from nas.specification import Specification
from nas.strategies import Candidates, Strategy, make_strategy
from nas.strategies.candidates import Row
from nas.study import Evaluation, Study
from nas.supernet import Supernet
from nas.supernet_training import sandwich
from nas.task import Task
from nas.winner import finalists, race, train_winner
from nas.workers import Workers, check_reachable, open_workers
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.modules import channels_last

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
                for row, evaluation in _evaluate(strategy, pool, task, wanted):
                    study.add(evaluation)
                    strategy.tell(row, evaluation)
                    done.append(evaluation)
                    show(done, objectives, task.worst)
        good = [e for e in done if e.error is None]
        if not good:
            raise AllFailed(next((e.error or "" for e in done), "nothing was evaluated"))
        summary = finish(task, run, evaluator, done, reporter)
    front = runs.frontier(good, objectives)
    winner = next(e for e in good if e.arch.id == summary["winner"]["id"])
    return Outcome(task, run, front, winner, summary)


class AllFailed(Exception):
    """Every evaluation failed; the message is the first one's reason."""


def _evaluate(
    strategy: Strategy, pool: Workers, task: Task, wanted: int
) -> Iterator[tuple[Row, Evaluation]]:
    """Keep all workers busy until `wanted` evaluations ended or nothing is left to propose."""
    running: dict[Architecture, Row] = {}
    left = wanted
    while True:
        while pool.idle and left:
            row = strategy.propose()
            if row is None:
                left = 0
                break
            (arch,) = task.space.decode(row[None])
            running[arch] = row
            pool.submit(arch)
            left -= 1
        if not running:
            return
        ended = pool.next_ended()
        row = running.pop(ended.arch)
        costs = {metric: float(value) for metric, value in task.tables.cost(ended.arch).items()}
        metrics = {**ended.metrics, **costs}
        state = strategy.state_of(row)
        yield row, Evaluation(ended.arch, metrics, ended.seconds, ended.error, state)


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
    reporter: Reporter,
) -> dict[str, Any]:
    """Race the finalists, train the winner, score it on the test split, export it, sum up."""
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
    raced = race(task, run, evaluator, starters, reporter)
    winner = max(starters, key=lambda e: raced.get(e.arch.id, 0.0))
    test = train_winner(task, run, evaluator, winner.arch, run.folder / "winner", reporter)
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
        "finalists": [
            {"id": e.arch.id, **e.metrics, "accuracy_after_race": raced.get(e.arch.id)}
            for e in starters
        ],
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
