"""Attributes the operators of a pass to the modules that run them.

Knows modules and torch's hooks. Does not know operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._pytree import tree_leaves

from evaluators.counting.counts import Node


class Counting(Protocol):
    """Adds operators to the node on top of a stack of running modules."""

    stack: list[tuple[str, Node]]

    @property
    def node(self) -> Node:
        """Node of the running module."""
        ...


@contextmanager
def following_modules(mode: Counting, network: nn.Module) -> Iterator[None]:
    """Attribute operators to the modules that run them, by their names in the network.

    Hooks are torch's global ones and are removed afterwards; the network itself gets none.
    """
    names = {id(module): name for name, module in network.named_modules()}
    root = mode.node
    seen: set[Tensor] = set()

    def enter(module: nn.Module, inputs: Any) -> None:
        if id(module) not in names:
            return
        path, node = names[id(module)], mode.node
        if path:
            parent = mode.stack[-1][0]
            relative = path.removeprefix(f"{parent}.") if parent else path
            for part in relative.split("."):
                node = node.child(part)
        node.type = type(module).__name__
        node.calls += 1
        for parameter in module.parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                node.params += parameter.numel()
        if not node.shapes:
            first = _first_tensor(inputs)
            node.shapes = (tuple(first.shape),) if first is not None else ()
        mode.stack.append((path, node))

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if id(module) not in names:
            return
        _, node = mode.stack.pop()
        result = _first_tensor(output)
        if result is not None and len(node.shapes) == 1:
            node.shapes = (*node.shapes, tuple(result.shape))

    def add_remaining_parameters() -> None:
        """Count parameters of modules whose `forward` did not run."""
        for path, module in network.named_modules():
            for parameter in module.parameters(recurse=False):
                if parameter not in seen:
                    seen.add(parameter)
                    node = root
                    for part in path.split(".") if path else ():
                        node = node.child(part)
                    node.type = node.type or type(module).__name__
                    node.params += parameter.numel()

    before = hooks.register_module_forward_pre_hook(enter)
    after = hooks.register_module_forward_hook(leave, always_call=True)
    try:
        yield
        add_remaining_parameters()
    finally:
        before.remove()
        after.remove()
        mode.stack[:] = [("", root)]


def place_packed(network: nn.Module, root: Node) -> int:
    """Add the weights that quantised modules pack into objects; returns their number of scalars."""
    whole = 0
    for path, module in network.named_modules():
        unpack = getattr(module, "_weight_bias", None)
        if unpack is None or any(hasattr(m, "_weight_bias") for m in module.children()):
            continue
        size = sum(tensor.numel() for tensor in tree_leaves(unpack()) if isinstance(tensor, Tensor))
        node = root
        for part in path.split(".") if path else ():
            node = node.child(part)
        node.type = node.type or type(module).__name__
        node.params += size
        whole += size
    return whole


def frozen_modules(network: nn.Module) -> list[str]:
    """Paths of the modules whose weights TorchScript froze to constants of their program."""
    return [
        path
        for path, module in network.named_modules()
        # Freezing removes the mode of training, and all parameters.
        if isinstance(module, torch.jit.ScriptModule)
        and (not path or not hasattr(module, "training"))
        and not any(True for _ in module.parameters())
        and _has_constants(module)
    ]


def _has_constants(module: torch.jit.ScriptModule) -> bool:
    tensor = torch._C.TensorType.get()
    graph: Any = module.graph
    constants = graph.findAllNodes("prim::Constant", recurse=True)
    return any(node.output().type().isSubtypeOf(tensor) for node in constants)


def _first_tensor(values: Any) -> Tensor | None:
    return next((t for t in tree_leaves(values) if isinstance(t, Tensor)), None)
