"""Zero-cost proxies: laws of each, degenerate networks, determinism, and no side effects."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import ray.cloudpickle as cloudpickle
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from evaluators.accuracy.zero_cost import ZeroCost
from evaluators.accuracy.zero_cost_proxies import (
    MAX_SYNFLOW,
    MIN_EIGENVALUE,
    MIN_SYNFLOW,
    PROXIES,
    grad_norm,
    jacob_cov,
    naswot,
    synflow,
    zico,
)
from evaluators.data.files.images import load_data
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace
from search_spaces.spaces.papers.nasbench201 import nasbench201

TABLE = (
    Path(__file__).resolve().parents[4]
    / "shared/data/nasbench201/accuracy_12ep_and_latency.parquet"
)
BATCH = 8


def batch(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(BATCH, *(shape or (3, 8, 8)), generator=generator)
    return images, torch.randint(4, (BATCH,), generator=generator)


def convnet(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        )


# Laws


def test_synflow_of_a_linear_network_is_the_product_of_its_absolute_weights() -> None:
    network = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[2.0, -3.0]]))
        network[1].weight.fill_(-4.0)
    # R is (2 + 3) * 4, and the flow through each of the two layers is R.
    assert synflow(network, *batch(2)) == pytest.approx(math.log(2 * 20))


def test_scaling_a_layer_scales_synflow_and_leaves_activation_codes_alone() -> None:
    network, scaled = convnet(), convnet()
    with torch.no_grad():
        scaled[3].weight.mul_(10)
    inputs, labels = batch()
    assert synflow(scaled, inputs, labels) - synflow(network, inputs, labels) == pytest.approx(
        math.log(10)
    )
    assert naswot(scaled, inputs, labels) == pytest.approx(naswot(network, inputs, labels))


def test_synflow_does_not_depend_on_normalisation_nor_on_the_images() -> None:
    network = convnet()
    plain = nn.Sequential(*[m for m in network if not isinstance(m, nn.BatchNorm2d)])
    assert synflow(network, *batch()) == synflow(plain, *batch(seed=1))


def test_synflow_beyond_the_largest_number_is_finite() -> None:
    layers = [nn.Linear(8, 8, bias=False) for _ in range(4)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1e37)
    wide = nn.Sequential(*layers)
    assert MIN_SYNFLOW < synflow(wide, *batch(8)) < MAX_SYNFLOW
    assert synflow(nn.Sequential(*layers * 3), *batch(8)) == MAX_SYNFLOW


def test_naswot_counts_units_on_which_two_images_agree() -> None:
    network = nn.ReLU()
    inputs = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
    # Three units, of which the two images agree on two: the determinant of ((3, 2), (2, 3)).
    assert naswot(network, inputs, torch.zeros(2)) == pytest.approx(math.log(5))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Mish()])
def test_naswot_reads_the_sign_at_any_activation(activation: nn.Module) -> None:
    inputs = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    assert naswot(activation, inputs, torch.zeros(4)) == pytest.approx(
        naswot(nn.ReLU(), inputs, torch.zeros(4))
    )


def test_naswot_is_worst_if_all_images_have_one_code() -> None:
    inputs, labels = batch()
    worst = BATCH * math.log(MIN_EIGENVALUE)
    assert naswot(nn.Identity(), inputs, labels) == worst
    assert naswot(nn.Sequential(nn.Flatten(), nn.Sigmoid()), inputs, labels) == worst
    same = inputs[:1].expand_as(inputs)
    assert naswot(convnet(), same, labels) == worst
    assert naswot(convnet(), inputs, labels) > worst


def test_zico_is_higher_where_both_halves_agree_on_the_gradient() -> None:
    inputs, labels = batch()
    alike = torch.cat([inputs[:4], inputs[:4] + 0.01]), torch.cat([labels[:4], labels[:4]])
    assert zico(convnet(), *alike) > zico(convnet(), inputs, labels) > 0
    with pytest.raises(UserError, match="two images"):
        zico(convnet(), inputs[:1], labels[:1])


def test_jacob_cov_is_worse_for_images_that_the_network_treats_alike() -> None:
    inputs, labels = batch()
    alike = inputs[:1] + 1e-3 * inputs
    assert jacob_cov(convnet(), inputs, labels) > jacob_cov(convnet(), alike, labels)
    # A linear network has one Jacobian for all images: one eigenvalue is 8, the others are 0.
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert jacob_cov(linear, inputs, labels) < -(BATCH - 1) / 2e-5
    with pytest.raises(UserError, match="tokens"):
        jacob_cov(nn.Embedding(4, 4), labels, labels)


def test_grad_norm_is_the_norm_of_the_gradient() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    inputs, labels = batch()
    loss = nn.functional.cross_entropy(network(inputs), labels)
    (gradient,) = torch.autograd.grad(loss, network[1].weight)
    assert grad_norm(network, inputs, labels) == pytest.approx(float(gradient.norm()))


@pytest.mark.parametrize("name", PROXIES)
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    inputs, labels = batch()
    half = BATCH // 2
    # Within the halves, which zico compares.
    order = torch.cat([torch.arange(half).flip(0), half + torch.arange(half).flip(0)])
    network = convnet()
    proxy = PROXIES[name]
    assert proxy(network, inputs[order], labels[order]) == pytest.approx(
        proxy(network, inputs, labels), rel=1e-3
    )


# Degenerate networks


class _Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 4, 3)
        self.after = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.relu(0 * self.before(x)).mean(dim=(2, 3)))


def test_a_network_that_lets_nothing_through_has_the_worst_finite_score() -> None:
    inputs, labels = batch()
    scores = {name: proxy(_Dead(), inputs, labels) for name, proxy in PROXIES.items()}
    alive = {name: proxy(convnet(), inputs, labels) for name, proxy in PROXIES.items()}
    assert all(math.isfinite(score) for score in scores.values())
    assert all(scores[name] < alive[name] for name in PROXIES)
    assert scores["synflow"] == MIN_SYNFLOW
    assert scores["naswot"] == BATCH * math.log(MIN_EIGENVALUE)
    assert scores["zico"] == scores["grad_norm"] == 0


def test_a_network_without_parameters_or_with_endless_outputs_has_finite_scores() -> None:
    inputs, labels = batch()
    bare = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    endless = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with torch.no_grad():
        endless[1].weight.fill_(math.inf)
    for network in (bare, endless):
        for name, proxy in PROXIES.items():
            assert math.isfinite(proxy(network, inputs, labels)), name


@pytest.mark.parametrize(
    "space",
    [
        load_space("mobilenet-tiny"),
        load_space("vit-tiny"),
        load_space("macro", image_size=16),
        nasbench201(image_size=8),
    ],
    ids=lambda space: space.name,
)
def test_every_architecture_of_every_kind_of_space_has_finite_scores(space: SearchSpace) -> None:
    evaluate = ZeroCost.on_noise(space, images=4)
    for arch in [space.smallest, space.largest, *space.decode(space.sample(2, seed=0))]:
        scores = evaluate(arch)
        assert list(scores) == list(PROXIES)
        assert all(math.isfinite(score) for score in scores.values())


def test_a_cell_of_none_is_the_worst_of_all_cells() -> None:
    space = nasbench201(image_size=8)
    evaluate = ZeroCost.on_noise(space, images=4)
    worst = evaluate(space.smallest)
    for arch in space.decode(space.sample(4, seed=1)):
        assert all(score >= worst[name] for name, score in evaluate(arch).items())


# Determinism


def test_scores_depend_on_the_seed_alone_and_leave_nothing_behind() -> None:
    space = load_space("mobilenet-tiny", image_size=8)
    a, b = space.decode(space.sample(2, seed=0))
    evaluate = ZeroCost.on_noise(space, seed=3, images=4)
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    first = evaluate(a)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(12)
    evaluate(b)
    assert evaluate(a) == first
    assert ZeroCost.on_noise(space, seed=3, images=4)(a) == first
    assert ZeroCost.on_noise(space, seed=4, images=4)(a) != first
    assert cloudpickle.loads(cloudpickle.dumps(evaluate))(a) == first


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(name: str, training: bool) -> None:
    network = convnet().train(training)
    inputs, labels = batch()
    network(inputs).sum().backward()
    network[0].weight.requires_grad_(False)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    rng = torch.random.get_rng_state()
    with torch.no_grad():
        PROXIES[name](network, inputs, labels)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    left = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(left, gradients, strict=True))
    assert network.training is training
    assert network[1].training is training
    assert not network[0].weight.requires_grad
    assert inputs.grad is None
    assert torch.equal(torch.random.get_rng_state(), rng)


def test_on_images_the_batch_is_of_the_training_part() -> None:
    data = load_data("digits")
    space = load_space("mobilenet-tiny", image_size=8, channels=1)
    evaluate = ZeroCost.on_images(space, data, ["naswot"], images=16)
    assert evaluate.inputs.shape == (16, 1, 8, 8)
    assert len(evaluate.labels) == 16
    assert set(evaluate(space.smallest)) == {"naswot"}


def test_unknown_names_and_spaces_of_tokens_are_refused() -> None:
    space = load_space("mobilenet-tiny")
    with pytest.raises(UserError, match="did you mean 'synflow'"):
        ZeroCost.on_noise(space, ["sinflow"])
    with pytest.raises(UserError, match="need a space of images"):
        ZeroCost.on_noise(load_space("bert"))


# Ranking


def test_proxies_rank_the_cells_of_the_published_table() -> None:
    if not TABLE.exists():
        pytest.skip("the published table of NAS-Bench-201 is not beside the repository")
    import pyarrow.parquet as pq

    table = pq.read_table(TABLE, columns=["arch", "cifar10_val_12ep"]).to_pydict()
    chosen = np.random.default_rng(0).choice(len(table["arch"]), 60, replace=False)
    space = nasbench201(image_size=8)
    evaluate = ZeroCost.on_noise(space, ["naswot", "jacob_cov"], images=16)
    archs = [space.architecture({"arch": table["arch"][i]}) for i in chosen]
    scores = [evaluate(arch) for arch in archs]
    truth = [table["cifar10_val_12ep"][i] for i in chosen]
    for name in evaluate.names:
        assert spearmanr([score[name] for score in scores], truth).statistic > 0.3
