"""Estimate the latency of blocks from a datasheet by the roofline model, without measurements.

The time of a kernel is the larger of its arithmetic and its memory traffic, plus a launch overhead
(Williams, Waterman and Patterson, "Roofline", 2009):

    seconds = max(2 * macs * batch / (peak * u), bytes / (bandwidth * u_b)) + launch

`bytes` and the fusion of ops into kernels are computed by `traffic.py`. No network reaches the
figures of a datasheet: `u` and `u_b` are the shares of them that `UTILISATION` assumes for each
kind of device. They affect all estimates of a device alike, so the ranking of architectures is
determined by products, bytes and kernels. If a latency itself is a budget, measure the device
instead.

Knows datasheets and kernels. Does not know caches (every kernel reads memory), layouts, or that
wide layers have a higher utilisation than narrow ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from hardware_profiles.device import Device, DeviceKind, Figure, Precision
from hardware_profiles.latency.protocol import Origin
from hardware_profiles.latency.traffic import Kernel, kernels
from search_spaces.errors import UserError
from search_spaces.ops import Op

BYTES_PER_ELEMENT: Mapping[Precision, int] = {
    "fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1,
}  # fmt: skip
"""Bytes of an activation or weight in memory, by precision."""

PREFERRED_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "fp8", "int8")
"""Order of precisions for the default: the first for which the device has a figure."""


@dataclass(frozen=True)
class Utilisation:
    """Assumed share of a datasheet's peaks that convolutions of common sizes reach."""

    compute: float
    bandwidth: float
    launch_seconds: float
    """Overhead per kernel, if the device's file does not specify one."""


UTILISATION: Mapping[DeviceKind, Utilisation] = {
    # BabelStream reaches 0.8 to 0.9 of a GPU's bandwidth (Deakin et al., 2018) with large arrays;
    # a short kernel followed by another takes about 4 us more than its work (Gray, "Getting
    # Started with CUDA Graphs", NVIDIA, 2019).
    "gpu": Utilisation(0.5, 0.75, 4e-6),
    # The network is one program, so launching a kernel is a jump.
    "tpu": Utilisation(0.5, 0.75, 1e-6),
    "npu": Utilisation(0.4, 0.6, 10e-6),
    # From times of onnxruntime for 30 networks each of mobilenet-cifar and mobilenet-imagenet on
    # two cores of an EPYC, relative to that machine's measured peaks; caches help small networks.
    "cpu": Utilisation(0.7, 0.7, 2e-6),
    # LPDDR is shared with all other processors: copies on a Raspberry Pi 4 reach a third.
    "board": Utilisation(0.3, 0.4, 10e-6),
    # The clock falls with heat, and a driver runs between the kernels of its GPU.
    "phone": Utilisation(0.3, 0.5, 20e-6),
}
"""Assumed utilisation by kind of device: round numbers, with their grounds in comments."""


class Roofline:
    """A `Latency` estimated from a device's datasheet.

    Example:
        >>> latency = Roofline(load_device("V100"), batch=32)
        >>> CostTables(space, prices={"latency_ms_V100": latency.milliseconds})
    """

    def __init__(
        self, device: Device, *, precision: Precision | None = None, batch: int = 1
    ) -> None:
        """Create the estimate for a device.

        Args:
            device: the device's datasheet.
            precision: precision of weights, activations and arithmetic; by default the first of
                `PREFERRED_PRECISIONS` with a figure in the datasheet (fp32, except on a TPU).
            batch: number of samples per inference, whose latency is estimated.

        Raises:
            UserError: if the device has no figure for the precision, or the batch is below 1.
        """
        if batch < 1:
            raise UserError(f"batch = {batch}: expected at least 1")
        figures = device.peak_flops
        if precision is None:
            precision = next((p for p in PREFERRED_PRECISIONS if p in figures), next(iter(figures)))
        if precision not in figures:
            known = ", ".join(p for p in get_args(Precision) if p in figures)
            raise UserError(f"{device.name} has no {precision} figure: expected one of {known}")
        self.profile = device
        self.precision: Precision = precision
        self.batch = batch

    @property
    def device(self) -> str:
        """The device's name."""
        return self.profile.name

    @property
    def origin(self) -> Origin:
        """Always `estimate`."""
        return "estimate"

    @property
    def summary(self) -> str:
        """Grounds of the estimate, in one line."""
        utilisation = UTILISATION[self.profile.kind]
        measured = self.profile.peak_flops[self.precision].confidence == "measured"
        return (
            f"estimate from the {'measured peaks' if measured else 'datasheet'} of {self.device} "
            f"({self.precision}, batch {self.batch}, roofline at {utilisation.compute:.0%} of its "
            f"arithmetic and {utilisation.bandwidth:.0%} of its bandwidth, "
            f"{self.launch_seconds * 1e6:g} us a kernel)"
        )

    @property
    def launch_seconds(self) -> float:
        """Overhead per kernel: the device's figure, or the assumption for its kind."""
        figure: Figure | None = self.profile.launch_seconds
        return figure.value if figure is not None else UTILISATION[self.profile.kind].launch_seconds

    def milliseconds(self, ops: Sequence[Op]) -> float:
        """Return the latency of a block of these ops for one inference of `batch` samples."""
        return 1e3 * sum(self.seconds(kernel) for kernel in kernels(ops))

    def seconds(self, kernel: Kernel) -> float:
        """Return the time of one kernel in seconds, including its launch."""
        utilisation = UTILISATION[self.profile.kind]
        peak = self.profile.peak_flops[self.precision].value
        bandwidth = self.profile.bandwidth_bytes_per_s.value
        elements = self.batch * (kernel.read + kernel.written) + kernel.weights
        arithmetic = 2 * kernel.macs * self.batch / (peak * utilisation.compute)
        traffic = elements * BYTES_PER_ELEMENT[self.precision] / (bandwidth * utilisation.bandwidth)
        return max(arithmetic, traffic) + self.launch_seconds
