"""Counting any network: exact counts, also where other counters err, and no side effects."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from evaluators.counting.counts import Count
from evaluators.counting.torch_counter import count_module
from evaluators.counting.without_memory import without_memory
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import build


class Calls(nn.Module):
    """A network that is one function of its parameters and input."""

    def __init__(self, function: Callable[..., Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(shape) for shape in shapes)
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*self.weights, *inputs)


def kinds(count: Count) -> dict[str, int]:
    return {kind: macs for kind, macs in count.root.total().macs.items() if macs}


def counted_by_torch(network: nn.Module, *inputs: Tensor) -> int:
    network = network.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*[x.to("meta") for x in inputs])
    return counter.get_total_flops() // 2


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_convolutions_of_every_form(data: st.DataObject) -> None:
    draw = data.draw
    dims = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 2, 4]))
    transposed = draw(st.booleans())
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding, dilation = draw(st.integers(0, 1)), draw(st.integers(1, 2))
    c_in, c_out = 4 * draw(st.integers(1, 2)), 4 * draw(st.integers(1, 3))
    batch, side = draw(st.integers(1, 3)), draw(st.integers(7, 9))
    types = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
    if transposed:
        types = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    conv = types[dims - 1](
        c_in, c_out, kernel, stride, padding=padding, groups=groups, dilation=dilation
    )
    x = torch.zeros(batch, c_in, *[side] * dims)
    positions = side**dims if transposed else conv(x).numel() // (batch * c_out)
    expected = batch * positions * c_in * (c_out // groups) * kernel**dims
    count = count_module(conv, [x])
    assert kinds(count) == {"convolution": expected}
    assert count.params == sum(p.numel() for p in conv.parameters())
    assert not count.uncounted


@pytest.mark.parametrize(
    ("network", "shapes", "expected"),
    [
        (Calls(F.linear, (3, 5)), [(7, 5)], {"linear": 3 * 5 * 7}),
        (Calls(lambda w, x: F.linear(x, w), (3, 5)), [(2, 7, 5)], {"linear": 2 * 7 * 5 * 3}),
        (Calls(lambda w, x: x @ w, (5, 3)), [(2, 7, 5)], {"linear": 2 * 7 * 5 * 3}),
        (Calls(lambda w, x: w @ x, (4, 3, 5)), [(2, 4, 5, 6)], {"linear": 2 * 4 * 3 * 5 * 6}),
        (Calls(lambda x, y: x @ y), [(7, 5), (4, 5, 3)], {"other": 4 * 7 * 5 * 3}),
        (Calls(lambda x, y: x @ y), [(5,), (5,)], {"other": 5}),
        (Calls(lambda x, y: x @ y), [(7, 5), (5,)], {"other": 35}),
        (
            Calls(lambda w, x: torch.einsum("bti,oi->bto", x, w), (3, 5)),
            [(2, 7, 5)],
            {"linear": 2 * 7 * 5 * 3},
        ),
        (
            Calls(lambda x, y: torch.einsum("bhqd,bhkd->bhqk", x, y)),
            [(2, 3, 4, 5), (2, 3, 6, 5)],
            {"other": 2 * 3 * 4 * 6 * 5},
        ),
        (Calls(lambda x, y: torch.baddbmm(x, x, y)), [(2, 4, 4), (2, 4, 4)], {"other": 128}),
        (nn.Bilinear(3, 4, 5), [(2, 3), (2, 4)], {"linear": 2 * 5 * 3 * 4}),
    ],
)
def test_products_by_function_count_like_those_of_modules(
    network: nn.Module, shapes: list[tuple[int, ...]], expected: dict[str, int]
) -> None:
    count = count_module(network, [torch.zeros(shape) for shape in shapes])
    assert not count.uncounted
    assert kinds(count) == expected


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    return (scores + 1.0).softmax(-1) @ v


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_counts_both_products_fused_or_not(fused: bool, causal: bool) -> None:
    def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    q, k = torch.zeros(2, 3, 6, 8), torch.zeros(2, 3, 6, 8)
    count = count_module(Calls(sdpa if fused else attention), [q, k, k])
    assert kinds(count) == {"attention": 2 * 3 * 6 * 6 * (8 + 8)}


def test_grouped_heads_and_a_mask_change_nothing() -> None:
    def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    q, k, mask = torch.zeros(2, 8, 6, 4), torch.zeros(2, 2, 5, 4), torch.zeros(6, 5)
    count = count_module(Calls(sdpa), [q, k, k, mask])
    assert kinds(count) == {"attention": 2 * 8 * 6 * 5 * (4 + 4)}


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_encoder_layers_fast_path_counts_like_its_parts(batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=batch_first).eval()
    count = count_module(layer, [torch.zeros(2, 2, 16)])
    linear = 2 * 2 * (16 * 48 + 16 * 16 + 2 * 16 * 32)
    assert kinds(count) == {"linear": linear, "attention": 2 * (2 * 2 * 2 * 16)}
    assert count.root.total().params == count.params == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_layers(layer: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN], layers: int) -> None:
    network = layer(6, 8, layers)
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[layer]
    expected = 5 * 2 * gates * 8 * (6 + 8 + (layers - 1) * (8 + 8))
    count = count_module(network, [torch.zeros(5, 2, 6)])
    assert kinds(count) == {"linear": expected}
    assert not count.uncounted


def test_a_module_that_runs_twice_counts_twice_and_its_parameters_once() -> None:
    shared = nn.Linear(4, 4)
    count = count_module(nn.Sequential(shared, nn.ReLU(), shared), [torch.zeros(3, 4)])
    assert kinds(count) == {"linear": 2 * 3 * 16}
    assert count.params == count.root.total().params == 20
    assert count.root.children["0"].calls == 2


def test_a_tied_weight_is_counted_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: Tensor) -> Tensor:
            logits: Tensor = self.head(self.table(ids))
            return logits

    count = count_module(Tied(), [torch.zeros(2, 3, dtype=torch.long)])
    assert count.params == count.root.total().params == 40
    assert kinds(count) == {"linear": 2 * 3 * 40}, "the lookup is no product"


def test_subclasses_and_parametrised_modules_count() -> None:
    class Own(nn.Linear):
        pass

    network = nn.Sequential(Own(4, 5), nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)))
    count = count_module(network, [torch.zeros(2, 4)])
    assert kinds(count) == {"linear": 2 * (20 + 30)}


def test_counts_grow_with_the_batch_and_only_with_it() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    one, many = (count_module(network, [torch.zeros(n, 3, 8, 8)]) for n in (1, 5))
    assert many.macs == 5 * one.macs
    assert many.root.total().elementwise == 5 * one.root.total().elementwise


def test_elementwise_work_has_its_own_column() -> None:
    network = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(5, 1, 2))
    count = count_module(network, [torch.zeros(1, 4, 8, 8)])
    assert count.macs == 0
    parts = [node.elementwise for _, node in count.root.walk()][1:]
    assert parts == [2 * 256, 256, 64 * 4, 64 * 16]


def test_gradients_cost_twice_the_forward_pass() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Flatten(), nn.Linear(8 * 36, 5))
    x = torch.zeros(2, 4, 8, 8, requires_grad=True)
    forward = count_module(network, [x]).root.total().macs
    both = count_module(network, [x], backward=True).root.total().macs
    # The first layer's input needs no gradient: one product less.
    assert both["convolution"] == 2 * forward["convolution"]
    assert both["linear"] == 3 * forward["linear"]


def test_an_operator_without_a_rule_is_named_and_not_zero() -> None:
    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Module()

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x).real

    count = count_module(nn.Sequential(nn.Linear(4, 4), Fourier()), [torch.zeros(2, 4)])
    assert list(count.uncounted) == ["aten::_fft_r2c"]
    assert count.uncounted["aten::_fft_r2c"].path == "1"
    assert count.uncounted["aten::_fft_r2c"].calls == 1


ACTIVATIONS = [
    nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.CELU,
    nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.LogSigmoid, nn.Tanh, nn.Sigmoid, nn.PReLU,
    nn.Softsign, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Softmax, nn.GLU, nn.Dropout,
]  # fmt: skip


@pytest.mark.parametrize("layer", ACTIVATIONS)
@pytest.mark.parametrize("backward", [False, True])
def test_activations_are_elementwise_work(layer: type[nn.Module], backward: bool) -> None:
    network = nn.Sequential(nn.Linear(8, 8), layer())
    count = count_module(network, [torch.zeros(3, 8)], backward=backward)
    assert not count.uncounted
    if layer is not nn.Dropout:
        assert 24 <= count.root.children["1"].elementwise <= 5 * 24


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm(8), nn.RMSNorm(8),
        nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2),
        nn.LPPool2d(2, 2), nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.ZeroPad2d(1),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Flatten(), nn.LocalResponseNorm(2),
        nn.ReflectionPad2d(1), nn.Unfold(2), nn.ChannelShuffle(2), nn.Identity(),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
@pytest.mark.parametrize("backward", [False, True])
def test_common_layers_leave_nothing_uncounted(layer: nn.Module, backward: bool) -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 1), layer)
    count = count_module(network, [torch.zeros(2, 4, 8, 8)], backward=backward)
    assert not count.uncounted
    assert kinds(count).keys() == {"convolution"}


def test_counting_leaves_the_network_unchanged() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.zeros(2, 3, 8, 8)
    count_module(network, [x], backward=True)
    assert [m.training for m in network.modules()] == [True, True, False, True]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert not torch.nn.modules.module._global_forward_hooks
    assert torch.backends.mha.get_fastpath_enabled()
    assert type(network(x)) is Tensor


def test_a_second_count_equals_the_first() -> None:
    network = nn.Linear(4, 5)
    counts = [count_module(network, [torch.zeros(2, 4)]).to_json() for _ in range(2)]
    assert counts[0] == counts[1]


def test_keyword_inputs_have_their_names() -> None:
    class Adds(nn.Module):
        def forward(self, x: Tensor, *, y: Tensor) -> Tensor:
            return x @ y

    count = count_module(Adds(), [torch.zeros(2, 3)], {"y": torch.zeros(3, 4)})
    assert count.inputs == {"input": (2, 3), "y": (3, 4)}
    assert count.macs == 24


def test_an_error_names_the_module_that_failed() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6)))
    with pytest.raises(UserError, match=r"module '1\.1' fails on the input \(input 2x3\)"):
        count_module(network, [torch.zeros(2, 3)])


@pytest.mark.parametrize("function", [lambda x: x[x > 0], lambda x: x * x.max().item()])
def test_shapes_that_depend_on_data_are_refused(function: Callable[..., Tensor]) -> None:
    class Depends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    network = nn.Sequential(nn.Linear(3, 3), Depends())
    with pytest.raises(
        UserError, match=r"module '1': the result of operator aten\..* depends on values"
    ):
        count_module(network, [torch.zeros(2, 3)])


def test_a_hundred_billion_parameters_need_no_memory() -> None:
    with without_memory():
        network = nn.Sequential(*[nn.Linear(100_000, 100_000, bias=False) for _ in range(10)])
        nn.init.trunc_normal_(network[0].weight)
    count = count_module(network, [torch.zeros(1, 100_000)])
    assert count.params == count.macs == 10**11


@cache
def transformer(name: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    configs = {
        "resnet": ("ResNetConfig", "ResNetForImageClassification", {"num_labels": 1000}),
        "mobilenet": ("MobileNetV2Config", "MobileNetV2ForImageClassification", {}),
        "vit": ("ViTConfig", "ViTForImageClassification", {"num_labels": 1000}),
        "vit-eager": (
            "ViTConfig",
            "ViTForImageClassification",
            {"num_labels": 1000, "attn_implementation": "eager"},
        ),
        "bert": ("BertConfig", "BertModel", {}),
        "gpt2": ("GPT2Config", "GPT2LMHeadModel", {}),
    }
    config, model, settings = configs[name]
    with without_memory():
        network: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**settings))
    return network


@pytest.mark.parametrize(
    ("name", "macs", "params", "attention"),
    [
        ("resnet", 4_089_184_256, 25_557_032, 0),
        ("vit", 17_563_828_224, 86_567_656, 715_327_488),
        ("vit-eager", 17_563_828_224, 86_567_656, 715_327_488),
        ("bert", 11_173_625_856 + 589_824, 109_482_240, 301_989_888),
        ("gpt2", 145_824_153_600, 124_439_808, 19_327_352_832),
    ],
)
def test_published_networks_have_their_known_counts(
    name: str, macs: int, params: int, attention: int
) -> None:
    x = torch.zeros(1, 3, 224, 224)
    if name in ("bert", "gpt2"):
        x = torch.zeros(1, 128 if name == "bert" else 1024, dtype=torch.long)
    count = count_module(transformer(name), [x])
    assert (count.macs, count.params) == (macs, params)
    assert count.root.total().macs["attention"] == attention
    assert count.root.total().params == params
    assert not count.uncounted


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(["mobilenet-cifar", "vit-cifar"]), seed=st.integers(0, 2**32 - 1))
def test_counts_equal_those_of_the_spaces_and_of_torch(name: str, seed: int) -> None:
    space = load_space(name)
    (arch,) = space.decode(space.sample(1, seed))
    ops = [op for _, block in space.ops(arch) for op in block]
    network = build(space, arch)
    x = torch.zeros(1, *space.input_shape(arch))
    count = count_module(network, [x])
    assert count.macs == sum(op.macs for op in ops) == counted_by_torch(network, x)
    assert count.params == sum(op.params for op in ops)
    for (path, node), (block, ops_of_block) in zip(
        count.root.children["blocks"].children.items(), space.ops(arch), strict=True
    ):
        assert path == block
        assert node.total().own_macs == sum(op.macs for op in ops_of_block)
