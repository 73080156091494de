"""An ONNX graph being written: nodes, constants and weights.

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
"""Value of weights that are not given: time depends on shapes only, and it is no denormal."""

Weights = Mapping[str, npt.NDArray[np.float32]]


class Graph:
    """Nodes and constants of a network being written."""

    def __init__(self, weights: Weights | None) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._count = 0
        self._filled = 0
        self._batch: str | None = None
        self.zeros: set[str] = set()
        """Names of values that are known to be 0."""

    def node(
        self,
        kind: str,
        *inputs: str,
        outputs: int = 1,
        named: Sequence[str] | None = None,
        **attributes: Any,
    ) -> Any:
        """Add a node; returns the name of its output, or a tuple of them where there are more."""
        names = list(named or [f"v{self._count + index}" for index in range(outputs)])
        self._count += outputs
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """A constant by name, float32 unless it is of whole numbers; returns the name."""
        if name not in self.constants:
            array = np.asarray(value, order="C")
            if array.dtype == np.float64:
                array = array.astype(np.float32)
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def for_batch(self, x: str, like: str, shape: Shape) -> str:
        """`(1, *shape)` repeated for as many samples as `like` has, which is read off only once."""
        if self._batch is None:
            self._batch = self.node("Shape", like, start=0, end=1)
        whole = self.node("Concat", self._batch, self.whole(*shape), axis=0)
        return str(self.node("Expand", x, whole))

    def whole(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self.constant("i" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(f"f{value!r}", np.float32(value))

    def weight(
        self,
        name: str,
        shape: Shape,
        change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]] | None = None,
    ) -> str:
        """A learnt tensor, as the network's state names it; `change` is how the node wants it.

        Without weights it is filled when the runtime loads the file, which stays small.
        """
        if self.weights is not None:
            value = np.asarray(self.weights[name], dtype=np.float32)
            return self.constant(name, value if change is None else change(value))
        if change is not None:
            shape = change(np.broadcast_to(np.float32(0), shape)).shape
        # Each weight has a value of its own: a runtime would make one node of equal ones.
        self._filled += 1
        filling = PLACEHOLDER * (1 + self._filled / 1024)
        fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [filling])
        return str(self.node("ConstantOfShape", self.whole(*shape), value=fill))
