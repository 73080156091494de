"""How a search ended: its summary, the winner's latency, and whether the winner is still there."""

from __future__ import annotations

import json

from hardware_profiles.measuring.exported_file import time_file
from nas.engine.course import Patience
from nas.exports.description import WEIGHTS_FILE
from nas.exports.formats import FORMAT_FILES
from nas.progress import Reporter
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import LATENCY, Run
from nas.run.history import references
from nas.run.objectives import knee
from nas.run.results import ExitReport, FinalScore, ScoredArchitecture, Summary, Winner
from nas.task.task import Task
from search_spaces.files import write_text


def summed_up(
    task: Task,
    run: Run,
    evaluations: list[Evaluation],
    starters: list[Evaluation],
    scores: dict[str, float],
    winner: Evaluation,
    result: FinalScore | ExitReport | None,
) -> Summary:
    """The summary of a search, written to its folder."""
    specification, objectives = task.specification, run.objectives
    front = ranking.frontier(evaluations, objectives)
    metric = task.data.metric if task.trains else "accuracy"
    exits = result if isinstance(result, ExitReport) else None
    patience = Patience(specification.patience, objectives, task.worst)
    patience.update(evaluations)
    early = patience.exhausted and len(evaluations) < specification.trials
    relaxation = {}
    if run.trajectory.exists():
        relaxation = json.loads(run.trajectory.read_text(encoding="utf-8").splitlines()[-1])
    summary = Summary(
        space=task.space.name,
        data=task.data.name if task.trains else None,
        evaluator=specification.evaluator,
        strategy=specification.strategy,
        budget=str(run.budget),
        metric=metric,
        evaluations=len(evaluations),
        failed=sum(e.error is not None for e in evaluations),
        reused=sum(e.found_in is not None for e in evaluations),
        first_failure=next((e.error for e in evaluations if e.error is not None), None),
        hypervolume=ranking.hypervolume(
            front, objectives, references(evaluations, objectives, task.worst)
        ),
        frontier=tuple(ScoredArchitecture(e.arch.id, e.metrics) for e in front),
        knee=front[knee(ranking.values(front, objectives), objectives)].arch.id,
        finalists=tuple(
            ScoredArchitecture(e.arch.id, e.metrics, scores.get(e.arch.id)) for e in starters
        ),
        winner=Winner(
            winner.arch.id,
            dict(winner.arch),
            task.tables.cost(winner.arch),
            winner.metrics.get(metric),
            result.score if isinstance(result, ExitReport) else result,
            exits,
        ),
        seed=specification.seed,
        relaxation=relaxation,
        stopped="patience" if early else None,
    )
    write_text(run.folder / "summary.json", json.dumps(summary.to_json(), indent=2) + "\n")
    return summary


def winner_is_there(task: Task, run: Run, reporter: Reporter) -> bool:
    """Whether the exported winner of a run that has ended is there; notes what is gone."""
    place = run.folder / "winner"
    if not task.trains or (place / WEIGHTS_FILE).exists():
        return True
    trained = any((run.folder / "trained").glob("*.pt"))
    reporter.note(
        f"{place} is gone or incomplete: exporting the winner again"
        + ("" if trained else ", after its training, since trained/ is gone too")
    )
    return False


def time_winner(run: Run, summary: Summary) -> None:
    """Measure the winner's latency here, unless that has been done."""
    file = run.folder / "winner" / FORMAT_FILES["onnx"]
    if file.exists() and run.latency is None:
        content = {"id": summary.winner.id, **time_file(file).to_json()}
        write_text(run.folder / LATENCY, json.dumps(content) + "\n")
