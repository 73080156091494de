"""Panels about choices: their importance, and the options that the frontier prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluators.metrics import Metric
from nas.report import figures
from nas.report.findings.choices import MIN_EVALUATIONS, SAMPLE_SIZE, ChosenOptions, OptionShares
from nas.report.panels.panel import Panel


def on_choices(
    importances: Mapping[str, Mapping[str, float]],
    shares: Sequence[OptionShares],
    chosen: ChosenOptions,
) -> list[Panel]:
    """Panels about choices: their importance, and the options that the frontier prefers."""
    panels = []
    if importances:
        names = list(next(iter(importances.values())))
        sampled = ""
        if len(chosen.codes) > SAMPLE_SIZE:
            sampled = f" (computed from a random sample of {SAMPLE_SIZE:,})"
        panels.append(
            Panel(
                "importance",
                "Importance of each choice",
                "How much a choice determines whether an architecture is among the best 10 % of "
                f"those evaluated{sampled}, by Optuna's PED-ANOVA. FLOPs depend on the choices "
                "alone, so their importance shows where compute is spent.",
                figures.importance(importances),
                (
                    ("choice", *(f"for {Metric.of(metric).axis}" for metric in importances)),
                    [
                        [n, *(f"{shares_.get(n, 0.0):.1%}" for shares_ in importances.values())]
                        for n in names
                    ],
                ),
            )
        )
    else:
        text = f"Importances need at least {MIN_EVALUATIONS} successful evaluations."
        panels.append(Panel("importance", "Importance of each choice", text))
    rows = [
        (choice.name, option, share.evaluated[index], share.frontier[index], share.counts)
        for choice, share in zip(chosen.choices, shares, strict=True)
        for index, option in enumerate(choice.options)
        if len(choice.options) > 1 and share.counts[0]
    ]
    panels.append(
        Panel(
            "options",
            "Options that the frontier prefers",
            "Share of each option on the run's frontier and among all evaluated architectures that "
            "have the choice. The figure has the largest differences, the table all options.",
            figures.preferences(rows) if rows else None,
            (
                (
                    *("choice", "option", "share of all", "share of the frontier"),
                    *("all with the choice", "on the frontier with the choice"),
                ),
                [
                    [name, str(option), f"{all_:.1%}", f"{front:.1%}", str(count[0]), str(count[1])]
                    for name, option, all_, front, count in rows
                ],
            ),
        )
    )
    return panels
