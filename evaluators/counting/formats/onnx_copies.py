"""Which weights an ONNX file has several times: transposed, and in functions called twice.

Exporters store a transposed copy of a matrix that is also used as it is, such as that of an
embedding and of the output layer tied to it. Inlined, a function has its constants once per call.
Knows values of weights, where they are. Does not know which constants are learned.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import ExternalDataInfo

from evaluators.counting.formats.onnx_values import Weight

CORNER = 8
"""Rows and columns that are compared first."""

WIDTHS: dict[int, str] = {TensorProto.FLOAT: "<f4", TensorProto.DOUBLE: "<f8"}
"""How numbers are stored that have more than two bytes."""

Matrix = npt.NDArray[Any]


class Copies:
    """Weights that were seen before; `has` is asked of each weight once.

    Args:
        model: before its functions are inlined.
        folder: of the file, for weights that are stored beside it.
    """

    def __init__(self, model: ModelProto, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[tuple[int, int, int], list[Matrix]] = {}
        self._left = _constants(model) if model.functions else None

    def has(self, weight: Weight) -> bool:
        """Whether a weight is a copy of one that was asked for before."""
        if weight.constant and self._left is not None:
            key = _key(weight.tensor)
            self._left[key] -= 1
            if self._left[key] < 0:
                return True
        return self._is_transposed(weight.tensor)

    def _is_transposed(self, tensor: TensorProto) -> bool:
        if len(tensor.dims) != 2 or 1 in tensor.dims:
            return False
        values = self._values(tensor)
        if values is None:
            return False
        rows, columns = tensor.dims
        before = self._seen.get((tensor.data_type, columns, rows), [])
        if any(_equal(values, other.T) for other in before):
            return True
        self._seen.setdefault((tensor.data_type, rows, columns), []).append(values)
        return False

    def _values(self, tensor: TensorProto) -> Matrix | None:
        """Values of a matrix, not copied if they are stored beside the file."""
        with contextlib.suppress(Exception):  # the data may be missing
            if tensor.data_location != TensorProto.EXTERNAL:
                return numpy_helper.to_array(tensor)
            where = ExternalDataInfo(tensor)
            kind = WIDTHS.get(tensor.data_type, "<u2")
            file = self._folder / where.location
            shape = tuple(tensor.dims)
            return np.memmap(file, kind, "r", offset=where.offset or 0, shape=shape)
        return None


def _equal(left: Matrix, right: Matrix) -> bool:
    """Whether matrices are equal and not of one number, which says nothing."""
    if not np.array_equal(left[:CORNER, :CORNER], right[:CORNER, :CORNER]):
        return False
    return np.array_equal(left, right) and bool((left != left[0, 0]).any())


def _constants(model: ModelProto) -> Counter[bytes]:
    """How often each constant is in a file, with those of each function once."""
    found: Counter[bytes] = Counter()
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        found.update(_key(tensor) for tensor in _tensors(nodes))
    return found


def _tensors(nodes: Any) -> Iterator[TensorProto]:
    node: NodeProto
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _tensors(attribute.g.node)
            elif attribute.name == "value" and node.op_type == "Constant":
                yield attribute.t


def _key(tensor: TensorProto) -> bytes:
    nameless = TensorProto()
    nameless.CopyFrom(tensor)
    nameless.ClearField("name")
    return nameless.SerializeToString()
