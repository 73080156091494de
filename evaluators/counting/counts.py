"""Result of counting a network: a tree of modules with the costs of each.

Knows kinds of work and sums over the tree. Does not know where the numbers come from: the counters
of PyTorch (`torch_counter.py`), ONNX and Keras (`formats/`) fill it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

KINDS = ("convolution", "linear", "attention", "other")
"""Kinds of multiply-accumulates: `linear` is a matrix product with weights, `attention` one between
activations inside attention, `other` any other product of two activations."""

COUNT_CONVENTION = (
    "FLOPs are multiply-accumulates (1 MAC = 1 FLOP) of convolutions and matrix products, "
    "attention's included; element operations of normalisation, activation, softmax and pooling "
    "are counted separately."
)


@dataclass
class Node:
    """A module of the network, or the whole network.

    Numbers are those of the node itself without its children; `total` includes them. A module that
    runs twice has the work of both runs, and its parameters once.
    """

    name: str
    """Last part of the path of the module; class or file name for the whole network."""
    type: str = ""
    macs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    elementwise: int = 0
    """Element operations of normalisation, activation, softmax, pooling and the like."""
    params: int = 0
    activation_bytes: int = 0
    """Bytes of the results of operators; views and in-place writes have none."""
    traffic_bytes: int = 0
    """Bytes that operators read and write, summed over operators, weights included."""
    calls: int = 0
    shapes: tuple[tuple[int, ...], ...] = ()
    """Shapes of input and output at the first call, with the batch."""
    details: dict[str, Any] = field(default_factory=dict)
    """Settings of the operators, such as kernel, stride and groups."""
    forward_seconds: float | None = None
    backward_seconds: float | None = None
    children: dict[str, Node] = field(default_factory=dict)

    def child(self, name: str) -> Node:
        """The child of this name, created if missing."""
        return self.children.setdefault(name, Node(name))

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """This node and all below, parents first, with dotted paths (`""` is the root)."""
        yield path, self
        for name, child in self.children.items():
            yield from child.walk(f"{path}.{name}" if path else name)

    @property
    def own_macs(self) -> int:
        """Multiply-accumulates of the node itself, over all kinds."""
        return sum(self.macs.values())

    def total(self) -> Node:
        """A node without children with the sums over this one and all below."""
        whole = Node(self.name, self.type, calls=self.calls, shapes=self.shapes)
        for _, node in self.walk():
            for kind, macs in node.macs.items():
                whole.macs[kind] += macs
            whole.elementwise += node.elementwise
            whole.params += node.params
            whole.activation_bytes += node.activation_bytes
            whole.traffic_bytes += node.traffic_bytes
            for name in ("forward_seconds", "backward_seconds"):
                seconds = getattr(node, name)
                if seconds is not None:
                    setattr(whole, name, (getattr(whole, name) or 0.0) + seconds)
        return whole


@dataclass
class Uncounted:
    """An operator without a rule: number of calls, first path, and share of the run time."""

    calls: int = 0
    path: str = ""
    share_of_time: float | None = None
    """Share of the measured time, from 0 to 1; None if no time was measured."""


@dataclass
class Count:
    """A counted network.

    `inputs` are the input shapes by name; `uncounted` has every operator without a rule, so that
    none counts as zero silently.
    """

    root: Node
    inputs: dict[str, tuple[int, ...]]
    params: int
    """Number of learnable scalars, each tensor once, including those that no call used."""
    uncounted: dict[str, Uncounted] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass over the inputs."""
        return self.root.total().own_macs

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values; nodes have their totals, and `own_macs` beside."""
        total = self.root.total()
        return {
            "convention": COUNT_CONVENTION,
            "macs": self.macs,
            "macs_by_kind": total.macs,
            "elementwise": total.elementwise,
            "params": self.params,
            "activation_bytes": total.activation_bytes,
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "uncounted": {
                name: {"calls": u.calls, "path": u.path, "share_of_time": u.share_of_time}
                for name, u in self.uncounted.items()
            },
            "tree": _tree(self.root),
        }


def _tree(node: Node) -> dict[str, Any]:
    total = node.total()
    content: dict[str, Any] = {
        "name": node.name,
        "type": node.type,
        "macs": total.own_macs,
        "macs_by_kind": total.macs,
        "own_macs": node.own_macs,
        "elementwise": total.elementwise,
        "params": total.params,
        "activation_bytes": total.activation_bytes,
        "traffic_bytes": total.traffic_bytes,
        "calls": node.calls,
        "shapes": [list(shape) for shape in node.shapes],
    }
    for name in ("forward_seconds", "backward_seconds"):
        if getattr(total, name) is not None:
            content[name] = getattr(total, name)
    if node.details:
        content["details"] = node.details
    if node.children:
        content["children"] = [_tree(child) for child in node.children.values()]
    return content
