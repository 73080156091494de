"""SearchSpace, Choice and Block: a space as named choices and functions from their values to ops.

Knows how choices form architectures, how to encode architectures as integer rows and decode them,
how to sample them, and how to compute the ops of a network from its blocks. Does not know what ops
cost (evaluators), nor any particular space (`spaces/`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from search_spaces.architecture import Architecture, Value, plain_value
from search_spaces.errors import UserError, unknown
from search_spaces.ops import Op, Shape
from search_spaces.published import Published
from search_spaces.wiring import INPUT, input_shape, wire

if TYPE_CHECKING:
    import networkx as nx

Rows = npt.NDArray[np.uint8]
"""`(n, choices)` uint8: for each architecture the index of the option taken at every choice."""

Row = npt.NDArray[np.uint8]
"""`(choices,)` uint8, canonical."""


_NOT_GIVEN: tuple[Value, ...] = ("not given",)
"""Default of `active_for`, known by identity."""


@dataclass(frozen=True)
class Choice:
    """A named decision with its options, cheapest first.

    With `parent`, the choice is active only where the parent choice is active and has one of the
    values in `active_for`: the kernel of a layer beyond the chosen depth is inactive. Options may
    be given as NumPy's numbers, which are stored as Python's.

    Raises:
        ValueError: for an option that is no number, word, or tuple of such, and for a parent
            without `active_for`, with which the choice would silently never vary.
    """

    name: str
    options: tuple[Value, ...]
    parent: str | None = None
    active_for: tuple[Value, ...] = _NOT_GIVEN

    def __post_init__(self) -> None:
        if self.active_for is _NOT_GIVEN:
            if self.parent is not None:
                raise ValueError(
                    f"choice {self.name!r} is never active: expected active_for, with options of "
                    f"its parent {self.parent!r}"
                )
            object.__setattr__(self, "active_for", ())
        for name in ("options", "active_for"):
            plain = tuple(plain_value(value) for value in getattr(self, name))
            object.__setattr__(self, name, plain)


@dataclass(frozen=True)
class Block:
    """A part of the network and the few choices on which it depends.

    `ops` is called with the values of `choices` in order and returns the block's ops, or `()` if
    the block is absent. Costs, weights and modules of the block follow from this function.
    """

    name: str
    choices: tuple[str, ...]
    ops: Callable[..., tuple[Op, ...]]


@dataclass(frozen=True)
class SearchSpace:
    """An ordered set of choices and the sequence of blocks that depend on them.

    Raises:
        ValueError: if choices or blocks refer to names that do not exist, a name is repeated, a
            choice has no options or more than 255, a parent comes after its child, or a child is
            active for words where its parent has numbers, or the reverse.
    """

    name: str
    choices: tuple[Choice, ...]
    blocks: tuple[Block, ...]
    published: Published | None = None
    """The encoding of architectures that the space's paper publishes, if there is one."""

    def __post_init__(self) -> None:
        names: set[str] = set()
        for choice in self.choices:
            if choice.name in names:
                raise ValueError(f"choice {choice.name!r} is defined twice")
            if not 1 <= len(set(choice.options)) == len(choice.options) <= 255:
                raise ValueError(f"choice {choice.name!r} needs 1 to 255 different options")
            if choice.parent is not None and choice.parent not in names:
                raise ValueError(
                    f"choice {choice.name!r}: parent {choice.parent!r} must come first"
                )
            self._check_active_for(choice)
            names.add(choice.name)
        if len({block.name for block in self.blocks}) < len(self.blocks):
            every = [block.name for block in self.blocks]
            twice = next(name for name in every if every.count(name) > 1)
            raise ValueError(f"block {twice!r} is defined twice")
        for block in self.blocks:
            missing = set(block.choices) - names
            if len(set(block.choices)) < len(block.choices):
                raise ValueError(f"block {block.name!r} names a choice twice")
            if missing:
                raise ValueError(f"block {block.name!r} depends on unknown choices {missing}")

    def _check_active_for(self, choice: Choice) -> None:
        """Check that a choice is active for what may be options of its parent.

        Other options are admitted, as in a named space of which some are left out; a word among
        numbers is a slip, with which the choice would silently never vary.
        """
        if choice.parent is None:
            if choice.active_for:
                raise ValueError(f"choice {choice.name!r} has active_for, but no parent")
            return
        parent = next(c for c in self.choices if c.name == choice.parent)
        words = {isinstance(option, str) for option in parent.options}
        wrong = [value for value in choice.active_for if isinstance(value, str) not in words]
        if wrong:
            raise ValueError(
                f"choice {choice.name!r} is active for {wrong[0]!r}, which is no option of "
                f"{parent.name!r}: expected some of {parent.options}"
            )

    # Lookups

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
        """Number of different networks; inactive choices do not count."""
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
        """Digest of the name, all choices and the ops of the largest network."""
        content = [
            self.name,
            [[c.name, c.options, c.parent, c.active_for] for c in self.choices],
            [repr(op) for _, ops in self.ops(self.largest) for op in ops],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    # Rows: architectures as integers

    def canonical(self, rows: Rows) -> Rows:
        """Set every inactive choice to its first option, so that equal networks have equal rows.

        Args:
            rows: `(n, choices)` option indices; not modified.
        """
        return rows * self.active(rows)

    def active(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return which choices are active in each architecture: `(n, choices)` bool."""
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
        """Sample `n` canonical rows; every active choice is uniform over its options.

        Args:
            n: number of rows; rows may repeat.
            seed: a seed or a generator; equal seeds give equal rows.
        """
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, self.option_counts, size=(n, len(self.choices)))
        return self.canonical(drawn.astype(np.uint8))

    def enumerate(self) -> Rows:
        """Return all canonical rows, each once: `(size, choices)`. For small spaces only."""
        rows = np.zeros((1, len(self.choices)), dtype=np.uint8)
        for column, count in enumerate(self.option_counts):
            # Each row once per option; where the choice is inactive, with the first option only.
            active = self.active(rows)[:, column]
            copies = np.where(active, count, 1)
            first = np.repeat(copies.cumsum() - copies, copies)
            rows = np.repeat(rows, copies, axis=0)
            rows[:, column] = np.arange(len(rows)) - first
        return rows

    def encode(self, architectures: Iterable[Mapping[str, Value]]) -> Rows:
        """Encode architectures as canonical rows `(n, choices)`."""
        rows = [
            [
                choice.options.index(arch[choice.name]) if choice.name in arch else 0
                for choice in self.choices
            ]
            for arch in architectures
        ]
        return self.canonical(np.array(rows, dtype=np.uint8).reshape(-1, len(self.choices)))

    def decode(self, rows: Rows) -> list[Architecture]:
        """Decode rows `(n, choices)` into architectures, without inactive choices."""
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
        """Return a block's ops at all values of its choices; the last choice changes fastest."""
        options = [self.choices[self.column[name]].options for name in block.choices]
        canonical = self._canonical_values(block)
        return [block.ops(*canonical(values)) for values in product(*options)]

    def _canonical_values(self, block: Block) -> Callable[[tuple[Value, ...]], tuple[Value, ...]]:
        """Return a function that sets the inactive ones of a block's values to first options."""
        position = {name: index for index, name in enumerate(block.choices)}
        children = [
            (position[name], position[choice.parent], choice)
            for name, choice in ((n, self.choices[self.column[n]]) for n in block.choices)
            if choice.parent in position
        ]
        children.sort(key=lambda item: self.column[item[2].name])

        def canonical(values: tuple[Value, ...]) -> tuple[Value, ...]:
            inactive = set()
            for index, parent, choice in children:
                if parent in inactive or values[parent] not in choice.active_for:
                    inactive.add(index)
            return tuple(
                self.choices[self.column[name]].options[0] if index in inactive else value
                for index, (name, value) in enumerate(zip(block.choices, values, strict=True))
            )

        return canonical

    # Single architectures

    def architecture(self, values: Mapping[str, Any]) -> Architecture:
        """Validate values and return the architecture; values of inactive choices are dropped.

        Args:
            values: by name of the choice, or in the encoding that the space's paper publishes.

        Raises:
            UserError: for an unknown choice, a missing one, or a value that is not an option.
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
                value = json.dumps(given, default=str)
                raise UserError(f"{choice.name} cannot be {value}: expected one of {options}")
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
        """The architecture with the first option of every choice."""
        return self.decode(np.zeros((1, len(self.choices)), dtype=np.uint8))[0]

    @cached_property
    def largest(self) -> Architecture:
        """The architecture with the last option of every choice."""
        return self.decode((self.option_counts - 1).astype(np.uint8)[None])[0]

    def block_values(self, block: Block, arch: Mapping[str, Value]) -> tuple[Value, ...]:
        """Return the arguments of the block's function; first options where inactive."""
        return tuple(
            arch[name] if name in arch else self.choices[self.column[name]].options[0]
            for name in block.choices
        )

    def ops(self, arch: Mapping[str, Value]) -> list[tuple[str, tuple[Op, ...]]]:
        """Return the names and ops of all active blocks, in order."""
        named = [(b.name, b.ops(*self.block_values(b, arch))) for b in self.blocks]
        return [(name, ops) for name, ops in named if ops]

    def input_shape(self, arch: Mapping[str, Value]) -> Shape:
        """Return the shape of one sample that the network takes, without the batch dimension."""
        return input_shape(self.ops(arch))

    def graph(self, arch: Mapping[str, Value]) -> nx.DiGraph:
        """Return the network as a graph of ops, with an edge for every tensor that is read.

        Nodes are `block/op`, and `input`, with the attributes `op` (None for `input`) and `shape`.

        Raises:
            ValueError: if an op expects another shape than its input has.
        """
        import networkx as nx  # takes 0.1 s, and only this method needs it

        wiring = wire(self.ops(arch))
        graph = nx.DiGraph()
        graph.add_node(INPUT, op=None, shape=wiring.input_shape)
        for key, node in wiring.nodes.items():
            graph.add_node(key, op=node.op, shape=node.op.out_shape)
            for tensor, source in zip(node.op.inputs, node.inputs, strict=True):
                shape = graph.nodes[source]["shape"]
                if shape != tensor.shape:
                    raise ValueError(f"{key} expects {tensor.shape}, {source} gives {shape}")
                graph.add_edge(source, key, shape=shape)
        return graph


def _same(option: Value, given: object) -> bool:
    """Whether two JSON values are equal: True is not 1, but 4.0 is 4."""
    if isinstance(option, bool) or isinstance(given, bool):
        return option is given
    return bool(option == given)


def layer_choices(
    depth: Choice, layer: int, options: Mapping[str, Sequence[Value]], prefix: str
) -> tuple[Choice, ...]:
    """Return the choices of one layer, active where the depth exceeds its index.

    Args:
        depth: the choice of the number of layers.
        layer: index of the layer, from 0.
        options: by name of the choice, without the prefix.
        prefix: of the choices' names, such as `stage0_layer1`.
    """
    reached = tuple(d for d in depth.options if isinstance(d, int) and d > layer)
    if len(reached) == len(depth.options):
        return tuple(Choice(f"{prefix}_{name}", tuple(o)) for name, o in options.items())
    return tuple(
        Choice(f"{prefix}_{name}", tuple(o), depth.name, reached) for name, o in options.items()
    )
