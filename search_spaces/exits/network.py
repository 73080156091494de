"""Runs a network with early exits: samples leave at the first exit that is confident enough.

The batch is compacted after each exit, so that the rest of the network runs only on the remaining
samples; the output for a sample does not depend on the others in its batch. The confidence of an
exit is the margin between its two most probable classes: at the same loss, more samples leave than
with the probability of the first class alone, which MSDNet uses (Huang et al., 2018, section 3).
Does not know how thresholds are determined, nor training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.errors import UserError
from search_spaces.networks.modules import BlockModule, Network
from search_spaces.serial import Blocks, blocks_from_json, blocks_to_json


@dataclass(frozen=True)
class ExitPrediction:
    """Output of a network with exits for a batch.

    `logits` is `(batch, classes)`: for each sample those of the exit where it left. `exit` is
    `(batch,)` int64, the index of that exit, or the number of exits for the network's end.
    """

    logits: Tensor
    exit: Tensor


class ExitNetwork(Network):
    """The blocks of a network in order, and heads after some of them.

    A sample leaves at the first exit whose confidence is at least its threshold, from 0 to 1. At an
    exit with an infinite threshold no sample leaves, and its head is not run. By default all
    thresholds are infinite, so that `forward` is the network without exits.

    Args:
        blocks: the network's.
        exits: the ops of each head, by the block that it follows, in order.
        thresholds: one per exit.

    Raises:
        ValueError: for exits that do not follow blocks of the network in order, or thresholds of
            another number.
    """

    thresholds: tuple[float, ...]

    def __init__(
        self, blocks: Blocks, exits: Blocks, thresholds: Sequence[float] | None = None
    ) -> None:
        super().__init__(blocks)
        after = [name for name, _ in exits]
        if after != [name for name in self.blocks if name in after]:
            raise ValueError(f"exits after {after}: expected blocks of the network, in order")
        self._heads = tuple(exits)
        self.exits = nn.ModuleDict({name: BlockModule(ops) for name, ops in exits})
        self.thresholds = (math.inf,) * len(exits)
        if thresholds is not None:
            self.set_thresholds(thresholds)

    def set_thresholds(self, thresholds: Sequence[float]) -> None:
        """Set the thresholds, one per exit.

        Raises:
            ValueError: if their number is not that of the exits.
        """
        if len(thresholds) != len(self.exits):
            raise ValueError(
                f"{len(thresholds)} thresholds for {len(self.exits)} exits: expected one per exit"
            )
        self.thresholds = tuple(thresholds)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, classes)`: for each sample those of the exit where it leaves."""
        return self.predict(x).logits

    def predict(self, x: Tensor) -> ExitPrediction:
        """Run each sample up to the exit where it leaves."""
        rows: Tensor | None = None  # remaining samples of the batch; None for all
        logits = exit = None
        state = _State(x)
        steps = self._to_exits(state)
        for index, threshold in enumerate(self.thresholds):
            name = next(steps)
            if threshold == math.inf:
                continue
            at_exit: Tensor = self.exits[name](state.x)
            leaves = confidence(at_exit) >= threshold
            if logits is None or exit is None:
                logits = torch.empty_like(at_exit)
                exit = torch.full((len(at_exit),), len(self.thresholds), device=at_exit.device)
            leaving = leaves.nonzero()[:, 0]
            if len(leaving) == 0:
                continue
            samples = leaving if rows is None else rows[leaving]
            logits[samples], exit[samples] = at_exit[leaving], index
            remaining = leaves.logical_not().nonzero()[:, 0]
            rows = remaining if rows is None else rows[remaining]
            if len(rows) == 0:
                return ExitPrediction(logits, exit)
            state.keep(remaining)
        next(steps, None)
        if rows is None or logits is None or exit is None:
            at_end = torch.full((len(state.x),), len(self.thresholds), device=state.x.device)
            return ExitPrediction(state.x, at_end)
        logits[rows] = state.x
        return ExitPrediction(logits, exit)

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """Return logits `(batch, classes)` of every exit and of the end for the whole batch."""
        state = _State(x)
        steps = self._to_exits(state)
        early: list[Tensor] = [self.exits[name](state.x) for name in steps]
        return [*early, state.x]

    def final_logits(self, x: Tensor) -> Tensor:
        """Return logits `(batch, classes)` of the end, without running exits."""
        return super().forward(x)

    def exits_to_json(self) -> dict[str, Any]:
        """Return heads and thresholds as JSON; an infinite threshold is null."""
        return {
            "heads": blocks_to_json(self._heads),
            "thresholds": [None if math.isinf(t) else t for t in self.thresholds],
        }

    def _to_exits(self, state: _State) -> Iterator[str]:
        """Run the blocks, yielding after each that has an exit; at the end `state.x` is logits."""
        for (name, block), route in zip(self.blocks.items(), self._routes, strict=True):
            state.x = block(state.x, {f"@{read}": state.kept[read] for read in route.reads})
            if route.read_later:
                state.kept[name] = state.x
            for read in route.freed:
                del state.kept[read]
            if name in self.exits:
                yield name


class _State:
    """The tensors that the remaining blocks read."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.kept: dict[str, Tensor] = {}

    def keep(self, rows: Tensor) -> None:
        """Keep these samples only, `(n,)` indices."""
        # A tensor with two names is indexed once.
        copies = {id(tensor): tensor[rows] for tensor in (self.x, *self.kept.values())}
        self.kept = {name: copies[id(tensor)] for name, tensor in self.kept.items()}
        self.x = copies[id(self.x)]


def confidence(logits: Tensor) -> Tensor:
    """Return the confidence of an exit, `(batch,)` from 0 to 1, from its `(batch, classes)` logits.

    It is the difference in probability of the two most probable classes.
    """
    first, second = logits.float().softmax(dim=1).topk(2).values.T
    return first - second


def network_from_json(blocks: Blocks, exits: Mapping[str, Any]) -> ExitNetwork:
    """Return the network of these blocks with exits as `ExitNetwork.exits_to_json` wrote them.

    Raises:
        UserError: for malformed content.
    """
    try:
        heads = blocks_from_json(exits["heads"], heads_of=blocks)
        thresholds = [math.inf if t is None else float(t) for t in exits["thresholds"]]
        return ExitNetwork(blocks, heads, thresholds)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"malformed early exits: {error}") from error


def with_exits(network: Network, blocks: Blocks, exits: Blocks) -> ExitNetwork:
    """Return a network with new heads, in the same mode, that shares the weights of `network`.

    Args:
        network: the network without exits.
        blocks: names and ops of its blocks.
        exits: the ops of each head, by the block that it follows, in order.
    """
    result = ExitNetwork(blocks, exits)
    result.exits.to(next(network.parameters()).device)
    result.blocks = network.blocks
    return result.train(network.training)
