"""Summarises evidence on the run's numbers: fidelity of the supernet, accuracy of latencies.

If something was not measured, the text names the command that measures it. Knows results of
`nas fidelity` and `nas device check`. Does not measure anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.device_prices import Target
from hardware_profiles.latency.measured import MeasuredLatency, MeasuredTable
from nas.run.folder import Run
from nas.run.history import json_of
from nas.studies.fidelity_result import (
    RESULT_FILE,
    TRAININGS_FILE,
    Fidelity,
    format_statistic,
)
from nas.task.evaluator_kinds import kind_of


def fidelity(run: Run) -> tuple[Fidelity | None, str]:
    """The result of `nas fidelity`, or None, with a sentence about it."""
    kind = kind_of(run.specification.evaluator)
    if kind != "supernet":
        return None, (
            f"No supernet: the accuracies come from --evaluator {run.specification.evaluator}."
        )
    content = json_of(run.folder / RESULT_FILE)
    if not isinstance(content, dict):
        begun = (run.folder / TRAININGS_FILE).exists()
        hint = "begun but not finished; resume with" if begun else "measure it with"
        return None, (
            "Not known yet: whether the supernet ranks architectures as stand-alone training does; "
            f"{hint} nas fidelity {run.folder}"
        )
    result = Fidelity.from_json(content)
    low, high = (format_statistic(end) for end in result.interval)
    verdict = result.verdict()
    return result, (
        f"Kendall's τ {format_statistic(result.tau)} (95 % interval {low} to {high}) between "
        f"inherited and stand-alone {result.metric} of {len(result.architectures)} "
        "architectures; "
        f"ranking by FLOPs alone: {format_statistic(result.tau_of_flops)}. "
        f"{verdict[0].upper()}{verdict[1:]}."
    )


def latencies(targets: Sequence[Target]) -> list[tuple[MeasuredTable | None, str]]:
    """For each device, its measured table if it was checked, with a sentence about it."""
    known: list[tuple[MeasuredTable | None, str]] = []
    for target in targets:
        latency, name = target.latency, target.name
        text = f"{name}: {latency.summary}."
        if isinstance(latency, MeasuredLatency):
            if latency.table.checked:
                known.append((latency.table, text))
                continue
            text += f" Not checked on whole networks yet; check with nas device check {name}"
        elif latency.origin == "estimate":
            text += f" Not measured; run nas device measure --name {name} on that device."
        known.append((None, text))
    return known
