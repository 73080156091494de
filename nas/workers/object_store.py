"""Any object whose tensors lie in Ray's object store once a machine, read where they lie.

Ray keeps numpy arrays outside of the pickle and lets every process of a machine read the same
memory; torch tensors it would copy into each. Does not know what the objects are.
"""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ray.cloudpickle import CloudPickler
from torch import Tensor, nn


@dataclass(frozen=True)
class Apart:
    """An object taken apart: its pickle, and the bytes of its tensors as arrays.

    Tensors of the object put together again are on the CPU and must not be written to.
    """

    pickled: bytes
    arrays: tuple[npt.NDArray[np.uint8], ...]

    @classmethod
    def of(cls, thing: object) -> Apart:
        """Take an object apart; local functions and classes in it travel by value."""
        file = io.BytesIO()
        pickler: Any = _Pickler(file)
        pickler.dump(thing)
        return cls(file.getvalue(), tuple(pickler.arrays))

    def whole(self) -> Any:
        """Put it together again on the arrays where they lie."""
        return _Unpickler(io.BytesIO(self.pickled), self.arrays).load()


class _Pickler(CloudPickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)  # type: ignore[no-untyped-call]
        self.arrays: list[npt.NDArray[np.uint8]] = []
        self._seen: dict[int, tuple[int, Tensor]] = {}

    def persistent_id(self, thing: object) -> Any:
        """What stands for a tensor in the pickle: where its bytes are, and how they are read."""
        if not isinstance(thing, Tensor):
            return None
        tensor = thing.detach().cpu()
        if tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensor = tensor.clone()  # a view of something larger, which stays at home
        address = tensor.untyped_storage().data_ptr()
        if address not in self._seen:
            flat = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
            # The tensor is kept, so that no other one can be given its address.
            self._seen[address] = (len(self.arrays), tensor)
            self.arrays.append(flat.numpy())
        form = (tensor.dtype, tuple(tensor.shape), tensor.stride())
        return self._seen[address][0], form, isinstance(thing, nn.Parameter), thing.requires_grad


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, arrays: tuple[npt.NDArray[np.uint8], ...]) -> None:
        super().__init__(file)
        self._arrays = arrays
        self._seen: dict[Any, Tensor] = {}

    def persistent_load(self, key: Any) -> Tensor:
        """The tensor that a `persistent_id` stands for: one object each, so tied ones stay tied."""
        if key not in self._seen:
            place, (dtype, shape, stride), is_parameter, requires_grad = key
            with warnings.catch_warnings():
                # The store's arrays are read-only, and nothing writes to them.
                warnings.simplefilter("ignore", UserWarning)
                flat = torch.from_numpy(self._arrays[place])
            tensor = torch.empty(0, dtype=dtype).set_(flat.untyped_storage(), 0, shape, stride)
            self._seen[key] = (
                nn.Parameter(tensor, requires_grad)
                if is_parameter
                else tensor.requires_grad_(requires_grad)
            )
        return self._seen[key]
