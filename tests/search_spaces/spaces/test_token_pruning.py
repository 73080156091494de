"""Token pruning: which tokens are kept, how many, and what it costs."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.tables import CostTables
from evaluators.counting.torch_counter import count_module
from hardware_profiles.latency.roofline import Roofline
from hardware_profiles.latency.traffic import kernels
from hardware_profiles.lookup import load_device
from search_spaces.architecture import Architecture
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import PRUNED, load_space, samples_of
from search_spaces.errors import UserError
from search_spaces.networks.keep_tokens import KeepTokensModule
from search_spaces.networks.modules import BlockModule, Network, build
from search_spaces.onnx.writer import write_onnx
from search_spaces.ops import Op
from search_spaces.serial import blocks_from_json, blocks_to_json
from search_spaces.space import SearchSpace
from search_spaces.spaces.bert import bert
from search_spaces.spaces.token_pruning import (
    KEEP_RATES,
    kept_tokens,
    length_after,
    parse_rates,
    pruned_name,
    rates_by_block,
)
from search_spaces.spaces.vit import vit
from search_spaces.token_ops import Judges, KeepTokens

RATES = st.decimals("0.01", "1", places=2).map(float)
BATCH = 3


@st.composite
def keep_ops(draw: st.DrawFn) -> KeepTokens:
    """An op of any size, with either kind of scores, with and without padding."""
    tokens = draw(st.integers(2, 12))
    heads = draw(st.integers(1, 3))
    inner = heads * draw(st.integers(1, 4))
    block = BlockBuilder(tokens, draw(st.integers(1, 5)))
    padding = draw(st.sampled_from([None, 0]))
    joined = draw(st.booleans())
    read = [("qkv", 3 * inner)] if joined else [("query", inner), ("key", inner)]
    outside = [block.output_of(name, tokens, width) for name, width in read]
    if padding is not None:
        outside.append(block.output_of("ids", tokens))
    kept = draw(st.integers(1, tokens - 1))
    judges = draw(st.sampled_from(get_args(Judges)))
    block.keep_tokens(
        "keep", block.input, *outside, kept=kept, heads=heads, judges=judges, padding=padding
    )
    (op,) = block.ops
    assert isinstance(op, KeepTokens)
    return op


def inputs_of(op: KeepTokens, seed: int) -> list[Tensor]:
    """Random inputs; sequences end in padding and have at least one other token."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [tensor.shape for tensor in op.inputs]
    read = [torch.randn(BATCH, *s, generator=generator) for s in shapes if len(s) == 2]
    if op.padding is None:
        return read
    (tokens,) = shapes[-1]
    lengths = torch.randint(1, tokens + 1, (BATCH, 1), generator=generator)
    return [*read, (torch.arange(tokens) < lengths).long()]


def reference_scores(op: KeepTokens, read: list[Tensor], sample: int) -> np.ndarray:
    """Attention that each token of a sample receives, query by query and head by head."""
    tokens = op.inputs[0].shape[0]
    present = read[-1][sample].bool() if op.padding is not None else torch.ones(tokens).bool()
    query, key = (
        read[1][sample].double().split(op.inner, dim=1)[:2]
        if len([r for r in read if r.is_floating_point()]) == 2
        else (read[1][sample].double(), read[2][sample].double())
    )
    queries = [0] if op.judges == "first" else [i for i in range(tokens) if present[i]]
    scores = torch.zeros(tokens, dtype=torch.float64)
    side = op.inner // op.heads
    for head in range(op.heads):
        part = slice(head * side, (head + 1) * side)
        for index in queries:
            products = key[:, part] @ query[index, part] / side**0.5
            products[~present] = -torch.inf
            scores += products.softmax(0)
    scores[~present] = -1
    return scores.numpy()


@settings(deadline=None)
@given(op=keep_ops(), seed=st.integers(0, 999))
def test_the_first_and_the_most_attended_tokens_are_kept_in_order(
    op: KeepTokens, seed: int
) -> None:
    x, *read = inputs_of(op, seed)
    tokens = x.shape[1]
    x[:, :, 0] = torch.arange(tokens)  # the position of each token
    kept = KeepTokensModule(op)(x, *read)
    assert kept.shape == (BATCH, *op.out_shape)
    for sample in range(BATCH):
        positions = kept[sample, :, 0].long().tolist()
        assert positions[0] == 0
        assert positions == sorted(set(positions))
        assert torch.equal(kept[sample], x[sample, positions])
        scores = reference_scores(op, [x, *read], sample)
        dropped = sorted(set(range(tokens)) - set(positions))
        assert min(scores[positions[1:]], default=np.inf) >= max(scores[dropped]) - 1e-5


