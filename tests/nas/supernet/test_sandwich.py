"""The training of a supernet: divergences, progressive widening, attentive sampling."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageBatches
from evaluators.data.scoring import cross_entropy, fit_to_shape
from nas.supernet.attentive import POOL, REFIT, AttentiveSampler
from nas.supernet.sandwich import sandwich, second_thread
from nas.supernet.shared_weights import Supernet
from nas.supernet.widening import Widening
from nas.training.distillation import CLIP, adaptive_divergence, soft_cross_entropy
from nas.training.loop import Recipe, fit, recipe_for
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space


def gradient(loss: str, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    student = student.detach().requires_grad_()
    function = {"alpha": adaptive_divergence, "soft": soft_cross_entropy}[loss]
    function(student, teacher).backward()
    assert student.grad is not None
    return student.grad


def test_the_gradient_is_that_of_the_larger_divergence() -> None:
    """Without clipping, against automatic differentiation of the divergences."""
    torch.manual_seed(0)
    teacher, student = torch.randn(64, 5, dtype=torch.double), torch.randn(64, 5).double()
    q = student.detach().requires_grad_()
    log_p, log_q = teacher.log_softmax(-1), q.log_softmax(-1)
    unclipped = ((log_q - log_p).exp() < CLIP).all(-1)
    assert 20 < unclipped.sum() < 64
    down = (log_q.exp() * ((log_q - log_p).exp() - 1)).sum(-1) / 2
    up = (log_p.exp() * (log_p - log_q)).sum(-1)
    torch.maximum(down, up).mean().backward()
    assert q.grad is not None
    assert 0 < (down > up)[unclipped].sum() < unclipped.sum()
    found = gradient("alpha", student, teacher)
    torch.testing.assert_close(found[unclipped], q.grad[unclipped])


def test_the_gradient_of_a_wrong_overconfident_student_is_bounded() -> None:
    """Without clipping the weights of an overconfident student grow with its error."""
    teacher = torch.tensor([[0.0, 9.0, 0.0]])
    for confidence in (5.0, 20.0, 60.0):
        found = gradient("alpha", torch.tensor([[confidence, 0.0, 0.0]]), teacher)
        assert torch.isfinite(found).all()
        assert found.abs().max() <= CLIP


@pytest.mark.parametrize("loss", ["alpha", "soft"])
def test_a_student_that_agrees_has_no_gradient(loss: str) -> None:
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    assert gradient(loss, logits, logits + 3.0).abs().max() < 1e-6


def test_logits_of_fewer_tokens_are_compared_with_the_teachers_first() -> None:
    teacher = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    for loss in ("alpha", "soft"):
        assert gradient(loss, teacher[:, :4], teacher).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["mobilenet-cifar", "vit-tiny", "gpt-conv", "bert"])
def test_widening_opens_kernels_then_depths_then_widths(name: str) -> None:
    space = load_space(name)
    widening = Widening(space, 1000)
    paths = np.stack([widening.lowest(step) for step in range(1000)])
    assert (np.diff(paths.astype(int), axis=0) <= 0).all(), "nothing closes again"
    assert (paths[-1] == 0).all(), "all is open at the end"
    opened = {
        choice.name: int(np.argmax(paths[:, column] < len(choice.options) - 1))
        for choice, column in zip(space.choices, range(len(space.choices)), strict=True)
        if len(choice.options) > 1
    }
    kernels = [at for n, at in opened.items() if n.endswith("kernel")]
    depths = [at for n, at in opened.items() if n.endswith("depth")]
    widths = [at for n, at in opened.items() if n.endswith("width")]
    assert max(kernels, default=0) < min(depths)
    assert max(depths) < min(widths)
    if "resolution" in opened:
        assert opened["resolution"] == 0


def test_subnets_have_open_options_only() -> None:
    space = load_space("mobilenet-cifar")
    widening = Widening(space, 1000)
    archs = space.decode(space.sample(50, 0))
    for step in (0, 300, 600, 999):
        lowest = widening.lowest(step)
        for arch in widening.within([*archs, space.smallest], step):
            rows = space.encode([arch])[0]
            active = space.active(rows[None])[0]
            assert (rows >= lowest)[active].all()
    assert set(widening.within(archs, 999)) == set(archs)
    (at_first,) = widening.within([space.smallest], 0)
    for name, value in at_first.items():
        raised = name.endswith(("kernel", "depth", "expand", "width"))
        assert value == (space.largest if raised else space.smallest)[name], name


def attentive(space_name: str = "mobilenet-tiny") -> AttentiveSampler:
    space = load_space(space_name, image_size=8, channels=1)
    return AttentiveSampler(BudgetedSpace(CostTables(space), Budget({}, {})), seed=0)


def test_draws_are_better_and_worse_than_average_in_turn() -> None:
    """The loss of a subnet depends on its kernels only."""
    sampler = attentive()
    space = sampler._space

    def worth(arch: Architecture) -> float:
        kernels = [value for name, value in arch.items() if name.endswith("kernel")]
        return float(np.mean([int(k) for k in kernels]))

    rng = np.random.default_rng(0)
    for _ in range(60):
        archs = sampler(rng, 4)
        noise = rng.normal(0, 0.2, len(archs))
        sampler.tell(archs, list(0.1 * (7 - np.array([worth(a) for a in archs]) + noise)))
    drawn = [worth(arch) for _ in range(20) for arch in sampler(rng, 2)]
    usual = np.mean([worth(arch) for arch in space.decode(space.sample(POOL, rng))])
    best, worst = np.mean(drawn[::2]), np.mean(drawn[1::2])
    assert best > usual + 0.3 > usual - 0.3 > worst


def test_draws_cover_the_range_of_macs() -> None:
    sampler = attentive()
    rng = np.random.default_rng(0)
    tables = sampler._budgeted.tables
    for _ in range(30):
        archs = sampler(rng, 4)
        sampler.tell(archs, list(rng.uniform(0, 1, 4)))
    macs = np.array([tables.cost(a)["macs"] for _ in range(50) for a in sampler(rng, 2)])
    counts, _ = np.histogram(macs, 4)
    assert counts.min() >= 0.1 * len(macs)


def test_a_resumed_sampler_draws_the_same() -> None:
    sampler, resumed = attentive(), attentive()
    rng = np.random.default_rng(3)
    for _ in range(REFIT):
        archs = sampler(rng, 3)
        sampler.tell(archs, list(rng.uniform(0, 1, 3)))
    resumed.load_state_dict(sampler.state_dict())
    for seed in range(3):
        drawn = [s(np.random.default_rng(seed), 2) for s in (sampler, resumed)]
        assert drawn[0] == drawn[1]


@pytest.mark.parametrize("name", ["mobilenet-tiny", "cnn-tiny"])
def test_a_second_thread_changes_no_digit(name: str) -> None:
    """Losses, weights and buffers after some steps."""
    space = load_space(name, image_size=8, channels=1)
    recipe = recipe_for(space, 1.0)
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 10

    def trained(beside: ThreadPoolExecutor | None) -> list[Tensor]:
        torch.manual_seed(0)
        supernet = Supernet(space)
        backward = sandwich(supernet, recipe, seed=0, beside=beside)
        optimizer = torch.optim.SGD(supernet.parameters(), 0.1)
        losses = []
        for step in range(4):
            optimizer.zero_grad()
            losses.append(backward(images, labels, step))
            optimizer.step()
        return [torch.tensor(losses), *supernet.parameters(), *supernet.buffers()]

    alone = trained(None)
    with second_thread() as thread:
        for one, other in zip(alone, trained(thread), strict=True):
            assert torch.equal(one, other)


def test_gradients_of_a_sandwich_are_the_sum_over_its_networks() -> None:
    space = load_space("mobilenet-tiny", image_size=8, channels=1)
    torch.manual_seed(0)
    supernet = Supernet(space)
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8)
    drawn = space.decode(space.sample(2, 0))
    smooth = recipe_for(space, 1.0)
    sandwich(supernet, smooth, seed=0, draw=lambda rng, n: drawn)(images, labels, 0)
    found = [p.grad.clone() for p in supernet.parameters() if p.grad is not None]
    supernet.zero_grad()

    def logits(arch: Architecture) -> Tensor:
        result: Tensor = supernet(fit_to_shape(images, space.input_shape(arch)), arch)
        return result

    teacher = logits(space.largest)
    cross_entropy(teacher, labels, smooth.label_smoothing).backward()
    for arch in (space.smallest, *drawn):
        soft_cross_entropy(logits(arch), teacher).backward()
    expected = [p.grad for p in supernet.parameters() if p.grad is not None]
    torch.testing.assert_close(found, expected)


def test_an_error_in_the_largest_network_ends_the_second_thread_too() -> None:
    space = load_space("mobilenet-tiny", image_size=8, channels=1)
    with second_thread() as thread:
        backward = sandwich(Supernet(space), recipe_for(space, 1.0), seed=0, beside=thread)
        with pytest.raises(RuntimeError):
            backward(torch.randn(4, 7, 8, 8), torch.arange(4), 0)


@pytest.mark.slow
def test_a_training_with_all_settings_learns() -> None:
    data = load_data("digits")
    torch.manual_seed(0)
    supernet = Supernet(load_space("mobilenet-tiny", image_size=8, channels=1))
    space = supernet.space
    recipe = recipe_for(space, 3.0)
    recipe = Recipe(**{**vars(recipe), "ema": 0.9, "precision": "bf16"})
    sampler = AttentiveSampler(BudgetedSpace(CostTables(space), Budget({}, {})), seed=0)
    batches = ImageBatches.of(data)
    backward = sandwich(
        supernet,
        recipe,
        seed=0,
        draw=sampler,
        tell=sampler.tell,
        distillation="alpha",
        widening=Widening(space, recipe.steps(len(batches))),
    )
    losses: list[float] = []
    fit(
        supernet,
        batches,
        recipe,
        backward,
        seed=0,
        companion=sampler,
        on_step=lambda done, steps, loss: losses.append(loss),
    )
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    inputs = torch.randn(8, *space.input_shape(space.smallest))
    assert torch.isfinite(F.log_softmax(supernet.eval()(inputs, space.smallest), -1)).all()
