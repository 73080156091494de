"""The space `bert` against BERT of transformers: MACs, parameters and outputs."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.tables import CostTables
from nas.supernet.shared_weights import Supernet
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.networks.modules import Network, build
from search_spaces.onnx.writer import write_onnx
from search_spaces.serial import blocks_from_json, blocks_to_json
from search_spaces.space import SearchSpace
from search_spaces.spaces.bert import PRESETS, bert

ENCODER, POOLER, WORD_HEAD = 11_173_625_856, 589_824, 3_075_932_160
"""MACs of BERT-base at 128 tokens."""


@cache
def tables_of(**options: Any) -> CostTables:
    return CostTables(bert(**options))


def uniform(space: SearchSpace, width: int, depth: int, mlp_width: int) -> Architecture:
    """A network of equal layers whose attention is as wide as the network, as in a BertConfig."""
    values = {"width": width, "depth": depth}
    for layer in range(depth):
        values |= {f"block{layer}_heads": width // 64, f"block{layer}_mlp_width": mlp_width}
    return space.architecture(values)


def transformers_bert(
    model: str, width: int, depth: int, mlp_width: int, **settings: Any
) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        intermediate_size=mlp_width,
        attn_implementation="eager",
        **settings,
    )
    network: nn.Module = getattr(transformers, model)(config).eval()
    return network


def counted(network: nn.Module, tokens: int) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, tokens, dtype=torch.long, device="meta"))
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


def cost_of(tables: CostTables, arch: Architecture) -> tuple[int, int]:
    cost = tables.cost(arch)
    return cost["macs"], cost["params"]


@pytest.mark.parametrize(
    ("model", "options", "settings", "macs", "params"),
    [
        ("BertModel", {}, {}, ENCODER + POOLER, 109_482_240),
        ("BertForMaskedLM", {"language_model": True}, {}, ENCODER + WORD_HEAD, 109_514_298),
        (
            "BertForSequenceClassification",
            {"classes": 3},
            {"num_labels": 3},
            ENCODER + POOLER + 3 * 768,
            109_484_547,
        ),
    ],
)
def test_bert_base_is_the_largest_with_each_head(
    model: str, options: dict[str, Any], settings: dict[str, Any], macs: int, params: int
) -> None:
    tables = tables_of(**options)
    assert cost_of(tables, tables.space.largest) == (macs, params)
    with torch.device("meta"):
        assert counted(transformers_bert(model, 768, 12, 3072, **settings), 128) == (macs, params)


def test_bert_base_attention_at_512_tokens() -> None:
    tables = tables_of(sequence=512)
    macs = tables.cost(tables.space.largest)["macs"]
    # Linear layers per token, and two products over all pairs of tokens.
    assert macs == 12 * 512 * (4 * 768**2 + 2 * 768 * 3072 + 2 * 512 * 768) + POOLER


@settings(max_examples=20, deadline=None)
@given(
    width=st.sampled_from(PRESETS["base"].widths),
    depth=st.sampled_from(PRESETS["base"].depths),
    mlp_width=st.sampled_from(PRESETS["base"].mlp_widths),
    tokens=st.sampled_from([1, 64, 128, 512]),
)
def test_networks_of_equal_layers_have_the_counts_of_transformers(
    width: int, depth: int, mlp_width: int, tokens: int
) -> None:
    tables = tables_of(sequence=tokens)
    arch = uniform(tables.space, width, depth, mlp_width)
    with torch.device("meta"):
        expected = counted(transformers_bert("BertModel", width, depth, mlp_width), tokens)
        assert counted(build(tables.space, arch).eval(), tokens) == expected
    assert cost_of(tables, arch) == expected


def assert_exact(options: dict[str, Any], count: int) -> None:
    tables = tables_of(**options)
    rows = tables.space.sample(count, seed=6)
    for arch in tables.space.decode(rows):
        with torch.device("meta"):
            assert counted(build(tables.space, arch).eval(), 128) == cost_of(tables, arch)


@pytest.mark.parametrize("options", [{}, {"classes": 2}, {"language_model": True}])
def test_tables_equal_torch_for_random_architectures(options: dict[str, Any]) -> None:
    assert_exact(options, 17)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"language_model": True}])
def test_tables_equal_torch_for_two_hundred_architectures(options: dict[str, Any]) -> None:
    assert_exact(options, 200)


def test_fewer_heads_make_attention_narrower() -> None:
    space = bert()
    arch = space.architecture({**space.largest, "block3_heads": 3})
    query, attention = (
        next(op for op in dict(space.ops(arch))["block3"] if op.name == name)
        for name in ("query", "attention")
    )
    assert query.out_shape == (128, 192)
    assert attention.macs == 2 * 128 * 128 * 192


PARTS = {
    "embedding.ops.words": "embeddings.word_embeddings",
    "embedding.ops.segments": "embeddings.token_type_embeddings",
    "embedding.ops.norm": "embeddings.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "projection": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "mlp_expand": "intermediate.dense",
    "mlp_project": "output.dense",
    "mlp_norm": "output.LayerNorm",
    "head.ops.pooler": "pooler.dense",
}
HEADS = {
    "head.ops.classifier": "classifier",
    "head.ops.transform": "cls.predictions.transform.dense",
    "head.ops.norm": "cls.predictions.transform.LayerNorm",
    "head.ops.bias": "cls.predictions",
    "head.ops.words": "cls.predictions.decoder",
}


def as_transformers(network: Network) -> dict[str, Tensor]:
    """Weights by their names in BERT of transformers with a head."""
    state = {}
    for key, tensor in network.state_dict().items():
        key = key.removeprefix("blocks.")
        layer, _, kind = key.rpartition(".")
        if key == "embedding.ops.positions.embedding":
            state["bert.embeddings.position_embeddings.weight"] = tensor[0]
        elif layer in HEADS:
            state[f"{HEADS[layer]}.{kind}"] = tensor
        elif layer.startswith("block"):
            block, _, part = layer.partition(".ops.")
            state[f"bert.encoder.layer.{block[5:]}.{PARTS[part]}.{kind}"] = tensor
        else:
            state[f"bert.{PARTS[layer]}.{kind}"] = tensor
    if "cls.predictions.bias" in state:
        state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    return state


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("BertForSequenceClassification", {"classes": 5}),
        ("BertForMaskedLM", {"language_model": True}),
    ],
)
def test_outputs_equal_those_of_transformers_with_the_same_weights(
    model: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    space = bert(sequence=20, vocabulary=50, **options)
    network = build(space, uniform(space, 192, 2, 768)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    # The default epsilon of torch, which our norms have; that of the original is smaller.
    reference = transformers_bert(
        model, 192, 2, 768, vocab_size=50, layer_norm_eps=1e-5, num_labels=5
    )
    reference.load_state_dict(as_transformers(network))
    ids = torch.randint(0, 50, (3, 20))
    with torch.no_grad():
        torch.testing.assert_close(network(ids), reference(ids).logits, rtol=1e-4, atol=1e-4)


def padded(lengths: list[int], sequence: int) -> Tensor:
    """Sequences of random ids from 1 to 49 of these lengths, padded with 0."""
    ids = torch.randint(1, 50, (len(lengths), sequence))
    return ids * (torch.arange(sequence) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("heads", [1, 3])
def test_padding_does_not_change_the_output(heads: int) -> None:
    torch.manual_seed(0)
    long = bert("mini", sequence=20, vocabulary=50, classes=5, padding=0)
    short = bert("mini", sequence=7, vocabulary=50, classes=5)
    values = {**long.smallest, "block0_heads": heads}
    network, alone = (build(s, s.architecture(values)).eval() for s in (long, short))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    alone.load_state_dict(network.state_dict())
    ids = padded([7, 7, 7], 20)
    with torch.no_grad():
        torch.testing.assert_close(network(ids), alone(ids[:, :7]), rtol=1e-4, atol=1e-5)
        seen = network(padded([20, 20], 20))
    assert not torch.allclose(seen[0], seen[1])


def test_padding_equals_an_attention_mask_of_transformers() -> None:
    torch.manual_seed(1)
    space = bert(sequence=20, vocabulary=50, classes=5, padding=0)
    network = build(space, uniform(space, 192, 2, 768)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    settings = {"vocab_size": 50, "layer_norm_eps": 1e-5, "num_labels": 5}
    reference = transformers_bert("BertForSequenceClassification", 192, 2, 768, **settings)
    reference.load_state_dict(as_transformers(network))
    ids = padded([3, 11, 20], 20)
    with torch.no_grad():
        expected = reference(ids, attention_mask=(ids != 0).long()).logits
        torch.testing.assert_close(network(ids), expected, rtol=1e-4, atol=1e-4)


def test_padding_is_equal_in_supernet_network_json_and_onnx() -> None:
    import onnxruntime

    torch.manual_seed(0)
    space = bert("mini", sequence=12, vocabulary=50, classes=5, padding=0)
    arch = space.decode(space.sample(1, 2))[0]
    supernet = Supernet(space).eval()
    network = supernet.extract(arch)
    ids = padded([2, 7, 12], 12)
    blocks = space.ops(arch)
    loaded = Network(blocks_from_json(blocks_to_json(blocks))).eval()
    loaded.load_state_dict(network.state_dict())
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    session = onnxruntime.InferenceSession(write_onnx(blocks, weights).SerializeToString())
    with torch.no_grad():
        expected = supernet(ids, arch)
        torch.testing.assert_close(network(ids), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(loaded(ids), expected, rtol=1e-4, atol=1e-4)
    (given,) = session.run(None, {"input": ids.numpy()})
    torch.testing.assert_close(torch.from_numpy(given), expected, rtol=1e-4, atol=1e-4)


def test_padding_does_not_change_counts() -> None:
    plain, padding = tables_of(sequence=64), tables_of(sequence=64, padding=0)
    for arch in plain.space.decode(plain.space.sample(20, 3)):
        assert cost_of(padding, arch) == cost_of(plain, arch)


def test_bert_mini_is_the_largest_of_its_space() -> None:
    space = bert("mini", classes=3)
    with torch.device("meta"):
        model = transformers_bert("BertForSequenceClassification", 256, 4, 1024, num_labels=3)
    tables = CostTables(space)
    assert tables.cost(space.largest)["params"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("options", [{}, {"language_model": True}])
def test_subnets_compute_the_same_as_extracted_networks(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    space = bert(sequence=8, vocabulary=40, **options)
    supernet = Supernet(space).eval()
    ids = torch.randint(0, 40, (2, 8))
    outputs = []
    for arch in (space.smallest, *space.decode(space.sample(3, 0))):
        network = supernet.extract(arch)
        with torch.no_grad():
            outputs.append(supernet(ids, arch))
            torch.testing.assert_close(network(ids), outputs[-1], rtol=1e-4, atol=1e-4)
        params = sum(p.numel() for p in network.parameters())
        assert params == tables_of(sequence=8, vocabulary=40, **options).cost(arch)["params"]
    assert all(
        a.shape != b.shape or not torch.allclose(a, b, atol=1e-4) for a, b in pairwise(outputs)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence": 513}, "sequence is 513, expected 1 to 512 tokens"),
        ({"sequence": 0}, "sequence is 0, expected 1 to 512 tokens"),
        ({"vocabulary": 9, "padding": 9}, "padding is 9, expected a token id from 0 to 8"),
        ({"preset": "bse"}, "unknown preset of bert 'bse': did you mean 'base'"),
        ({"classes": 2, "language_model": True}, "classes is 2, expected none with language_model"),
    ],
)
def test_invalid_options_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bert(**options)
