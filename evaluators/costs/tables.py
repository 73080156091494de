"""Cost tables: exact costs of every architecture of a space, before any network is built.

There is one table per block, made by evaluating the block's function once over the product of its
choices. Pricing an architecture is then one lookup per block, and pricing a million of them one
gather and one sum per block, without a Python loop over candidates. Knows MACs, parameters, peak
activation memory and any metric given as a function of a block's ops (such as latency on a device).
Does not know accuracy, devices or budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.metrics import COUNTED
from search_spaces.architecture import Value
from search_spaces.ops import Op, freed_tensors, outside_blocks
from search_spaces.space import Block, Rows, SearchSpace

SUMMED = ("macs", "params")
"""Counted metrics that are sums over blocks, in the order of `BlockTable.sums`."""

CONVENTION = (
    "FLOPs are multiply-accumulates (1 MAC = 1 FLOP) of convolutions, linear layers and "
    "attention products, for one sample; memory is the peak of its fp32 activations."
)

BYTES_PER_ACTIVATION = 4

CHUNK = 8192
"""Architectures scored at a time, such that the working set fits in the cache."""

MERGED_ENTRIES = 8192
"""Most entries of a table of several blocks, such that all tables together fit in the cache."""

Costs = dict[str, npt.NDArray[Any]]
"""An array `(n,)` per metric: int64 for `COUNTED`, float64 for all others."""

Price = Callable[[Sequence[Op]], float]
"""A further metric as a function of a block's ops, summed over the blocks of a network."""

Column = Callable[[Rows], npt.NDArray[np.float64]]
"""A metric of whole networks as a function of rows `(n, choices)`, for metrics that are no sum over
blocks, such as published measurements."""


def peak_memory(ops: Sequence[Op], kept: Mapping[str, int] | None = None) -> int:
    """Peak bytes of activations while `ops` run, for one sample.

    While an op runs, its inputs, its output and every tensor that a later op reads are in memory.
    An op that can write over its first input (normalisation, activation, sum) does so if no later
    op reads that input. This is inference in fp32; weights and workspace are not counted.

    Args:
        kept: elements of tensors, by name, that stay in memory throughout for later blocks.
    """
    kept = kept or {}
    outside = (t for op in ops for t in op.inputs if t.name == "input" or t.name[0] == "@")
    held = {**{tensor.name: prod(tensor.shape) for tensor in outside}, **kept}
    peak = 0
    for op, spent in zip(ops, freed_tensors(ops), strict=True):
        spent = [name for name in spent if name not in kept]
        overwritten = op.inputs[0].name if op.in_place and op.inputs[0].name in spent else None
        held[op.name] = prod(op.out_shape)
        peak = max(peak, sum(size for name, size in held.items() if name != overwritten))
        for name in spent:
            del held[name]
    return peak * BYTES_PER_ACTIVATION


def block_costs(ops: Sequence[Op], kept: Mapping[str, int] | None = None) -> tuple[int, int, int]:
    """MACs, parameters and peak memory of one block, in the order of `COUNTED`."""
    return sum(op.macs for op in ops), sum(op.params for op in ops), peak_memory(ops, kept)


def macs_per_token(ops: Sequence[Op]) -> float:
    """MACs of one block of a language model, divided by the tokens of its output `(tokens, ...)`.

    A `Price`: MACs of networks of different contexts cannot be compared otherwise.
    """
    return sum(op.macs for op in ops) / ops[-1].out_shape[0] if ops else 0.0


@dataclass(frozen=True)
class BlockTable:
    """Costs of one block for every combination of the choices that change its costs.

    `weights` is `(choices,)`: its product with a row is the index of the row's entry. `sums` is
    `(entries, 2)` int64, MACs and parameters, summed over blocks; `priced` is `(entries, prices)`
    float64, summed too; `memory` is `(entries,)` int64, of which the maximum over blocks is taken.
    """

    weights: npt.NDArray[np.float32]
    sums: npt.NDArray[np.int64]
    priced: npt.NDArray[np.float64]
    memory: npt.NDArray[np.int64]


