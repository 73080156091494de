"""Makes and copies networks almost without memory: on torch's fake tensors, which have no values.

Small tensors stay real, because constructors compute widths and depths with them, and passes branch
on buffers and parameters. Knows fake tensors. Does not know what is counted on them.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from evaluators.counting.known_values import ReadingValues, UnknownValues
from search_spaces.errors import UserError

REAL_ELEMENTS = 65_536
"""Largest tensor that stays real."""


class RealWhereSmall(TorchDispatchMode):
    """Computes small results of real tensors for real; entered above a fake mode.

    Args:
        mode: that fake mode.
        zero_for_values: return 0 for the value of a fake tensor, so that loops that redraw initial
            weights terminate.
    """

    supports_higher_order_operators = True

    def __init__(self, mode: FakeTensorMode, *, zero_for_values: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._mode = mode
        self._zero_for_values = zero_for_values
        self._unknown = UnknownValues(mode)
        self.reading = ReadingValues(self._unknown)
        """Mode to enter as well, for functions that read values past the dispatcher."""
        self.has_read_values = False
        """Whether 0 was returned for a value that was not of a loop that redraws weights."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator on real tensors if it has no fake ones and its result is small."""
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return func(*args, **kwargs)
        args, kwargs = self._unknown.replaced(func, args, kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if any(isinstance(t, FakeTensor) or t.is_meta for t in tensors):
            if self._zero_for_values and func is torch.ops.aten._local_scalar_dense.default:
                self.has_read_values |= not _is_drawing()
                return 0.0 if args[0].is_floating_point() else 0
            if func._schema.is_mutable:
                self._unknown.add_written(func, args, kwargs)
            else:
                # Of fake tensors alone, the mode knows the results of operators it has seen.
                args, kwargs = tree_map_only(Tensor, self._as_fake, (args, kwargs))
            return func(*args, **kwargs)
        if not (tensors and func._schema.is_mutable):
            try:
                shown = func(*args, **kwargs)
            except (DataDependentOutputException, DynamicOutputShapeException):
                shown = None  # it depends on values, which are known here
            results = [t for t in tree_leaves(shown) if isinstance(t, Tensor)]
            if any(not _stays_real(t) or t.is_meta for t in results):
                return shown
        with unset_fake_temporarily():
            return func(*args, **kwargs)

    def _as_fake(self, tensor: Tensor) -> Tensor:
        plain = type(tensor) in (Tensor, nn.Parameter) and not tensor.is_meta
        return self._mode.from_tensor(tensor, static_shapes=True) if plain else tensor


def _stays_real(tensor: Tensor) -> bool:
    # How many elements a sparse tensor has is what its products cost.
    return tensor.numel() <= REAL_ELEMENTS or tensor.layout != torch.strided


def _is_drawing() -> bool:
    """Whether a function of `torch.nn.init` is running, which redraws until all are valid."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_filename == nn.init.__file__:
            return True
        frame = frame.f_back
    return False


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress warnings about fake tensors, which users did not create."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def own_randomness() -> Iterator[None]:
    """Context with random numbers of its own, the same in each, so that others' are unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def without_memory() -> Iterator[RealWhereSmall]:
    """Context in which large tensors have no memory: networks of any size are made in seconds.

    A network made in it is for `count_module` only; it cannot run. It is not the network that its
    constructor makes if that has read values of large tensors (`has_read_values`).
    """
    with ExitStack() as stack:
        stack.enter_context(no_warnings())
        stack.enter_context(own_randomness())
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        small = stack.enter_context(RealWhereSmall(mode, zero_for_values=True))
        stack.enter_context(small.reading)
        yield small


class _Copying(TorchFunctionMode):
    """Copies tensors as fake ones while a module is copied, those with few elements as they are."""

    def __init__(self, mode: FakeTensorMode, *, parameters: bool) -> None:
        super().__init__()
        self._mode = mode
        self._parameters = parameters

    def _copy(self, tensor: Tensor, kept: bool = True) -> Tensor:
        plain = type(tensor) is Tensor and not tensor.is_meta
        if kept and plain and _stays_real(tensor):
            with torch._C.DisableTorchFunctionSubclass():
                return tensor.detach().clone().requires_grad_(tensor.requires_grad)
        fake: Tensor = self._mode.from_tensor(tensor, static_shapes=True)
        return fake

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Copy a tensor, or run the function."""
        if func is torch._C.TensorBase.clone:  # in the copy of a parameter
            return self._copy(args[0], self._parameters)
        if func is torch.Tensor.__deepcopy__:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = self._copy(tensor)
            return memo[id(tensor)]
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def as_fake(network: nn.Module, *, parameters: bool = True) -> tuple[FakeTensorMode, nn.Module]:
    """A copy of a network whose large tensors are fake, and their mode.

    Args:
        parameters: whether small parameters stay real, as small buffers do.

    Raises:
        UserError: for a network that cannot be copied.
    """
    tensors = [*network.parameters(), *network.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise UserError(
            f"{type(network).__name__} has lazy modules, whose sizes the first pass decides: run "
            "it once, then count it"
        )
    for tensor in tensors:
        existing = getattr(tensor, "fake_mode", None)
        if existing is not None:
            return existing, network
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with _Copying(mode, parameters=parameters):
            return mode, copy.deepcopy(network)
    except Exception as error:
        raise UserError(
            f"{type(network).__name__} cannot be copied for counting "
            f"({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error


def faker(
    mode: FakeTensorMode, device: torch.device, *, gradients: bool = False
) -> Callable[[Tensor], Tensor]:
    """A function that makes fake tensors of the shape and type of tensors, on `device`.

    Args:
        gradients: whether those that need gradients still do.
    """

    def fake(tensor: Tensor) -> Tensor:
        if getattr(tensor, "fake_mode", None) is mode or tensor.layout != torch.strided:
            return tensor
        needed = gradients and tensor.requires_grad
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device, requires_grad=needed)

    return fake
