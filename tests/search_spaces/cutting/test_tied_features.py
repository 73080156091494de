"""Units and branches: channels through depthwise ops, heads, and residual branches."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.cutting.cut_ops import Kept, cut_ops
from search_spaces.cutting.tied_features import TiedFeatures, tie_features
from search_spaces.ops import Activation, ChannelShuffle
from search_spaces.spaces.mobilenet import inverted_residual
from search_spaces.spaces.vit import classifier, encoder_block


def image_network(build: BlockBuilder, classes: int = 3) -> TiedFeatures:
    """The features of an image block followed by a classifier."""
    shape = build.ops[-1].out_shape
    head = BlockBuilder(*shape)
    head.linear("classifier", head.global_pool("pool", head.input), classes)
    return tie_features([("block", build.ops), ("head", head.ops)])


def sizes(features: TiedFeatures) -> dict[str, tuple[str, int]]:
    return {group.name: (group.kind, len(group.units)) for group in features.groups}


def test_channels_are_tied_through_depthwise_norm_and_squeeze_excitation() -> None:
    block = inverted_residual(8, 6, 10, 3, 1, 4, True, "relu", False)
    stem = BlockBuilder(3, 8, 8)
    stem.conv("conv", stem.input, 6)
    head = BlockBuilder(10, 8, 8)
    head.linear("classifier", head.global_pool("pool", head.input), 5)
    features = tie_features([("stem", stem.ops), ("layer", block), ("head", head.ops)])
    assert sizes(features) == {
        "stem/conv": ("channels", 6),
        "layer/expand": ("channels", 24),
        "layer/se_reduce": ("neurons", 8),
        "layer/project": ("channels", 10),
    }
    expanded = features.units["layer/expand"]
    for op in ("depthwise", "depthwise_activation", "se_expand", "se_gate", "se_scale"):
        assert (features.units[f"layer/{op}"] == expanded).all()
    assert features.fixed == {
        "input": "the network's input",
        "head/classifier": "the network's output",
    }


def test_a_residual_sum_ties_its_operands_and_its_branch_can_be_removed() -> None:
    stem = BlockBuilder(3, 8, 8)
    stem.conv("conv", stem.input, 6)
    block = inverted_residual(8, 6, 6, 3, 1, 2, False, "relu", True)
    head = BlockBuilder(6, 8, 8)
    head.linear("classifier", head.global_pool("pool", head.input), 5)
    blocks = [("stem", stem.ops), ("layer", block), ("head", head.ops)]
    features = tie_features(blocks)
    assert (features.units["stem/conv"] == features.units["layer/project"]).all()
    (branch,) = features.branches
    assert branch.total == "layer/residual"
    assert branch.skip == "stem/conv"
    assert branch.nodes == {f"layer/{op.name}" for op in block} - {"layer/residual"}
    everything = Kept.everything(features)
    left = cut_ops(features, Kept(everything.units, np.array([False])))
    assert left == [blocks[0], blocks[2]]


def test_heads_tie_query_key_and_value_and_the_residual_stream_ties_all_blocks() -> None:
    blocks = [("one", encoder_block(5, 16, 4, 24, 20)), ("two", encoder_block(5, 16, 2, 24, 12))]
    stem = BlockBuilder(3, 2, 2)
    stem.class_token("class", stem.to_tokens("tokens", stem.conv("patches", stem.input, 16)))
    features = tie_features([("stem", stem.ops), *blocks, ("head", classifier(5, 16, 3))])
    assert sizes(features) == {
        "stem/patches": ("features", 16),
        "one/qkv": ("heads", 4),
        "one/mlp_expand": ("neurons", 20),
        "two/qkv": ("heads", 2),
        "two/mlp_expand": ("neurons", 12),
    }
    query, key, value = np.split(features.units["one/qkv"], 3)
    assert (query == key).all()
    assert (query == value).all()
    assert [branch.total for branch in features.branches] == [
        "one/attention_residual",
        "one/mlp_residual",
        "two/attention_residual",
        "two/mlp_residual",
    ]


def test_a_single_head_is_cut_by_features() -> None:
    stem = BlockBuilder(3, 2, 2)
    stem.to_tokens("tokens", stem.conv("patches", stem.input, 16))
    features = tie_features(
        [
            ("stem", stem.ops),
            ("one", encoder_block(4, 16, 1, 24, 20)),
            ("head", classifier(4, 16, 3)),
        ]
    )
    assert sizes(features)["one/qkv"] == ("attention features", 24)


@pytest.mark.parametrize(("kv_heads", "units"), [(2, 2), (1, 4)])
def test_shared_keys_are_tied_to_all_their_queries_or_fixed(kv_heads: int, units: int) -> None:
    build = BlockBuilder(5, 16)
    query = build.linear("query", build.input, 4 * 8)
    key, value = (build.linear(n, build.input, kv_heads * 8) for n in ("key", "value"))
    x = build.grouped_attention("attention", query, key, value, heads=4, kv_heads=kv_heads)
    build.linear("projection", x, 7)
    features = tie_features([("block", build.ops)])
    assert sizes(features) == {"block/query": ("heads", units)}
    assert ("block/attention" in features.fixed) == (kv_heads == 1)


def test_a_grouped_convolution_is_cut_by_whole_groups() -> None:
    build = BlockBuilder(3, 8, 8)
    build.conv("grouped", build.conv("conv", build.input, 12), 24, 3, groups=4)
    features = image_network(build)
    assert sizes(features) == {"block/conv": ("channels", 4)}


def test_a_shuffle_ties_the_same_channels_of_every_group() -> None:
    build = BlockBuilder(3, 8, 8)
    x = build.conv("conv", build.input, 12)
    build.add_op(ChannelShuffle("shuffle", (x,), x.shape, 3))
    features = image_network(build)
    assert sizes(features) == {"block/conv": ("channels", 4)}


def test_parts_of_a_concatenation_are_separate_groups() -> None:
    build = BlockBuilder(3, 8, 8)
    a, b = build.conv("a", build.input, 5), build.conv("b", build.input, 7)
    build.concat("both", [a, b])
    assert sizes(image_network(build)) == {"block/a": ("channels", 5), "block/b": ("channels", 7)}


def test_features_of_an_op_without_a_rule_are_fixed_with_the_reason() -> None:
    build = BlockBuilder(3, 8, 8)
    x = build.conv("conv", build.input, 12)
    build.add_op(Activation("softmax", (x,), x.shape, "softmax"))
    features = image_network(build)
    assert features.count == 0
    assert "how Activation mixes features" in features.fixed["block/softmax"]


def test_a_table_shared_with_the_last_layer_ties_both_sides() -> None:
    space = load_space("gpt")
    features = tie_features(space.ops(space.smallest))
    assert (features.units["head/norm"] == features.units["embedding/words"]).all()


def test_edges_of_a_cell_that_another_node_reads_are_not_branches() -> None:
    space = load_space("nasbench201")
    cell = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
    features = tie_features(space.ops(space.architecture({"arch": cell})))
    for branch in features.branches:
        for key, node in features.wiring.nodes.items():
            if branch.nodes & set(node.inputs):
                assert key in branch.nodes or key == branch.total
