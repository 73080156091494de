"""A network with early exits: samples that are decided do not go on.

A batch is compacted after each exit, so that the rest of the network runs on those samples only
that have not left; what a network computes for a sample does not depend on who else is there.
How sure an exit is of a sample is the margin between its two most probable classes: at the same
loss it lets more samples leave than the probability of the first class alone, which MSDNet takes
(Huang et al., 2018, section 3). Does not know how thresholds are found, nor training.
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
class Predicted:
    """What a network with exits says of a batch.

    `logits` is `(batch, classes)`, each sample's from where it left; `exit` `(batch,)` int64 is
    where: 0 for the first exit, the number of exits for the end.
    """

    logits: Tensor
    exit: Tensor


class ExitNetwork(Network):
    """The blocks of a network in order, and heads after some of them.

    A sample leaves at the first exit that is at least as sure of it as the exit's threshold, from 0
    to 1; an infinite one lets nobody leave, and its head is not run. They all are at first, and
    `forward` is then the network without exits.

    Args:
        blocks: the network's.
        exits: the heads' ops by the block that each stands after, in order.
        thresholds: one an exit.

    Raises:
        ValueError: for exits that are not after blocks of the network, in order.
    """

    thresholds: tuple[float, ...]

    def __init__(
        self, blocks: Blocks, exits: Blocks, thresholds: Sequence[float] | None = None
    ) -> None:
        super().__init__(blocks)
        waiting = [name for name, _ in exits]
        if waiting != [name for name in self.blocks if name in waiting]:
            raise ValueError(f"exits after {waiting}: expected blocks of the network, in order")
        self._heads = tuple(exits)
        self.exits = nn.ModuleDict({name: BlockModule(ops) for name, ops in exits})
        self.thresholds = (math.inf,) * len(exits)
        if thresholds is not None:
            self.set_thresholds(thresholds)

    def set_thresholds(self, thresholds: Sequence[float]) -> None:
        """Put thresholds in.

        Raises:
            ValueError: for more or fewer than there are exits.
        """
        if len(thresholds) != len(self.exits):
            raise ValueError(f"{len(thresholds)} thresholds for {len(self.exits)} exits")
        self.thresholds = tuple(thresholds)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(batch, classes)`, each sample's from where it leaves."""
        return self.predict(x).logits

    def predict(self, x: Tensor) -> Predicted:
        """Run each sample as far as it has to go."""
        rows: Tensor | None = None  # which samples of the batch are still there; None: all
        logits = exit = None
        state = _State(x)
        steps = self._to_exits(state)
        for place, threshold in enumerate(self.thresholds):
            name = next(steps)
            if threshold == math.inf:
                continue
            said: Tensor = self.exits[name](state.x)
            leaves = confidence(said) >= threshold
            if logits is None or exit is None:
                logits = torch.empty_like(said)
                exit = torch.full((len(said),), len(self.thresholds), device=said.device)
            gone = leaves.nonzero()[:, 0]
            if len(gone) == 0:
                continue
            ids = gone if rows is None else rows[gone]
            logits[ids], exit[ids] = said[gone], place
            stay = leaves.logical_not().nonzero()[:, 0]
            rows = stay if rows is None else rows[stay]
            if len(rows) == 0:
                return Predicted(logits, exit)
            state.keep(stay)
        next(steps, None)
        if rows is None or logits is None or exit is None:
            at_end = torch.full((len(state.x),), len(self.thresholds), device=state.x.device)
            return Predicted(state.x, at_end)
        logits[rows] = state.x
        return Predicted(logits, exit)

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """Logits `(batch, classes)` of every exit and of the end, all of the batch at each."""
        state = _State(x)
        steps = self._to_exits(state)
        said: list[Tensor] = [self.exits[name](state.x) for name in steps]
        return [*said, state.x]

    def whole(self, x: Tensor) -> Tensor:
        """Logits `(batch, classes)` of the end, without any exit."""
        return super().forward(x)

    def exits_to_json(self) -> dict[str, Any]:
        """Heads and thresholds; an infinite threshold is null."""
        return {
            "heads": blocks_to_json(self._heads),
            "thresholds": [None if math.isinf(t) else t for t in self.thresholds],
        }

    def _to_exits(self, state: _State) -> Iterator[str]:
        """Run the blocks, stopping after each that has an exit; at the end `state.x` is logits."""
        for (name, block), route in zip(self.blocks.items(), self._routes, strict=True):
            state.x = block(state.x, {f"@{read}": state.kept[read] for read in route.reads})
            if route.read_later:
                state.kept[name] = state.x
            for read in route.spent:
                del state.kept[read]
            if name in self.exits:
                yield name


class _State:
    """The tensors that the rest of a network reads."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.kept: dict[str, Tensor] = {}

    def keep(self, rows: Tensor) -> None:
        """Go on with these samples only, `(n,)` indices."""
        # One tensor under two names stays one.
        copies = {id(tensor): tensor[rows] for tensor in (self.x, *self.kept.values())}
        self.kept = {name: copies[id(tensor)] for name, tensor in self.kept.items()}
        self.x = copies[id(self.x)]


def confidence(logits: Tensor) -> Tensor:
    """How sure an exit is, `(batch,)` from 0 to 1.

    By how much its most probable class is more probable than the next one, of `(batch, classes)`.
    """
    first, second = logits.float().softmax(dim=1).topk(2).values.T
    return first - second


def network_from_json(blocks: Blocks, exits: Mapping[str, Any]) -> ExitNetwork:
    """The network of these blocks with what `ExitNetwork.exits_to_json` wrote.

    Raises:
        UserError: for content of another form.
    """
    try:
        heads = blocks_from_json(exits["heads"])
        thresholds = [math.inf if t is None else float(t) for t in exits["thresholds"]]
        return ExitNetwork(blocks, heads, thresholds)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"malformed early exits: {error}") from error


def with_exits(network: Network, blocks: Blocks, exits: Blocks) -> ExitNetwork:
    """A network with new heads, in the same mode; it has the very weights of the given one.

    Args:
        blocks: what the network is made of.
    """
    result = ExitNetwork(blocks, exits)
    result.exits.to(next(network.parameters()).device)
    result.blocks = network.blocks
    return result.train(network.training)
