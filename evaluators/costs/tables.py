"""Cost tables: what every architecture of a space costs, exactly, before anything is built.

One table a block, made by running the block's function over the product of its choices, once.
Then an architecture is one lookup a block, and a million of them are one gather and one sum a
block, without a Python loop over candidates. Knows MACs, parameters, peak activation memory and
whatever else a function of a block's ops says that it costs (a latency on some device); does not
know accuracy, devices or budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.architecture import Value
from search_spaces.ops import Op, outside_blocks, spent_tensors
from search_spaces.space import Block, Rows, SearchSpace

METRICS = ("macs", "params", "memory")
"""Multiply-accumulates, learnable scalars, and bytes of activations at the peak."""

SUMMED = ("macs", "params")
"""Those that a network's blocks add up to, in the order of `BlockTable.sums`."""

CONVENTION = (
    "FLOPs are multiply-accumulates (1 MAC = 1 FLOP) of convolutions, linear layers and "
    "attention products, for one sample; memory is the peak of its fp32 activations."
)

BYTES_PER_ACTIVATION = 4

CHUNK = 8192
"""Architectures scored at a time: few enough that the working set stays in the cache."""

MERGED_ENTRIES = 8192
"""Entries of a table of several blocks, so that all tables together stay in the cache."""

Costs = dict[str, npt.NDArray[Any]]
"""A `(n,)` array for each metric: int64 for `METRICS`, float64 for priced ones."""

Price = Callable[[Sequence[Op]], float]
"""What a block costs beside `METRICS`, from its ops; a network costs the sum of its blocks."""

Column = Callable[[Rows], npt.NDArray[np.float64]]
"""What whole networks cost, from rows `(n, choices)`: a published measurement is no sum."""


def peak_memory(ops: Sequence[Op], kept: Mapping[str, int] | None = None) -> int:
    """Bytes of activations at the fullest moment of running `ops`, for one sample.

    While an op runs, its inputs, its output and whatever a later op still reads are held. An op
    that can write over its first input (normalisation, activation, sums) does so when nothing
    reads that input later. Inference in fp32, weights and workspace not counted.

    Args:
        kept: sizes of tensors that are held all the while, for blocks that come later.
    """
    kept = kept or {}
    outside = (t for op in ops for t in op.inputs if t.name == "input" or t.name[0] == "@")
    held = {**{tensor.name: prod(tensor.shape) for tensor in outside}, **kept}
    peak = 0
    for op, spent in zip(ops, spent_tensors(ops), strict=True):
        spent = [name for name in spent if name not in kept]
        overwritten = op.inputs[0].name if op.in_place and op.inputs[0].name in spent else None
        held[op.name] = prod(op.out_shape)
        peak = max(peak, sum(size for name, size in held.items() if name != overwritten))
        for name in spent:
            del held[name]
    return peak * BYTES_PER_ACTIVATION


def block_costs(ops: Sequence[Op], kept: Mapping[str, int] | None = None) -> tuple[int, int, int]:
    """`METRICS` of one block."""
    return sum(op.macs for op in ops), sum(op.params for op in ops), peak_memory(ops, kept)


@dataclass(frozen=True)
class BlockTable:
    """Costs of one block at every value of the choices that change its costs.

    `weights` is `(choices,)`: a row times it is the entry's index. `sums` is `(entries, 2)` int64
    (MACs, parameters: added over blocks), `priced` `(entries, prices)` float64 (added too),
    `memory` `(entries,)` int64 (the largest counts).
    """

    weights: npt.NDArray[np.float32]
    sums: npt.NDArray[np.int64]
    priced: npt.NDArray[np.float64]
    memory: npt.NDArray[np.int64]


