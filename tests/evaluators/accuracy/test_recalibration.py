"""Accuracy and batch-norm statistics, against what can be worked out without them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.augmentation import Normalisation, prepare
from evaluators.data.images import ImageData, Split, accuracy, calibration_batches
from evaluators.data.scoring import SCORING_BATCH
from nas.supernet.shared_weights import Supernet
from search_spaces.catalogue import load_space

PLAIN = Normalisation((0.0,), (1.0,))
CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image_batches(*sizes: int) -> list[Tensor]:
    return [3 + 2 * torch.randn(n, 2, 4, 4, generator=seeded(i)) for i, n in enumerate(sizes)]


class Brightness(nn.Module):
    """Says of an image of one grey what class that grey is; a dropout that training would show."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.arange(classes).float())
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        grey = 255 * x.mean(dim=(1, 2, 3))
        return self.dropout(1 / (1 + (grey[:, None] - self.classes).abs()))


def greys(labels: Tensor, size: int = 4) -> Tensor:
    return labels.to(torch.uint8)[:, None, None, None].expand(-1, 1, size, size).clone()


def test_statistics_are_those_of_the_batches_alone() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    network[0].running_mean.fill_(99.0)
    network[0].running_var.fill_(99.0)
    batches = image_batches(16, 16, 16)
    recalibrate(network, iter(batches))
    means = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
    variances = torch.stack([b.var(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
    torch.testing.assert_close(network[0].running_mean, means)
    torch.testing.assert_close(network[0].running_var, variances)


def test_one_batch_is_normalised_exactly() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2, eps=1e-12)).eval()
    (batch,) = image_batches(64)
    recalibrate(network, [batch])
    output = network(batch)
    torch.testing.assert_close(output.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.var(dim=(0, 2, 3)), torch.ones(2))


def test_a_second_layer_is_measured_on_the_normalised_output_of_the_first() -> None:
    torch.manual_seed(0)
    first, conv, second = nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    (batch,) = image_batches(64)
    recalibrate(nn.Sequential(first, conv, second), [batch])
    mean, var = batch.mean(dim=(0, 2, 3)), batch.var(dim=(0, 2, 3), unbiased=False)
    shape = (1, -1, 1, 1)
    with torch.no_grad():
        inner = conv((batch - mean.view(shape)) / (var.view(shape) + first.eps).sqrt())
    torch.testing.assert_close(second.running_mean, inner.mean(dim=(0, 2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(second.running_var, inner.var(dim=(0, 2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_modes_momenta_and_weights_are_as_they_were(training: bool) -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(2, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm2d(2, momentum=None)
    ).train(training)
    network[2].train(not training)
    weights = {k: p.detach().clone() for k, p in network.named_parameters()}
    recalibrate(network, image_batches(8, 8))
    assert [m.training for m in network] == [training, training, not training]
    assert network.training is training
    assert (network[0].momentum, network[2].momentum) == (0.3, None)
    assert all(torch.equal(weights[k], p) for k, p in network.named_parameters())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_dropout_is_off_while_statistics_are_measured() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(2)).train()
    (batch,) = image_batches(32)
    recalibrate(network, [batch])
    torch.testing.assert_close(network[1].running_mean, batch.mean(dim=(0, 2, 3)))


def test_a_network_without_batch_norm_is_not_run() -> None:
    def batches() -> Tensor:
        raise AssertionError("nothing to measure")

    network = nn.Sequential(nn.LayerNorm(4))
    recalibrate(network, iter(batches, None))


def test_an_error_in_a_batch_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3)).eval()
    with pytest.raises(ValueError, match="4D"):
        recalibrate(network, [torch.zeros(2)])
    assert (network[0].momentum, network[0].training) == (0.3, False)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3 * SCORING_BATCH), st.integers(0, 2**32 - 1))
def test_accuracy_is_the_share_of_right_labels_whatever_the_size(n: int, seed: int) -> None:
    shown = torch.randint(0, 10, (n,), generator=seeded(seed))
    labels = torch.where(torch.rand(n, generator=seeded(seed + 1)) < 0.6, shown, (shown + 1) % 10)
    split = Split(greys(shown), labels)
    share = accuracy(Brightness(10), split, PLAIN, 4)
    assert share == int((shown == labels).sum()) / n


@pytest.mark.parametrize("n", [1, SCORING_BATCH - 1, SCORING_BATCH, SCORING_BATCH + 1])
def test_a_single_wrong_label_shows_wherever_it_is(n: int) -> None:
    labels = torch.arange(n) % 10
    for wrong in {0, n // 2, n - 1}:
        given_labels = labels.clone()
        given_labels[wrong] = (labels[wrong] + 1) % 10
        split = Split(greys(labels), given_labels)
        assert accuracy(Brightness(10), split, PLAIN, 4) == (n - 1) / n


@pytest.mark.parametrize("training", [True, False])
def test_scoring_evaluates_and_leaves_the_mode(training: bool) -> None:
    network = Brightness(10).train(training)
    labels = torch.arange(300) % 10
    assert accuracy(network, Split(greys(labels), labels), PLAIN, 4) == 1.0
    assert network.training is network.dropout.training is training


def test_images_are_normalised_and_resized_for_the_network() -> None:
    seen = []

    class Sees(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return super().forward(x)

    labels = torch.arange(30) % 10
    normalisation = Normalisation((0.25,), (0.5,))
    images = greys(labels, size=8)
    accuracy(Sees(10), Split(images, labels), normalisation, 6)
    torch.testing.assert_close(torch.cat(seen), prepare(images, normalisation, 6))
    assert seen[0].shape == (30, 1, 6, 6)


def test_calibration_batches_are_all_images_in_order() -> None:
    images = torch.randint(0, 256, (2 * SCORING_BATCH + 3, 1, 8, 8), generator=seeded(0)).byte()
    batches = list(calibration_batches(images, PLAIN, 6, CPU))
    assert [len(b) for b in batches] == [SCORING_BATCH, SCORING_BATCH, 3]
    torch.testing.assert_close(torch.cat(batches), prepare(images, PLAIN, 6))


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny"])
def test_inherited_accuracy_is_that_of_the_recalibrated_subnet(name: str) -> None:
    torch.manual_seed(0)
    supernet = Supernet(load_space(name, channels=1)).train()
    space = supernet.space
    images = torch.randint(0, 256, (100, 1, 8, 8), generator=seeded(0)).byte()
    split = Split(images[:60], torch.arange(60) % 10)
    classes = tuple("0123456789")
    data = ImageData("noise", split, split, split, classes, PLAIN.mean, PLAIN.std, ())
    score = InheritedAccuracy(supernet, data, images[60:])
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    for arch in space.decode(space.sample(2, 0)):
        network = supernet.extract(arch)
        size = space.input_shape(arch)[-1]
        recalibrate(network, [prepare(images[60:], PLAIN, size)])
        network.eval()
        with torch.no_grad():
            expected = network(prepare(split.images, PLAIN, size))
            recalibrated = score.recalibrated(arch)
            assert not any(m.training for m in recalibrated.modules())
            inside = recalibrated(prepare(split.images, PLAIN, size))
        torch.testing.assert_close(inside, expected, rtol=1e-4, atol=1e-5)
        share = int((expected.argmax(1) == split.labels).sum()) / 60
        assert score(arch) == score(arch) == {"accuracy": pytest.approx(share, abs=1.5 / 60)}
    assert supernet.training
    assert all(torch.equal(before[key], v) for key, v in supernet.state_dict().items())
