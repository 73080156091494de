"""The winner's card, and the panels about the race and the data that led to it.

What a reader wants first: the score on the test part with its interval, what the network costs, and
the command that takes it away. Scores on the validation part, which the search maximised, are named
apart. Does not know HTML.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.device_prices import Target
from evaluators.metrics import Metric, latency_on
from evaluators.sizes import format_size
from nas.exports.description import ONNX_FILE, WEIGHTS_FILE
from nas.report import figures
from nas.report.panels.panel import Panel
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.results import Summary
from search_spaces.files import without_folders

FILES = (ONNX_FILE, WEIGHTS_FILE)
"""Files of an export whose sizes are shown."""


def winner_card(
    run: Run, evaluations: Sequence[Evaluation], targets: Sequence[Target]
) -> dict[str, Any] | None:
    """What the page says about the winner; None before the search has ended.

    Args:
        evaluations: those that did not fail.
        targets: devices on which networks are priced.
    """
    summary = run.summary()
    if summary is None:
        return None
    winner = summary.winner
    found = next((e for e in evaluations if e.arch.id == winner.id), None)
    known: Mapping[str, float] = winner.costs if found is None else found.metrics
    facts = [
        ("FLOPs", format_size(winner.costs["macs"]), summary.budget),
        ("parameters", format_size(winner.costs["params"]), ""),
    ]
    if run.latency is not None:
        words = f"measured on {run.latency.processor}, one thread, {run.latency.runtime}"
        facts.append(("latency", f"{run.latency.ms:.3g} ms", words))
    for target in targets:
        value = known.get(latency_on(target.name))
        if value is not None:
            facts.append((f"latency on {target.name}", f"{value:.3g} ms", target.latency.origin))
    for name in FILES:
        file = run.folder / "winner" / name
        if file.exists():
            facts.append((name, format_size(file.stat().st_size, "B"), ""))
    folder = without_folders(str(run.folder))
    return {
        "id": winner.id,
        "title": "Winner" if winner.score is not None else "Best architecture",
        **_scores(run, summary, known),
        "facts": [list(fact) for fact in facts],
        "command": shlex.join(["nas", "export", folder, "--arch", "best", "--out", "DIR"]),
    }


def _scores(run: Run, summary: Summary, known: Mapping[str, float]) -> dict[str, str]:
    """The main score with what it was measured on, and the score during the search."""
    winner, metric = summary.winner, run.objectives[0].metric
    if winner.score is None:
        value = known.get(metric)
        words = f"{Metric.of(metric).axis} by the evaluator; nothing was trained"
        return {
            "score": "–" if value is None else Metric.of(metric).format(value),
            "words": words,
            "searched": "",
        }
    score, shown = winner.score, Metric.of(winner.score.metric)
    words = f"test {score.metric} on {score.samples:,} {score.unit} that the search never saw"
    if score.interval is not None:
        low, high = map(shown.format, score.interval)
        words += f"; 95 % interval {low} to {high}"
    searched = ""
    if winner.validation is not None:
        searched = (
            f"Validation {summary.metric} in the search: {shown.format(winner.validation)}, by "
            f"{without_folders(summary.evaluator)}."
        )
    return {"score": shown.format(score.value), "words": words, "searched": searched}


def on_winner(run: Run) -> list[Panel]:
    """Panels about the race between the finalists, and about the data."""
    summary = run.summary()
    return [*_race(summary), *_classes(run), *_data(run)]


def _race(summary: Summary | None) -> list[Panel]:
    """The finalists before and after their race, if there was one."""
    finalists = [] if summary is None else list(summary.finalists)
    if summary is None or len(finalists) < 2 or all(e.after_race is None for e in finalists):
        return []
    metric = Metric.of(summary.metric)
    rows = []
    for finalist in finalists:
        before, after = finalist.metrics.get(summary.metric), finalist.after_race
        rows.append(
            [
                finalist.id,
                format_size(finalist.metrics["macs"]),
                "–" if before is None else metric.format(before),
                "–" if after is None else metric.format(after),
                "winner" if finalist.id == summary.winner.id else "",
            ]
        )
    text = (
        "The best architectures of the search train for a short time each; the one with the best "
        "validation score then wins, and alone trains to the end. Validation scores only: the test "
        "part is not used."
    )
    head = (
        *("finalist", "FLOPs", f"validation {summary.metric} in the search"),
        *(f"validation {summary.metric} after the race", ""),
    )
    figure = figures.race(finalists, summary.metric, summary.winner.id)
    return [Panel("race", "Race between the finalists", text, figure, (head, rows))]


def _classes(run: Run) -> list[Panel]:
    """Where the winner is right and wrong on the test part, if it classifies."""
    scores = run.scores()
    if scores is None:
        return []
    head = ("class", "accuracy", "95 % interval", scores.unit)
    rows = [
        [
            one.label,
            "–" if one.accuracy is None else f"{one.accuracy:.1%}",
            "–" if one.interval is None else f"{one.interval[0]:.1%} to {one.interval[1]:.1%}",
            f"{one.samples:,}",
        ]
        for one in scores.by_class
    ]
    pairs = ", ".join(
        f"{label} for {other} ({count:,})" for label, other, count in scores.confusions[:3]
    )
    text = f"The winner on the {scores.samples:,} test {scores.unit}, by class. "
    text += f"Most often mistaken: {pairs}." if pairs else "It makes no mistake."
    figure = figures.confusion(scores)
    panels = [Panel("classes", "Accuracy by class", text, figure, (head, rows))]
    if scores.mistakes:
        pictures = [
            (one.picture, f"{one.label} taken for {one.predicted} ({one.probability:.0%})")
            for one in scores.mistakes
            if one.picture is not None
        ]
        mistakes = [
            [
                f"sample {one.index}" if one.name is None else without_folders(one.name),
                one.label,
                one.predicted,
                f"{one.probability:.1%}",
            ]
            for one in scores.mistakes
        ]
        words = "Test samples that the winner classifies wrongly, the most confident first."
        columns = ("sample", "class", "predicted", "probability")
        panels.append(
            Panel(
                "mistakes",
                "Most confident mistakes",
                words,
                table=(columns, mistakes),
                pictures=pictures,
            )
        )
    return panels


def _data(run: Run) -> list[Panel]:
    """The parts of the data, if they were recorded."""
    data = run.data
    if not data:
        return []
    uses = {
        "train": "training of supernet and candidates",
        "validation": "scores during the search",
        "test": "the winner's score, once",
    }
    rows = [
        [part, f"{facts['extent']:,}", without_folders(str(facts["origin"])), uses.get(part, "")]
        for part, facts in data["parts"].items()
    ]
    classes = data.get("classes", [])
    words = without_folders(str(data["name"]))
    if classes:
        some = ", ".join(map(str, classes[:MOST_CLASSES]))
        more = f" and {len(classes) - MOST_CLASSES:,} more" if len(classes) > MOST_CLASSES else ""
        words += f": {data['unit']} of {len(classes):,} classes, {some}{more}"
    words += "."
    words += " The winner trains on training and validation part together."
    return [Panel("data", "Data", words, None, (("part", data["unit"], "from", "used for"), rows))]


MOST_CLASSES = 12
"""Classes that are named."""
