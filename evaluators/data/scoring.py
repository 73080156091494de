"""Adapts batches to the input shape of a network, and computes loss and accuracy of its logits.

Images are resized, token sequences cut to their first tokens. Knows tensors. Does not know data
sets.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.data.augmentation import resize
from search_spaces.ops import Shape

SCORING_BATCH = 256
"""Samples per batch in scoring."""


def fit_to_shape(inputs: Tensor, shape: Shape) -> Tensor:
    """Adapt a batch to another input shape.

    Args:
        inputs: images `(batch, channels, size, size)` or token ids `(batch, tokens)`.
        shape: of one sample, `(channels, size, size)` or `(tokens,)`, at most as many as given.
    """
    return inputs[:, : shape[0]] if len(shape) == 1 else resize(inputs, shape[-1])


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats, over samples or over all their tokens.

    Args:
        logits: `(batch, classes)` or `(batch, tokens, vocabulary)`.
        targets: labels `(batch,)` or probabilities `(batch, classes)`; for tokens, labels
            `(batch, t)` or probabilities `(batch, t, vocabulary)` with `t` at least `tokens`. A
            causal network on the first tokens has the same targets there as on all of them, so
            targets beyond them are left out.
    """
    if logits.dim() == 3:
        targets = targets[:, : logits.shape[1]].flatten(0, 1)
        logits = logits.flatten(0, 1)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


@torch.no_grad()
def share_correct(network: nn.Module, batches: Iterable[Tensor], labels: Tensor) -> float:
    """Share of the samples that the network classifies correctly; its mode is restored.

    Args:
        batches: inputs of the network, on its device.
        labels: of all inputs, `(n,)`.
    """
    training = network.training
    network.eval()
    right = start = 0
    for inputs in batches:
        expected = labels[start : start + len(inputs)].to(inputs.device)
        start += len(inputs)
        right += int((network(inputs).argmax(dim=1) == expected).sum())
    network.train(training)
    return right / len(labels)
