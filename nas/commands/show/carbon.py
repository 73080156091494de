"""What `nas carbon` prints: energy, carbon and every factor behind them, none without its range.

Puts the estimates of `evaluators` together for one workload and shows them, as text that fits 80
columns or as JSON. Decides nothing.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

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

CONVENTIONS = (
    "FLOPs here are two for each MAC, as in datasheets (in other commands they are MACs); a "
    "training is 3 times its forward passes.",
    "Ranges are the worst case: every factor at its low end, or every one at its high end.",
    "Carbon is location-based; certificates and offsets do not count.",
)


@dataclass(frozen=True)
class Workload:
    """What was asked for; sizes in units, bytes, seconds and watts."""

    device: str
    count: int = 1
    operations: float | None = None
    hours: float | None = None
    inferences: int = 1
    macs: float | None = None
    memory_bytes: float | None = None
    latency_seconds: float | None = None
    precision: str | None = None
    utilisation: float | None = None
    host_watts: float | None = None
    region: str | None = None
    intensity: float | None = None
    pue: float | None = None
    embodied_kg: float | None = None


@dataclass(frozen=True)
class Footprint:
    """Estimates of a workload, by section (`training`, `inference`, `total`) and by name."""

    device: Device
    place: str
    headings: dict[str, str]
    sections: dict[str, dict[str, Estimate]]
    notes: list[str] = field(default_factory=list)

    @property
    def result(self) -> Estimate:
        """What the factors are listed for: all of the carbon, or SCI where it is asked for."""
        section = list(self.sections.values())[-1]
        return section.get("sci", section["carbon"])


def estimate(workload: Workload) -> Footprint:
    """The footprint of a workload.

    Raises:
        UserError: for an unknown device, region or precision, and for numbers out of their range.
    """
    device = load_device(workload.device)
    notes = []
    if workload.intensity is not None:
        intensity, place = given_intensity(workload.intensity), "the given intensity"
    else:
        region = load_region(workload.region or "world")
        intensity, place = intensity_of(region), f"{region.name} ({region.code})"
        if workload.region is None:
            notes.append("No --region: the world's average, and its countries' range.")
    pue = pue_of(device, workload.pue)
    headings: dict[str, str] = {}
    sections: dict[str, dict[str, Estimate]] = {}
    if workload.operations is not None or workload.hours is not None:
        headings["training"], sections["training"] = _training(workload, device, pue, intensity)
    if workload.macs is not None:
        headings["inference"], sections["inference"] = _inference(workload, device, pue, intensity)
    if len(sections) > 1:
        parts = list(sections.values())
        headings["total"] = "Both together"
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
    return Footprint(device, place, headings, sections, notes)


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
        heading = f"Training of {number(workload.hours or 0)} hours{_devices(workload.count)}"
    else:
        precision = precision_of(device, workload.precision)
        sizes = quantity(workload.operations, "FLOPs"), quantity(workload.operations / 2, "MACs")
        heading = f"Training of {sizes[0]} ({sizes[1]}), {precision}{_devices(workload.count)}"
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
    how_many = "1 inference" if workload.inferences == 1 else f"{workload.inferences:,} inferences"
    heading = f"{how_many} of {quantity(workload.macs, 'MACs')}"
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
    "per_operation": "energy an operation",
    "sci": "SCI, embodied share included",
}


def to_json(footprint: Footprint) -> dict[str, Any]:
    """Everything that is printed, for programs; each estimate has value, low, high and unit."""
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


def print_footprint(footprint: Footprint, *, as_json: bool) -> None:
    """Print sections, then each factor with its range, what it does alone, and its source."""
    if as_json:
        print(json.dumps(to_json(footprint), indent=2))
        return
    console = Console(highlight=False)

    def out(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, soft_wrap=True)

    def wrapped(text: str, indent: str = "") -> None:
        for line in textwrap.wrap(text, min(console.width, 120) - len(indent)):
            out(indent + line, "dim")

    out(f"{footprint.device.name}: {footprint.device.title}")
    for section, estimates in footprint.sections.items():
        out(f"\n{footprint.headings[section]}", "bold")
        for name, found in estimates.items():
            out(f"  {LABELS[name]:<30}{shown(found.value, found.unit):>16}   {_range(found)}")
    result = footprint.result
    what = "SCI" if result.name == "SCI" else "carbon"
    out(f"\n{'factor':<24}{'value':>19}  {'range':<17} moves {what}", "bold")
    for factor in result.factors:
        low, high = result.swing(factor)
        value, ends, moved = quantity(factor.value, factor.unit), "as stated", "-"
        if factor.source == GIVEN:
            ends = "given"
        elif factor.low < factor.high:
            ends = f"{quantity(factor.low, '')} to {quantity(factor.high, '')}"
            moved = f"×{low / result.value:.2f} to ×{high / result.value:.2f}"
        out(f"{factor.name:<24}{value:>19}  {ends:<17} {moved}")
        if factor.source != GIVEN:
            wrapped(factor.source, "    ")
    out("")
    if result.widest is not None:
        wrapped(f"Most of the range is from: {result.widest.name}.")
    for note in (*footprint.notes, *CONVENTIONS):
        wrapped(note)


def _range(found: Estimate) -> str:
    return f"{shown(found.low, found.unit)} to {shown(found.high, found.unit)}"


SCALES = {
    "J": ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
    "kWh": ((1e6, "GWh"), (1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh"), (1e-6, "mWh"), (1e-9, "µWh")),
    "kg CO2e": ((1e3, "t"), (1.0, "kg"), (1e-3, "g"), (1e-6, "mg"), (1e-9, "µg")),
}


def shown(value: float, unit: str) -> str:
    """A result with three digits, in the multiple of its unit that people read best."""
    scales = SCALES.get(unit.removesuffix("/unit"), ((1.0, unit),))
    factor, name = next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
    return f"{number(value / factor)} {name}"


def quantity(value: float, unit: str) -> str:
    """A factor with its unit: large ones with a prefix, `125 TFLOP/s`."""
    if not 1e3 <= value < 1e18:
        return f"{number(value)} {unit}".strip()
    text = format_size(value)
    return f"{text[:-1]} {text[-1]}{unit}"


def number(value: float) -> str:
    """Three digits, in the way people write them: `0.525`, `1,290`, `3.14e+23`."""
    return f"{float(f'{value:.3g}'):,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
