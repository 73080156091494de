"""Named spaces against torch's counter and the counts in their papers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cached_tables import tables_of
from evaluators.counting.torch_counter import count_module
from evaluators.counting.without_memory import without_memory
from nas.supernet.shared_weights import Supernet
from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.catalogue import SENTENCE_SPACES, SPACES, TEXT_SPACES, load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import BlockModule, build
from search_spaces.reading import read_rows
from search_spaces.space import SearchSpace

NAMES = sorted({*SPACES, *TEXT_SPACES, *SENTENCE_SPACES})


@cache
def counted_block(ops: tuple[o.Op, ...]) -> tuple[int, int]:
    """MACs and parameters of a built block, by torch's counter on meta tensors."""
    tensors = {t.name: t.shape for op in ops for t in op.inputs if t.name[0] in "i@"}
    outside = {name: shape for name, shape in tensors.items() if name[0] == "@"}
    dtype = torch.long if any(isinstance(op, t.Embedding) for op in ops) else torch.float32
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        block = BlockModule(ops).eval()
        x = torch.zeros(1, *tensors.get("input", (1,)), dtype=dtype)
        block(x, {name: torch.zeros(1, *shape) for name, shape in outside.items()})
    tied = sum(
        op.parameter_shapes["weight"][0] * op.parameter_shapes["weight"][1]
        for op in ops
        if isinstance(op, t.TiedLinear)
    )
    return counter.get_total_flops() // 2, sum(p.numel() for p in block.parameters()) - tied


def assert_exact(name: str, count: int, seed: int) -> None:
    tables = tables_of(name)
    space = tables.space
    rows = space.sample(count, seed)
    scored = tables.score(rows)
    for index, arch in enumerate(space.decode(rows)):
        blocks = [ops for _, ops in space.ops(arch)]
        macs, params = np.sum([counted_block(ops) for ops in blocks], axis=0)
        assert (scored["macs"][index], scored["params"][index]) == (macs, params), arch


