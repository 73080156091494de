"""Batches adapted to other input shapes, and the loss of logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from evaluators.data.augmentation import resize
from evaluators.data.scoring import cross_entropy, fit_to_shape


def test_images_are_resized_and_token_sequences_cut() -> None:
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(fit_to_shape(images, (3, 6, 6)), resize(images, 6))
    tokens = torch.arange(20).view(2, 10)
    assert fit_to_shape(tokens, (4,)).tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]
    assert fit_to_shape(tokens, (10,)).equal(tokens)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_tokens_is_the_mean_over_all_of_them(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 4, 7), torch.randint(7, (3, 4))
    each = [
        F.cross_entropy(logits[i, t], targets[i, t], label_smoothing=smoothing)
        for i in range(3)
        for t in range(4)
    ]
    given = cross_entropy(logits, targets, smoothing)
    torch.testing.assert_close(given, torch.stack(each).mean())


def test_targets_beyond_a_shorter_context_do_not_count() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 2, 7), torch.randint(7, (3, 5))
    soft = torch.randn(3, 5, 7).softmax(dim=-1)
    for wanted in (targets, soft):
        torch.testing.assert_close(
            cross_entropy(logits, wanted), cross_entropy(logits, wanted[:, :2])
        )


def test_the_loss_of_labels_is_torchs() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 7), torch.randint(7, (5,))
    torch.testing.assert_close(
        cross_entropy(logits, labels, 0.1), F.cross_entropy(logits, labels, label_smoothing=0.1)
    )
