"""The loss of a network with a teacher."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.training.loop import Recipe
from nas.training.network import Teacher, distilled_backward


class Fixed(nn.Module):
    """The same logits for every sample."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_gradient_is_between_those_of_the_labels_and_of_the_teacher(
    share: float, temperature: float
) -> None:
    network, teacher = Fixed(2.0, 0.0, -1.0), Fixed(0.0, 3.0, 1.0)
    taught = Teacher(teacher, (1, 1, 1), share, temperature)
    recipe = Recipe(1.0, label_smoothing=0.1)
    step = distilled_backward(network, (1, 1, 1), taught, recipe)
    labels = torch.tensor([1, 1])
    loss = step(torch.zeros(2, 1, 1, 1), labels, 0)
    logits = network.logits.detach()
    smoothed = torch.tensor([0.1, 0.1, 0.1]) / 3 + 0.9 * F.one_hot(torch.tensor(1), 3)
    heated = (logits / temperature).softmax(0) - (teacher.logits / temperature).softmax(0)
    expected = (1 - share) * (logits.softmax(0) - smoothed) + share * temperature * heated
    assert network.logits.grad is not None
    assert network.logits.grad.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert teacher.logits.grad is None
    whole = -(smoothed * logits.log_softmax(0)).sum()
    assert loss == pytest.approx(float(whole), abs=1e-6)
