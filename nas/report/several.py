"""What a report shows of the other runs on its page: their frontiers, and a row of facts for each.

Reads their studies and summaries; their data, their spaces and their code are not needed.
"""

from __future__ import annotations

from typing import Any

from evaluators.metrics import Metric
from nas.run.folder import Run
from search_spaces.files import without_folders


def other_run(run: Run) -> dict[str, Any]:
    """The frontier of a run: the ids and the metrics of its points, as columns."""
    front = run.front() if run.has_study else []
    names = dict.fromkeys(name for e in front for name in e.metrics)
    return {
        "name": run.folder.resolve().name,
        "ids": [e.arch.id for e in front],
        # A metric that some points lack cannot be drawn.
        "columns": {
            name: [e.metrics[name] for e in front]
            for name in names
            if all(name in e.metrics for e in front)
        },
    }


def run_row(run: Run) -> dict[str, Any]:
    """A run in the table of all runs on the page."""
    specification, summary = run.specification, run.summary()
    data = specification.data or run.data.get("name")
    winner, score = "not yet", ""
    if summary is not None:
        winner = summary.winner.id
        found = summary.winner.score
        if found is not None:
            score = f"test {found.metric} {Metric.of(found.metric).format(found.value)}"
    return {
        "name": run.folder.resolve().name,
        "space": without_folders(specification.space),
        "data": None if data is None else without_folders(data),
        "strategy": specification.strategy,
        "seed": specification.seed,
        "budget": str(run.budget),
        "evaluations": len(run.evaluations()) if run.has_study else 0,
        "winner": winner,
        "score": score,
    }
