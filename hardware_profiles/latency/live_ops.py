"""Find the live ops of networks: those that remain after a compiler's dead-code elimination.

Cell-based spaces contain networks with dead ops: an edge to a node that no op reads, or a sum of
zeros. A runtime that executes networks as written runs them; a compiler eliminates them. Knows how
blocks are connected, for many architectures at a time. Does not know costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.ops import Add, Identity, Op, Zero
from search_spaces.space import Block, Rows, SearchSpace

NEVER_RUN = (Identity.__name__, Zero.__name__)
"""Types of ops that a compiler always eliminates."""


def block_variants(
    space: SearchSpace, block: Block, rows: Rows
) -> tuple[list[tuple[Op, ...]], npt.NDArray[np.intp]]:
    """Return the variants of a block in canonical rows, and which of them each row has.

    Args:
        space: the search space of the rows.
        block: a block of the space.
        rows: canonical rows `(n, choices)`.

    Returns:
        The ops of each distinct variant, and the index of each row's variant, `(n,)`.
    """
    columns = [space.column[name] for name in block.choices]
    if not columns:
        return [block.ops()], np.zeros(len(rows), dtype=np.intp)
    found, which = np.unique(rows[:, columns], axis=0, return_inverse=True)
    options = [space.choices[column].options for column in columns]
    variants = [
        block.ops(*(values[i] for values, i in zip(options, row, strict=True)))
        for row in found.tolist()
    ]
    return variants, which.reshape(-1)


def live_ops(space: SearchSpace, rows: Rows) -> Iterator[tuple[Op, npt.NDArray[np.intp]]]:
    """Yield each op with the indices of the rows in which it is live, last block first.

    A compiler eliminates zeros in sums, sums of one operand, identities, and ops whose output is
    not read after that.
    """
    n = len(rows)
    place = {block.name: index for index, block in enumerate(space.blocks)}
    zero = np.zeros((len(place) + 1, n), dtype=bool)  # of each block's output; last: of the input
    before = np.full((len(place), n), len(place))  # the block whose output is each block's `input`
    current = np.full(n, len(place))
    plans = []
    for index, block in enumerate(space.blocks):
        before[index] = current
        plan: list[tuple[Sequence[Op], npt.NDArray[np.intp], dict[str, Any]]] = []
        variants, which = block_variants(space, block, rows)
        for variant, ops in enumerate(variants):
            own = np.flatnonzero(which == variant)
            if not ops or not len(own):
                continue
            known: dict[str, Any] = {"input": zero[before[index, own], own]}
            for op in ops:
                for tensor in op.inputs:
                    if tensor.name[0] == "@":
                        known[tensor.name] = zero[place[tensor.name[1:]], own]
                known[op.name] = _is_zero(op, known, len(own))
            zero[index, own] = known[ops[-1].name]
            current[own] = index
            plan.append((ops, own, known))
        plans.append(plan)
    needed = np.zeros_like(zero)
    needed[current, np.arange(n)] = True
    for index in reversed(range(len(plans))):
        for form, own, known in plans[index]:
            read_in = {op.name: np.zeros(len(own), dtype=bool) for op in form}
            read_in[form[-1].name] = needed[index, own]
            for op in reversed(form):
                live = read_in[op.name] & ~known[op.name]
                reads = [live & ~known[t.name] if isinstance(op, Add) else live for t in op.inputs]
                for tensor, read in zip(op.inputs, reads, strict=True):
                    if tensor.name == "input":
                        needed[before[index, own], own] |= read
                    elif tensor.name[0] == "@":
                        needed[place[tensor.name[1:]], own] |= read
                    else:
                        read_in[tensor.name] |= read
                if isinstance(op, Add):
                    live = live & (np.sum(reads, axis=0) > 1)
                if not isinstance(op, Identity):
                    yield op, own[live]


def _is_zero(op: Op, known: dict[str, Any], n: int) -> npt.NDArray[np.bool_]:
    """Return in which of `n` rows the op's output is zero for every input of the network."""
    if isinstance(op, Zero):
        return np.ones(n, dtype=bool)
    if isinstance(op, Add | Identity):
        return np.all([known[tensor.name] for tensor in op.inputs], axis=0)
    return np.zeros(n, dtype=bool)
