"""Distillation losses: a student's predictions against a teacher's.

Knows the logits of two networks. Does not know which networks they are (`supernet/sandwich.py`,
`network.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evaluators.data.scoring import cross_entropy
from nas.run.specification import Distillation

ALPHAS = (-1.0, 1.0)
"""The two divergences of which the larger is used (Wang et al., "AlphaNet", 2021, section 3.2)."""

CLIP = 5.0
"""Largest weight of a class: without it the gradient would explode where the student's probability
is tiny (the same paper, equation 8)."""


def soft_cross_entropy(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross-entropy of logits against the teacher's probabilities.

    Its gradient is that of the Kullback-Leibler divergence of the two.

    Args:
        logits: of the student, `(batch, classes)` or `(batch, tokens, vocabulary)`.
        teacher: logits of the teacher, of the same shape or with more tokens.
    """
    return cross_entropy(logits, teacher.detach().softmax(-1))


def adaptive_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """A loss with the gradient of the larger of two clipped α-divergences, chosen per sample.

    One penalises a student that underestimates what the teacher finds probable, the other a student
    that overestimates what the teacher finds improbable (Wang et al., "AlphaNet: Improved training
    of supernets with alpha-divergence", 2021, equations 5-9). With teacher p, student q and
    `w = p / q` the divergence is `E_q[(w^α - 1)] / (α (α - 1))`, and its gradient that of
    `-Σ q w^α log q / α` with `q w^α` held constant; `w^α` is clipped in both.

    Args:
        logits: of the student, `(batch, classes)` or `(batch, tokens, vocabulary)`.
        teacher: logits of the teacher, of the same shape or with more tokens.

    Returns:
        The mean over samples. Only its gradient is meaningful.
    """
    if logits.dim() == 3:
        teacher = teacher[:, : logits.shape[1]]
    log_p, log_q = teacher.detach().log_softmax(-1), logits.log_softmax(-1)
    q, log_w = log_q.detach().exp(), log_p - log_q.detach()
    values, surrogates = [], []
    for alpha in ALPHAS:
        if alpha == 1:
            p = log_p.exp()
            values.append((p * log_w).sum(-1))
            surrogates.append(-(p * log_q).sum(-1))
            continue
        weight = (alpha * log_w).exp().clamp(max=CLIP)
        values.append((q * (weight - 1)).sum(-1) / (alpha * (alpha - 1)))
        surrogates.append(-(q * weight * log_q).sum(-1) / alpha)
    return torch.where(values[0] > values[1], surrogates[0], surrogates[1]).mean()


LOSSES: dict[Distillation, Callable[[Tensor, Tensor], Tensor]] = {
    "soft": soft_cross_entropy,
    "alpha": adaptive_divergence,
}
"""Distillation losses by name: `(student's logits, teacher's logits) -> loss`."""
