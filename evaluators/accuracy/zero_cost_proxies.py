"""Zero-cost proxies: scores of an untrained network from one or two passes.

Each is a function of a network and one batch, and more is better. The network is copied first, so
its weights, gradients, statistics and training mode do not change; neither does torch's random
state. A network through which nothing flows has the worst finite score; no score is NaN. Knows
torch modules. Does not know spaces, nor how good a proxy is on one (`benchmarks/zero_cost.py`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces.errors import UserError

Proxy = Callable[[nn.Module, Tensor, Tensor], float]
"""`(network, inputs, labels) -> score`, with inputs `(batch, ...)` of the network and labels
`(batch,)` int64."""

MIN_SYNFLOW = math.log(torch.finfo(torch.float64).tiny)
MAX_SYNFLOW = math.log(torch.finfo(torch.float64).max)
"""Bounds of `synflow`: logarithms of the smallest and the largest float64."""

MIN_EIGENVALUE = 1e-3
"""Smaller eigenvalues of `naswot`'s kernel are rounding errors: its entries are whole numbers."""

JITTER = 1e-5
"""Added to the eigenvalues in `jacob_cov`, as by its authors."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)

_aten: Any = torch.ops.aten
_ACTIVATIONS = {
    *(_aten.relu.default, _aten.relu_.default, _aten.hardtanh.default, _aten.hardtanh_.default),
    *(_aten.leaky_relu.default, _aten.leaky_relu_.default, _aten.elu.default, _aten.elu_.default),
    *(_aten.hardswish.default, _aten.hardswish_.default, _aten.silu.default, _aten.silu_.default),
    *(_aten.gelu.default, _aten.mish.default, _aten.tanh.default, _aten.softplus.default),
    *(_aten._prelu_kernel.default, _aten.relu6.default),
}


def synflow(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Logarithm of the synaptic flow, `log sum |dR/dw * w|` with `R = 1^T prod |w| 1`.

    Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
    flow", 2020, summed over all weights and with normalisations left out, as Abdelfattah et al.
    (2021) do. In double precision; of the inputs only the shape matters. Between `MIN_SYNFLOW`
    (nothing flows) and `MAX_SYNFLOW` (overflow).
    """
    with _copied(network, training=False) as net:
        net = _without_norms(net).double()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.abs_()
        weights = _weights(net)
        ones = torch.ones_like(inputs[:1])
        total = net(ones.double() if ones.is_floating_point() else ones).sum()
        if total.requires_grad:
            total.backward()
        with torch.no_grad():
            flow = sum(float((w * w.grad).abs().sum()) for w in weights if w.grad is not None)
    if not math.isfinite(flow):
        return MAX_SYNFLOW
    return min(max(math.log(flow), MIN_SYNFLOW), MAX_SYNFLOW) if flow > 0 else MIN_SYNFLOW


