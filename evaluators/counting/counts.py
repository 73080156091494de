"""What counting a network gives: a tree of modules with what each one costs.

Knows kinds of work and sums over the tree. Does not know where the numbers come from: PyTorch
(`torch_counter.py`), ONNX (`onnx_counter.py`) and Keras (`keras_counter.py`) all fill this tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

KINDS = ("convolution", "linear", "attention", "other")
"""Kinds of multiply-accumulates: `linear` is a matrix product with learnt weights, `attention`
one between activations inside attention, `other` any other product of two activations."""

COUNT_CONVENTION = (
    "FLOPs are multiply-accumulates (1 MAC = 1 FLOP) of convolutions and matrix products, "
    "attention's included; the element operations of normalisation, activation, softmax and "
    "pooling are apart."
)


@dataclass
class Node:
    """A module of the network, or the whole of it: its own work and its children's.

    Numbers are the node's own, without its children; the `total` of a node has both. A module
    that runs twice has the work of both runs and its parameters once.
    """

    name: str
    """The last part of its path; the class name or the file's name for the whole network."""
    type: str = ""
    macs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    elementwise: int = 0
    """Element operations of normalisation, activation, softmax, pooling and the like."""
    params: int = 0
    activation_bytes: int = 0
    """Bytes of the results that its operators make (views and in-place writes make none)."""
    traffic_bytes: int = 0
    """Bytes that its operators read and write, each on its own, weights included."""
    calls: int = 0
    shapes: tuple[tuple[int, ...], ...] = ()
    """Shapes of its input and output at the first call, with the batch."""
    details: dict[str, Any] = field(default_factory=dict)
    """What is worth knowing of its operators: kernel, stride, groups."""
    forward_seconds: float | None = None
    backward_seconds: float | None = None
    children: dict[str, Node] = field(default_factory=dict)

    def child(self, name: str) -> Node:
        """The child of this name; made when there is none."""
        return self.children.setdefault(name, Node(name))

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """All nodes below and this one, parents first, with dotted paths (`""` is the root)."""
        yield path, self
        for name, child in self.children.items():
            yield from child.walk(f"{path}.{name}" if path else name)

    @property
    def own_macs(self) -> int:
        """Multiply-accumulates of the node itself, of all kinds."""
        return sum(self.macs.values())

    def total(self) -> Node:
        """A node without children that has the sums of this one and all below."""
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
    """An operator without a rule: how often it ran, where first, and its share of run time."""

    calls: int = 0
    path: str = ""
    share_of_time: float | None = None
    """Of the measured time, from 0 to 1; None where nothing was measured."""


@dataclass
class Count:
    """A counted network.

    `inputs` are the shapes it was counted at, by name; `uncounted` names each operator that
    has no rule, which is never silently zero.
    """

    root: Node
    inputs: dict[str, tuple[int, ...]]
    params: int
    """All learnable scalars, each tensor once, also those that no call used."""
    uncounted: dict[str, Uncounted] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass over the inputs as given."""
        return self.root.total().own_macs

    def to_json(self) -> dict[str, Any]:
        """The whole result as JSON values; `total` of each node, its `own_macs` beside."""
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
