"""Counts any PyTorch network exactly, without memory for its weights and without real compute.

A copy of the network runs once on fake tensors, which have shapes but no memory. Every operator
that reaches the dispatcher is counted by the rules of `operators.py` and attributed to the module
that is running. Functional calls are therefore counted, a module that runs twice counts twice, and
the user's network is not changed. Knows modules and operators. Does not know time
(`torch_profile.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode_temporarily
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from evaluators.counting.counts import Count, Node, Uncounted
from evaluators.counting.higher_order import FLEX, BeforeAutograd, body
from evaluators.counting.module_paths import following_modules, frozen_modules, place_packed
from evaluators.counting.operators import (
    ATTENTIONS,
    CONVOLUTIONS,
    PRODUCTS,
    RECURRENT,
    RESULTS,
    SOFTMAXES,
    Macs,
    arguments,
    elementwise,
    packet_name,
    sparse_product,
)
from evaluators.counting.without_memory import (
    RealWhereSmall,
    as_fake,
    faker,
    no_warnings,
    own_randomness,
)
from search_spaces.errors import UserError


@dataclass
class _Tags:
    """Origin of a tensor."""

    weight: bool = False
    softmax: bool = False
    products: list[_Product] = field(default_factory=list)


@dataclass
class _Product:
    """A product of two activations, which is attention if its result reaches a softmax."""

    node: Node
    macs: int
    scores: tuple[int, ...]
    """The last two sizes of the result: tokens and keys, if it is attention."""

    def is_attention(self) -> None:
        self.node.details |= dict(zip(("tokens", "keys"), self.scores, strict=False))
        self.node.macs["other"] -= self.macs
        self.node.macs["attention"] += self.macs
        self.macs = 0


class CountMode(TorchDispatchMode):
    """Counts every operator that runs while the mode is active, for the current module.

    `node` is the node to which the next operator is added; `uncounted` has operators without a
    rule.
    """

    supports_higher_order_operators = True

    def __init__(self, root: Node, weights: Iterator[Tensor] | Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack = [("", root)]
        self.uncounted: dict[str, Uncounted] = {}
        self.refused: Exception | None = None
        """Raised for an operator whose result depends on values, which the network may catch."""
        self._tags: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        for weight in weights:
            self._tags[weight] = _Tags(weight=True)

    @property
    def node(self) -> Node:
        """Node of the running module."""
        return self.stack[-1][1]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator and count it; composite operators are counted by their parts."""
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._run_functions(func, args, kwargs)
        name = packet_name(func)
        known = name in CONVOLUTIONS or name in PRODUCTS or name in ATTENTIONS
        if not known and name.startswith("aten::"):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if name in RESULTS:
            out: Any = RESULTS[name](arguments(func, args, kwargs))
        else:
            try:
                out = func(*args, **kwargs)
            except (DataDependentOutputException, DynamicOutputShapeException) as error:
                self.refused = error
                raise
        self._count(func, name, args, kwargs, out)
        return out

    def _run_functions(
        self, func: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run an operator that runs functions, and count these."""
        name = func.name()
        if name in FLEX:
            query, key, value = args[:3]
            self.node.macs["attention"] += FLEX[name](
                {"query": query, "key": key, "value": value}, None
            )
            self.node.details |= {"tokens": query.shape[-2], "keys": key.shape[-2]}
            return func(*args, **kwargs)
        computed = body(func, args, self._larger)
        if computed is None:
            self._gap(f"higher_order::{name}")
            return func(*args, **kwargs)
        with self:
            return computed(*args, **kwargs)

    def _count_attention(self, rule: Macs, a: Mapping[str, Any], out: Any) -> None:
        self.node.macs["attention"] += rule(a, out)
        self.node.details |= {"tokens": a["query"].shape[-2], "keys": a["key"].shape[-2]}

    def _larger(self, functions: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> int:
        """Index of the function with the most multiply-accumulates."""
        work = []
        for function in functions:
            root = Node("branch")
            with CountMode(root):
                function(*operands)
            work.append(root.total().own_macs)
        if len(set(work)) > 1:
            self._gap("cond on values of the input, counted by its larger branch")
        return work.index(max(work))

    def larger_uncounted(self, functions: Sequence[Callable[..., Any]], operands: Any) -> int:
        """The same outside of an operator, where this mode would count all functions."""
        with _pop_mode_temporarily(), torch.no_grad():
            return self._larger(functions, operands)

    def _gap(self, name: str) -> None:
        self.uncounted.setdefault(name, Uncounted(path=self.stack[-1][0])).calls += 1

    def _count(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        node = self.node
        tags = [self._tags.get(t) for t in inputs]
        new = _Tags()
        if name in CONVOLUTIONS:
            a = arguments(func, args, kwargs)
            node.macs["convolution"] += CONVOLUTIONS[name](a, out)
            _describe_convolution(node, a)
        elif name in PRODUCTS:
            a = arguments(func, args, kwargs)
            rule, operands = PRODUCTS[name]
            pair = [self._tags.get(a[o]) or _Tags() for o in operands]
            found = sparse_product(a[operands[0]], a[operands[1]], rule(a, out))
            macs = found or 0
            if found is None:
                self._gap(f"{name} of a sparse matrix with an unknown number of elements")
            # A two-dimensional product in the backward pass is the gradient of a linear layer.
            gradient = torch._C._current_autograd_node() is not None and out.dim() == 2
            if gradient or any(tag.weight for tag in pair):
                node.macs["linear"] += macs
                _describe_linear(node, a[operands[0]], outputs)
            elif any(tag.softmax for tag in pair):
                node.macs["attention"] += macs
            else:
                node.macs["other"] += macs
                new.products = [_Product(node, macs, tuple(out.shape[-2:]))]
        elif name in ATTENTIONS:
            self._count_attention(ATTENTIONS[name], arguments(func, args, kwargs), out)
        elif name in RECURRENT:
            node.macs["linear"] += RECURRENT[name](arguments(func, args, kwargs), out)
        else:
            work = elementwise(func, arguments(func, args, kwargs), inputs, out)
            if work is None:
                self._gap(name)
            else:
                node.elementwise += work
            new = _inherited([tag for tag in tags if tag is not None], len(inputs))
            if name in SOFTMAXES:
                for product in new.products:
                    product.is_attention()
                new = _Tags(softmax=True)
        if new.weight or new.softmax or new.products:
            for tensor in outputs:
                self._tags[tensor] = new
        self._count_bytes(func, node, inputs, outputs)

    @staticmethod
    def _count_bytes(
        func: Any, node: Node, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> None:
        if func.is_view or not outputs or func.namespace == "prim":
            return
        written = sum(t.numel() * t.element_size() for t in outputs)
        node.traffic_bytes += written + sum(t.numel() * t.element_size() for t in inputs)
        if not any(result.alias_info for result in func._schema.returns):
            node.activation_bytes += written


def _inherited(tags: Sequence[_Tags], inputs: int) -> _Tags:
    """Origin of the result of a view or an element-wise operator."""
    products = [product for tag in tags for product in tag.products]
    return _Tags(
        weight=inputs > 0 and len(tags) == inputs and all(tag.weight for tag in tags),
        softmax=any(tag.softmax for tag in tags),
        products=products,
    )


def _describe_convolution(node: Node, a: Mapping[str, Any]) -> None:
    if "kernel" in node.details:
        return
    weight = a["weight"]
    if "self" in a:  # conv_tbc: time, batch, channels, and its weight the other way round
        node.details |= {"kernel": [weight.shape[0]], "channels": list(weight.shape[1:])}
        return
    node.details |= {
        "kernel": list(weight.shape[2:]),
        "groups": a.get("groups", 1),
        "stride": list(a["stride"]) if "stride" in a else [],
        "channels": [a["input"].shape[1], weight.shape[1 if a.get("transposed") else 0]],
    }


def _describe_linear(node: Node, left: Tensor, outputs: Sequence[Tensor]) -> None:
    if outputs and outputs[0].dim():
        node.details.setdefault("features", [left.shape[-1], outputs[0].shape[-1]])


def count_module(
    network: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    backward: bool = False,
    input_gradients: bool = False,
    names: Sequence[str] = (),
) -> Count:
    """Count one pass of a network over the given inputs, in evaluation mode.

    Args:
        network: any module, also on the meta device or made `without_memory`; it is not changed.
        args: positional inputs; only shapes, types and devices of tensors matter.
        kwargs: inputs by name.
        backward: count the backward pass as well, in training mode.
        input_gradients: also of the inputs that need gradients, as within a larger network.
        names: names of the positional inputs in the result.

    Raises:
        UserError: if the network fails; the message names the module that failed.
    """
    kwargs = dict(kwargs or {})
    # The gradients of real parameters would have to be real as well.
    mode, fake = as_fake(network, parameters=not backward)
    root = Node(type(network).__name__, type(network).__name__)
    given = dict(zip(names or _positions(len(args)), args, strict=False)) | kwargs
    count = Count(root, {n: tuple(t.shape) for n, t in given.items() if isinstance(t, Tensor)}, 0)
    count.params = sum(p.numel() for p in fake.parameters())
    weights = [*fake.parameters(), *fake.buffers()]
    device = next((w.device for w in weights), torch.device("cpu"))
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        log.setLevel(logging.CRITICAL)  # it logs a traceback for each invalid input
        # The fused encoder layer is one operator without a rule; its parts have rules.
        torch.backends.mha.set_fastpath_enabled(False)
        with ExitStack() as stack:
            stack.enter_context(no_warnings())
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(own_randomness())
            stack.enter_context(mode)
            fakes = faker(mode, device, gradients=backward and input_gradients)
            inputs = tree_map_only(Tensor, fakes, (list(args), kwargs))
            stack.enter_context(stack.enter_context(RealWhereSmall(mode)).reading)
            counter = CountMode(root, weights)
            stack.enter_context(torch.set_grad_enabled(backward))
            stack.enter_context(_in_mode(fake, training=backward))
            stack.enter_context(counter)
            stack.enter_context(BeforeAutograd(counter.larger_uncounted))
            with following_modules(counter, fake):
                out = fake(*inputs[0], **inputs[1])
                if counter.refused is not None:
                    raise counter.refused
                if backward:
                    _differentiate(out)
        count.uncounted = counter.uncounted
        count.params += place_packed(network, root)
        frozen = frozen_modules(network)
        if frozen:
            count.uncounted["weights that TorchScript froze to constants"] = Uncounted(
                len(frozen), frozen[0]
            )
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise UserError(
            f"{_failed_module(error, fake)}: the result of operator {error.func} depends on values "
            "of its input, so it cannot be counted from shapes; expected a forward pass whose "
            "shapes and branches depend on input shapes only"
        ) from error
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        shapes = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in count.inputs.items())
        text = str(error).strip().splitlines()
        raise UserError(
            f"{_failed_module(error, fake)} fails on the input ({shapes or 'none given'}): "
            f"{type(error).__name__}: {text[0] if text else ''}"
        ) from error
    finally:
        log.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)
    return count


@contextmanager
def _in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Set training or evaluation mode, and restore the mode of each module afterwards."""
    # A frozen module of TorchScript has no modes.
    before = {m: m.training for m in network.modules() if hasattr(m, "training")}
    if hasattr(network, "training"):
        network.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def _positions(n: int) -> list[str]:
    return ["input"] if n == 1 else [f"input{i}" for i in range(n)]


def _differentiate(out: Any) -> None:
    results = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.requires_grad]
    if not results:
        raise UserError("the output of the network does not depend on any trainable parameter")
    torch.autograd.backward(results, [torch.ones_like(t) for t in results])


def _failed_module(error: BaseException, network: nn.Module) -> str:
    """Path of the innermost module in the traceback of an error."""
    names = {id(module): name for name, module in network.named_modules()}
    found = ""
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in names:
            found = names[id(module)] or found
        trace = trace.tb_next
    kind = type(network).__name__
    return f"{kind}, module '{found}'" if found else kind
