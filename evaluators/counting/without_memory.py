"""Makes and copies networks without memory: on torch's fake tensors, which have no values.

Knows fake tensors. Does not know what is counted on them.
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
    """Returns 0 for values of fake tensors, so that loops that redraw initial weights terminate."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator, or return 0 for a value."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.0 if args[0].is_floating_point() else 0
        return func(*args, **(kwargs or {}))


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress warnings about fake tensors, which users did not create."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def without_memory() -> Iterator[None]:
    """Context in which tensors have shapes but no memory: networks of any size are made in seconds.

    A network made in it is for `count_module` only; it cannot run.
    """
    with ExitStack() as stack:
        stack.enter_context(no_warnings())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_ZeroForValues())  # type: ignore[no-untyped-call]
        yield


def as_fake(network: nn.Module) -> tuple[FakeTensorMode, nn.Module]:
    """A copy of a network on fake tensors, and their mode.

    Raises:
        UserError: for a network that cannot be copied.
    """
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
    """A function that makes fake tensors of the shape and type of tensors, on `device`."""

    def fake(tensor: Tensor) -> Tensor:
        if getattr(tensor, "fake_mode", None) is mode:
            return tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    return fake
