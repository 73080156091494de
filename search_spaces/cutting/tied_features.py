"""Finds the features of a network that can only be removed together.

Works from ops alone, feature by feature: a channel is tied through a depthwise convolution, a
norm or a residual sum; a head is its query, key, value and output features. A set of tied features
is a **unit** (it has one gate). Units that occur in the same tensors equally often form a
**group**, of which at least one unit is kept. Features that cannot be removed (channels of the
image, classes) or whose op type has no rule here are **fixed**, with the reason. Does not know
costs, weights or gates.
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
from search_spaces.cutting.residual_branches import Branch, residual_branches
from search_spaces.ops import feature_count
from search_spaces.serial import Blocks
from search_spaces.wiring import INPUT, WiredOp, Wiring, wire

FeatureIds = npt.NDArray[np.int64]

ELEMENTWISE = (
    *("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish"),
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "tanh",
    "softplus",
)
"""Activations that are computed feature by feature (a softmax is not)."""

PASSING = (o.BatchNorm2d, o.GlobalPool, o.MaxPool2d, o.AvgPool2d, o.Crop, o.Identity)
PASSING_TOKENS = (
    *(o.LayerNorm, t.RMSNorm, t.TokenType, t.Bias, t.CausalConvolution),
    *(t.ClassToken, t.PositionEmbedding),
)
"""Ops whose output has the features of their input; the latter are those over tokens."""

RESIDUAL_STREAM = (o.Add, t.ClassToken, t.PositionEmbedding, t.Embedding)
"""Ops whose features over tokens are of the residual stream, not internal to a layer."""


@dataclass(frozen=True)
class Group:
    """Units that occur in the same tensors, equally often in each."""

    name: str
    """Key `block/op` of the first op whose output has them."""
    kind: str
    """`channels`, `heads`, `attention features`, `neurons` (internal to a layer) or `features`
    (of a residual stream of tokens)."""
    units: FeatureIds
    """Numbers of the units."""


@dataclass(frozen=True)
class TiedFeatures:
    """Units, groups and residual branches of a network.

    `units[key]` is `(features,)`: for each feature of the output of the op `key` (or of `"input"`)
    the number of its unit, or `count` for a fixed feature. Tensors without a feature dimension
    (token ids) have no entry.
    """

    wiring: Wiring
    branches: tuple[Branch, ...]
    groups: tuple[Group, ...]
    units: Mapping[str, FeatureIds]
    count: int
    """Number of units."""
    fixed: Mapping[str, str]
    """Why the output of an op is fixed, by the op's key."""


@dataclass
class _Ties:
    """Features numbered so far, the pairs that are tied, and those that are fixed."""

    count: int = 0
    pairs: list[tuple[FeatureIds, FeatureIds]] = field(default_factory=list)
    fixed: list[FeatureIds] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def new(self, count: int) -> FeatureIds:
        self.count += count
        return np.arange(self.count - count, self.count)

    def tie(self, a: FeatureIds, b: FeatureIds) -> None:
        a, b = np.broadcast_arrays(a, b)
        self.pairs.append((a.ravel(), b.ravel()))

    def fix(self, ids: FeatureIds, key: str, reason: str) -> None:
        self.fixed.append(ids.ravel())
        self.reasons[key] = reason

    def components(self) -> tuple[int, FeatureIds]:
        """Return the number of sets of tied features, and `(count,)` the set of each feature."""
        none = np.zeros(0, np.int64)
        a = np.concatenate([none, *(left for left, _ in self.pairs)])
        b = np.concatenate([none, *(right for _, right in self.pairs)])
        graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(self.count, self.count))
        found, labels = connected_components(graph, directed=False)
        return int(found), labels.astype(np.int64)


def tie_features(blocks: Blocks) -> TiedFeatures:
    """Determine the units, groups and residual branches of a network from its ops."""
    wiring = wire(blocks)
    ties = _Ties()
    ids: dict[str, FeatureIds] = {}
    if len(wiring.input_shape) > 1:
        ids[INPUT] = ties.new(feature_count(wiring.input_shape))
        ties.fix(ids[INPUT], INPUT, "the network's input")
    for node in wiring.nodes.values():
        ids[node.key] = _output_ids(node, ids, wiring, ties)
    ties.fix(ids[wiring.output], wiring.output, "the network's output")
    return _grouped(wiring, ids, ties)


