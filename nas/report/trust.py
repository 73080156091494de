"""What is known of how far the figures can be trusted: the supernet's order, the latencies.

Where nothing is known, it says so, and which command would tell. Does not measure anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluators.device_prices import Target
from hardware_profiles.latency.measured import MeasuredLatency, MeasuredTable
from nas.engine.evaluator_kinds import kind_of
from nas.run.folder import Run
from nas.run.history import json_of


def fidelity(run: Run) -> tuple[dict[str, Any] | None, str]:
    """What `nas fidelity` found, or None, and a sentence about it."""
    kind = kind_of(run.specification.evaluator)
    if kind != "supernet":
        return None, (
            f"No supernet: accuracies are what --evaluator {run.specification.evaluator} says."
        )
    result = json_of(run.folder / "fidelity.json")
    if not isinstance(result, dict):
        begun = (run.folder / "fidelity.jsonl").exists()
        words = "begun, not finished; it goes on with" if begun else "measured by"
        return None, (
            "Not known yet whether the supernet orders architectures as training each alone "
            f"would: {words} nas fidelity {run.folder}"
        )
    from nas.engine.fidelity import shown, verdict

    low, high = result["interval"]
    words = verdict(result)
    return result, (
        f"Kendall's τ {shown(result['tau'])} (95 % interval {shown(low)} to {shown(high)}) between "
        f"inherited and stand-alone {result['metric']} of {len(result['architectures'])} "
        "architectures; "
        f"FLOPs alone: {shown(result['tau_of_flops'])}. {words[0].upper()}{words[1:]}."
    )


def latencies(targets: Sequence[Target]) -> list[tuple[MeasuredTable | None, str]]:
    """For each device its measured table if that was checked, and what is known of it."""
    told: list[tuple[MeasuredTable | None, str]] = []
    for target in targets:
        latency, name = target.latency, target.name
        words = f"{name}: {latency.summary}."
        if isinstance(latency, MeasuredLatency):
            if latency.table.checked:
                told.append((latency.table, words))
                continue
            words += f" Not checked on whole networks yet: nas device check {name}"
        elif latency.origin == "estimate":
            words += f" Nothing was measured: nas device measure --name {name} on that device."
        told.append((None, words))
    return told
