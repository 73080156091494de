"""A network of the space mobilenet-tiny for digits.

It takes images (batch, 1, 8, 8), float32 from 0 to 1, less (0.305503), divided by (0.375974),
and gives a logit for each of 10 classes.

83,088 multiply-accumulates for one sample and 11,554 parameters. FLOPs are multiply-accumulates
(1 MAC = 1 FLOP) of convolutions, linear layers and attention products, for one sample; memory
is the peak of its fp32 activations.

    network = load()  # with the weights beside this file
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F


class Stem(nn.Module):
    """Block stem."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = nn.ModuleDict(
            {
                "conv": nn.Conv2d(1, 8, 3, padding=1, bias=False),
                "norm": nn.BatchNorm2d(8),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """To `(batch, 8, 8, 8)`."""
        return F.hardswish(self.ops.norm(self.ops.conv(x)))


class Layer(nn.Module):
    """Block stage0_layer0."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = nn.ModuleDict(
            {
                "depthwise": nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False),
                "depthwise_norm": nn.BatchNorm2d(8),
                "project": nn.Conv2d(8, 8, 1, bias=False),
                "project_norm": nn.BatchNorm2d(8),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """To `(batch, 8, 8, 8)`."""
        x = F.relu(self.ops.depthwise_norm(self.ops.depthwise(x)))  # 8, 8, 8
        return self.ops.project_norm(self.ops.project(x))


class LayerExpandSe(nn.Module):
    """Blocks stage1_layer0, stage2_layer0."""

    def __init__(
        self,
        in_channels: int,
        expand_channels: int,
        kernel: int,
        se_reduce_features: int,
        project_channels: int,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.activation = activation
        self.ops = nn.ModuleDict(
            {
                "expand": nn.Conv2d(in_channels, expand_channels, 1, bias=False),
                "expand_norm": nn.BatchNorm2d(expand_channels),
                "depthwise": nn.Conv2d(
                    expand_channels,
                    expand_channels,
                    kernel,
                    stride=2,
                    padding=kernel // 2,
                    groups=expand_channels,
                    bias=False,
                ),
                "depthwise_norm": nn.BatchNorm2d(expand_channels),
                "se_reduce": nn.Linear(expand_channels, se_reduce_features),
                "se_expand": nn.Linear(se_reduce_features, expand_channels),
                "project": nn.Conv2d(expand_channels, project_channels, 1, bias=False),
                "project_norm": nn.BatchNorm2d(project_channels),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """To `(batch, project_channels, h, h)`."""
        x = self.activation(self.ops.expand_norm(self.ops.expand(x)))  # expand_channels, h, h
        x = self.activation(self.ops.depthwise_norm(self.ops.depthwise(x)))  # expand_channels, h, h
        y = x.mean(dim=(2, 3))  # expand_channels
        y = F.relu(self.ops.se_reduce(y))  # se_reduce_features
        x = x * F.hardsigmoid(self.ops.se_expand(y))[:, :, None, None]  # expand_channels, h, h
        return self.ops.project_norm(self.ops.project(x))


class Head(nn.Module):
    """Block head."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = nn.ModuleDict(
            {
                "conv": nn.Conv2d(32, 128, 1, bias=False),
                "norm": nn.BatchNorm2d(128),
                "classifier": nn.Linear(128, 10),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """To `(batch, 10)`."""
        x = F.hardswish(self.ops.norm(self.ops.conv(x))).mean(dim=(2, 3))  # 128
        return self.ops.classifier(x)


class Network(nn.Module):
    """Network bf2153992990 of the space mobilenet-tiny."""

    def __init__(self) -> None:
        super().__init__()
        blocks: dict[str, nn.Module] = {}
        blocks["stem"] = Stem()  # 8x8x8
        blocks["stage0_layer0"] = Layer()  # 8x8x8
        blocks["stage1_layer0"] = LayerExpandSe(8, 32, 3, 8, 12, F.relu)  # 12x4x4
        blocks["stage2_layer0"] = LayerExpandSe(12, 36, 5, 16, 32, F.hardswish)  # 32x2x2
        blocks["head"] = Head()  # 10
        self.blocks = nn.ModuleDict(blocks)

    def forward(self, images: Tensor) -> Tensor:
        """`(batch, 1, 8, 8)` to `(batch, 10)`."""
        x = images
        for block in self.blocks.values():
            x = block(x)
        return x


def load(folder: str | Path | None = None) -> Network:
    """The network with the weights beside this file, or in `folder`, in evaluation mode."""
    from safetensors.torch import load_file

    file = Path(folder or Path(__file__).parent) / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"no {file}: Network() is the network without its weights")
    weights = load_file(file)
    network = Network()
    network.load_state_dict(weights)
    return network.eval()
