"""Networks without memory: torch's fake tensors, which have shapes and types and no values.

Knows how to make and copy networks so. Does not know what is counted on them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces.errors import UserError


class _ZeroForValues(TorchDispatchMode):
    """Answers 0 where a value is asked for: loops that draw initial weights again then end."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator, or make up the value."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.0 if args[0].is_floating_point() else 0
        return func(*args, **(kwargs or {}))


@contextmanager
def no_warnings() -> Iterator[None]:
    """Be quiet about fake tensors, which the user never made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def without_memory() -> Iterator[None]:
    """Inside, tensors have shapes and no memory: networks of any size are made in seconds.

    A network made here is for `count_module`; it cannot run.
    """
    with ExitStack() as stack:
        stack.enter_context(no_warnings())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_ZeroForValues())  # type: ignore[no-untyped-call]
        yield


def as_fake(network: nn.Module) -> tuple[FakeTensorMode, nn.Module]:
    """A copy of the network whose tensors have no memory, and the mode they belong to."""
    tensors = [*network.parameters(), *network.buffers()]
    for tensor in tensors:
        existing = getattr(tensor, "fake_mode", None)
        if existing is not None:
            return existing, network
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with FakeCopyMode(mode):
            return mode, copy.deepcopy(network)
    except Exception as error:
        raise UserError(
            f"{type(network).__name__} cannot be copied for counting "
            f"({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error


def faker(mode: FakeTensorMode, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What gives a tensor's shape and type to a tensor without memory, on `device`."""

    def fake(tensor: Tensor) -> Tensor:
        if getattr(tensor, "fake_mode", None) is mode:
            return tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    return fake