@pytest.mark.parametrize("name", NAMES)
def test_tables_equal_torch_for_ten_random_architectures(name: str) -> None:
    assert_exact(name, 10, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tables_equal_torch_for_two_hundred_random_architectures(name: str) -> None:
    assert_exact(name, 200, seed=2)


@pytest.mark.parametrize("name", NAMES)
def test_whole_networks_count_as_their_tables_say(name: str) -> None:
    tables = tables_of(name)
    space = tables.space
    (arch,) = space.decode(space.sample(1, 5))
    with without_memory():
        network = build(space, arch)
    ids = name in TEXT_SPACES | SENTENCE_SPACES
    x = torch.zeros(1, *space.input_shape(arch), dtype=torch.long if ids else torch.float32)
    count = count_module(network, [x])
    assert (count.macs, count.params) == (tables.cost(arch)["macs"], tables.cost(arch)["params"])
    assert not count.uncounted


BEST_CELL = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
ALL_CONV_CELL = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
DARTS_V2 = {
    "normal": [
        ["sep_conv_3x3", 0], ["sep_conv_3x3", 1], ["sep_conv_3x3", 0], ["sep_conv_3x3", 1],
        ["sep_conv_3x3", 1], ["skip_connect", 0], ["skip_connect", 0], ["dil_conv_3x3", 2],
    ],
    "normal_concat": [2, 3, 4, 5],
    "reduce": [
        ["max_pool_3x3", 0], ["max_pool_3x3", 1], ["skip_connect", 2], ["max_pool_3x3", 1],
        ["max_pool_3x3", 0], ["skip_connect", 2], ["skip_connect", 2], ["max_pool_3x3", 1],
    ],
    "reduce_concat": [2, 3, 4, 5],
}  # fmt: skip
ATTENTIVENAS_A0 = {
    "resolution": 192,
    "width": [16, 16, 24, 32, 64, 112, 192, 216, 1792],
    "depth": [1, 3, 3, 3, 3, 3, 1],
    "kernel_size": [3] * 7,
    "expand_ratio": [1, 4, 4, 4, 4, 6, 6],
}
RESNET50 = {
    "resolution": 224,
    **{f"stage{i}_depth": depth for i, depth in enumerate((3, 4, 6, 3))},
    **{f"stage{i}_width": width for i, width in enumerate((64, 128, 256, 512))},
    **{f"stage{i}_separable": False for i in range(4)},
}


@pytest.mark.parametrize(
    ("name", "encoding", "macs", "params"),
    [
        # The benchmark's own records: 220.12 and 184.73 MFLOPs, 1.53 and 1.29 M parameters.
        ("nasbench201", {"arch": ALL_CONV_CELL}, 220_119_680, 1_531_546),
        ("nasbench201", {"arch": BEST_CELL}, 184_730_240, 1_288_506),
        # DARTS (second order): 3.3 M parameters and 528 M; ImageNet 4.7 M parameters.
        ("darts", DARTS_V2, 528_359_040, 3_349_342),
        ("darts-imagenet", DARTS_V2, None, 4_718_752),
        ("resnet", RESNET50, 4_089_184_256, 25_557_032),
    ],
)
def test_published_architectures_count_as_published(
    name: str, encoding: dict[str, Any], macs: int | None, params: int
) -> None:
    tables = tables_of(name)
    cost = tables.cost(tables.space.architecture(encoding))
    assert cost["params"] == params
    assert macs is None or cost["macs"] == macs


def test_attentivenas_a0_has_its_published_203_million() -> None:
    tables = tables_of("attentivenas")
    arch = tables.space.architecture(ATTENTIVENAS_A0)
    assert arch == tables.space.smallest
    assert round(tables.cost(arch)["macs"] / 1e6) == 203


def test_ofa_has_the_number_of_networks_that_its_paper_says() -> None:
    for name in ("ofa-mbv3", "ofa-mbv3-1.2"):
        space = load_space(name)
        resolutions = len(space.choices[space.column["resolution"]].options)
        assert space.size == resolutions * sum(9**d for d in (2, 3, 4)) ** 5
        assert space.size // resolutions > 2 * 10**19


@pytest.mark.parametrize(
    ("size", "params", "macs"),
    [("tiny", 5.7e6, 1.3e9), ("small", 22.9e6, 5.1e9), ("base", 54e6, 11e9)],
)
def test_the_published_autoformers_lie_within_their_spaces(
    size: str, params: float, macs: float
) -> None:
    tables = tables_of(f"autoformer-{size}")
    low, high = (tables.cost(a) for a in (tables.space.smallest, tables.space.largest))
    assert low["params"] <= params <= high["params"]
    # The paper does not count relative positions in full: its 1.3 G is below the computed MACs.
    assert 0.95 * low["macs"] <= macs <= high["macs"]


def referee(name: str) -> tuple[int, int, int]:
    """Macs at 128, 1,024 or 512 tokens and parameters of a network of `transformers`."""
    transformers = pytest.importorskip("transformers")
    with without_memory():
        if name == "bert":
            network, tokens = transformers.BertModel(transformers.BertConfig()), 128
        elif name == "gpt":
            network, tokens = transformers.GPT2LMHeadModel(transformers.GPT2Config()), 1024
        else:
            config = transformers.LlamaConfig(
                hidden_size=4096,
                intermediate_size=14336,
                num_hidden_layers=32,
                num_attention_heads=32,
                num_key_value_heads=8,
                vocab_size=128_256,
            )
            network, tokens = transformers.LlamaForCausalLM(config), 1024
    count = count_module(network, [torch.zeros(1, tokens, dtype=torch.long)])
    return tokens, count.macs, count.params


@pytest.mark.parametrize("name", ["bert", "gpt", "gpt-llama"])
def test_language_models_count_as_transformers_builds_them(name: str) -> None:
    tables = tables_of(name)
    tokens, macs, params = referee(name)
    values: dict[str, Any] = dict(tables.space.largest)
    if "context" in values:
        values["context"] = tokens
    if name == "gpt-llama":
        values |= {key: 4 for key in values if key.endswith("group")}
    cost = tables.cost(tables.space.architecture(values))
    assert (cost["macs"], cost["params"]) == (macs, params)
    golden = {"bert": 11_173_625_856 + 589_824, "gpt": 145_824_153_600}
    assert cost["macs"] == golden.get(name, cost["macs"])


def published(name: str, arch: Mapping[str, Any]) -> dict[str, Any]:
    """An architecture in the encoding of its paper, with arbitrary values in inactive places."""
    a = dict(arch)

    def stages(suffix: str) -> list[Any]:
        return [a[k] for k in sorted(a) if k.endswith(suffix)]

    if name.startswith("ofa-mbv3") or name == "ofa-proxyless":
        layers = [(s, i) for s in range(5) for i in range(4)]
        layers += [(5, 0)] if name == "ofa-proxyless" else []
        return {
            "ks": [a.get(f"stage{s}_layer{i}_kernel", 7) for s, i in layers],
            "e": [a.get(f"stage{s}_layer{i}_expand", 3) for s, i in layers],
            "d": [a[f"stage{s}_depth"] for s in range(5)],
            "r": a["resolution"],
        }
    if name == "ofa-resnet50":
        layers = [(s, i) for s, n in enumerate((4, 4, 6, 4)) for i in range(n)]
        widths = [a["stem_inner_width"], a["stem_width"], *[a[f"stage{s}_width"] for s in range(4)]]
        return {
            "d": [2 * a["stem_residual"], *[a[f"stage{s}_extra_depth"] for s in range(4)]],
            "e": [a.get(f"stage{s}_layer{i}_ratio", 0.35) for s, i in layers],
            "w": [(0.65, 0.8, 1.0).index(w) for w in widths],
            "r": a["resolution"],
        }
    if name == "attentivenas":
        return {
            "resolution": a["resolution"],
            "width": [a["stem_width"], *[a[f"stage{s}_width"] for s in range(7)], a["head_width"]],
            "depth": [a[f"stage{s}_depth"] for s in range(7)],
            "kernel_size": [a[f"stage{s}_kernel"] for s in range(7)],
            "expand_ratio": [a[f"stage{s}_expand"] for s in range(7)],
        }
    if name == "autoformer-tiny":
        return {
            "embed_dim": [a["width"]] * a["depth"],
            "layer_num": a["depth"],
            "num_heads": [a[f"block{i}_heads"] for i in range(a["depth"])],
            "mlp_ratio": [a[f"block{i}_mlp_ratio"] for i in range(a["depth"])],
        }
    if name == "macro":
        return {"layers": list(a.values())}
    if name == "fbnet":
        return {"blocks": list(a.values())[:-1], "head": a["head_width"]}
    if name == "nasbench201":
        o01, o02, o12, o03, o13, o23 = a.values()
        return {"arch": f"|{o01}~0|+|{o02}~0|{o12}~1|+|{o03}~0|{o13}~1|{o23}~2|"}
    genotype: dict[str, Any] = {}
    for kind in ("normal", "reduce"):
        genotype[kind] = []
        for node in range(4):
            inputs = map(int, a[f"{kind}_node{node}_inputs"].split(","))
            both = (a[f"{kind}_node{node}_first"], a[f"{kind}_node{node}_second"])
            genotype[kind] += [[op, i] for op, i in zip(both, inputs, strict=True)][::-1]
    return genotype


PUBLISHED = [
    "ofa-mbv3", "ofa-mbv3-1.2", "ofa-proxyless", "ofa-resnet50", "attentivenas", "autoformer-tiny",
    "fbnet", "nasbench201", "darts", "macro",
]  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_encodings_are_read_as_what_they_mean(name: str) -> None:
    space = load_space(name)
    rows = space.sample(40, 3)
    encodings = [json.loads(json.dumps(published(name, a))) for a in space.decode(rows)]
    assert (read_rows(space, encodings) == rows).all()
    assert space.architecture(encodings[0]) == space.decode(rows[:1])[0]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ofa-mbv3", {"ks": [3] * 19}, r"'ks' is \[3, .*expected 20 values"),
        ("ofa-mbv3", {"ks": [3] * 19 + [4]}, "'ks' cannot be 4: expected one of 3, 5, 7"),
        ("ofa-mbv3", {"r": 225}, "'r' cannot be 225: expected one of 128"),
        ("ofa-mbv3", {"d": 3}, "'d' is 3, expected 5 values"),
        ("attentivenas", {"width": [16] * 9}, r"'width\[2\]' cannot be 16: expected one of 24, 32"),
        ("attentivenas", {"depth": [1]}, r"'depth' is \[1\], expected 7 values"),
        ("nasbench201", {"arch": "|conv~0|"}, "'arch' is .*expected"),
        (
            "nasbench201",
            {"arch": ALL_CONV_CELL.replace("nor_conv_3x3~2", "conv~2")},
            "'arch' has 'conv': expected one of none",
        ),
        ("darts", {"normal": []}, "'normal' is .*expected 8 pairs"),
        (
            "darts",
            {"normal": [["sep_conv_3x3", 0], ["sep_conv_3x3", 0], *DARTS_V2["normal"][2:]]},
            "node 0 of 'normal' reads 0 and 0: expected two different inputs",
        ),
        (
            "darts",
            {"normal": [["sep_conv_3", 0], *DARTS_V2["normal"][1:]]},
            "did you mean 'sep_conv_3x3'",
        ),
        ("macro", {"layers": ["conv3"] * 2}, "expected 11 values"),
        ("macro", {"layers": ["conv3"] * 2 + ["identity"] + ["conv3"] * 8}, "layer2.*identity"),
        ("fbnet", {"blocks": ["skip"] * 5}, "expected 22 values"),
        ("autoformer-tiny", {"num_heads": [3]}, "'num_heads' is .3., expected"),
    ],
)
def test_a_wrong_encoding_is_one_line(name: str, change: dict[str, Any], message: str) -> None:
    space = load_space(name)
    (arch,) = space.decode(space.sample(1, 0))
    with pytest.raises(UserError, match=message):
        space.architecture({**published(name, arch), **change})