def _output_ids(
    node: WiredOp, ids: Mapping[str, FeatureIds], wiring: Wiring, ties: _Ties
) -> FeatureIds:
    """Tie the features that an op ties, and return the features of its output."""
    op = node.op
    read = [ids[source] for source in node.inputs if source in ids]
    whole = len(read) == len(node.inputs)
    rule = RULES.get(type(op))
    of_last = isinstance(op, (o.Linear, t.TiedLinear, *PASSING_TOKENS))
    if isinstance(op, t.Embedding):
        return ties.new(op.out_shape[-1])
    if isinstance(op, t.TiedLinear) and whole:
        # The weight is shared with the embedding: a column is removed from both or from neither.
        ties.tie(read[0], ids[op.tied])
        out = ties.new(op.out_shape[-1])
        ties.fix(out, node.key, "rows of a table shared with the embedding")
        return out
    unknown = rule is None or not whole or (of_last and len(op.inputs[0].shape) == 3)
    if isinstance(op, o.Attention) and op.heads == 1:
        # Fewer features in a head change the scale of its scores; the cut rescales the query,
        # which has to be linear.
        unknown = unknown or not isinstance(wiring.nodes[node.inputs[0]].op, o.Linear)
    if isinstance(op, o.Activation) and op.function not in ELEMENTWISE:
        unknown = True
    if unknown or rule is None:
        reason = f"no rule for how {type(op).__name__} mixes features"
        for features in read:
            ties.fix(features, node.key, reason)
        out = ties.new(feature_count(op.out_shape))
        ties.fix(out, node.key, reason)
        return out
    return rule(node, read, ties)


Rule = Callable[[WiredOp, Sequence[FeatureIds], _Ties], FeatureIds]


def _pass(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    return read[0]


def _tie(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    for other in read[1:]:
        ties.tie(read[0], other)
    return read[0]


def _concat(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    return np.concatenate(list(read))


def _make(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    return ties.new(feature_count(node.op.out_shape))


def _conv(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    op = node.op
    assert isinstance(op, o.Conv2d)
    out = ties.new(op.out_shape[0])
    if op.groups > 1:
        # Groups of a grouped convolution are removed whole, so that they stay equally wide.
        inner = read[0].reshape(op.groups, -1)
        ties.tie(inner, inner[:, :1])
        ties.tie(out.reshape(op.groups, -1), inner[:, :1])
    return out


def _shuffle(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    op = node.op
    assert isinstance(op, o.ChannelShuffle)
    rows = read[0].reshape(op.groups, -1)
    ties.tie(rows, rows[:1])
    return rows.T.ravel()


def _rotary(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    op = node.op
    assert isinstance(op, t.Rotary)
    heads = read[0].reshape(op.heads, -1)
    ties.tie(heads, heads[:, :1])
    return read[0]


def _attention(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
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
        reason = "the one key and value that all heads share"
        ties.fix(np.concatenate([key, value]), node.key, reason)
        _tie_heads(op.heads, [query, out], ties)
    else:
        # A head of key and value is removed with all query heads that share it.
        _tie_heads(shared, [query, key, value, out], ties)
    return out


def _relative_attention(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    op = node.op
    assert isinstance(op, t.RelativeAttention)
    out = ties.new(op.out_shape[-1])
    if op.heads == 1:
        ties.fix(np.concatenate([read[0], out]), node.key, "one head with relative positions")
    else:
        _tie_heads(op.heads, [*np.split(read[0], 3), out], ties)
    return out


def _keep_tokens(node: WiredOp, read: Sequence[FeatureIds], ties: _Ties) -> FeatureIds:
    op = node.op
    assert isinstance(op, t.KeepTokens)
    attended = read[1:] if op.padding is None else read[1:-1]
    query, key = attended if len(attended) == 2 else np.split(attended[0], 3)[:2]
    if op.heads == 1:
        reason = "the only head whose attention scores the tokens"
        ties.fix(np.concatenate([query, key]), node.key, reason)
    else:
        _tie_heads(op.heads, [query, key], ties)
    return read[0]


def _tie_heads(heads: int, parts: Sequence[FeatureIds], ties: _Ties) -> None:
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
"""How each op type ties features. Features of other types are fixed."""


def _grouped(wiring: Wiring, ids: Mapping[str, FeatureIds], ties: _Ties) -> TiedFeatures:
    """Number the units, group by group in the order of the network."""
    found, component = ties.components()
    free = np.ones(found, dtype=bool)
    for fixed in ties.fixed:
        free[component[fixed]] = False
    # Units that occur in the same tensors, equally often, have equal sums of random tensor numbers.
    rng = np.random.default_rng(0)
    occurrence = np.zeros(found, dtype=np.uint64)
    for features in {id(features): features for features in ids.values()}.values():
        counts = np.bincount(component[features], minlength=found).astype(np.uint64)
        occurrence += counts * rng.integers(2**63, dtype=np.uint64)
    _, first, group_of = np.unique(occurrence, return_index=True, return_inverse=True)
    seen: dict[int, list[WiredOp]] = {}
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
    branches = tuple(residual_branches(wiring))
    return TiedFeatures(wiring, branches, tuple(groups), units, count, dict(ties.reasons))


def _kind(nodes: Sequence[WiredOp]) -> str:
    """The kind of a group's units, from the ops whose outputs have them."""
    for node in nodes:
        if isinstance(node.op, o.Attention | t.RelativeAttention):
            return "heads" if node.op.heads > 1 else "attention features"
    ranks = {len(node.op.out_shape) for node in nodes}
    if 2 in ranks:
        return (
            "features" if any(isinstance(node.op, RESIDUAL_STREAM) for node in nodes) else "neurons"
        )
    return "channels" if 3 in ranks else "neurons"
