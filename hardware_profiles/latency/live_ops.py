"""Which ops of a network a compiler leaves: the parts that its output depends on.

Spaces of cells have networks with dead ends: an edge whose node nothing reads, a sum with nothing
in it. A runtime that takes networks as they are written runs them all the same; a compiler does
not. Knows how blocks are joined, many architectures at a time. Does not know costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.ops import Add, Identity, Op, Zero
from search_spaces.space import Block, Rows, SearchSpace

NEVER_RUN = (Identity.__name__, Zero.__name__)
"""Types that a compiler never leaves: a name for what is there, and nothing."""


def forms_taken(
    space: SearchSpace, block: Block, rows: Rows
) -> tuple[list[tuple[Op, ...]], npt.NDArray[np.intp]]:
    """The forms of a block that canonical rows `(n, choices)` take, and which of them, `(n,)`."""
    columns = [space.column[name] for name in block.choices]
    if not columns:
        return [block.ops()], np.zeros(len(rows), dtype=np.intp)
    found, which = np.unique(rows[:, columns], axis=0, return_inverse=True)
    options = [space.choices[column].options for column in columns]
    forms = [
        block.ops(*(values[i] for values, i in zip(options, row, strict=True)))
        for row in found.tolist()
    ]
    return forms, which.reshape(-1)


def live_ops(space: SearchSpace, rows: Rows) -> Iterator[tuple[Op, npt.NDArray[np.intp]]]:
    """Ops with the indices of the rows in which a compiler leaves them, block by block backwards.

    It drops zeros from sums, sums of one operand, identities, and whatever nothing reads then.
    """
    n = len(rows)
    place = {block.name: index for index, block in enumerate(space.blocks)}
    zero = np.zeros((len(place) + 1, n), dtype=bool)  # of each block's output; the last: the input
    before = np.full((len(place), n), len(place))  # whose output each block's `input` is
    current = np.full(n, len(place))
    plans = []
    for index, block in enumerate(space.blocks):
        before[index] = current
        plan: list[tuple[Sequence[Op], npt.NDArray[np.intp], dict[str, Any]]] = []
        variants, which = forms_taken(space, block, rows)
        for form, ops in enumerate(variants):
            own = np.flatnonzero(which == form)
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
        for made, own, known in plans[index]:
            wanted = {op.name: np.zeros(len(own), dtype=bool) for op in made}
            wanted[made[-1].name] = needed[index, own]
            for op in reversed(made):
                want = wanted[op.name] & ~known[op.name]
                reads = [want & ~known[t.name] if isinstance(op, Add) else want for t in op.inputs]
                for tensor, read in zip(op.inputs, reads, strict=True):
                    if tensor.name == "input":
                        needed[before[index, own], own] |= read
                    elif tensor.name[0] == "@":
                        needed[place[tensor.name[1:]], own] |= read
                    else:
                        wanted[tensor.name] |= read
                if isinstance(op, Add):
                    want = want & (np.sum(reads, axis=0) > 1)
                if not isinstance(op, Identity):
                    yield op, own[want]


def _is_zero(op: Op, known: dict[str, Any], n: int) -> npt.NDArray[np.bool_]:
    """In which of `n` rows the op's output is all zeros whatever the network is given."""
    if isinstance(op, Zero):
        return np.ones(n, dtype=bool)
    if isinstance(op, Add | Identity):
        return np.all([known[tensor.name] for tensor in op.inputs], axis=0)
    return np.zeros(n, dtype=bool)
