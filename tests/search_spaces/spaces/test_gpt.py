"""The `gpt` spaces against GPT-2 and Llama of transformers: MACs, parameters and outputs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
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
from search_spaces.space import SearchSpace
from search_spaces.spaces.gpt import PRESETS, gpt

SEEDS = st.integers(0, 2**32 - 1)


@cache
def tables_of(preset: str, vocabulary: int | None = None) -> CostTables:
    return CostTables(gpt(preset, vocabulary=vocabulary))


def drawn(space: SearchSpace, seed: int) -> Architecture:
    return space.decode(space.sample(1, seed))[0]


def uniform(
    space: SearchSpace, context: int, width: int, depth: int, heads: int, group: int, mlp: int
) -> Architecture:
    """A network of equal layers."""
    values = {"context": context, "width": width, "depth": depth}
    for layer in range(depth):
        name = f"block{layer}"
        values |= {f"{name}_heads": heads, f"{name}_group": group, f"{name}_mlp_width": mlp}
    return space.architecture(values)


def gpt2(width: int, depth: int, mlp_width: int, **settings: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_embd=width,
        n_layer=depth,
        n_head=width // 64,
        n_inner=mlp_width,
        attn_implementation="eager",
        **settings,
    )
    network: nn.Module = transformers.GPT2LMHeadModel(config).eval()
    return network


def llama(
    width: int, depth: int, heads: int, group: int, mlp_width: int, **settings: Any
) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=1,
        num_key_value_heads=1,
        intermediate_size=mlp_width,
        attn_implementation="eager",
        **{"head_dim": 128, **settings},
    )
    # Set afterwards: the config requires heads to divide the width, which is not needed here.
    config.num_attention_heads, config.num_key_value_heads = heads, heads // group
    network: nn.Module = transformers.LlamaForCausalLM(config).eval()
    return network


def counted(network: nn.Module, tokens: int) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, tokens, dtype=torch.long, device="meta"))
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


def cost_of(tables: CostTables, arch: Architecture) -> tuple[int, int]:
    cost = tables.cost(arch)
    return cost["macs"], cost["params"]


def test_gpt2_small_is_the_largest_of_gpt() -> None:
    tables = tables_of("gpt2")
    expected = (145_824_153_600, 124_439_808)
    assert cost_of(tables, tables.space.largest) == expected
    with torch.device("meta"):
        assert counted(gpt2(768, 12, 3072), 1024) == expected


@pytest.mark.parametrize(
    ("vocabulary", "group", "mlp_width", "params"),
    [(32_000, 1, 11_008, 6_738_415_616), (128_256, 4, 14_336, 8_030_261_248)],
    ids=["Llama-2-7B", "Llama-3-8B"],
)
@pytest.mark.parametrize("context", [1024, 4096])
def test_released_llamas_are_members(
    vocabulary: int, group: int, mlp_width: int, params: int, context: int
) -> None:
    tables = tables_of("llama", vocabulary)
    cost = cost_of(tables, uniform(tables.space, context, 4096, 32, 32, group, mlp_width))
    assert cost[1] == params
    with torch.device("meta"):
        network = llama(4096, 32, 32, group, mlp_width, vocab_size=vocabulary)
    assert counted(network, context) == cost


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_networks_of_equal_layers_have_the_counts_of_transformers(
    data: st.DataObject,
) -> None:
    ranges = PRESETS["gpt2"]
    context, width, depth, mlp_width = (
        data.draw(st.sampled_from(options))
        for options in (ranges.contexts, ranges.widths, ranges.depths, ranges.mlp_widths)
    )
    tables = tables_of("gpt2")
    arch = uniform(tables.space, context, width, depth, width // 64, 1, mlp_width)
    with torch.device("meta"):
        assert counted(gpt2(width, depth, mlp_width), context) == cost_of(tables, arch)


@cache
def llama_parts(preset: str, context: int, width: int, *layer: int) -> npt.NDArray[np.int64]:
    """MACs and parameters of one layer and of the rest, from networks of one and two layers."""
    ranges = PRESETS[preset]
    settings = {"vocab_size": ranges.vocabulary, "head_dim": ranges.head_width}
    with torch.device("meta"):
        one, two = (counted(llama(width, depth, *layer, **settings), context) for depth in (1, 2))
    return np.array([np.subtract(two, one), 2 * np.array(one) - two])


def assert_llama(preset: str, arch: Architecture) -> None:
    size = int(str(arch["context"])), int(str(arch["width"]))
    parts = np.array(
        [
            llama_parts(
                preset,
                *size,
                *(int(str(arch[f"block{i}_{of}"])) for of in ("heads", "group", "mlp_width")),
            )
            for i in range(int(str(arch["depth"])))
        ]
    )
    expected = parts[:, 0].sum(axis=0) + parts[0, 1]
    assert cost_of(tables_of(preset), arch) == tuple(expected)


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS)
def test_networks_of_char_have_the_counts_of_transformers_layer_by_layer(seed: int) -> None:
    assert_llama("char", drawn(tables_of("char").space, seed))


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["char", "llama"])
def test_two_hundred_networks_have_the_counts_of_transformers_layer_by_layer(preset: str) -> None:
    space = tables_of(preset).space
    for arch in space.decode(space.sample(200, seed=8)):
        assert_llama(preset, arch)


def assert_exact(preset: str, count: int) -> None:
    tables = tables_of(preset)
    for arch in tables.space.decode(tables.space.sample(count, seed=9)):
        with torch.device("meta"):
            network = build(tables.space, arch).eval()
        assert counted(network, int(str(arch["context"]))) == cost_of(tables, arch)


@pytest.mark.parametrize(("preset", "count"), [("char", 30), ("gpt2", 15), ("llama", 5)])
def test_tables_equal_torch_for_random_architectures(preset: str, count: int) -> None:
    assert_exact(preset, count)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["char", "gpt2"])
def test_tables_equal_torch_for_two_hundred_architectures(preset: str) -> None:
    assert_exact(preset, 200)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_number_of_heads_can_be_shared_by_every_group(preset: str) -> None:
    ranges = PRESETS[preset]
    assert all(heads % group == 0 for heads in ranges.heads for group in ranges.groups)
    assert list(ranges.groups) == sorted(ranges.groups, reverse=True)  # cheapest first


LLAMA_PARTS = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "projection": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp_gate": "mlp.gate_proj",
    "mlp_expand": "mlp.up_proj",
    "mlp_project": "mlp.down_proj",
}
GPT2_PARTS = {
    "attention_norm": "ln_1",
    "projection": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp_expand": "mlp.c_fc",
    "mlp_project": "mlp.c_proj",
}


def weights(network: Network) -> dict[str, Tensor]:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    state = network.state_dict()
    return {key.removeprefix("blocks.").replace(".ops.", "."): state[key] for key in state}


@pytest.mark.parametrize("group", [1, 2])
def test_llama_outputs_equal_those_of_transformers_with_the_same_weights(group: int) -> None:
    space = gpt("char")
    network = build(space, uniform(space, 64, 128, 3, 6, group, 256)).eval()
    state = {}
    for key, tensor in weights(network).items():
        block, name, kind = key.rsplit(".", 2)
        if block == "embedding":
            state["model.embed_tokens.weight"] = tensor
        elif block == "head":
            state["model.norm.weight" if name == "norm" else "lm_head.weight"] = tensor
        else:
            state[f"model.layers.{block[5:]}.{LLAMA_PARTS[name]}.{kind}"] = tensor
    reference = llama(128, 3, 6, group, 256, vocab_size=65, head_dim=32, rms_norm_eps=1e-6)
    reference.load_state_dict(state)
    ids = torch.randint(0, 65, (2, 64))
    with torch.no_grad():
        torch.testing.assert_close(network(ids), reference(ids).logits, rtol=1e-4, atol=1e-4)


def test_gpt2_outputs_equal_those_of_transformers_with_the_same_weights() -> None:
    space = gpt("gpt2", vocabulary=70)
    network = build(space, uniform(space, 256, 384, 4, 6, 1, 1536)).eval()
    ours = weights(network)
    state = {
        "transformer.wte.weight": ours["embedding.words.weight"],
        "transformer.wpe.weight": ours["embedding.positions.embedding"][0],
        "transformer.ln_f.weight": ours["head.norm.weight"],
        "transformer.ln_f.bias": ours["head.norm.bias"],
        "lm_head.weight": ours["head.words.weight"],
    }
    for layer in range(4):
        for kind in ("weight", "bias"):
            parts = {n: ours[f"block{layer}.{n}.{kind}"] for n in GPT2_PARTS}
            parts = {GPT2_PARTS[name]: tensor for name, tensor in parts.items()}
            three = [ours[f"block{layer}.{n}.{kind}"] for n in ("query", "key", "value")]
            parts["attn.c_attn"] = torch.cat(three)
            for name, tensor in parts.items():
                # GPT-2 of transformers stores weights as (in, out).
                state[f"transformer.h.{layer}.{name}.{kind}"] = tensor.t()
    # Ours is the exact GELU.
    reference = gpt2(384, 4, 1536, vocab_size=70, activation_function="gelu")
    reference.load_state_dict(state)
    ids = torch.randint(0, 70, (2, 256))
    with torch.no_grad():
        torch.testing.assert_close(network(ids), reference(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("preset", "context"), [("char", 64), ("gpt2", 256)])
def test_attention_is_causal(preset: str, context: int) -> None:
    space = gpt(preset, vocabulary=65)
    torch.manual_seed(0)
    network = build(space, space.smallest).eval()
    weights(network)
    ids = torch.randint(0, 64, (1, context))
    other = ids.clone()
    other[0, context // 2] += 1
    with torch.no_grad():
        differs = (network(ids) - network(other)).abs().amax(dim=2)[0]
    assert differs[: context // 2].max() == 0
    assert differs[context // 2 :].min() > 0


@cache
def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet(gpt("char")).eval()


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS)
def test_subnets_of_char_compute_the_same_as_extracted_networks(seed: int) -> None:
    space = supernet().space
    arch = drawn(space, seed)
    ids = torch.randint(0, 65, (2, *space.input_shape(arch)))
    network = supernet().extract(arch)
    assert sum(p.numel() for p in network.parameters()) == tables_of("char").cost(arch)["params"]
    with torch.no_grad():
        torch.testing.assert_close(network(ids), supernet()(ids, arch), rtol=1e-4, atol=1e-4)


def test_a_supernet_of_characters_learns() -> None:
    space = gpt("char", vocabulary=8)
    torch.manual_seed(0)
    net = Supernet(space)
    arch = space.smallest
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    ids = (torch.arange(65) % 8).repeat(4, 1)
    losses = []
    for _ in range(30):
        logits = net(ids[:, :-1], arch)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.9  # a uniform guess of 8 characters has log 8 = 2.08
    assert losses[-1] < 0.5


@pytest.mark.parametrize("preset", ["gtp2", "lama"])
def test_an_unknown_preset_suggests_the_nearest_one(preset: str) -> None:
    with pytest.raises(UserError, match=f"unknown preset of gpt '{preset}': did you mean"):
        gpt(preset)