SMALL: dict[str, dict[str, Any]] = {
    "ofa-mbv3": {"image_size": 32},
    "ofa-resnet50": {"image_size": 32},
    "attentivenas": {"image_size": 32},
    "fbnet": {"image_size": 32},
    "resnet": {"image_size": 32},
    "nasbench201": {"image_size": 8},
    "darts": {"image_size": 8},
    "macro": {"image_size": 8},
    "autoformer-tiny": {"image_size": 32},
}


def smallest_input(space: SearchSpace, arch: Mapping[str, Any]) -> Mapping[str, Any]:
    values: dict[str, Any] = dict(arch)
    for name in ("resolution", "context"):
        if name in values:
            values[name] = space.choices[space.column[name]].options[0]
    return space.architecture(values)


@pytest.mark.parametrize("name", [*SMALL, "gpt-char", "gpt-conv"])
def test_subnets_compute_what_their_extracted_networks_do(name: str) -> None:
    space = load_space(name, **SMALL.get(name, {}), classes=10)
    torch.manual_seed(0)
    supernet = Supernet(space).eval()
    for arch in (space.largest, *space.decode(space.sample(2, 0))):
        arch = smallest_input(space, arch)
        shape = space.input_shape(arch)
        x = (
            torch.randint(0, 60, (2, *shape))
            if name in TEXT_SPACES | SENTENCE_SPACES
            else torch.randn(2, *shape)
        )
        network = supernet.extract(arch)
        with torch.no_grad():
            torch.testing.assert_close(network(x), supernet(x, arch), rtol=1e-4, atol=1e-4)


def test_a_tied_head_shares_the_weight_of_its_embedding() -> None:
    from search_spaces.spaces.gpt import gpt

    space = gpt(vocabulary=100)
    arch = smallest_input(space, space.smallest)
    supernet = Supernet(space).eval()
    network = supernet.extract(arch)
    words = network.get_parameter("blocks.embedding.ops.words.weight")
    assert network.get_parameter("blocks.head.ops.words.weight") is words
    assert supernet.blocks["head"].ops["words"].weight is (  # type: ignore[union-attr, index]
        supernet.blocks["embedding"].ops["words"].weight  # type: ignore[union-attr, index]
    )
    x = torch.randint(0, 100, (2, *space.input_shape(arch)))
    with torch.no_grad():
        torch.testing.assert_close(network(x), supernet(x, arch), rtol=1e-4, atol=1e-4)