def kept_outputs(blocks: Sequence[tuple[str, Sequence[tuple[Op, ...]]]]) -> list[dict[str, int]]:
    """For each block, the outputs that stay in memory for later blocks while it runs, with sizes.

    A block's output is kept until the last block that may read it by name, whether or not a given
    architecture contains that output; where its size varies, the largest is used.
    """
    last: dict[str, int] = {}
    for index, (_, variants) in enumerate(blocks):
        for ops in variants:
            last.update(dict.fromkeys(outside_blocks(ops), index))
    held: dict[str, int] = {}
    result = []
    for index, (name, variants) in enumerate(blocks):
        before = blocks[index - 1][0] if index else ""
        kept = {}
        for source, size in held.items():
            if last[source] > index:
                kept[f"@{source}"] = size
                if source == before:
                    kept["input"] = size
        if "input" in kept:  # one tensor with two names is in memory once
            del kept[f"@{before}"]
        result.append(kept)
        if name in last:
            held[name] = max(prod(ops[-1].out_shape) for ops in variants if ops)
    return result


def tabulate(
    space: SearchSpace,
    block: Block,
    variants: Sequence[tuple[Op, ...]],
    kept: Mapping[str, int],
    prices: Sequence[Price] = (),
) -> BlockTable:
    """Table of a block from its `space.forms`, while the tensors in `kept` stay in memory."""
    columns = [space.column[name] for name in block.choices]
    options = [space.choices[column].options for column in columns]
    # Options that do not change a block return the same tuple object of ops: price it once. The
    # ops are stored beside their costs, since an id is unique only while its object exists.
    known: dict[int, tuple[tuple[Op, ...], tuple[float, ...]]] = {}
    entries = []
    for ops in variants:
        if id(ops) not in known:
            priced = (float(price(ops)) if ops else 0.0 for price in prices)
            known[id(ops)] = (ops, (*block_costs(ops, kept), *priced))
        entries.append(known[id(ops)][1])
    # float64 represents every count below 2^53 exactly.
    table = np.array(entries, dtype=np.float64).reshape(*map(len, options), -1)
    weights = np.zeros(len(space.choices), dtype=np.float32)
    stride = 1
    for axis in reversed(range(len(columns))):
        if (table == table.take([0], axis=axis)).all():
            table = table.take([0], axis=axis)
            continue
        weights[columns[axis]] = stride
        stride *= len(options[axis])
    flat = table.reshape(-1, len(COUNTED) + len(prices))
    counts = flat[:, : len(COUNTED)].astype(np.int64)
    added = flat[:, len(COUNTED) :].copy()
    return BlockTable(weights, counts[:, :2].copy(), added, counts[:, 2].copy())


def merged(space: SearchSpace, tables: Sequence[BlockTable]) -> list[BlockTable]:
    """Join neighbouring tables while the result is small, for fewer lookups per architecture."""
    result: list[BlockTable] = []
    for table in tables:
        if result:
            joined = _joined(space, result[-1], table)
            if joined is not None:
                result[-1] = joined
                continue
        result.append(table)
    return result


def _joined(space: SearchSpace, a: BlockTable, b: BlockTable) -> BlockTable | None:
    """One table for two blocks, or None if it would have more than `MERGED_ENTRIES` entries."""
    columns = np.flatnonzero((a.weights > 0) | (b.weights > 0))
    counts = space.option_counts[columns]
    if prod(counts.tolist()) > MERGED_ENTRIES:
        return None
    # Row `i` of `options` has the options of entry `i`; the last choice changes fastest.
    sizes = tuple(counts.tolist())
    options = np.indices(sizes).reshape(len(columns), -1).T if sizes else np.zeros((1, 0))
    index_a, index_b = ((options @ table.weights[columns]).astype(np.intp) for table in (a, b))
    weights = np.zeros(len(space.choices), dtype=np.float32)
    stride = 1
    for column, count in zip(columns[::-1], counts[::-1], strict=True):
        weights[column] = stride
        stride *= int(count)
    memory = np.maximum(a.memory[index_a], b.memory[index_b])
    sums, priced = a.sums[index_a] + b.sums[index_b], a.priced[index_a] + b.priced[index_b]
    return BlockTable(weights, sums, priced, memory)


