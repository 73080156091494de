"""The search, from a specification to an exported network.

Reads top to bottom: what may be proposed, the supernet, the evaluations, the frontier, the
winner. Each part leaves its result in the run folder before the next begins, so a killed search
resumes at the part it was in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evaluators.accuracy.inherited import InheritedAccuracy
from nas.engine.exit_winner import raced_exits, train_exits
from nas.engine.pools import open_pool
from nas.engine.preparation import check, prepare
from nas.engine.race import finalists, first_of, race, raced
from nas.engine.starting_weights import FreshWeights, Weights
from nas.engine.task import DEVICES, Task
from nas.engine.winner import train_ahead, train_winner
from nas.progress import Quiet, Reporter
from nas.run import folder as runs
from nas.run import footprint, ranking
from nas.run import specification as spec
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import knee
from nas.run.specification import Specification
from nas.run.study import Study
from nas.strategies import Strategy
from nas.workers.cluster import check_reachable, gpus_for, ray_session
from nas.workers.pool import Ended, Evaluator, Workers, keep_busy
from nas.workers.resources import ALONE, Crew
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.space import Row, SearchSpace


@dataclass(frozen=True)
class Outcome:
    """What a search gives back."""

    task: Task
    run: Run
    frontier: list[Evaluation]
    winner: Evaluation
    summary: dict[str, Any]
    footprint: str | None = None
    """What the search itself took, in a line with its range; None where it was too short."""


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
    task = Task.of(specification, folder if resume else None)
    specification = task.specification
    _check_device(specification.device)
    _check_folder(folder, specification, resume=resume)
    crew = Crew(workers, ray_address)
    if ray_address is not None:
        check_reachable(ray_address)
    check(task)
    for target in task.targets:
        reporter.note(f"{target.name}: {target.latency.summary}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from error
    # One Ray for all that follows: starting it takes longer than a short training.
    gpus = gpus_for(specification.device, workers)
    session = ray_session(workers, ray_address, gpus=gpus) if workers else nullcontext()
    with runs.lock(folder), footprint.measured(folder, specification.region), session:
        for target in task.targets:
            target.save(folder / DEVICES)
        write_text(folder / "specification.json", spec.to_json(specification))
        run = Run(folder)
        study = Study(run.study_path, task.space, run.objectives)
        evaluator, strategy = prepare(task, run, reporter, crew)
        done = study.evaluations()
        for evaluation in done:
            strategy.tell(task.space.encode([evaluation.arch])[0], evaluation)
        wanted = specification.trials - len(done)
        if wanted > 0:
            with (
                open_pool(task, run, evaluator, crew) as pool,
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
            raise NothingFeasible(ranking.nothing_feasible(good, run.budget))
        summary = finish(task, run, evaluator, done, reporter, crew)
    front = ranking.frontier(good, run.objectives)
    winner = next(e for e in good if e.arch.id == summary["winner"]["id"])
    return Outcome(task, run, front, winner, summary, footprint.summary(folder))


class AllFailed(Exception):
    """Every evaluation failed; the message is the first one's reason."""


class NothingFeasible(Exception):
    """Nothing evaluated is within the bounds; the message has the nearest ones."""


def _judged(task: Task, strategy: Strategy, row: Row, ended: Ended) -> Evaluation:
    """An ended evaluation with its costs, held against the bounds and the objectives."""
    costs = {metric: float(value) for metric, value in task.tables.cost(ended.arch).items()}
    metrics = {**ended.metrics, **costs}
    metrics = {**task.derived(metrics), **metrics}
    error = ended.error
    violation = 0.0
    if error is None:
        named = [o.metric for o in task.objectives]
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

    def candidates() -> Iterator[Architecture]:
        for _ in range(wanted):
            row = strategy.propose()
            if row is None:
                return
            (arch,) = space.decode(row[None])
            running[arch] = row
            yield arch

    for ended in keep_busy(pool, candidates()):
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


def finish(
    task: Task,
    run: Run,
    evaluator: Evaluator | None,
    evaluations: list[Evaluation],
    reporter: Reporter,
    crew: Crew = ALONE,
) -> dict[str, Any]:
    """Race the finalists, train the winner, score it on the test split, export it, sum up.

    Without images the winner is the best that was evaluated, and nothing is trained.
    """
    specification = task.specification
    objectives = run.objectives
    front = ranking.frontier(evaluations, objectives)
    starters = finalists(task, evaluations, run)
    existing = run.summary()
    if existing and (existing["evaluations"], [e["id"] for e in existing["finalists"]]) == (
        len(evaluations),
        [e.arch.id for e in starters],
    ):
        return existing
    scores: dict[str, float] = {}
    winner, tested = starters[0], {}
    if task.trains:
        start: Weights = FreshWeights.of(task)
        if isinstance(evaluator, InheritedAccuracy):
            start = evaluator
        place, points = run.folder / "winner", specification.early_exit
        if points is not None:

            def score(arch: Architecture, name: str) -> float:
                return raced_exits(task, run, start, arch, name, reporter, points, crew)
        else:
            if len(starters) > 1:
                archs = [starter.arch for starter in starters]
                train_ahead(task, run, start, archs, task.race_epochs, "train", reporter, crew)

            def score(arch: Architecture, name: str) -> float:
                return raced(task, run, start, arch, name, reporter)

        scores = race(task, starters, score)
        winner = first_of(task, starters, scores)
        if points is not None:
            tested = train_exits(task, run, start, winner.arch, points, place, reporter, crew)
        else:
            tested = train_winner(task, run, start, winner.arch, place, reporter, crew)
    values = ranking.values(front, objectives)
    metric = task.data.metric if task.trains else "accuracy"
    summary = {
        "space": task.space.name,
        "data": task.data.name if task.trains else None,
        "evaluator": specification.evaluator,
        "strategy": specification.strategy,
        "budget": str(run.budget),
        "evaluations": len(evaluations),
        "failed": sum(e.error is not None for e in evaluations),
        "first_failure": next((e.error for e in evaluations if e.error is not None), None),
        "hypervolume": ranking.hypervolume(front, objectives, task.worst),
        "frontier": [{"id": e.arch.id, **e.metrics} for e in front],
        "knee": front[knee(values, objectives)].arch.id,
        "finalists": [
            {"id": e.arch.id, **e.metrics, f"{metric}_after_race": scores.get(e.arch.id)}
            for e in starters
        ],
        "winner": {
            **runs.architecture_json(winner.arch),
            **task.tables.cost(winner.arch),
            f"validation_{metric}": winner.metrics.get(metric),
            **tested,
        },
        "seed": specification.seed,
    }
    if run.trajectory.exists():
        last = run.trajectory.read_text(encoding="utf-8").splitlines()[-1]
        summary["relaxation"] = json.loads(last)
    write_text(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary
