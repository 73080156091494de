"""The search, from a specification to an exported network.

Reads top to bottom: the checks, the supernet, the evaluations, the frontier, the winner. Each part
leaves its result in the run folder before the next begins, so a killed search resumes at the part
it was in.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.data.dataset import describe_parts
from nas.engine.course import Patience, phases_of
from nas.engine.finish.exits import ExitFinisher
from nas.engine.finish.fine_tuning import FineTuning
from nas.engine.finish.plain import PlainFinisher
from nas.engine.finish.race import Finisher, finalists, race, race_winner
from nas.engine.place import NotBegun, check_place, made, record_data
from nas.engine.pools import open_pool
from nas.engine.preparation import check, prepare
from nas.engine.reuse import Reusing, finished
from nas.engine.summary import summed_up, time_winner, winner_is_there
from nas.engine.timed_race import PROPOSING, TimedRace
from nas.progress import Quiet, Reporter
from nas.run import folder as runs
from nas.run import footprint, ranking
from nas.run import specification as spec
from nas.run.evaluation import Evaluation
from nas.run.folder import Run, study_of
from nas.run.results import Summary
from nas.run.specification import Specification
from nas.run.study import Study
from nas.strategies import Strategy
from nas.strategies.replay import replay
from nas.task import own_code
from nas.task.new_run import check_folder
from nas.task.starting_weights import FreshWeights, Weights
from nas.task.task import DEVICES, Task
from nas.timed.clock import SECONDS_BETWEEN_READINGS, Clock
from nas.training.logs import log as logs
from nas.workers.cluster import check_reachable, gpus_for, ray_session
from nas.workers.pool import EvaluationResult, Evaluator, Workers, keep_busy
from nas.workers.resources import THIS_PROCESS, Resources
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.space import Row, SearchSpace


@dataclass(frozen=True)
class Outcome:
    """Result of a search."""

    task: Task
    run: Run
    frontier: list[Evaluation]
    winner: Evaluation
    summary: Summary
    footprint: str | None = None
    """Energy and carbon of the search itself with their range; None if it was too short."""


def search(
    specification: Specification,
    folder: Path | str,
    *,
    workers: int = 0,
    ray_address: str | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
    started: float | None = None,
) -> Outcome:
    """Search as specified and leave everything in `folder`.

    Args:
        workers: evaluations at a time, on Ray actors; 0 evaluates in this process.
        ray_address: a Ray cluster to run the actors on.
        resume: go on with the run in `folder`.
        started: when the time of the search began, as `time.monotonic()`; by default now.

    Raises:
        UserError: for anything in the specification or the folder that cannot be used.
    """
    started = time.monotonic() if started is None else started
    reporter = reporter or Quiet()
    folder = Path(folder)
    if resume and (folder / "specification.json").exists():
        # It goes on with the trainings of the format that it was started with.
        old = Run(folder).specification
        specification = specification.model_copy(
            update={"version": old.version, "study": old.study}
        )
    else:
        # Each run has a study of its own in a shared storage.
        name = f"{folder.resolve().name}-{secrets.token_hex(4)}"
        specification = specification.model_copy(
            update={"study": None if specification.storage is None else name}
        )
    with reporter.stage("preparing"):
        task = Task.of(specification, folder if resume else None)
        specification = task.specification
        check_folder(folder, specification, resume=resume)
        if task.kind == "halving" and (workers or ray_address):
            raise UserError(
                "a search with --time or --energy trains in one process: expected no --workers"
            )
        resources = Resources(workers, ray_address)
        if ray_address is not None:
            check_reachable(ray_address)
        strategy = check(task)
        check_place(task, folder)
    if task.trains:
        reporter.note(f"{task.data.name}: {describe_parts(task.data)}")
    if task.space_reason:
        reporter.note(task.space_reason)
    for target in task.targets:
        reporter.note(f"{target.name}: {target.latency.summary}")
    limits = specification.time, specification.energy
    clock = Clock(folder, limits[0], started, energy=limits[1]) if specification.limited else None
    budget, left = str(task.budgeted.budget), None if clock is None else clock.now
    reporter.plan(phases_of(task), budget, left)
    # One Ray for all that follows: starting it takes longer than a short training.
    gpus = gpus_for(specification.device, workers)
    session = ray_session(workers, ray_address, gpus=gpus) if workers else nullcontext()
    every = SECONDS_BETWEEN_READINGS if specification.energy else footprint.SECONDS_BETWEEN_WRITES
    measured = footprint.measure(folder, specification.region, every=every)
    with made(folder), runs.lock(folder), measured, session:
        try:
            logs.begin(folder, specification)
        except UserError as error:
            raise error if resume else NotBegun(str(error)) from error
        for target in task.targets:
            target.save(folder / DEVICES)
        own_code.record(folder, specification)
        record_data(task, folder)
        open_study = partial(
            Study,
            study_of(folder, specification),
            task.space,
            task.objectives,
            note=reporter.note,
        )
        shared = specification.storage is not None
        # A run in a shared storage has its study first: killed in between, it is no run.
        study = open_study() if shared and not resume else None
        write_text(folder / "specification.json", spec.to_json(specification))
        run = Run(folder)
        study = study or open_study(exists=shared)
        evaluator, strategy = prepare(task, run, reporter, resources, strategy)
        timed = None
        if clock is not None and task.kind == "halving":
            timed = evaluator = TimedRace(task, run, clock, reporter)
            try:
                clock.wait_for_power()
                taught = timed.plan.teacher > 0
            except UserError as error:
                if resume:
                    raise
                study.delete()
                raise NotBegun(str(error)) from error
            reporter.plan(phases_of(task, taught=taught), budget, left)
            if specification.strategy == PROPOSING:
                strategy = timed.proposals()
        done = study.evaluations()
        patience = Patience(specification.patience, run.objectives, task.worst)
        patience.update(done)
        told = task.space.encode([e.arch for e in done])
        # Not where none is needed or each is expensive: a race proposes by its own records.
        repeat = timed is None and not specification.proxies and len(done) < specification.trials
        first = replay(strategy, told, done, repeat=repeat)
        known = None if timed is not None else finished(task, study, evaluator)
        if known is not None:
            reporter.note(f"{len(known)} evaluations of other runs are in the storage")

        def has_time() -> bool:
            if patience.exhausted:
                return False
            # One candidate at least, else there is no winner.
            if clock is None or not done:
                return True
            return clock.left > 0 if timed is None else timed.has_time

        trials = specification.trials if timed is None else timed.trials
        wanted = trials - len(done)
        if wanted > 0 and not patience.exhausted:
            with (
                study,
                open_pool(task, run, evaluator, resources) as opened,
                reporter.evaluations(trials, len(done)) as show,
            ):
                pool = opened if known is None else Reusing(opened, known)
                for row, ended in _evaluate(
                    strategy, pool, task.space, wanted, first=first, has_time=has_time
                ):
                    evaluation = _judged(task, strategy, row, ended)
                    study.add(evaluation)
                    strategy.tell(row, evaluation)
                    done.append(evaluation)
                    patience.update(done)
                    show(done, run.objectives, task.worst, strategy.status)
        if patience.exhausted and len(done) < trials:
            reporter.note(
                f"the frontier has not improved for {patience.unchanged} evaluations: the search "
                f"ends after {len(done)} of {trials}"
            )
        reused = sum(e.found_in is not None for e in done)
        if reused:
            reporter.note(f"{reused} evaluations found again in the storage")
        good = [e for e in done if e.error is None]
        if not good:
            raise AllFailed(next((e.error or "" for e in done), "nothing was evaluated"))
        if not any(e.feasible for e in good):
            raise NothingFeasible(ranking.nothing_feasible(good, run.budget))
        if timed is None:
            summary = finish(task, run, evaluator, done, reporter, resources)
        else:
            summary = _finish_in_time(timed, done)
        time_winner(run, summary)
    front = ranking.frontier(good, run.objectives)
    winner = next(e for e in good if e.arch.id == summary.winner.id)
    return Outcome(task, run, front, winner, summary, footprint.summary(folder))


class AllFailed(Exception):
    """Every evaluation failed; the message is the first one's reason."""


class NothingFeasible(Exception):
    """Nothing evaluated is within the bounds; the message has the nearest ones."""


def _judged(task: Task, strategy: Strategy, row: Row, ended: EvaluationResult) -> Evaluation:
    """An ended evaluation with its costs, held against the bounds and the objectives."""
    costs = {metric: float(value) for metric, value in task.tables.cost(ended.arch).items()}
    metrics = {**ended.metrics, **costs}
    # What an evaluator gives under the name of a derived metric counts.
    metrics |= {n: value for n, value in task.derived(metrics).items() if n not in metrics}
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
    return Evaluation(
        ended.arch, metrics, ended.seconds, error, state, violation, found_in=ended.found_in
    )


def _evaluate(
    strategy: Strategy,
    pool: Workers,
    space: SearchSpace,
    wanted: int,
    *,
    first: Row | None = None,
    has_time: Callable[[], bool],
) -> Iterator[tuple[Row, EvaluationResult]]:
    """Keep all workers busy until `wanted` evaluations ended or nothing is left to propose.

    Args:
        first: a row that the strategy has proposed already.
        has_time: whether another candidate may begin.
    """
    running: dict[Architecture, Row] = {}

    def candidates() -> Iterator[Architecture]:
        for number in range(wanted):
            if not has_time():
                return
            row = first if number == 0 and first is not None else strategy.propose()
            if row is None:
                return
            (arch,) = space.decode(row[None])
            running[arch] = row
            yield arch

    for ended in keep_busy(pool, candidates()):
        yield running.pop(ended.arch), ended


def finish(
    task: Task,
    run: Run,
    evaluator: Evaluator | None,
    evaluations: list[Evaluation],
    reporter: Reporter,
    resources: Resources = THIS_PROCESS,
) -> Summary:
    """Race the finalists, train the winner, score it on the test part, export it, sum up.

    Without data the winner is the best evaluated architecture, and nothing is trained.
    """
    starters = finalists(task, evaluations, run)
    existing = run.summary()
    complete = (len(evaluations), [e.arch.id for e in starters])
    found = existing and (existing.evaluations, [e.id for e in existing.finalists])
    if existing and found == complete and winner_is_there(task, run, reporter):
        return existing
    scores: dict[str, float] = {}
    winner, result = starters[0], None
    if task.trains:
        finisher = _finisher(task, run, evaluator, reporter, resources)
        scores = race(task, starters, finisher)
        winner = race_winner(task, starters, scores)
        result = finisher.finish(winner.arch, run.folder / "winner")
    return summed_up(task, run, evaluations, starters, scores, winner, result)


def _finish_in_time(timed: TimedRace, evaluations: list[Evaluation]) -> Summary:
    """Go on with the race, train the winner with the time that is left, sum up."""
    task, run = timed.task, timed.run
    existing = run.summary()
    complete = existing is not None and existing.evaluations == len(evaluations)
    if existing and complete and winner_is_there(task, run, timed.reporter):
        return existing
    starters, scores, segments = timed.go_on(evaluations)
    winner = starters[0]
    result = timed.finish(winner.arch, segments, run.folder / "winner")
    return summed_up(task, run, evaluations, starters, scores, winner, result)


def _finisher(
    task: Task,
    run: Run,
    evaluator: Evaluator | None,
    reporter: Reporter,
    resources: Resources,
) -> Finisher:
    """Trains finalists and winner from the supernet's weights, or from new ones without it."""
    start: Weights = FreshWeights.of(task)
    if isinstance(evaluator, InheritedAccuracy):
        start = evaluator
    tuning = FineTuning(task, run, start, reporter, resources)
    points = task.specification.early_exit
    return PlainFinisher(tuning) if points is None else ExitFinisher(tuning, points)