class CostTables:
    """Exact costs of the architectures of a space, one at a time or in batches.

    Example:
        >>> tables = CostTables(load_space("mobilenet-cifar"))
        >>> tables.cost(space.largest)["macs"]
        >>> tables.score(space.sample(1_000_000, seed=0))["macs"]
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        prices: Mapping[str, Price] | None = None,
        columns: Mapping[str, Column] | None = None,
    ) -> None:
        """Tabulate the space.

        Args:
            prices: further metrics, each a function of a block's ops, summed over blocks.
            columns: further metrics that are no sum over blocks, each a function of rows
                `(n, choices)` that returns `(n,)` values.
        """
        self.space = space
        self.prices = dict(prices or {})
        self.columns = dict(columns or {})
        self.metrics = (*COUNTED, *self.prices, *self.columns)
        """Every metric that `score` computes."""
        variants = [space.forms(block) for block in space.blocks]
        named = [(block.name, v) for block, v in zip(space.blocks, variants, strict=True)]
        functions = tuple(self.prices.values())
        self.parts = [
            tabulate(space, block, v, kept, functions)
            for block, v, kept in zip(space.blocks, variants, kept_outputs(named), strict=True)
        ]
        """One table per block: integer programs and expectations are faster with small tables."""
        self.blocks = merged(space, self.parts)
        # The entry indices of all blocks of a chunk are one product of float32 matrices: exact,
        # since an index is below 2^24, and much faster than sums of integer columns.
        self._weights = np.stack([table.weights for table in self.blocks], axis=1)
        assert max(len(table.memory) for table in self.blocks) < 2**24

    def score(self, rows: Rows, metrics: Sequence[str] | None = None) -> Costs:
        """Costs of many architectures.

        Args:
            rows: `(n, choices)` option indices, canonical or not (an inactive choice is read as
                its first option in blocks that also depend on its parent).
            metrics: subset of `self.metrics`; all by default.

        Returns:
            An array `(n,)` for each of `metrics`.
        """
        metrics = self.metrics if metrics is None else metrics
        n = len(rows)
        sums = np.zeros((n, 2), dtype=np.int64)
        priced = np.zeros((n, len(self.prices)))
        memory = np.zeros(n, dtype=np.int64)
        wants_prices = any(metric in self.prices for metric in metrics)
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            indices = (rows[part].astype(np.float32) @ self._weights).T.astype(np.intp)
            for table, index in zip(self.blocks, indices, strict=True):
                sums[part] += table.sums.take(index, axis=0)
                if wants_prices:
                    priced[part] += table.priced.take(index, axis=0)
                if "memory" in metrics:
                    np.maximum(memory[part], table.memory.take(index), out=memory[part])
        costs: Costs = {"macs": sums[:, 0], "params": sums[:, 1], "memory": memory}
        costs.update(zip(self.prices, priced.T, strict=True))
        costs.update((name, self.columns[name](rows)) for name in metrics if name in self.columns)
        return {metric: costs[metric] for metric in metrics}

    def summed(self, metric: str) -> list[npt.NDArray[np.float64]]:
        """Values `(entries,)` of a metric that is a sum over blocks, for each of `blocks`.

        Raises:
            ValueError: for any other metric (peak memory, a published column).
        """
        if metric in SUMMED:
            which = SUMMED.index(metric)
            return [table.sums[:, which].astype(np.float64) for table in self.blocks]
        if metric in self.prices:
            which = list(self.prices).index(metric)
            return [table.priced[:, which] for table in self.blocks]
        raise ValueError(f"{metric} is not a sum over blocks")

    def cost(self, arch: Mapping[str, Value]) -> dict[str, float]:
        """Costs of one architecture, by metric: one lookup per block."""
        scored = self.score(self.space.encode([arch]))
        return {metric: values[0].item() for metric, values in scored.items()}