@settings(deadline=None, max_examples=25)
@given(op=keep_ops())
def test_macs_equal_the_count_of_torch(op: KeepTokens) -> None:
    read = inputs_of(op, 0)
    with FlopCounterMode(display=False) as counter:
        KeepTokensModule(op)(*[tensor[:1] for tensor in read])
    assert op.macs == counter.get_total_flops() // 2
    count = count_module(KeepTokensModule(op), [tensor[:1] for tensor in read])
    assert (count.macs, count.params, count.uncounted) == (op.macs, 0, {})


def test_scoring_costs_tokens_times_width_per_query() -> None:
    def op(judges: Any) -> Op:
        block = BlockBuilder(197, 384)
        qkv = block.output_of("qkv", 197, 3 * 384)
        block.keep_tokens("keep", block.input, qkv, kept=139, heads=6, judges=judges)
        return block.ops[0]

    assert op("first").macs == 197 * 384
    assert op("all").macs == 197 * 197 * 384


def test_gradients_flow_only_through_the_kept_tokens() -> None:
    block = BlockBuilder(8, 4)
    qkv = block.output_of("qkv", 8, 12)
    block.keep_tokens("keep", block.input, qkv, kept=5, heads=2)
    x = torch.randn(2, 8, 4, requires_grad=True)
    attended = torch.randn(2, 8, 12, requires_grad=True)
    module = KeepTokensModule(block.ops[0])  # type: ignore[arg-type]
    kept = module(x, attended)
    kept.sum().backward()
    assert x.grad is not None
    assert attended.grad is None
    is_kept = (x[:, :, None] == kept[:, None]).all(dim=3).any(dim=2)
    assert is_kept.sum(dim=1).tolist() == [5, 5]
    assert torch.equal(x.grad, is_kept[:, :, None].expand(-1, -1, 4).float())


@given(tokens=st.integers(1, 600), rate=RATES)
def test_the_number_of_kept_tokens_is_exact_for_decimal_rates(tokens: int, rate: float) -> None:
    exact = Decimal(str(rate)) * (tokens - 1)
    assert kept_tokens(tokens, rate) == 1 + int(exact.to_integral_value(ROUND_CEILING))


@given(tokens=st.integers(1, 600), rates=st.tuples(RATES, RATES))
def test_higher_rates_keep_more_tokens_and_a_rate_of_1_all(
    tokens: int, rates: tuple[float, float]
) -> None:
    low, high = sorted(rates)
    assert 1 <= kept_tokens(tokens, low) <= kept_tokens(tokens, high) <= tokens
    assert kept_tokens(tokens, 1.0) == tokens


def test_deit_keeps_the_numbers_of_tokens_of_evit() -> None:
    """Of 196 patches at a rate of 0.7: 138, 97 and 68, plus the class token."""
    assert [length_after(197, [0.7] * n) for n in range(4)] == [197, 139, 98, 69]


def test_tokens_are_dropped_at_a_quarter_a_half_and_three_quarters_of_the_depth() -> None:
    assert list(rates_by_block(12, KEEP_RATES)) == [3, 6, 9]
    assert list(rates_by_block(8, (0.7,))) == [2, 4, 6]
    assert rates_by_block(12, None) == {}
    assert rates_by_block(12, {7: (1.0, 0.5), 2: (0.9,)}) == {2: (0.9,), 7: (0.5, 1.0)}


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.0, 1.0), "keep rate 0 in block 3: expected rates above 0, at most 1"),
        ((1.5,), "keep rate 1.5 in block 3: expected"),
        ((), "no keep rate in block 3: expected"),
        ({12: (0.5,)}, "keep rates of block 12: expected a block of 0 to 11"),
        (dict.fromkeys(range(8), (0.5, 1.0)), "256 combinations .* expected at most 81"),
    ],
)
def test_invalid_rates_raise(rates: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        vit(keep_rates=rates)


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("0.7", (0.7,)),
        ("0.5/0.7/1.0", (0.5, 0.7, 1.0)),
        ("2=0.7,4=0.5/0.7", {2: (0.7,), 4: (0.5, 0.7)}),
    ],
)
def test_rates_are_parsed_as_they_are_written_in_names(text: str, rates: Any) -> None:
    assert parse_rates(text) == rates
    expected = "vit-pruned-cifar" + ("" if rates == KEEP_RATES else f"@{text}")
    assert pruned_name("vit-cifar", rates) == expected


@pytest.mark.parametrize("text", ["", "a", "0.5,0.7", "2=0.7,0.5", "x=0.5"])
def test_malformed_rates_raise(text: str) -> None:
    with pytest.raises(UserError, match=r"keep rates .* expected a form like 0.7, 0.5/0.7/1.0"):
        parse_rates(text)


