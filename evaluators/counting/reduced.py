"""Values of attributes and inputs, reduced to what can be compared and hashed quickly.

Knows collections, arrays, tensors, and objects with attributes. Does not know networks.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = frozenset({bool, int, float, str, type(None)})

LONGEST = 64
"""Length from which a collection is only hashed."""

SMALL = 1024
"""Most elements that are read: of collections, arrays and tensors."""

DEEPEST = 4
"""Most collections and objects within each other that are read."""

MOST = 2000
"""Most values that are read of one attribute."""


class Reduced:
    """Reduces values that do not change meanwhile; those that several attributes share, once."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}
        self._left = MOST

    def __call__(self, value: Any) -> Any:
        """A value that can be compared and hashed."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind in (tuple, list) and len(value) <= SMALL and PLAIN.issuperset(map(type, value)):
            return tuple(value)  # most attributes of layers
        key = id(value)
        if key not in self._known:
            self._left = MOST
            self._known[key] = self._reduce(value, DEEPEST)
        return self._known[key]

    def _reduce(self, value: Any, depth: int) -> Any:
        if type(value) in PLAIN:
            return value
        if isinstance(value, Tensor):
            return changed(value)
        if isinstance(value, np.ndarray):
            return _array(value)
        if isinstance(value, (type, nn.Module)) or callable(value):
            return id(value)
        self._left -= 1
        if depth == 0 or self._left <= 0:
            return id(value)
        if isinstance(value, dict):
            return self._items(value, LONGEST, depth)
        if isinstance(value, (list, tuple, set, frozenset, deque)):
            if len(value) >= LONGEST:
                return _hashed(tuple(value))
            return (len(value), *(self._reduce(item, depth - 1) for item in value))
        return id(value), self._items(_attributes(value), SMALL, depth)

    def _items(self, content: dict[Any, Any], longest: int, depth: int) -> Any:
        if len(content) >= longest:
            return _hashed(tuple(content.items()))
        return tuple((repr(k), self._reduce(v, depth - 1)) for k, v in content.items())


def _attributes(value: Any) -> dict[str, Any]:
    names = getattr(type(value), "__slots__", ())
    slots = (names,) if isinstance(names, str) else names
    own = {name: getattr(value, name, None) for name in slots}
    return {**own, **getattr(value, "__dict__", {})}


def _hashed(values: tuple[Any, ...]) -> Any:
    if len(values) > SMALL:
        return len(values)
    try:
        return len(values), hash(values)
    except TypeError:
        return len(values)


def _array(values: np.ndarray[Any, Any]) -> Any:
    if values.size > SMALL or values.dtype.hasobject:
        return id(values), values.shape
    return values.shape, values.tobytes()


def changed(tensor: Tensor | None) -> Any:
    """What differs once a tensor was replaced, resized or written to: its values if they are few.

    Values on an accelerator would have to be waited for.
    """
    if tensor is None:
        return None
    if type(tensor) in (Tensor, nn.Parameter) and tensor.is_cpu and tensor.numel() <= SMALL:
        if tensor.layout == torch.strided and tensor.dtype != torch.bfloat16:
            return tensor.shape, tensor.detach().numpy().tobytes()
        if tensor.layout == torch.strided:
            return tensor.shape, tensor.detach().float().numpy().tobytes()
    return id(tensor), 0 if tensor.is_inference() else tensor._version, tensor.shape


def described(value: Any, depth: int = DEEPEST) -> Any:
    """What may decide a path in one input: the shape of a tensor, a plain value, attributes."""
    if isinstance(value, Tensor):
        return _described_tensor(value)
    if type(value) in PLAIN:
        return type(value), value
    if isinstance(value, np.ndarray):
        few = value.size < LONGEST and value.dtype.kind in "biu"
        return value.shape, value.dtype, value.tobytes() if few else b""
    if depth == 0 or isinstance(value, (type, nn.Module)) or callable(value):
        return type(value)
    if isinstance(value, dict):
        return tuple((repr(k), described(v, depth - 1)) for k, v in value.items())
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return (len(value), *(described(item, depth - 1) for item in value))
    content = _attributes(value)
    return (type(value), *((k, described(v, depth - 1)) for k, v in content.items()))


def _described_tensor(tensor: Tensor) -> Any:
    if tensor.layout == torch.strided:
        return tensor.shape, tensor.dtype, tensor.requires_grad
    elements = tensor._nnz() if tensor.is_sparse or _is_compressed(tensor) else 0
    return tensor.shape, tensor.dtype, tensor.requires_grad, tensor.layout, elements


def _is_compressed(tensor: Tensor) -> bool:
    compressed = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
    return tensor.layout in compressed
