"""The estimate from a datasheet: a block's latency by the roofline, without any measurement.

Each kernel takes as long as the slower of its arithmetic and its traffic, and a start (Williams,
Waterman and Patterson, "Roofline", 2009):

    seconds = max(2 * macs * batch / (peak * u), bytes / (bandwidth * u_b)) + launch

`bytes` are those of `traffic.py`, which also says what is fused into what. No network reaches a
datasheet's figures: `u` and `u_b` are the shares of them that `SHARES` assumes for each kind of
device. They move every estimate of a device alike, so architectures are ordered by what does not
depend on them: products, bytes and kernels. Where a latency itself is a budget, measure.

Knows datasheets and kernels. Does not know caches (every kernel reads memory), layouts, or that
wide layers use more of a device than narrow ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from hardware_profiles.device import Device, Figure, Kind, Precision
from hardware_profiles.latency.protocol import Origin
from hardware_profiles.latency.traffic import Kernel, kernels
from search_spaces.errors import UserError
from search_spaces.ops import Op

BYTES: Mapping[Precision, int] = {
    "fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1,
}  # fmt: skip
"""Of an activation or weight in memory, by precision."""

PREFERRED: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "fp8", "int8")
"""Where none is asked for: the first that the device has a figure of."""


@dataclass(frozen=True)
class Shares:
    """What a kind of device reaches of its datasheet in convolutions of usual sizes."""

    compute: float
    bandwidth: float
    launch_seconds: float
    """From one kernel to the next, where the device's file does not say."""


SHARES: Mapping[Kind, Shares] = {
    # BabelStream reaches 0.8 to 0.9 of a GPU's bandwidth (Deakin et al., 2018) with large arrays;
    # a short kernel followed by another takes about 4 us longer than its work (Gray, "Getting
    # Started with CUDA Graphs", NVIDIA, 2019).
    "gpu": Shares(0.5, 0.75, 4e-6),
    # One program for the whole network, so starting a kernel is a jump.
    "tpu": Shares(0.5, 0.75, 1e-6),
    "npu": Shares(0.4, 0.6, 10e-6),
    # What onnxruntime took for 30 networks each of mobilenet-cifar and mobilenet-imagenet on two
    # cores of an EPYC, against that machine's measured peaks; caches help small networks.
    "cpu": Shares(0.7, 0.7, 2e-6),
    # LPDDR shared with everything else: copies on a Raspberry Pi 4 reach a third.
    "board": Shares(0.3, 0.4, 10e-6),
    # Clocks that fall with heat, and a driver between the kernels of its GPU.
    "phone": Shares(0.3, 0.5, 20e-6),
}
"""Assumptions: round numbers, with what speaks for them."""


class Roofline:
    """Latency of blocks on a device that only its datasheet describes; a `Latency`.

    Example:
        >>> latency = Roofline(load_device("V100"), batch=32)
        >>> CostTables(space, prices={"latency_ms_V100": latency.milliseconds})
    """

    def __init__(
        self, device: Device, *, precision: Precision | None = None, batch: int = 1
    ) -> None:
        """Estimate for a device.

        Args:
            precision: of weights, activations and arithmetic; by default fp32, or where the
                datasheet has none (a TPU), the first it has of `PREFERRED`.
            batch: samples of one inference, which the milliseconds are for.

        Raises:
            UserError: for a precision that the device has no figure for, or a batch below 1.
        """
        if batch < 1:
            raise UserError(f"batch = {batch}: expected at least 1")
        figures = device.peak_flops
        if precision is None:
            precision = next((p for p in PREFERRED if p in figures), next(iter(figures)))
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
        """Always an estimate."""
        return "estimate"

    @property
    def summary(self) -> str:
        """What the estimate stands on, in one line."""
        shares = SHARES[self.profile.kind]
        measured = self.profile.peak_flops[self.precision].confidence == "measured"
        return (
            f"estimate from the {'measured peaks' if measured else 'datasheet'} of {self.device} "
            f"({self.precision}, batch {self.batch}, roofline at {shares.compute:.0%} of its "
            f"arithmetic and {shares.bandwidth:.0%} of its bandwidth, "
            f"{self.launch_seconds * 1e6:g} us a kernel)"
        )

    @property
    def launch_seconds(self) -> float:
        """Overhead of each kernel: the device's figure, or what is assumed for its kind."""
        figure: Figure | None = self.profile.launch_seconds
        return figure.value if figure is not None else SHARES[self.profile.kind].launch_seconds

    def milliseconds(self, ops: Sequence[Op]) -> float:
        """What a block of these ops adds to one inference of `batch` samples."""
        return 1e3 * sum(self.seconds(kernel) for kernel in kernels(ops))

    def seconds(self, kernel: Kernel) -> float:
        """What one kernel takes, its start included."""
        shares = SHARES[self.profile.kind]
        peak = self.profile.peak_flops[self.precision].value
        bandwidth = self.profile.bandwidth_bytes_per_s.value
        elements = self.batch * (kernel.read + kernel.written) + kernel.weights
        arithmetic = 2 * kernel.macs * self.batch / (peak * shares.compute)
        traffic = elements * BYTES[self.precision] / (bandwidth * shares.bandwidth)
        return max(arithmetic, traffic) + self.launch_seconds