def test_names_of_pruned_spaces_and_rates_in_names() -> None:
    assert load_space("vit-pruned", image_size=32).name == "vit-pruned-cifar"
    assert load_space("vit-pruned@0.7", image_size=32).name == "vit-pruned-cifar@0.7"
    assert load_space("bert-pruned-mini").name == "bert-pruned-mini"
    space = load_space("bert-pruned@2=0.7,8=0.5/1.0", classes=2)
    keeps = {c.name: c.options for c in space.choices if c.name.endswith("_keep")}
    assert keeps == {"block2_keep": (0.7,), "block8_keep": (0.5, 1.0)}
    assert load_space(space.name, classes=2).fingerprint == space.fingerprint
    for name in PRUNED:
        assert samples_of(f"{name}@0.5") == ("sentences" if "bert" in name else "images")
    with pytest.raises(UserError, match=r"'vit' drops no tokens, so it takes no '@0\.7': expected"):
        load_space("vit@0.7")


SPACES: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (vit, {"name": "tiny", "image_size": 8, "channels": 1, "classes": 10}),
    "bert": (bert, {"preset": "mini", "sequence": 24, "vocabulary": 60, "classes": 3}),
    "padded": (
        bert,
        {"preset": "mini", "sequence": 24, "vocabulary": 60, "classes": 3, "padding": 0},
    ),
}


@cache
def space_of(name: str, *rates: float) -> SearchSpace:
    function, arguments = SPACES[name]
    return function(**arguments, keep_rates=rates or None)


@cache
def tables_of(name: str) -> CostTables:
    return CostTables(space_of(name, *KEEP_RATES))


def most_pruned(space: SearchSpace) -> Architecture:
    """The largest network with the lowest keep rates."""
    lowest = {c.name: c.options[0] for c in space.choices if c.name.endswith("_keep")}
    return space.architecture({**space.largest, **lowest})


