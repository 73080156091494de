"""Estimates energy and carbon of one workload and prints them with all factors: `nas carbon`.

Combines the estimates of `evaluators/footprint/` and prints each with its range, as text that fits
80 columns or as JSON. Knows workloads, estimates and factors. Does not know how energy, carbon or
their ranges are computed.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

from evaluators.footprint.carbon import (
    at_the_meter,
    carbon,
    given_intensity,
    intensity_of,
    pue_of,
    sci,
)
from evaluators.footprint.energy import (
    JOULES_PER_KWH,
    device_hours,
    inference_energy,
    per_operation,
    training_energy,
)
from evaluators.footprint.power import precision_of
from evaluators.footprint.uncertainty import GIVEN, Estimate, Factor, given, total
from evaluators.sizes import format_size
from hardware_profiles.device import Device
from hardware_profiles.electricity.grid import load_region
from hardware_profiles.lookup import load_device
from nas.commands.show.console import make_console, print_json

CONVENTIONS = (
    "One MAC counts as two FLOPs here, as in datasheets (in other commands, as one); a training "
    "counts as 3 times its forward passes.",
    "Ranges are the worst case: all factors at their low ends, or all at their high ends.",
    "Carbon is location-based; certificates and offsets are not counted.",
)


@dataclass(frozen=True)
class Workload:
    """A training, inferences, or both, on a device; None for what is not specified."""

    device: str
    count: int = 1
    """Number of devices."""
    operations: float | None = None
    """FLOPs of the training, 2 per MAC."""
    hours: float | None = None
    """Duration of the training, in place of its operations."""
    inferences: int = 1
    macs: float | None = None
    """MACs of one inference."""
    memory_bytes: float | None = None
    """Bytes that one inference reads and writes, weights included."""
    latency_seconds: float | None = None
    """Measured time of one inference."""
    precision: str | None = None
    """Number format, such as `fp16`."""
    utilisation: float | None = None
    """Share of the device's peak that is reached."""
    host_watts: float | None = None
    """Power of the machine around one device."""
    region: str | None = None
    """Code of an electricity grid."""
    intensity: float | None = None
    """Carbon intensity in g CO2e per kWh, in place of a region."""
    pue: float | None = None
    """Power usage effectiveness of the data centre."""
    embodied_kg: float | None = None
    """Share of the hardware's embodied carbon, in kg CO2e, for the SCI."""


@dataclass(frozen=True)
class WorkloadFootprint:
    """Estimates of a workload, by section (`training`, `inference`, `total`) and by name."""

    device: Device
    place: str
    headings: dict[str, str]
    sections: dict[str, dict[str, Estimate]]
    notes: list[str] = field(default_factory=list)

    @property
    def result(self) -> Estimate:
        """The estimate whose factors are listed: the SCI if requested, else the total carbon."""
        section = list(self.sections.values())[-1]
        return section.get("sci", section["carbon"])


def estimate(workload: Workload) -> WorkloadFootprint:
    """Estimate the footprint of a workload.

    Raises:
        UserError: for an unknown device, region or precision, and for a number out of range.
    """
    device = load_device(workload.device)
    notes = []
    if workload.intensity is not None:
        intensity, place = given_intensity(workload.intensity), "the given intensity"
    else:
        region = load_region(workload.region or "world")
        intensity, place = intensity_of(region), f"{region.name} ({region.code})"
        if workload.region is None:
            notes.append("No --region: world average, with the range over countries.")
    pue = pue_of(device, workload.pue)
    headings: dict[str, str] = {}
    sections: dict[str, dict[str, Estimate]] = {}
    if workload.operations is not None or workload.hours is not None:
        headings["training"], sections["training"] = _training(workload, device, pue, intensity)
    if workload.macs is not None:
        headings["inference"], sections["inference"] = _inference(workload, device, pue, intensity)
    if len(sections) > 1:
        parts = list(sections.values())
        headings["total"] = "Training and inference"
        sections["total"] = {
            name: total("total", [part[name] for part in parts])
            for name in ("energy", "metered", "carbon")
        }
    if workload.embodied_kg is not None:
        last = list(sections.values())[-1]
        units = workload.inferences if workload.macs is not None else 1
        last["sci"] = sci(last["carbon"], workload.embodied_kg, units)
        unit = "one inference" if workload.macs is not None else "the training"
        notes.append(f"SCI (ISO/IEC 21031) is (energy x intensity + embodied) for {unit}.")
    return WorkloadFootprint(device, place, headings, sections, notes)


def _training(
    workload: Workload, device: Device, pue: Factor, intensity: Factor
) -> tuple[str, dict[str, Estimate]]:
    energy = training_energy(
        device,
        operations=workload.operations,
        hours=workload.hours,
        count=workload.count,
        precision=workload.precision,
        utilisation=workload.utilisation,
        host_watts=workload.host_watts,
    )
    found = {}
    if workload.operations is None:
        duration = format_number(workload.hours or 0)
        heading = f"Training of {duration} hours{_devices(workload.count)}"
    else:
        precision = precision_of(device, workload.precision)
        flops = format_factor(workload.operations, "FLOPs")
        macs = format_factor(workload.operations / 2, "MACs")
        heading = f"Training of {flops} ({macs}), {precision}{_devices(workload.count)}"
        hours = device_hours(device, workload.operations, precision, workload.utilisation)
        found["time"] = hours
        if workload.count > 1:
            devices = given("devices", workload.count, "", inverse=True)
            found["time"] = Estimate(
                "time", "h", (*hours.factors, devices), lambda v: hours.formula(v) / v["devices"]
            )
    found |= _chain(energy, pue, intensity)
    if workload.operations is not None:
        found["per_operation"] = per_operation(energy, workload.operations)
    return heading, found


