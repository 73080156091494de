"""Collects the nodes, constants and weights of an ONNX graph while it is written.

Knows onnx. Does not know ops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from search_spaces.ops import Shape

PLACEHOLDER = 0.01
"""Value of weights that are not specified. Latency depends on shapes only; it is not denormal."""

Weights = Mapping[str, npt.NDArray[np.float32]]


class GraphWriter:
    """Nodes and constants of a network that is being written.

    Args:
        weights: the network's state as arrays, or None to fill weights with `PLACEHOLDER`.
    """

    def __init__(self, weights: Weights | None) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._count = 0
        self._filled = 0
        self._batch: str | None = None
        self.zeros: set[str] = set()
        """Names of values that are 0 everywhere."""

    def node(
        self,
        kind: str,
        *inputs: str,
        outputs: int = 1,
        named: Sequence[str] | None = None,
        **attributes: Any,
    ) -> Any:
        """Add a node and return the name of its output, or a tuple of names for several outputs."""
        names = list(named or [f"v{self._count + index}" for index in range(outputs)])
        self._count += outputs
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a constant, float64 values as float32, and return its name."""
        if name not in self.constants:
            array = np.asarray(value, order="C")
            if array.dtype == np.float64:
                array = array.astype(np.float32)
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def expand_to_batch(self, x: str, like: str, shape: Shape) -> str:
        """Expand `x`, `(1, *shape)`, to the batch size of `like`, which is computed only once."""
        if self._batch is None:
            self._batch = self.node("Shape", like, start=0, end=1)
        size = self.node("Concat", self._batch, self.integers(*shape), axis=0)
        return str(self.node("Expand", x, size))

    def integers(self, *values: int) -> str:
        """Add a one-dimensional int64 constant and return its name."""
        return self.constant("i" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """Add a float32 scalar and return its name."""
        return self.constant(f"f{value!r}", np.float32(value))

    def weight(
        self,
        name: str,
        shape: Shape,
        change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]] | None = None,
    ) -> str:
        """Add a learnt tensor and return the name of its value.

        Without weights, a node fills it when the runtime loads the file, which keeps files small.

        Args:
            name: its name in the network's state.
            shape: its shape in the network's state.
            change: converts it to the layout that the node expects.
        """
        if self.weights is not None:
            value = np.asarray(self.weights[name], dtype=np.float32)
            return self.constant(name, value if change is None else change(value))
        if change is not None:
            shape = change(np.broadcast_to(np.float32(0), shape)).shape
        # All weights have different values, because runtimes merge equal nodes.
        self._filled += 1
        value_of_all = PLACEHOLDER * (1 + self._filled / 1024)
        fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [value_of_all])
        return str(self.node("ConstantOfShape", self.integers(*shape), value=fill))
