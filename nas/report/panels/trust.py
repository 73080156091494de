"""Panels about the reliability of scores and latencies."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.device_prices import Target
from evaluators.metrics import Metric
from nas.report import figures
from nas.report.findings import trust
from nas.report.panels.panel import Panel
from nas.run.folder import Run


def on_trust(run: Run, targets: Sequence[Target]) -> list[Panel]:
    """Panels about the reliability of scores and latencies."""
    result, words = trust.fidelity(run)
    table = None
    if result is not None:
        rows, score = result.architectures, Metric.of(result.metric)
        head = ("architecture", "FLOPs", f"inherited {result.metric}", "stand-alone")
        table = (
            head,
            [
                [
                    r.id,
                    Metric.of("macs").format(r.macs),
                    score.format(r.inherited),
                    score.format(r.alone),
                ]
                for r in rows
            ],
        )
    drawn = None if result is None else figures.fidelity(result)
    panels = [Panel("fidelity", "Fidelity of the supernet", words, drawn, table)]
    if not targets:
        text = "The run has no device; nas report RUN --device NAME prices its networks on one."
        panels.append(Panel("latency", "Accuracy of the latency table", text))
    for index, (measured, words) in enumerate(trust.latencies(targets)):
        figure, table = None, None
        if measured is not None:
            figure = figures.latency_check(measured)
            table = (
                ("FLOPs", "predicted ms", "measured ms", "error"),
                [
                    [
                        Metric.of("macs").format(n.macs),
                        f"{n.predicted_ms or 0.0:.3f}",
                        f"{n.ms:.3f}",
                        f"{(n.predicted_ms or 0.0) / n.ms - 1:+.1%}",
                    ]
                    for n in measured.checked
                ],
            )
        title = f"Latencies on {targets[index].name}"
        panels.append(Panel(f"latency-{index}", title, words, figure, table))
    return panels