def naswot(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Log-determinant of the kernel of activation codes, `log |K|`, `K_ij = N - hamming(c_i, c_j)`.

    Mellor et al., "Neural Architecture Search without Training", 2021.
    The code of an image is the set of active units. For activations other than ReLU (GELU, SiLU,
    hard swish and the like) a unit is active if its input is positive, the side on which all of
    these pass it; gates (sigmoids, the softmax of attention) and normalisations are not units.
    Eigenvalues below `MIN_EIGENVALUE` are raised to it. A network with the same code for all
    images, such as one without units, has the worst score, `batch * log(MIN_EIGENVALUE)`.
    """
    with _copied(network, training=True) as net, torch.no_grad(), _Codes(len(inputs)) as codes:
        net(inputs)
    n = len(inputs)
    worst = n * math.log(MIN_EIGENVALUE)
    # A constant kernel: all images have one code.
    if codes.units == 0 or bool((codes.kernel == codes.kernel[0, 0]).all()):
        return worst
    eigenvalues = torch.linalg.eigvalsh(codes.kernel)
    return float(eigenvalues.clamp_min(MIN_EIGENVALUE).log().sum())


def zico(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """`sum over layers log sum over weights E|g| / sqrt(Var|g|)`, g a batch's gradient of the loss.

    Li et al., "ZiCo: Zero-shot NAS via inverse coefficient of variation on gradients", 2023. Mean
    and variance are over two batches, as the authors use: the halves of the given one. Weights with
    equal gradients in both, such as zero ones, are left out, and so are layers with only such
    weights; with no layer left the score is 0, the worst.

    Raises:
        UserError: for a batch of one image.
    """
    halves = list(zip(inputs.chunk(2), labels.chunk(2), strict=True))
    if len(halves) < 2:
        raise UserError("zico needs a batch of at least two images")
    with _copied(network, training=True) as net:
        weights = _weights(net)
        found = [_gradients(net, weights, *half) for half in halves]
        score = 0.0
        for first, second in zip(*found, strict=True):
            a, b = first.abs().double(), second.abs().double()
            differs = (a != b) & torch.isfinite(a + b)
            # Of two values the mean is (a + b) / 2 and the standard deviation |a - b| / 2.
            total = float(((a + b) / (a - b).abs())[differs].sum())
            if 0 < total < math.inf:
                score += math.log(total)
    return score


def jacob_cov(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Dissimilarity of the images' Jacobians: `-sum(log(v + k) + 1 / (v + k))`.

    `v` are the eigenvalues of the correlations between images of the derivatives of the summed
    logits with respect to the pixels, `k` is `JITTER`. Mellor et al., "Neural Architecture Search
    without Training", 2020 (the first version); so in Abdelfattah et al., 2021. An image with zero
    derivative contributes an eigenvalue of 0, so a network through which nothing flows has the
    worst score.

    Raises:
        UserError: if the inputs are integers (tokens), which have no derivative.
    """
    if not inputs.is_floating_point():
        raise UserError(
            "jacob_cov differentiates with respect to inputs: it needs images, not tokens"
        )
    with _copied(network, training=True) as net:
        pixels = inputs.detach().clone().requires_grad_()
        output = net(pixels).sum()
        if output.requires_grad:
            (jacobian,) = torch.autograd.grad(output, pixels, allow_unused=True)
        else:
            jacobian = None
    rows = torch.zeros_like(inputs) if jacobian is None else jacobian
    rows = torch.nan_to_num(rows.double(), 0.0, 0.0, 0.0).flatten(1)
    # Scaled to the largest entry first, so that no square underflows or overflows.
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-300)
    rows = rows - rows.mean(dim=1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    rows = torch.where(norms > 1e-9, rows / norms.clamp_min(1e-9), 0.0)
    eigenvalues = torch.linalg.eigvalsh(rows @ rows.T).clamp_min(0) + JITTER
    return -float((eigenvalues.log() + 1 / eigenvalues).sum())


def grad_norm(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Sum over layers of the Euclidean norm of the gradient of the loss, on one batch.

    Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", 2021. 0 is the worst.
    """
    with _copied(network, training=True) as net:
        found = _gradients(net, _weights(net), inputs, labels)
        total = sum(float(g.double().norm()) for g in found)
    return total if math.isfinite(total) else float(torch.finfo(torch.float32).max)


PROXIES: dict[str, Proxy] = {
    "synflow": synflow,
    "naswot": naswot,
    "zico": zico,
    "jacob_cov": jacob_cov,
    "grad_norm": grad_norm,
}


class _Codes(TorchDispatchMode):
    """Context that accumulates the kernel of the activation codes of the networks run in it.

    It intercepts torch's operators, so modules and functions are treated alike.
    """

    def __init__(self, images: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernel = torch.zeros(images, images, dtype=torch.float64)
        self.units = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _ACTIVATIONS and len(args[0]) == len(self.kernel):
            active = (args[0] > 0).flatten(1).float()
            # Units active in both images plus units inactive in both: sums of fewer than 2^24
            # ones, exact in single precision.
            agree = active @ active.T + (1 - active) @ (1 - active).T
            self.kernel += agree.double().cpu()
            self.units += active.shape[1]
        return func(*args, **(kwargs or {}))


@contextmanager
def _copied(network: nn.Module, *, training: bool) -> Iterator[nn.Module]:
    """A copy of a network without gradients; torch's random state is restored at the end."""
    devices = {p.device for p in network.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), torch.enable_grad():
        torch.manual_seed(0)  # for dropout
        net = copy.deepcopy(network).train(training)
        for parameter in net.parameters():
            parameter.grad = None
            parameter.requires_grad_(parameter.is_floating_point())
        yield net


def _weights(network: nn.Module) -> list[nn.Parameter]:
    """Matrices and kernels: no proxy uses biases and parameters of normalisations."""
    return [p for p in network.parameters() if p.dim() > 1]


def _without_norms(network: nn.Module) -> nn.Module:
    """Replace every normalisation of a network by the identity, in place."""
    if isinstance(network, _NORMS):
        return nn.Identity()
    for name, child in network.named_children():
        network._modules[name] = _without_norms(child)
    return network


def _gradients(
    network: nn.Module, weights: list[nn.Parameter], inputs: Tensor, labels: Tensor
) -> list[Tensor]:
    """Gradient of the cross-entropy with respect to each weight; zeros where there is none."""
    loss = F.cross_entropy(network(inputs), labels)
    if not weights or not loss.requires_grad:
        return [torch.zeros_like(w) for w in weights]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return [
        torch.zeros_like(w) if g is None else torch.nan_to_num(g, 0.0, 0.0, 0.0)
        for w, g in zip(weights, found, strict=True)
    ]
