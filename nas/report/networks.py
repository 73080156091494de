"""Packs the layers of every evaluated architecture so that the page can reassemble each network.

A block depends on few choices. Therefore twenty thousand architectures share a few thousand
variants of their blocks, called forms, and these share a few thousand ops; each is stored once.
networkx lays out the ops of a block, once for each pattern of connections. Knows spaces and prices.
Does not know evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np

from evaluators.costs.tables import Price, block_costs
from evaluators.metrics import COUNTED
from nas.report.op_words import detail, kind
from nas.report.packed import packed
from search_spaces.ops import Op
from search_spaces.space import Block, Rows, SearchSpace

OFF = 0xFFFFFFFF
"""Form of a block that is switched off."""

INPUT = -1
"""Source of an edge from the output of the previous block."""


class Networks:
    """The forms of a space's blocks that occur in some rows."""

    def __init__(self, space: SearchSpace, prices: Mapping[str, Price]) -> None:
        """Start with no forms.

        Args:
            space: the space of the rows.
            prices: metrics that are sums over blocks, in addition to `evaluators.metrics.COUNTED`.
        """
        self._space = space
        self._prices = prices
        self._ops: dict[Op, int] = {}
        self._templates: dict[tuple[Any, ...], int] = {}
        self._drawn: list[dict[str, Any]] = []
        self._forms: dict[int, tuple[tuple[Op, ...], int]] = {}
        self._members: list[list[int]] = []
        self._template: list[int] = []
        self._costs: list[tuple[float, ...]] = []

    def to_json(self, rows: Rows) -> dict[str, Any]:
        """JSON from which the page assembles the network of each row `(n, choices)`."""
        blocks = [self._block(block, rows) for block in self._space.blocks]
        starts = np.cumsum([0, *map(len, self._members)])
        costs = np.array(self._costs, dtype=np.float64).reshape(-1, 3 + len(self._prices))
        names = (*COUNTED, *self._prices)
        return {
            "blocks": blocks,
            "ops": [_op(op) for op in self._ops],
            "templates": self._drawn,
            "forms": {
                "template": packed(self._template, "u4"),
                "start": packed(starts, "u4"),
                "ops": packed([index for members in self._members for index in members], "u4"),
                "costs": {n: packed(costs[:, i], "f8") for i, n in enumerate(names)},
            },
        }

    def _block(self, block: Block, rows: Rows) -> dict[str, Any]:
        columns = [self._space.column[name] for name in block.choices]
        options = [self._space.choices[column].options for column in columns]
        weights = np.ones(len(columns), dtype=np.int64)
        for at in range(len(columns) - 2, -1, -1):
            weights[at] = weights[at + 1] * len(options[at + 1])
        keys, first = np.unique(rows[:, columns] @ weights, return_index=True)
        forms = []
        for row in rows[first][:, columns].tolist():
            values = (choice[index] for choice, index in zip(options, row, strict=True))
            forms.append(self._form(block.ops(*values)))
        return {
            "name": block.name,
            "stage": block.name.partition("_")[0],
            "columns": columns,
            "weights": weights.tolist(),
            "keys": packed(keys, "u4"),
            "forms": packed(forms, "u4"),
        }

    def _form(self, ops: tuple[Op, ...]) -> int:
        if not ops:
            return OFF
        # Spaces cache ops, so equal forms are mostly the same object. The object is stored beside
        # its number because an id is unique only while its object exists.
        known = self._forms.get(id(ops))
        if known is not None:
            return known[1]
        number = len(self._forms)
        self._forms[id(ops)] = (ops, number)
        self._members.append([self._ops.setdefault(op, len(self._ops)) for op in ops])
        shape = tuple((op.name, tuple(t.name for t in op.inputs)) for op in ops)
        if shape not in self._templates:
            self._templates[shape] = len(self._drawn)
            self._drawn.append(template(ops))
        self._template.append(self._templates[shape])
        self._costs.append((*block_costs(ops), *(price(ops) for price in self._prices.values())))
        return number


def template(ops: Sequence[Op]) -> dict[str, Any]:
    """Positions of the ops of a block, and its edges.

    Returns:
        `x` and `y` of each op (`y` is its layer from the top, `x` its position in the layer,
        centred at 0), and `edges` as `[source, target]`, where a source is an op, `INPUT`, or
        `@block`.
    """
    number = {op.name: index for index, op in enumerate(ops)}
    edges: list[list[int | str]] = []
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(ops)))
    for index, op in enumerate(ops):
        for tensor in op.inputs:
            source = tensor.name
            if source == "input":
                edges.append([INPUT, index])
            elif source[0] == "@":
                edges.append([source, index])
            else:
                edges.append([number[source], index])
                graph.add_edge(number[source], index)
    for layer, nodes in enumerate(nx.topological_generations(graph)):
        for node in nodes:
            graph.nodes[node]["layer"] = layer
    places = nx.multipartite_layout(graph, subset_key="layer", align="horizontal")
    y = [graph.nodes[node]["layer"] for node in range(len(ops))]
    x = [0.0] * len(ops)
    for layer in set(y):
        in_layer = sorted((n for n in range(len(ops)) if y[n] == layer), key=lambda n: places[n][0])
        for rank, node in enumerate(in_layer):
            x[node] = rank - (len(in_layer) - 1) / 2
    return {"x": x, "y": y, "edges": edges}


def _op(op: Op) -> dict[str, Any]:
    return {
        "name": op.name,
        "kind": kind(op),
        "detail": detail(op),
        "in": [list(tensor.shape) for tensor in op.inputs],
        "out": list(op.out_shape),
        "macs": op.macs,
        "params": op.params,
    }
