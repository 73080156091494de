"""Energy of a training or an inference, from compute, memory traffic, power and utilisation.

    busy = max(operations / (peak * u), bytes / (bandwidth * u_b))        seconds
    t    = busy + kernels * launch, or the measured time
    E    = (P_idle + P_host) * t + (P_tdp - P_idle) * load * busy         joules

A device always draws its idle power, and additional power while busy: the share `load` of the
difference to its TDP, below 1 even under full use. One multiply-accumulate is two operations, and a
training step three times its forward pass, as in datasheets and in the papers that docs/carbon.md
compares with. Joules per FLOP are not an input but a result (`per_operation`), since they depend on
utilisation more than on the chip.

Knows the formulas. Does not know what a device reaches and draws (`power.py`), nor grids and carbon
(`carbon.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.costs.tables import Price
from evaluators.footprint.power import (
    LOAD,
    inference_utilisation,
    launch_factors,
    peak_factor,
    power_factors,
    precision_of,
    traffic_factors,
    training_utilisation,
)
from evaluators.footprint.uncertainty import Estimate, Factor, Values, given
from hardware_profiles.device import Device, Precision
from hardware_profiles.latency.protocol import Latency
from hardware_profiles.latency.roofline import BYTES_PER_ELEMENT, UTILISATION
from hardware_profiles.latency.traffic import ops_bytes
from search_spaces.errors import UserError
from search_spaces.ops import Op

JOULES_PER_KWH = 3.6e6
OPERATIONS_PER_MAC = 2


def training_energy(
    device: Device,
    *,
    operations: float | None = None,
    hours: float | None = None,
    count: int = 1,
    precision: str | None = None,
    utilisation: float | None = None,
    host_watts: float | None = None,
) -> Estimate:
    """Electricity of a training run in kWh, at the servers' plugs.

    Args:
        operations: of the whole run, forward and backward, two per MAC. Memory traffic is not an
            argument, since the utilisation of whole runs includes the time spent on it.
        hours: duration of the run on `count` devices, instead of operations.
        count: number of devices in use throughout.
        precision: of the operations; by default as in `precision_of`.
        utilisation: share of the peak that the run reaches; by default as in
            `training_utilisation`.
        host_watts: power of the machine around one device; by default a share of its TDP.

    Raises:
        UserError: unless exactly one of operations and hours is given; for values not above zero, a
            utilisation above one, or a precision for which the device has no peak.
    """
    if (operations is None) == (hours is None):
        raise UserError("expected either the operations or the hours of a training, exactly one")
    watts = power_factors(device, host_watts)
    if operations is None:
        if count < 1:
            raise UserError(f"{count} devices: expected at least 1")
        taken = given("hours", _above_zero("hours", hours), "h")
        factors = (taken, given("devices", count, ""), *watts)
        return Estimate(
            "training", "kWh", factors, lambda v: v["hours"] * v["devices"] * _watts(v) / 1e3
        )
    hours_of_one = device_hours(device, operations, precision, utilisation)

    def formula(v: Values) -> float:
        return hours_of_one.formula(v) * _watts(v) / 1e3

    return Estimate("training", "kWh", (*hours_of_one.factors, *watts), formula)


def device_hours(
    device: Device,
    operations: float,
    precision: str | None = None,
    utilisation: float | None = None,
) -> Estimate:
    """Hours that one device takes for the operations of a training.

    Raises:
        UserError: as for `training_energy`.
    """
    chosen = precision_of(device, precision)
    peak, share = peak_factor(device, chosen), training_utilisation(chosen, utilisation)
    work = given("operations of training", _above_zero("operations", operations), "FLOP")

    def formula(v: Values) -> float:
        return v[work.name] / (v[peak.name] * v[share.name]) / 3600

    return Estimate("device hours", "h", (work, peak, share), formula)


def inference_energy(
    device: Device,
    *,
    macs: float,
    memory_bytes: float | None = None,
    seconds: float | None = None,
    kernels: int = 0,
    precision: str | None = None,
    utilisation: float | None = None,
    host_watts: float | None = None,
) -> Estimate:
    """Electricity of one inference in joules, at the plug.

    Args:
        macs: multiply-accumulates of the inference.
        memory_bytes: bytes read and written, weights included; by default memory traffic takes no
            time.
        seconds: measured latency; by default that of the roofline.
        kernels: number of kernels launched one after another, if the latency is not measured.
        precision: of the operations; by default as in `precision_of`.
        utilisation: share of the peak reached while computing.
        host_watts: power of the machine around the device; by default a share of its TDP.

    Raises:
        UserError: as for `training_energy`.
    """
    chosen = precision_of(device, precision)
    peak, share = peak_factor(device, chosen), inference_utilisation(device, utilisation)
    work = given("operations of one", OPERATIONS_PER_MAC * _above_zero("MACs", macs), "FLOP")
    factors: list[Factor] = [work, peak, share]
    if memory_bytes is not None:
        factors += traffic_factors(device, _above_zero("memory traffic", memory_bytes))
    if seconds is not None:
        factors.append(given("latency", _above_zero("latency", seconds), "s"))
    elif kernels:
        factors += launch_factors(device, kernels)

    def formula(v: Values) -> float:
        busy = v[work.name] / (v[peak.name] * v[share.name])
        if "memory traffic" in v:
            busy = max(busy, v["memory traffic"] / (v["bandwidth"] * v["bandwidth utilisation"]))
        waiting = v["kernels"] * v["kernel launch"] if "kernels" in v else 0.0
        time = v.get("latency", busy + waiting)
        return (v["idle power"] + v["host power"]) * time + _active_watts(v) * min(busy, time)

    return Estimate("inference", "J", (*factors, *power_factors(device, host_watts)), formula)


def per_operation(energy: Estimate, operations: float) -> Estimate:
    """Picojoules per operation (two per MAC) of work that took `energy` in kWh."""
    scale = JOULES_PER_KWH * 1e12 / _above_zero("operations", operations)
    return energy.times("energy per operation", "pJ/FLOP", scale=scale)


def energy_price(
    device: Device, latency: Latency, *, precision: Precision | None = None, batch: int = 1
) -> Price:
    """Price for cost tables: millijoules of a block in one inference, of the device alone.

    The duration of the block is given by `latency`; within it the device is busy for the time that
    the roofline predicts from MACs and bytes, and idle otherwise. Prices are summed over blocks.
    They have no range, since they serve to order architectures; `inference_energy` returns a range,
    with the same defaults.

    Args:
        precision: of arithmetic and tensors; by default fp32, or what the device has.
        batch: samples per inference of `latency`.

    Raises:
        UserError: for a precision for which the device has no peak.
    """
    known = device.peak_flops
    chosen = precision_of(device, precision or ("fp32" if "fp32" in known else None))
    shares = UTILISATION[device.kind]
    rate = known[chosen].value * shares.compute
    bandwidth = device.bandwidth_bytes_per_s.value * shares.bandwidth
    idle = device.idle_watts.value
    more = max(0.0, device.tdp_watts.value - idle) * LOAD.value

    def millijoules(ops: Sequence[Op]) -> float:
        milliseconds = latency.milliseconds(ops)
        weights, activations = ops_bytes(ops, BYTES_PER_ELEMENT[chosen])
        operations = OPERATIONS_PER_MAC * batch * sum(op.macs for op in ops)
        busy = 1e3 * max(operations / rate, (weights + batch * activations) / bandwidth)
        return idle * milliseconds + more * min(busy, milliseconds)

    return millijoules


def _watts(v: Values) -> float:
    """Power of a busy device and its host."""
    return v["idle power"] + v["host power"] + _active_watts(v)


def _active_watts(v: Values) -> float:
    """Power that a busy device draws beyond its idle power."""
    return max(0.0, v["TDP"] - v["idle power"]) * v[LOAD.name]


def _above_zero(what: str, value: float | None) -> float:
    if value is None or not 0 < value < float("inf"):
        raise UserError(f"{what} = {value:g}: expected above zero")
    return value
