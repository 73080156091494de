"""Counts operators that run functions: conditions, maps, scans, loops and flex attention.

Knows torch's higher-order operators. Does not know the operators within (`torch_counter.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._C import DispatchKey
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from evaluators.counting.operators import Macs, attention, attention_backward

FLEX: dict[str, Macs] = {
    "flex_attention": attention,
    "flex_attention_backward": attention_backward,
}
"""Attention with functions of scores; all pairs are counted, also those that a mask leaves out."""


def body(
    func: HigherOrderOperator, args: tuple[Any, ...], larger: Callable[..., int]
) -> Callable[..., Any] | None:
    """A function of the operator's arguments that runs the operators within it; None if unknown.

    Args:
        larger: index of the function with the most work of some, given their arguments; asked for
            a condition whose predicate is unknown.
    """
    name = func.name()
    if name == "cond":
        predicate, *functions, operands = args
        if isinstance(predicate, FakeTensor):
            chosen = functions[larger(functions, operands)]
        else:
            chosen = functions[0 if predicate else 1]
        return lambda *_: chosen(*operands)
    if name in BODIES:
        return BODIES[name]
    kernel: Callable[..., Any] | None = func.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
    return kernel


def _scan(function: Any, first: Any, over: Any, more: Any) -> Any:
    from torch._higher_order_ops.scan import generic_scan

    return generic_scan(function, first, over, additional_inputs=more)


BODIES: dict[str, Callable[..., Any]] = {
    "scan": _scan,
    "invoke_subgraph": lambda function, name, *operands: function(*operands),
    "strict_mode": lambda function, operands: function(*operands),
}
"""Operators whose own implementation runs outside of modes only."""


class BeforeAutograd(TorchFunctionMode):
    """Runs the operators within a function where gradients are wanted, for autograd to see each.

    Autograd's own rules for operators that run functions give no gradients to the parameters that
    these use, since only `torch.compile` makes arguments of them.

    Args:
        larger: as in `body`.
    """

    def __init__(self, larger: Callable[..., int]) -> None:
        super().__init__()
        self._larger = larger

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function."""
        kwargs = kwargs or {}
        wanted = isinstance(func, HigherOrderOperator) and torch.is_grad_enabled()
        computed = body(func, args, self._larger) if wanted and func.name() not in FLEX else None
        if computed is None:
            return func(*args, **kwargs)
        with self:
            return computed(*args, **kwargs)
