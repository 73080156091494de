"""Which real tensors still have the values of a real pass, beside fake ones.

A network writes to its own buffers, and to tensors that it makes, what it computes from its input.
Values of a fake input are unknown, so what was written to is unknown as well: it is read as a fake
tensor from then on, until known values overwrite it. Knows storages. Does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

OVERWRITING = frozenset({"aten::zero_", "aten::fill_", "aten::copy_"})
"""Operators whose result does not depend on what their first argument held."""

READING = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__})
"""Functions that read values past the dispatcher."""


def is_real(tensor: Any) -> bool:
    """Whether a tensor has values of its own."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta:
        return False
    return bool(tensor.layout == torch.strided)


class UnknownValues:
    """Real tensors to which unknown values were written, by their storage.

    Args:
        mode: the mode of the fake tensors that stand for them.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        self._mode = mode
        # Weak references keep the address of a storage from being used for another one.
        self._storages: set[StorageWeakRef] = set()

    def __contains__(self, tensor: Tensor) -> bool:
        return is_real(tensor) and StorageWeakRef(tensor.untyped_storage()) in self._storages

    def add_written(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the real tensors that an operator with fake arguments writes to."""
        for tensor in _written(func, args, kwargs):
            if is_real(tensor):
                self._storages.add(StorageWeakRef(tensor.untyped_storage()))

    def replaced(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Arguments of an operator, with fake tensors for the unknown ones."""
        if not self._storages:
            return args, kwargs
        if self._is_overwritten(func, args):
            self._storages.discard(StorageWeakRef(args[0].untyped_storage()))
        result: tuple[Any, Any] = tree_map_only(Tensor, self.as_fake, (args, kwargs))
        return result

    def as_fake(self, tensor: Tensor) -> Tensor:
        """The fake tensor that stands for an unknown one; known ones as they are."""
        return self._mode.from_tensor(tensor, static_shapes=True) if tensor in self else tensor

    def _is_overwritten(self, func: Any, args: Any) -> bool:
        """Whether an operator replaces all of an unknown tensor by known values."""
        schema = getattr(func, "_schema", None)
        if schema is None or schema.name not in OVERWRITING or args[0] not in self:
            return False
        whole = args[0].numel() * args[0].element_size() == args[0].untyped_storage().nbytes()
        sources = [t for t in tree_leaves(args[1:]) if isinstance(t, Tensor)]
        return whole and all(is_real(t) and t not in self for t in sources)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from (t for t in tree_leaves(value) if isinstance(t, Tensor))


class ReadingValues(TorchFunctionMode):
    """Lets functions that read values past the dispatcher read unknown ones as fake tensors."""

    def __init__(self, unknown: UnknownValues) -> None:
        super().__init__()
        self._unknown = unknown

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function."""
        if func in READING and args[0] in self._unknown:
            # Fake tensors have methods of their own for some.
            return getattr(self._unknown.as_fake(args[0]), func.__name__)(*args[1:])
        return func(*args, **(kwargs or {}))
