"""SearchSpace, Choice and Block: what can be built, as choices and functions of them.

Knows how choices form architectures, how those become integer rows and back, how to draw them,
and how a block's function becomes the ops of a network. Does not know what ops cost (evaluators)
nor any particular family (`mobilenet.py`, `vit.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from search_spaces.architecture import Architecture, Value
from search_spaces.errors import UserError, unknown
from search_spaces.ops import Op, Shape
from search_spaces.published import Published

Rows = npt.NDArray[np.uint8]
"""`(n, choices)` uint8: each architecture as the index of the option taken at every choice."""


@dataclass(frozen=True)
class Choice:
    """A named decision with its options, cheapest first.

    With `parent`, the choice exists only where the parent choice has one of the values in
    `active_for` (the kernel of a block that the depth switches off is not a choice at all).
    """

    name: str
    options: tuple[Value, ...]
    parent: str | None = None
    active_for: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Block:
    """A part of the network and the few choices it depends on.

    `ops` is called with the values of `choices` in their order and returns the block's ops, or
    `()` when the block is switched off. Everything about the block follows from this function.
    """

    name: str
    choices: tuple[str, ...]
    ops: Callable[..., tuple[Op, ...]]


@dataclass(frozen=True)
class SearchSpace:
    """An ordered set of choices and the chain of blocks that they shape.

    Raises:
        ValueError: if choices or blocks refer to names that do not exist, or a parent comes
            after its child.
    """

    name: str
    choices: tuple[Choice, ...]
    blocks: tuple[Block, ...]
    published: Published | None = None
    """How the space's paper writes its architectures, where it is someone's."""

    def __post_init__(self) -> None:
        names: set[str] = set()
        for choice in self.choices:
            if choice.name in names:
                raise ValueError(f"choice {choice.name!r} is there twice")
            if not 1 <= len(set(choice.options)) == len(choice.options) <= 255:
                raise ValueError(f"choice {choice.name!r} needs 1 to 255 different options")
            if choice.parent is not None and choice.parent not in names:
                raise ValueError(
                    f"choice {choice.name!r}: parent {choice.parent!r} must come first"
                )
            names.add(choice.name)
        for block in self.blocks:
            missing = set(block.choices) - names
            if len(set(block.choices)) < len(block.choices):
                raise ValueError(f"block {block.name!r} names a choice twice")
            if missing:
                raise ValueError(f"block {block.name!r} depends on unknown choices {missing}")

    # Looking choices up

    @cached_property
    def column(self) -> dict[str, int]:
        """Column of each choice in a row."""
        return {choice.name: index for index, choice in enumerate(self.choices)}

    @cached_property
    def option_counts(self) -> npt.NDArray[np.int64]:
        """Number of options of each choice, `(choices,)`."""
        return np.array([len(choice.options) for choice in self.choices], dtype=np.int64)

    @cached_property
    def size(self) -> int:
        """How many different networks there are: inactive choices are not counted."""
        children: dict[str, list[Choice]] = {choice.name: [] for choice in self.choices}
        for choice in self.choices:
            if choice.parent is not None:
                children[choice.parent].append(choice)

        def count(choice: Choice) -> int:
            return sum(
                prod(count(c) for c in children[choice.name] if option in c.active_for)
                for option in choice.options
            )

        return prod(count(choice) for choice in self.choices if choice.parent is None)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the name, all choices and the largest network's ops: tells spaces apart."""
        content = [
            self.name,
            [[c.name, c.options, c.parent, c.active_for] for c in self.choices],
            [repr(op) for _, ops in self.ops(self.largest) for op in ops],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    # Rows: architectures as integers

    def canonical(self, rows: Rows) -> Rows:
        """Set every inactive choice to its first option, so that equal networks are equal rows.

        Args:
            rows: `(n, choices)` option indices; not changed.
        """
        return rows * self.active(rows)

    def active(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which choices exist in each of the architectures: `(n, choices)` bool."""
        result = np.ones(rows.shape, dtype=bool)
        for column, choice in enumerate(self.choices):
            if choice.parent is None:
                continue
            parent = self.column[choice.parent]
            options = self.choices[parent].options
            lookup = np.array([option in choice.active_for for option in options])
            result[:, column] = lookup[rows[:, parent]] & result[:, parent]
        return result

    def sample(self, n: int, seed: int | np.random.Generator) -> Rows:
        """Draw `n` canonical rows; every active choice is uniform over its options.

        Args:
            n: number of rows; repetitions are possible.
            seed: a seed or a generator; the same seed gives the same rows.
        """
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, self.option_counts, size=(n, len(self.choices)))
        return self.canonical(drawn.astype(np.uint8))

    def enumerate(self) -> Rows:
        """All canonical rows, each once: `(size, choices)`; only for a space that is small."""
        rows = np.zeros((1, len(self.choices)), dtype=np.uint8)
        for column, count in enumerate(self.option_counts):
            # Every row so far with every option; where the choice is inactive, with the first.
            active = self.active(rows)[:, column]
            copies = np.where(active, count, 1)
            first = np.repeat(copies.cumsum() - copies, copies)
            rows = np.repeat(rows, copies, axis=0)
            rows[:, column] = np.arange(len(rows)) - first
        return rows

    def encode(self, architectures: Iterable[Mapping[str, Value]]) -> Rows:
        """Turn architectures into canonical rows `(n, choices)`."""
        rows = [
            [
                choice.options.index(arch[choice.name]) if choice.name in arch else 0
                for choice in self.choices
            ]
            for arch in architectures
        ]
        return self.canonical(np.array(rows, dtype=np.uint8).reshape(-1, len(self.choices)))

    def decode(self, rows: Rows) -> list[Architecture]:
        """Turn rows `(n, choices)` into architectures; inactive choices are left out."""
        active = self.active(rows)
        return [
            Architecture(
                tuple(
                    (choice.name, choice.options[index])
                    for choice, index, on in zip(self.choices, row, mask, strict=True)
                    if on
                )
            )
            for row, mask in zip(rows.tolist(), active.tolist(), strict=True)
        ]

    def forms(self, block: Block) -> list[tuple[Op, ...]]:
        """The ops of a block at every value of its choices, the last choice changing fastest."""
        options = [self.choices[self.column[name]].options for name in block.choices]
        canonical = self._canonical_values(block)
        return [block.ops(*canonical(values)) for values in product(*options)]

    def _canonical_values(self, block: Block) -> Callable[[tuple[Value, ...]], tuple[Value, ...]]:
        """What a block's function is called with when some of its choices are switched off."""
        position = {name: index for index, name in enumerate(block.choices)}
        inner = [
            (position[name], position[choice.parent], choice)
            for name, choice in ((n, self.choices[self.column[n]]) for n in block.choices)
            if choice.parent in position
        ]
        inner.sort(key=lambda item: self.column[item[2].name])

        def canonical(values: tuple[Value, ...]) -> tuple[Value, ...]:
            off = set()
            for index, parent, choice in inner:
                if parent in off or values[parent] not in choice.active_for:
                    off.add(index)
            return tuple(
                self.choices[self.column[name]].options[0] if index in off else value
                for index, (name, value) in enumerate(zip(block.choices, values, strict=True))
            )

        return canonical

    # Single architectures

    def architecture(self, values: Mapping[str, Any]) -> Architecture:
        """Check values from outside and return the architecture; inactive ones are dropped.

        They are values by choice, or the encoding that the space's paper publishes.

        Raises:
            UserError: for a choice that is not of this space, one that is missing, or a value
                that is not among its options.
        """
        if self.published is not None and set(values) <= set(self.published.keys):
            return self.decode(self.canonical(self.published.rows([values])))[0]
        published = self.published.keys if self.published is not None else ()
        for name in values:
            if name not in self.column and name not in published:
                known = [*self.column, *published]
                raise unknown(f"choice of space {self.name}", str(name), known)
        codes = [0] * len(self.choices)
        for column, choice in enumerate(self.choices):
            given = values.get(choice.name)
            matches = [i for i, o in enumerate(choice.options) if _same(o, given)]
            if choice.name in values and not matches:
                options = ", ".join(json.dumps(option) for option in choice.options)
                shown = json.dumps(given, default=str)
                raise UserError(f"{choice.name} cannot be {shown}: expected one of {options}")
            if matches:
                codes[column] = matches[0]
        row = np.array([codes], dtype=np.uint8)
        (arch,) = self.decode(self.canonical(row))
        missing = [name for name in arch if name not in values]
        if missing:
            raise UserError(f"the architecture lacks {missing[0]} (of space {self.name})")
        return arch

    @cached_property
    def smallest(self) -> Architecture:
        """The first option everywhere."""
        return self.decode(np.zeros((1, len(self.choices)), dtype=np.uint8))[0]

    @cached_property
    def largest(self) -> Architecture:
        """The last option everywhere."""
        return self.decode((self.option_counts - 1).astype(np.uint8)[None])[0]

    def block_values(self, block: Block, arch: Mapping[str, Value]) -> tuple[Value, ...]:
        """The values that the block's function is called with; first options where inactive."""
        return tuple(
            arch[name] if name in arch else self.choices[self.column[name]].options[0]
            for name in block.choices
        )

    def ops(self, arch: Mapping[str, Value]) -> list[tuple[str, tuple[Op, ...]]]:
        """Names and ops of all active blocks, in order."""
        named = [(b.name, b.ops(*self.block_values(b, arch))) for b in self.blocks]
        return [(name, ops) for name, ops in named if ops]

    def input_shape(self, arch: Mapping[str, Value]) -> Shape:
        """Shape of one sample that the network takes, without the batch dimension."""
        return next(
            tensor.shape
            for _, ops in self.ops(arch)
            for op in ops
            for tensor in op.inputs
            if tensor.name == "input"
        )

    def graph(self, arch: Mapping[str, Value]) -> nx.DiGraph:
        """The network op by op: nodes `block/op` with the attribute `op`, edges are tensors.

        The node `input` has no op. Blocks are joined output to input.

        Raises:
            ValueError: if a block does not take the shape that the one before it gives.
        """
        graph = nx.DiGraph()
        last, last_shape = "input", self.input_shape(arch)
        graph.add_node(last, op=None, shape=last_shape)
        ends: dict[str, tuple[str, Shape]] = {}
        for block, ops in self.ops(arch):
            for op in ops:
                node = f"{block}/{op.name}"
                graph.add_node(node, op=op, shape=op.out_shape)
                for tensor in op.inputs:
                    source, shape = f"{block}/{tensor.name}", tensor.shape
                    if tensor.name == "input":
                        source, shape = last, last_shape
                    elif tensor.name[0] == "@":
                        source, shape = ends[tensor.name[1:]]
                    if shape != tensor.shape:
                        raise ValueError(f"{node} expects {tensor.shape}, {source} gives {shape}")
                    graph.add_edge(source, node, shape=tensor.shape)
            last, last_shape = ends[block] = f"{block}/{ops[-1].name}", ops[-1].out_shape
        return graph


def _same(option: Value, given: object) -> bool:
    """Equality of JSON values: True is not 1, but 4.0 is 4."""
    if isinstance(option, bool) or isinstance(given, bool):
        return option is given
    return bool(option == given)


def layer_choices(
    depth: Choice, layer: int, options: Mapping[str, Sequence[Value]], prefix: str
) -> tuple[Choice, ...]:
    """Choices of the layer with this index, active where `depth` reaches it."""
    reached = tuple(d for d in depth.options if isinstance(d, int) and d > layer)
    if len(reached) == len(depth.options):
        return tuple(Choice(f"{prefix}_{name}", tuple(o)) for name, o in options.items())
    return tuple(
        Choice(f"{prefix}_{name}", tuple(o), depth.name, reached) for name, o in options.items()
    )


Row = npt.NDArray[np.uint8]
"""`(choices,)` uint8, canonical."""
