"""Suggests cheaper forms of modules in a counted network, with the MACs they would save.

Each rule compares one module with a well-known cheaper form of it. Accuracy is not considered, so
hints show where savings are possible, not what to change. Knows counts. Does not know how they were
made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from evaluators.counting.counts import Count, Node

MIN_SHARE = 0.005
"""Smallest saving to report, as a share of the network's multiply-accumulates."""

WINDOW = 64
"""Tokens that each token attends to in windowed attention."""


@dataclass(frozen=True)
class Hint:
    """A cheaper form of some modules: their MACs, and the MACs it would save."""

    paths: tuple[str, ...]
    what: str
    macs: int
    saved: int


def hints(count: Count) -> list[Hint]:
    """Hints for a network, the largest saving first; modules of equal shape share a hint."""
    nodes = [(path, node) for path, node in count.root.walk() if node.own_macs]
    alike: dict[str, list[Hint]] = {}
    for path, node in nodes:
        for hint in _of_node(path, node, nodes):
            alike.setdefault(hint.what, []).append(hint)
    found = [
        Hint(
            tuple(path for hint in group for path in hint.paths),
            what,
            sum(hint.macs for hint in group),
            sum(hint.saved for hint in group),
        )
        for what, group in alike.items()
    ]
    found = [hint for hint in found if hint.saved >= MIN_SHARE * count.macs > 0]
    return sorted(found, key=lambda hint: -hint.saved)


def _of_node(path: str, node: Node, nodes: list[tuple[str, Node]]) -> Iterator[Hint]:
    if node.macs["convolution"] and "kernel" in node.details:
        yield from _convolution(path, node, first=nodes[0][1] is node)
    if node.macs["linear"] and "features" in node.details:
        yield from _linear(path, node, last=nodes[-1][1] is node)
    if node.macs["attention"]:
        yield from _attention(path, node)


def _convolution(path: str, node: Node, *, first: bool) -> Iterator[Hint]:
    macs = node.macs["convolution"]
    area = prod(node.details["kernel"])
    into, out = node.details["channels"]
    groups = node.details["groups"]
    if first and max(node.details["stride"] or [1]) < max(node.details["kernel"]):
        yield Hint((path,), "first layer: twice the stride, or patches", macs, macs * 3 // 4)
    if area > 1 and groups == 1 and into >= 8 and not first:
        # area * in * out becomes area * in + in * out (Howard et al., "MobileNets", 2017).
        cheaper = macs * (area + out) // (area * out)
        size = "x".join(map(str, node.details["kernel"]))
        what = f"dense {size}, {into} to {out} channels: depthwise and 1x1"
        yield Hint((path,), what, macs, macs - cheaper)
    if area == 1 and groups == 1 and min(into, out) >= 64:
        yield Hint((path,), f"wide 1x1, {into} to {out} channels: two groups", macs, macs // 2)


def _linear(path: str, node: Node, *, last: bool) -> Iterator[Hint]:
    macs = node.macs["linear"]
    into, out = node.details["features"]
    rank = min(into, out) // 4
    saved = macs - macs * rank * (into + out) // (into * out)
    if saved <= 0 or min(into, out) < 64:
        return
    if last:
        yield Hint((path,), f"last layer, {into} to {out}: through rank {rank}", macs, saved)
    else:
        yield Hint((path,), f"wide layer, {into} to {out}: through rank {rank}", macs, saved)


def _attention(path: str, node: Node) -> Iterator[Hint]:
    macs = node.macs["attention"]
    keys = node.details.get("keys", 0)
    if keys > WINDOW:
        saved = macs - macs * WINDOW // keys
        what = f"attention over {keys} tokens: windows of {WINDOW}"
        yield Hint((path,), what, macs, saved)