def kept_outputs(blocks: Sequence[tuple[str, Sequence[tuple[Op, ...]]]]) -> list[dict[str, int]]:
    """For each block, the outputs (and their sizes) that are held while it runs for later ones.

    A block's output is held until the last block that may read it by name, whether or not the
    architecture at hand makes it; where its size varies, the largest counts.
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
        if "input" in kept:  # one tensor under two names is held once
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
    """Price `space.forms` of a block while the tensors in `kept` are held for later blocks."""
    columns = [space.column[name] for name in block.choices]
    options = [space.choices[column].options for column in columns]
    # Options that do not shape a block give the very same op tuple: cost it once. The ops are
    # kept beside their costs, since an id is only unique while its object lives.
    known: dict[int, tuple[tuple[Op, ...], tuple[float, ...]]] = {}
    entries = []
    for ops in variants:
        if id(ops) not in known:
            priced = (float(price(ops)) if ops else 0.0 for price in prices)
            known[id(ops)] = (ops, (*block_costs(ops, kept), *priced))
        entries.append(known[id(ops)][1])
    # float64 holds every count below 2^53 exactly.
    table = np.array(entries, dtype=np.float64).reshape(*map(len, options), -1)
    weights = np.zeros(len(space.choices), dtype=np.float32)
    stride = 1
    for axis in reversed(range(len(columns))):
        if (table == table.take([0], axis=axis)).all():
            table = table.take([0], axis=axis)
            continue
        weights[columns[axis]] = stride
        stride *= len(options[axis])
    flat = table.reshape(-1, len(METRICS) + len(prices))
    counts = flat[:, : len(METRICS)].astype(np.int64)
    added = flat[:, len(METRICS) :].copy()
    return BlockTable(weights, counts[:, :2].copy(), added, counts[:, 2].copy())


def merged(space: SearchSpace, tables: Sequence[BlockTable]) -> list[BlockTable]:
    """Neighbouring tables joined while the result is small: fewer lookups an architecture."""
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
    """One table for two blocks, or None if it had more than `MERGED_ENTRIES`."""
    columns = np.flatnonzero((a.weights > 0) | (b.weights > 0))
    counts = space.option_counts[columns]
    if prod(counts.tolist()) > MERGED_ENTRIES:
        return None
    # Row `i` of `options` is the options at entry `i`, the last choice changing fastest.
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
    """The costs of a space: exact for one architecture, batched for many.

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
            prices: more metrics, each a function of a block's ops, summed over blocks.
            columns: more metrics that are no sum over blocks, each a function of rows
                `(n, choices)` that gives `(n,)` values.
        """
        self.space = space
        self.prices = dict(prices or {})
        self.columns = dict(columns or {})
        self.metrics = (*METRICS, *self.prices, *self.columns)
        """Every metric that `score` knows."""
        variants = [space.forms(block) for block in space.blocks]
        named = [(block.name, v) for block, v in zip(space.blocks, variants, strict=True)]
        functions = tuple(self.prices.values())
        self.parts = [
            tabulate(space, block, v, kept, functions)
            for block, v, kept in zip(space.blocks, variants, kept_outputs(named), strict=True)
        ]
        """One table a block, for programs and expectations, which small tables suit better."""
        self.blocks = merged(space, self.parts)
        # All blocks' entry indices of a chunk are one product of float32 matrices: exact, since
        # an index stays far below 2^24, and much faster than sums of integer columns.
        self._weights = np.stack([table.weights for table in self.blocks], axis=1)
        assert max(len(table.memory) for table in self.blocks) < 2**24

    def score(self, rows: Rows, metrics: Sequence[str] | None = None) -> Costs:
        """Costs of many architectures.

        Args:
            rows: `(n, choices)` option indices, canonical or not (an inactive choice counts as
                its first option wherever a block knows its parent).
            metrics: some of `self.metrics`; all by default.

        Returns:
            For each of `metrics` an array `(n,)`.
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
        """For each of `blocks` the `(entries,)` values of a metric that is a sum over blocks.

        Raises:
            ValueError: for one that is not (peak memory, a published column).
        """
        if metric in SUMMED:
            which = SUMMED.index(metric)
            return [table.sums[:, which].astype(np.float64) for table in self.blocks]
        if metric in self.prices:
            which = list(self.prices).index(metric)
            return [table.priced[:, which] for table in self.blocks]
        raise ValueError(f"{metric} is not a sum over blocks")

    def cost(self, arch: Mapping[str, Value]) -> dict[str, float]:
        """Costs of one architecture: one lookup a block."""
        scored = self.score(self.space.encode([arch]))
        return {metric: values[0].item() for metric, values in scored.items()}
