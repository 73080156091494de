"""One batch for networks of every input shape of a space, and the loss of what they give.

Images are resized, token sequences cut to their first tokens. Does not know how a batch came about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.data.augmentation import resize
from search_spaces.ops import Shape

if TYPE_CHECKING:
    pass


def fitted(inputs: Tensor, shape: Shape) -> Tensor:
    """A batch as a network of another input shape takes it.

    Args:
        inputs: images `(batch, channels, size, size)` or token ids `(batch, tokens)`.
        shape: of one sample, `(channels, size, size)` or `(tokens,)`; no more tokens than given.
    """
    return inputs[:, : shape[0]] if len(shape) == 1 else resize(inputs, shape[-1])


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats, over samples or over all of their tokens.

    Args:
        logits: `(batch, classes)` or `(batch, tokens, vocabulary)`.
        targets: labels `(batch,)` or probabilities `(batch, classes)`, or those of each token:
            `(batch, at least tokens)` or `(batch, at least tokens, vocabulary)`. A causal network
            that is given the first tokens predicts what a longer one does there, so targets
            beyond them are left out.
    """
    if logits.dim() == 3:
        targets = targets[:, : logits.shape[1]].flatten(0, 1)
        logits = logits.flatten(0, 1)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


SCORING_BATCH = 256


@torch.no_grad()
def share_right(network: nn.Module, batches: Iterable[Tensor], labels: Tensor) -> float:
    """Share of the samples that the network labels rightly; it is left in the mode that it is in.

    Args:
        batches: inputs as the network takes them, on its device.
        labels: of all of them, `(n,)`.
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
