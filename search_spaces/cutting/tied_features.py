"""Which features of a network's tensors are one and the same, and so go or stay together.

Works from ops alone, feature by feature: a channel is tied through a depthwise convolution, a
norm, a residual sum; a head is its query, key, value and output features. What is tied together is
a **unit** (it has one gate); units that play the same part in the same tensors form a **group**,
of which at least one stays. What cannot go (the image's channels, the classes) or has no rule here
is **fixed**, with the reason. Does not know costs, weights or gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.cutting.wiring import INPUT, Branch, Node, Wiring, branches, wire
from search_spaces.serial import Blocks

Ids = npt.NDArray[np.int64]

ELEMENTWISE = (
    *("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish"),
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "tanh",
    "softplus",
)
"""Activations that keep features apart (a softmax does not)."""

PASSING = (o.BatchNorm2d, o.GlobalPool, o.MaxPool2d, o.AvgPool2d, o.Crop, o.Identity)
PASSING_TOKENS = (o.LayerNorm, t.RMSNorm, t.TokenType, t.Bias, t.ClassToken, t.PositionEmbedding)
"""Ops whose output has the features of their input; the second kind on the last dimension."""

STREAM = (o.Add, t.ClassToken, t.PositionEmbedding, t.Embedding)
"""Ops that show a token's feature to be of the residual stream, not of a layer's inside."""


@dataclass(frozen=True)
class Group:
    """Units that play the same part in the same tensors."""

    name: str
    """Key `block/op` of the first op that makes them."""
    kind: str
    """`channels`, `heads`, `attention features`, `neurons` (of a layer's inside) or `features`
    (of a residual stream of tokens)."""
    units: Ids
    """Their numbers."""


@dataclass(frozen=True)
class Features:
    """What of a network can be cut.

    `units[key]` is, for the output of the op `key` (or `"input"`), the number of each feature's
    unit, `(features,)`; `count` stands for a fixed feature. Tensors without a feature dimension
    (token ids) are not in it.
    """

    wiring: Wiring
    branches: tuple[Branch, ...]
    groups: tuple[Group, ...]
    units: Mapping[str, Ids]
    count: int
    """Number of units."""
    fixed: Mapping[str, str]
    """Why the output of some op is fixed, by its key."""


def feature_axis(shape: o.Shape) -> int:
    """Channels come first in an image, features last in tokens and vectors."""
    return 0 if len(shape) == 3 else len(shape) - 1


@dataclass
class _Ties:
    """Feature numbers while a network is read, and what is known of them."""

    count: int = 0
    pairs: list[tuple[Ids, Ids]] = field(default_factory=list)
    fixed: list[Ids] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)

    def new(self, count: int) -> Ids:
        self.count += count
        return np.arange(self.count - count, self.count)

    def tie(self, a: Ids, b: Ids) -> None:
        a, b = np.broadcast_arrays(a, b)
        self.pairs.append((a.ravel(), b.ravel()))

    def fix(self, ids: Ids, key: str, why: str) -> None:
        self.fixed.append(ids.ravel())
        self.why[key] = why

    def components(self) -> tuple[int, Ids]:
        """Number of sets of tied features, and the set of each feature `(count,)`."""
        a, b = (np.concatenate([np.zeros(0, np.int64), *side]) for side in _sides(self.pairs))
        graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(self.count, self.count))
        found, labels = connected_components(graph, directed=False)
        return int(found), labels.astype(np.int64)


def _sides(pairs: Sequence[tuple[Ids, Ids]]) -> tuple[list[Ids], list[Ids]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def analyse(blocks: Blocks) -> Features:
    """Work out the units, groups and residual branches of a network from its ops."""
    wiring = wire(blocks)
    ties = _Ties()
    ids: dict[str, Ids] = {}
    shape = next(
        tensor.shape
        for node in wiring.nodes.values()
        for tensor, source in zip(node.op.inputs, node.inputs, strict=True)
        if source == INPUT
    )
    if len(shape) > 1:
        ids[INPUT] = ties.new(shape[feature_axis(shape)])
        ties.fix(ids[INPUT], INPUT, "the network's input")
    for node in wiring.nodes.values():
        ids[node.key] = _output_ids(node, ids, wiring, ties)
    ties.fix(ids[wiring.output], wiring.output, "the network's output")
    return _grouped(wiring, ids, ties)


def _output_ids(node: Node, ids: Mapping[str, Ids], wiring: Wiring, ties: _Ties) -> Ids:
    """The features of an op's output, after tying what it ties."""
    op = node.op
    read = [ids[source] for source in node.inputs if source in ids]
    whole = len(read) == len(node.inputs)
    rule = RULES.get(type(op))
    of_last = isinstance(op, (o.Linear, t.TiedLinear, *PASSING_TOKENS))
    if isinstance(op, t.Embedding):
        return ties.new(op.out_shape[-1])
    if isinstance(op, t.TiedLinear) and whole:
        # Its weight is the embedding's: a column that goes from one goes from the other.
        ties.tie(read[0], ids[op.tied])
        out = ties.new(op.out_shape[-1])
        ties.fix(out, node.key, "the rows of a shared table")
        return out
    unclear = rule is None or not whole or (of_last and len(op.inputs[0].shape) == 3)
    if isinstance(op, o.Attention) and op.heads == 1:
        # Fewer features in a head change the scale of its scores; a linear query makes up for it.
        unclear = unclear or not isinstance(wiring.nodes[node.inputs[0]].op, o.Linear)
    if isinstance(op, o.Activation) and op.function not in ELEMENTWISE:
        unclear = True
    if unclear or rule is None:
        why = f"nothing is known here of how {type(op).__name__} mixes features"
        for features in read:
            ties.fix(features, node.key, why)
        out = ties.new(op.out_shape[feature_axis(op.out_shape)])
        ties.fix(out, node.key, why)
        return out
    return rule(node, read, ties)


Rule = Callable[[Node, Sequence[Ids], _Ties], Ids]


def _pass(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    return read[0]


def _tie(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    for other in read[1:]:
        ties.tie(read[0], other)
    return read[0]


def _concat(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    return np.concatenate(list(read))


def _make(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    shape = node.op.out_shape
    return ties.new(shape[feature_axis(shape)])


def _conv(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    op = node.op
    assert isinstance(op, o.Conv2d)
    out = ties.new(op.out_shape[0])
    if op.groups > 1:
        # A group of a grouped convolution goes whole, so that all stay equal.
        inner = read[0].reshape(op.groups, -1)
        ties.tie(inner, inner[:, :1])
        ties.tie(out.reshape(op.groups, -1), inner[:, :1])
    return out


def _shuffle(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    op = node.op
    assert isinstance(op, o.ChannelShuffle)
    rows = read[0].reshape(op.groups, -1)
    ties.tie(rows, rows[:1])
    return rows.T.ravel()


def _rotary(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    op = node.op
    assert isinstance(op, t.Rotary)
    heads = read[0].reshape(op.heads, -1)
    ties.tie(heads, heads[:, :1])
    return read[0]


def _attention(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    op = node.op
    assert isinstance(op, o.Attention)
    query, key, value = read if len(read) == 3 else np.split(read[0], 3)
    out = ties.new(op.out_shape[-1])
    if op.heads == 1:
        for part in (key, value, out):
            ties.tie(query, part)
        return out
    shared = op.kv_heads or op.heads
    if shared == 1:
        why = "the one key and value of all heads"
        ties.fix(np.concatenate([key, value]), node.key, why)
        _tie_heads(op.heads, [query, out], ties)
    else:
        # A key and value go with all the queries that they serve.
        _tie_heads(shared, [query, key, value, out], ties)
    return out


def _relative_attention(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    op = node.op
    assert isinstance(op, t.RelativeAttention)
    out = ties.new(op.out_shape[-1])
    if op.heads == 1:
        ties.fix(np.concatenate([read[0], out]), node.key, "one head with relative positions")
    else:
        _tie_heads(op.heads, [*np.split(read[0], 3), out], ties)
    return out


def _keep_tokens(node: Node, read: Sequence[Ids], ties: _Ties) -> Ids:
    op = node.op
    assert isinstance(op, t.KeepTokens)
    attended = read[1:] if op.padding is None else read[1:-1]
    query, key = attended if len(attended) == 2 else np.split(attended[0], 3)[:2]
    if op.heads == 1:
        why = "the one head whose attention says which tokens stay"
        ties.fix(np.concatenate([query, key]), node.key, why)
    else:
        _tie_heads(op.heads, [query, key], ties)
    return read[0]


def _tie_heads(heads: int, parts: Sequence[Ids], ties: _Ties) -> None:
    first = parts[0].reshape(heads, -1)[:, :1]
    for part in parts:
        ties.tie(part.reshape(heads, -1), first)


RULES: dict[type[o.Op], Rule] = {
    **dict.fromkeys((*PASSING, *PASSING_TOKENS), _pass),
    **dict.fromkeys((o.Activation, t.ToTokens, t.FirstToken, t.MeanToken), _pass),
    **dict.fromkeys((o.Add, o.Multiply, o.Scale), _tie),
    **dict.fromkeys((o.Linear, o.Zero), _make),
    o.Concat: _concat,
    o.Conv2d: _conv,
    o.ChannelShuffle: _shuffle,
    o.Attention: _attention,
    t.Rotary: _rotary,
    t.RelativeAttention: _relative_attention,
    t.KeepTokens: _keep_tokens,
}
"""What each op type ties together. A type that is not here has fixed features."""


def _grouped(wiring: Wiring, ids: Mapping[str, Ids], ties: _Ties) -> Features:
    """Number the units, group by group in the order of the network."""
    found, component = ties.components()
    free = np.ones(found, dtype=bool)
    for fixed in ties.fixed:
        free[component[fixed]] = False
    # Units of a group are in the same tensors, each as often: equal sums of random tensor numbers.
    rng = np.random.default_rng(0)
    part = np.zeros(found, dtype=np.uint64)
    for features in {id(features): features for features in ids.values()}.values():
        counts = np.bincount(component[features], minlength=found).astype(np.uint64)
        part += counts * rng.integers(2**63, dtype=np.uint64)
    _, first, group_of = np.unique(part, return_index=True, return_inverse=True)
    seen: dict[int, list[Node]] = {}
    for key, node in wiring.nodes.items():
        for group in np.unique(group_of[component[ids[key]]]).tolist():
            seen.setdefault(group, []).append(node)
    unit_of = np.full(found, -1, dtype=np.int64)
    groups, count = [], 0
    for group, nodes in sorted(seen.items(), key=lambda item: int(first[item[0]])):
        members = np.flatnonzero((group_of == group) & free)
        if len(members):
            unit_of[members] = np.arange(count, count + len(members))
            groups.append(Group(nodes[0].key, _kind(nodes), unit_of[members]))
            count += len(members)
    unit_of[unit_of < 0] = count
    # Tensors with the same features share one array.
    numbered = {id(features): unit_of[component[features]] for features in ids.values()}
    units = {key: numbered[id(features)] for key, features in ids.items()}
    found_branches = tuple(branches(wiring))
    return Features(wiring, found_branches, tuple(groups), units, count, dict(ties.why))


def _kind(nodes: Sequence[Node]) -> str:
    """What a group's units are, from the ops whose outputs they are in."""
    for node in nodes:
        if isinstance(node.op, o.Attention | t.RelativeAttention):
            return "heads" if node.op.heads > 1 else "attention features"
    ranks = {len(node.op.out_shape) for node in nodes}
    if 2 in ranks:
        return "features" if any(isinstance(node.op, STREAM) for node in nodes) else "neurons"
    return "channels" if 3 in ranks else "neurons"
