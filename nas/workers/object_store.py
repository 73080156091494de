"""Shares an object's tensors between the processes of a machine through Ray's object store.

Ray stores numpy arrays outside of the pickle, once per machine, and lets every process read the
same memory; torch tensors would be copied into each process. Knows pickling and tensors. Does not
know what the objects are.
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
class SharedObject:
    """An object whose tensors can be read in place by all processes of a machine.

    Local functions and classes in it are pickled by value.
    """

    pickled: bytes
    """The object without the bytes of its tensors."""
    arrays: tuple[npt.NDArray[np.uint8], ...]
    """The bytes of its tensors, one `(bytes,)` array for each storage."""

    @classmethod
    def of(cls, thing: object) -> SharedObject:
        """Pickle an object with its tensors as arrays.

        Raises:
            TypeError: for an object that cannot be pickled.
        """
        file = io.BytesIO()
        pickler: Any = _Pickler(file)
        pickler.dump(thing)
        return cls(file.getvalue(), tuple(pickler.arrays))

    def rebuild(self) -> Any:
        """Unpickle the object; its tensors are on the CPU, share the arrays and are read-only."""
        return _Unpickler(io.BytesIO(self.pickled), self.arrays).load()


class _Pickler(CloudPickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)  # type: ignore[no-untyped-call]
        self.arrays: list[npt.NDArray[np.uint8]] = []
        self._stored: dict[int, tuple[int, Tensor]] = {}
        """Index of the array and the tensor itself, by the address of the storage."""

    def persistent_id(self, thing: object) -> Any:
        """Replace a tensor by the index of its array and its type and layout."""
        if not isinstance(thing, Tensor):
            return None
        tensor = thing.detach().cpu()
        if tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensor = tensor.clone()  # a view: only its own elements are stored
        address = tensor.untyped_storage().data_ptr()
        if address not in self._stored:
            flat = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
            # The reference keeps the address from being reused for another tensor.
            self._stored[address] = (len(self.arrays), tensor)
            self.arrays.append(flat.numpy())
        layout = (tensor.dtype, tuple(tensor.shape), tensor.stride())
        index = self._stored[address][0]
        return index, layout, isinstance(thing, nn.Parameter), thing.requires_grad


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, arrays: tuple[npt.NDArray[np.uint8], ...]) -> None:
        super().__init__(file)
        self._arrays = arrays
        self._rebuilt: dict[Any, Tensor] = {}

    def persistent_load(self, key: Any) -> Tensor:
        """Return the tensor of a `persistent_id`; the same one for each key, for tied weights."""
        if key not in self._rebuilt:
            index, (dtype, shape, stride), is_parameter, requires_grad = key
            with warnings.catch_warnings():
                # The arrays are read-only, and nothing writes to the tensors.
                warnings.simplefilter("ignore", UserWarning)
                flat = torch.from_numpy(self._arrays[index])
            tensor = torch.empty(0, dtype=dtype).set_(flat.untyped_storage(), 0, shape, stride)
            self._rebuilt[key] = (
                nn.Parameter(tensor, requires_grad)
                if is_parameter
                else tensor.requires_grad_(requires_grad)
            )
        return self._rebuilt[key]