def inputs(name: str, space: SearchSpace, arch: Any, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = space.input_shape(arch)
    if len(shape) == 3:
        return torch.randn(BATCH, *shape, generator=generator)
    ids = torch.randint(1, 60, (BATCH, *shape), generator=generator)
    return ids * (torch.arange(24) < torch.tensor([24, 3, 11])[:, None])


def with_attention(network: torch.nn.Module) -> torch.nn.Module:
    """The network with weights whose attention is neither uniform nor on a single token."""
    for name, parameter in network.named_parameters():
        if any(part in name for part in ("qkv", "query", "key")):
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("name", sorted(SPACES))
def test_tables_equal_the_count_of_torch(name: str) -> None:
    tables = tables_of(name)
    space = tables.space
    for arch in (most_pruned(space), *space.decode(space.sample(5, seed=1))):
        space.graph(arch)
        with torch.device("meta"):
            network = build(space, arch)
        count = count_module(network, [inputs(name, space, arch)[:1].to("meta")])
        cost = tables.cost(arch)
        assert (count.macs, count.params) == (cost["macs"], cost["params"])
        assert not count.uncounted


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_rate_of_one_is_the_network_without_pruning(name: str) -> None:
    plain, pruned = space_of(name), space_of(name, *KEEP_RATES)
    for arch in (plain.largest, *plain.decode(plain.sample(5, seed=2))):
        keeps = {c.name: 1.0 for c in pruned.choices if c.name.endswith("_keep")}
        assert pruned.ops(pruned.architecture({**arch, **keeps})) == plain.ops(arch)
    assert space_of(name, 1.0).ops(space_of(name, 1.0).largest) == plain.ops(plain.largest)


@pytest.mark.parametrize(
    ("space", "fingerprint"),
    [
        (vit("cifar", classes=10), "a0c09d8ebea66394"),
        (bert(), "cd89499d150807b5"),
    ],
)
def test_fingerprints_of_spaces_without_pruning_are_unchanged(
    space: SearchSpace, fingerprint: str
) -> None:
    assert space.fingerprint == fingerprint


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_fixed_rate_is_a_choice_with_one_option(name: str) -> None:
    plain, pruned = space_of(name), space_of(name, 0.7)
    assert pruned.size == plain.size
    keeps = [choice for choice in pruned.choices if choice.name.endswith("_keep")]
    assert [choice.options for choice in keeps] == [(0.7,)] * 3


def test_the_rate_of_a_block_is_active_where_the_depth_exceeds_its_index() -> None:
    space = vit("cifar", keep_rates=KEEP_RATES)
    shallow = space.architecture({**space.smallest, "depth": 3})
    assert [name for name in shallow if name.endswith("_keep")] == ["block2_keep"]
    assert [c.options for c in space.choices if c.name == "block6_keep"] == [KEEP_RATES]


def test_the_mlp_and_all_later_blocks_run_on_the_kept_tokens() -> None:
    space = vit("imagenet", keep_rates=(0.7,))
    shapes = {
        f"{block}/{op.name}": op.out_shape
        for block, ops in space.ops(space.largest)
        for op in ops
        if op.name in ("attention", "mlp_project", "classifier")
    }
    tokens = {key: shape[0] for key, shape in shapes.items() if len(shape) == 2}
    assert [tokens[f"block{i}/attention"] for i in (3, 4, 6, 7, 9, 10)] == [
        *(197, 139, 139, 98, 98, 69)
    ]
    assert [tokens[f"block{i}/mlp_project"] for i in (2, 3, 6, 9)] == [197, 139, 98, 69]
    assert shapes["head/classifier"] == (1000,)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_onnxruntime_keeps_the_same_tokens(name: str) -> None:
    torch.manual_seed(0)
    space = space_of(name, *KEEP_RATES)
    for arch in (most_pruned(space), *space.decode(space.sample(2, seed=4))):
        network = with_attention(build(space, arch))
        state = {key: tensor.detach().numpy() for key, tensor in network.state_dict().items()}
        model = write_onnx(space.ops(arch), state).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        x = inputs(name, space, arch)
        for batch in (1, BATCH):
            (found,) = session.run(None, {"input": x[:batch].numpy()})
            with torch.no_grad():
                expected = network(x[:batch]).numpy()
            assert np.abs(np.asarray(found) - expected).max() < 1e-4


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_pruned_network_round_trips_as_json(name: str) -> None:
    space = space_of(name, *KEEP_RATES)
    blocks = space.ops(most_pruned(space))
    assert any(isinstance(op, KeepTokens) for _, ops in blocks for op in ops)
    assert blocks_from_json(blocks_to_json(blocks)) == blocks


def test_padding_is_dropped_first_so_that_short_sentences_are_not_pruned() -> None:
    """At least four of 24 tokens are kept, so sentences of three lose only padding."""
    torch.manual_seed(0)
    space = space_of("padded", *KEEP_RATES)
    assert length_after(24, [0.5] * 3) > 3
    whole = with_attention(build(space, space.largest))
    fewer = build(space, most_pruned(space)).eval()
    fewer.load_state_dict(whole.state_dict())
    ids = torch.zeros(4, 24, dtype=torch.long)
    ids[:, :3] = torch.randint(1, 60, (4, 3))
    with torch.no_grad():
        torch.testing.assert_close(fewer(ids), whole(ids), rtol=1e-5, atol=1e-5)
        ids[:, 3:] = torch.randint(1, 60, (4, 21))  # long sentences are pruned
        assert not torch.allclose(fewer(ids), whole(ids), atol=1e-3)


def test_a_language_model_with_keep_rates_raises() -> None:
    with pytest.raises(UserError, match=r"keep_rates is \(0.7,\), expected none with"):
        bert(language_model=True, keep_rates=(0.7,))


def test_roofline_latency_falls_with_macs_and_includes_token_selection() -> None:
    latency = Roofline(load_device("EPYC7763-core"))
    plain, pruned = vit("imagenet"), vit("imagenet", keep_rates=(0.7,))

    def milliseconds(space: SearchSpace) -> float:
        return sum(latency.milliseconds(ops) for _, ops in space.ops(space.largest))

    def macs(space: SearchSpace) -> int:
        return sum(op.macs for _, ops in space.ops(space.largest) for op in ops)

    saved = milliseconds(pruned) / milliseconds(plain)
    assert abs(saved - macs(pruned) / macs(plain)) < 0.05
    (kernel,) = (
        kernel
        for kernel in kernels(dict(pruned.ops(pruned.largest))["block3"])
        if isinstance(kernel.ops[0], KeepTokens)
    )
    # Kept tokens, all keys, one query; the scores of each head are written and read again.
    assert kernel.read == 139 * 384 + (197 + 1) * 384 + 2 * 6 * 197
    assert kernel.written == 139 * 384
    assert (kernel.macs, kernel.weights) == (197 * 384, 0)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_output_of_a_pruned_network_has_the_shape_of_its_op(name: str) -> None:
    space = space_of(name, *KEEP_RATES)
    blocks = space.ops(most_pruned(space))
    network = Network(blocks).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for block, container in network.blocks.items():
        assert isinstance(container, BlockModule)
        for op, module in container.ops.items():
            module.register_forward_hook(
                lambda m, i, y, key=f"{block}/{op}": shapes.update({key: tuple(y.shape)})
            )
    network(inputs(name, space, most_pruned(space)))
    assert shapes == {
        f"{block}/{op.name}": (BATCH, *op.out_shape) for block, ops in blocks for op in ops
    }
