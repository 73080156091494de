"""Images in memory: subsets, batches of inputs, and accuracy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluators.data.augmentation import Normalisation, prepare
from evaluators.data.images import Split, accuracy, input_batches, subset
from evaluators.data.scoring import SCORING_BATCH

PLAIN = Normalisation((0.0,), (1.0,))
CPU = torch.device("cpu")
LAW = settings(deadline=None)
"""Deadlines are off, since durations on shared machines vary."""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Brightness(nn.Module):
    """Classifies images of one grey by the grey; a dropout reveals training mode."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.arange(classes).float())
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        grey = 255 * x.mean(dim=(1, 2, 3))
        return self.dropout(1 / (1 + (grey[:, None] - self.classes).abs()))


def greys(labels: Tensor, size: int = 4) -> Tensor:
    return labels.to(torch.uint8)[:, None, None, None].expand(-1, 1, size, size).clone()


@LAW
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 99))
def test_a_subset_has_no_image_twice_and_follows_from_its_seed(n: int, count: int, s: int) -> None:
    split = Split(torch.arange(n).view(n, 1, 1, 1), torch.arange(n))
    chosen = subset(split, count, s)
    assert len(chosen) == min(n, count) == len(set(chosen.labels.tolist()))
    assert torch.equal(chosen.labels, subset(split, count, s).labels)
    assert torch.equal(chosen.images.flatten(), chosen.labels)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3 * SCORING_BATCH), st.integers(0, 2**32 - 1))
def test_accuracy_is_the_share_of_right_labels_whatever_the_size(n: int, seed: int) -> None:
    classes = torch.randint(0, 10, (n,), generator=seeded(seed))
    labels = torch.where(
        torch.rand(n, generator=seeded(seed + 1)) < 0.6, classes, (classes + 1) % 10
    )
    split = Split(greys(classes), labels)
    share = accuracy(Brightness(10), split, PLAIN, 4)
    assert share == int((classes == labels).sum()) / n


@pytest.mark.parametrize("n", [1, SCORING_BATCH - 1, SCORING_BATCH, SCORING_BATCH + 1])
def test_a_single_wrong_label_is_counted_wherever_it_is(n: int) -> None:
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


def test_input_batches_are_all_images_in_order() -> None:
    images = torch.randint(0, 256, (2 * SCORING_BATCH + 3, 1, 8, 8), generator=seeded(0)).byte()
    batches = list(input_batches(images, PLAIN, 6, CPU))
    assert [len(b) for b in batches] == [SCORING_BATCH, SCORING_BATCH, 3]
    torch.testing.assert_close(torch.cat(batches), prepare(images, PLAIN, 6))
