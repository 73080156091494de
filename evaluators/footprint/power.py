"""Speed and power of devices as factors with ranges: datasheets, and published measurements.

A datasheet has peak rates and maximum power. The shares of them reached in practice, and the power
of the machine around the device, are taken from published measurements, with their range and
source. Knows devices. Does not know how much work is done (`energy.py`).
"""

from __future__ import annotations

from evaluators.footprint.uncertainty import Factor, given
from hardware_profiles.device import Device, DeviceKind, Figure, Precision
from hardware_profiles.latency.roofline import UTILISATION
from search_spaces.errors import UserError

VECTOR: tuple[Precision, ...] = ("fp64", "fp32")
"""Precisions that GPUs compute without tensor cores, with a larger share of the peak reached."""

LOAD = Factor(
    "load while busy",
    0.75,
    0.35,
    1.0,
    "of TDP - idle",
    "measured means in training: 129 to 275 W of a V100's 300, 281 W of an A100's 400 (Dodge et "
    "al., 2022); H100 servers at most at 82% of their rating (Latif et al., 2024)",
)

TENSOR_UTILISATION = Factor(
    "utilisation in training",
    0.3,
    0.15,
    0.55,
    "of peak",
    "of matrix units in whole runs: GPT-3 21%, MT-NLG 30%, Gopher 33%, PaLM 46% (Chowdhery et al., "
    "2022); ResNet-50 in mixed precision about 20 to 25%",
    inverse=True,
)

VECTOR_UTILISATION = Factor(
    "utilisation in training",
    0.5,
    0.3,
    0.7,
    "of peak",
    "without matrix units: ResNet-50 in fp32 reaches about 60% of a V100; small networks less",
    inverse=True,
)

HOST_SHARE: dict[DeviceKind, tuple[float, float, float, str]] = {
    **dict.fromkeys(
        ("gpu", "tpu"),
        (
            0.4,
            0.1,
            0.8,
            "processors, memory, fans, in shares of the TDP: from a V100 system's 330 W less the "
            "board's 300 (Patterson et al., 2021) to a DGX H100's rating less its boards'",
        ),
    ),
    "cpu": (0.4, 0.1, 1.0, "memory, board and power supply, assumed in shares of its TDP"),
    **dict.fromkeys(("board", "phone", "npu"), (0.0, 0.0, 0.0, "the device alone")),
}
"""Power of the machine around one device, as shares of its TDP: value, low, high and source."""

MARGINS = {"datasheet": 0.0, "derived": 0.1, "measured": 0.1, "estimate": 0.5}
"""Margins of figures by confidence: printed ones are exact, estimates may be half off."""

PREFERRED: tuple[Precision, ...] = ("bf16", "fp16", "fp32", "int8")
"""Precisions by preference, first those of training today; the default is the first available."""


def precision_of(device: Device, precision: str | None = None) -> Precision:
    """A precision for which the device has a peak; by default the first of `PREFERRED`.

    Raises:
        UserError: for a precision for which it has none.
    """
    known = device.peak_flops
    if precision is None:
        return next((p for p in PREFERRED if p in known), next(iter(known)))
    found = next((p for p in known if p == precision.lower()), None)
    if found is None:
        raise UserError(
            f"{device.name} has no peak for precision '{precision}': expected {', '.join(known)}"
        )
    return found


def peak_factor(device: Device, precision: Precision) -> Factor:
    """Peak rate of operations in a precision."""
    return figure_factor(f"{precision} peak", device.peak_flops[precision], "FLOP/s", inverse=True)


def training_utilisation(precision: Precision, value: float | None = None) -> Factor:
    """Share of the peak that whole training runs reach; `value` if the user states one."""
    default = VECTOR_UTILISATION if precision in VECTOR else TENSOR_UTILISATION
    return _stated(default, value)


def inference_utilisation(device: Device, value: float | None = None) -> Factor:
    """Share of the peak that inference reaches while computing; `value` if the user states one."""
    share = UTILISATION[device.kind].compute
    source = "assumed for large layers on this kind of device; a batch of one may reach 5%"
    ends = (share, 0.05, max(0.8, share), "of peak", source)
    return _stated(Factor("utilisation in inference", *ends, inverse=True), value)


def traffic_factors(device: Device, memory_bytes: float) -> tuple[Factor, ...]:
    """Bytes moved, peak bandwidth, and the share of it that is reached."""
    share = UTILISATION[device.kind].bandwidth
    source = "assumed for this kind of device; large copies reach 80 to 90% of a GPU's"
    ends = (share, min(0.3, share), 0.9, "of bandwidth", source)
    return (
        given("memory traffic", memory_bytes, "B"),
        figure_factor("bandwidth", device.bandwidth_bytes_per_s, "B/s", inverse=True),
        Factor("bandwidth utilisation", *ends, inverse=True),
    )


def launch_factors(device: Device, kernels: int) -> tuple[Factor, ...]:
    """Number of kernels, and the time to launch one."""
    figure = device.launch_seconds
    seconds = figure.value if figure is not None else UTILISATION[device.kind].launch_seconds
    source = "from one kernel to the next, assumed for this kind of device"
    return (
        given("kernels", kernels, ""),
        Factor("kernel launch", seconds, seconds / 2, seconds * 2, "s", source),
    )


def power_factors(device: Device, host_watts: float | None = None) -> tuple[Factor, ...]:
    """Idle power, TDP, load and host power of one device.

    Raises:
        UserError: for a host power below zero.
    """
    tdp = device.tdp_watts.value
    if host_watts is not None:
        if not 0 <= host_watts < float("inf"):
            raise UserError(f"host power {host_watts:g} W: expected at least 0")
        host = given("host power", host_watts, "W")
    else:
        value, low, high, source = HOST_SHARE[device.kind]
        host = Factor("host power", value * tdp, low * tdp, high * tdp, "W", source)
    return (
        figure_factor("idle power", device.idle_watts, "W"),
        figure_factor("TDP", device.tdp_watts, "W"),
        LOAD,
        host,
    )


def figure_factor(name: str, figure: Figure, unit: str, *, inverse: bool = False) -> Factor:
    """A figure of a datasheet, with the range that its confidence implies."""
    margin = MARGINS[figure.confidence]
    low, high = (1 - margin) * figure.value, (1 + margin) * figure.value
    known = f": {figure.confidence} ±{margin:.0%}" if margin else ""
    source = f"{figure.source}, {figure.year}{known}"
    return Factor(name, figure.value, low, high, unit, source, inverse)


def _stated(default: Factor, value: float | None) -> Factor:
    if value is None:
        return default
    if not 0 < value <= 1:
        raise UserError(f"utilisation {value:g}: expected above 0 and at most 1")
    return given(default.name, value, default.unit, inverse=True)