def _inference(
    workload: Workload, device: Device, pue: Factor, intensity: Factor
) -> tuple[str, dict[str, Estimate]]:
    assert workload.macs is not None
    precision = precision_of(device, workload.precision)
    one = inference_energy(
        device,
        macs=workload.macs,
        memory_bytes=workload.memory_bytes,
        seconds=workload.latency_seconds,
        precision=precision,
        utilisation=workload.utilisation,
        host_watts=workload.host_watts,
    )
    inferences = given("inferences", workload.inferences, "")
    energy = one.times("inference", "kWh", inferences, scale=1 / JOULES_PER_KWH)
    plural = "" if workload.inferences == 1 else "s"
    heading = f"{workload.inferences:,} inference{plural} of {format_factor(workload.macs, 'MACs')}"
    found = {"one": one, **_chain(energy, pue, intensity)}
    found["per_operation"] = per_operation(energy, 2 * workload.macs * workload.inferences)
    return f"{heading}, {precision}", found


def _devices(count: int) -> str:
    return f" on {count:,} devices" if count > 1 else ""


def _chain(energy: Estimate, pue: Factor, intensity: Factor) -> dict[str, Estimate]:
    metered = at_the_meter(energy, pue)
    return {"energy": energy, "metered": metered, "carbon": carbon(metered, intensity)}


LABELS = {
    "time": "time",
    "one": "energy of one, at the plug",
    "energy": "energy at the plug",
    "metered": "energy at the meter (PUE)",
    "carbon": "carbon",
    "per_operation": "energy per operation",
    "sci": "SCI, with embodied carbon",
}


def to_json(footprint: WorkloadFootprint) -> dict[str, Any]:
    """Return all that is printed as JSON; each estimate has value, low, high and unit."""
    result = footprint.result
    factors = []
    for factor in result.factors:
        low, high = result.swing(factor)
        keys = ("name", "value", "low", "high", "unit", "source")
        entry = {key: getattr(factor, key) for key in keys}
        factors.append({**entry, "result_low": low, "result_high": high})
    return {
        "device": footprint.device.name,
        "place": footprint.place,
        **{
            section: {name: found.to_json() for name, found in estimates.items()}
            for section, estimates in footprint.sections.items()
        },
        "factors": factors,
        "notes": [*footprint.notes, *CONVENTIONS],
    }


def print_footprint(footprint: WorkloadFootprint, *, as_json: bool) -> None:
    """Print the estimates of a workload, then each factor with its range, effect and source.

    The effect of a factor is the change of the result if only that factor varies.
    """
    if as_json:
        print_json(to_json(footprint))
        return
    console = make_console()

    def out(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, soft_wrap=True)

    def wrapped(text: str, indent: str = "") -> None:
        for line in textwrap.wrap(text, min(console.width, 120) - len(indent)):
            out(indent + line, "dim")

    out(f"{footprint.device.name}: {footprint.device.title}")
    for section, estimates in footprint.sections.items():
        out(f"\n{footprint.headings[section]}", "bold")
        for name, found in estimates.items():
            value = format_result(found.value, found.unit)
            out(f"  {LABELS[name]:<30}{value:>16}   {_range(found)}")
    result = footprint.result
    quantity = "SCI" if result.name == "SCI" else "carbon"
    out(f"\n{'factor':<24}{'value':>19}  {'range':<17} effect on {quantity}", "bold")
    for factor in result.factors:
        low, high = result.swing(factor)
        factor_value, ends, effect = format_factor(factor.value, factor.unit), "exact", "-"
        if factor.source == GIVEN:
            ends = "given"
        elif factor.low < factor.high:
            ends = f"{format_factor(factor.low, '')} to {format_factor(factor.high, '')}"
            effect = f"×{low / result.value:.2f} to ×{high / result.value:.2f}"
        out(f"{factor.name:<24}{factor_value:>19}  {ends:<17} {effect}")
        if factor.source != GIVEN:
            wrapped(factor.source, "    ")
    out("")
    if result.widest is not None:
        wrapped(f"Factor with the largest effect: {result.widest.name}.")
    for note in (*footprint.notes, *CONVENTIONS):
        wrapped(note)


def _range(found: Estimate) -> str:
    return f"{format_result(found.low, found.unit)} to {format_result(found.high, found.unit)}"


SCALES = {
    "J": ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
    "kWh": ((1e6, "GWh"), (1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh"), (1e-6, "mWh"), (1e-9, "µWh")),
    "kg CO2e": ((1e3, "t"), (1.0, "kg"), (1e-3, "g"), (1e-6, "mg"), (1e-9, "µg")),
}


def format_result(value: float, unit: str) -> str:
    """Format a result with three digits, in the largest multiple of its unit below it."""
    scales = SCALES.get(unit.removesuffix("/unit"), ((1.0, unit),))
    factor, name = next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
    return f"{format_number(value / factor)} {name}"


def format_factor(value: float, unit: str) -> str:
    """Format a factor with its unit, from 1,000 on with a prefix: `125 TFLOP/s`."""
    if not 1e3 <= value < 1e18:
        return f"{format_number(value)} {unit}".strip()
    text = format_size(value)
    return f"{text[:-1]} {text[-1]}{unit}"


def format_number(value: float) -> str:
    """Format a number with three digits: `0.525`, `1,290`, `3.14e+23`."""
    return f"{float(f'{value:.3g}'):,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
