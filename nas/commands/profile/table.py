"""Prints a profiled network in the terminal, or as JSON: modules, totals and suggested savings.

Knows rich and the roofline model. Does not know how a network is counted or measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.counting.counts import COUNT_CONVENTION, Count, Node
from evaluators.counting.hints import Hint, hints
from evaluators.sizes import format_size
from hardware_profiles.peak import Peak

WIDE = 120
"""Minimum width of a terminal, in columns, for all columns of the table."""


@dataclass(frozen=True)
class RooflinePoint:
    """The compute rate that a module reaches and what limits it, in the roofline model.

    One multiply-accumulate counts as two operations, as in datasheets.
    """

    flops_per_second: float
    share: float
    """Share of the device's peak."""
    intensity: float
    """Operations per byte; the traffic is the sum over single operators."""
    bound: str
    """`compute` or `memory`."""


def roofline_point(node: Node, peak: Peak) -> RooflinePoint | None:
    """The roofline point of a node's forward pass; None if it has no MACs or was not measured."""
    operations = 2 * node.own_macs
    if not operations or not node.forward_seconds or not node.traffic_bytes:
        return None
    rate = operations / node.forward_seconds
    intensity = operations / node.traffic_bytes
    bound = "compute" if intensity >= peak.ridge else "memory"
    return RooflinePoint(rate, rate / peak.flops, intensity, bound)


def to_json(count: Count, peak: Peak | None, note: str | None) -> dict[str, Any]:
    """Return all that the table shows as JSON.

    Args:
        count: the counted network.
        peak: peak of the device; None if nothing was measured.
        note: the reason why nothing was measured.
    """
    content = count.to_json()
    content["hints"] = [
        {"paths": h.paths, "what": h.what, "macs": h.macs, "saved": h.saved} for h in hints(count)
    ]
    if note is not None:
        content["note"] = note
    if peak is not None:
        content["device"] = {
            "name": peak.name,
            "flops_per_second": peak.flops,
            "bytes_per_second": peak.bandwidth,
            "ridge": peak.ridge,
        }
        whole = roofline_point(count.root.total(), peak)
        if whole is not None:
            content["flops_per_second"] = whole.flops_per_second
            content["share_of_peak"] = whole.share
            content["intensity"] = whole.intensity
            content["bound"] = whole.bound
    return content


def print_profile(
    console: Console, count: Count, peak: Peak | None, note: str | None, *, depth: int
) -> None:
    """Print the modules as a tree, the totals, uncounted operators and the five largest savings.

    Args:
        console: where to print; its width selects the columns.
        count: the counted network.
        peak: peak of the device; None if nothing was measured.
        note: the reason why nothing was measured.
        depth: number of levels of modules.
    """
    total = count.root.total()
    timed = total.forward_seconds is not None
    wide = console.width >= WIDE
    names = ["FLOPs", "share", "parameters"]
    names += ["activations", "element ops"] if wide or not timed else []
    if timed:
        names += ["forward", "backward"] if wide else ["forward"]
        names += ["GFLOP/s", "of peak", "bound"] if peak is not None else []
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("module", no_wrap=True, overflow="ellipsis")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True, min_width=max(7, len(name)))
    for path, node in count.root.walk():
        level = path.count(".") + 1 if path else 0
        if level > depth:
            continue
        whole = node.total()
        point = roofline_point(whole, peak) if peak is not None else None
        values = {
            "FLOPs": format_size(whole.own_macs),
            "share": f"{whole.own_macs / total.own_macs:.1%}" if total.own_macs else "",
            "parameters": format_size(whole.params),
            "activations": format_size(whole.activation_bytes, "B"),
            "element ops": format_size(whole.elementwise),
            "forward": _duration(whole.forward_seconds),
            "backward": _duration(whole.backward_seconds),
            "GFLOP/s": f"{point.flops_per_second / 1e9:.1f}" if point else "",
            "of peak": f"{point.share:.0%}" if point else "",
            "bound": point.bound if point else "",
        }
        label = f"{'  ' * level}{path.rpartition('.')[2] or node.name} [dim]{_kind(node)}[/]"
        table.add_row(label, *[values[name] for name in names])
    console.print(table)
    kinds = ", ".join(f"{kind} {format_size(macs)}" for kind, macs in total.macs.items() if macs)
    console.print(
        f"\n[bold]{count.macs:,} FLOPs[/] ({kinds or 'none'}), [bold]{count.params:,} "
        f"parameters[/], at {_inputs(count)}"
    )
    for operator, gap in count.uncounted.items():
        of_time = "" if gap.share_of_time is None else f", {gap.share_of_time:.1%} of the time"
        console.print(
            f"[yellow]not counted:[/] {operator}, {gap.calls} calls, first in '{gap.path}'{of_time}"
        )
    if note:
        console.print(f"[yellow]{note}[/]")
    best = hints(count)[:5]
    if best:
        console.print("\n[bold]possible savings[/]")
        for hint in best:
            share = hint.saved / count.macs
            console.print(
                f"  [bold]-{share:5.1%}[/]  {hint.what}: {format_size(hint.macs)} to "
                f"{format_size(hint.macs - hint.saved)}; [dim]{hint_modules(hint, count)}[/]"
            )
    if peak is not None and timed:
        console.print(f"[dim]{describe_peak(peak)}[/]")
    console.print(f"[dim]{COUNT_CONVENTION}[/]")


def describe_peak(peak: Peak) -> str:
    """The peak compute and bandwidth of a device in one line."""
    return (
        f"peak of {peak.name}: {peak.flops / 1e9:.0f} GFLOP/s (2 per multiply-accumulate), "
        f"{peak.bandwidth / 1e9:.0f} GB/s, ridge {peak.ridge:.1f} operations per byte"
    )


def hint_modules(hint: Hint, count: Count) -> str:
    """The modules that a hint applies to: the first by name, and the number of others."""
    first = hint.paths[0] or count.root.name
    return first if len(hint.paths) == 1 else f"{first} and {len(hint.paths) - 1} others like it"


def _kind(node: Node) -> str:
    times = f" x{node.calls}" if node.calls > 1 else ""
    return f"{node.type if node.type != node.name else ''}{times}"


def _inputs(count: Count) -> str:
    sizes = [f"{name} {'x'.join(map(str, shape))}" for name, shape in count.inputs.items()]
    return ", ".join(sizes)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.2f} ms" if seconds < 10 else f"{seconds:.1f} s"
