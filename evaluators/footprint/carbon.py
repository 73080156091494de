"""Carbon of electricity: energy times the data centre's overhead times the grid's intensity.

    kWh at the meter = kWh at the plug * PUE
    kg CO2e          = kWh at the meter * g/kWh / 1000
    SCI              = (kg + embodied kg) / functional units        (ISO/IEC 21031:2024)

Emissions are location-based: certificates that an operator buys do not change them. Knows defaults
with their range and source. Does not know how much energy a computation takes (`energy.py`).
"""

from __future__ import annotations

from evaluators.footprint.uncertainty import Estimate, Factor, Values, given, joined
from hardware_profiles.device import Device
from hardware_profiles.electricity.grid import Region
from search_spaces.errors import UserError

PUE = Factor(
    "PUE",
    1.56,
    1.09,
    1.6,
    "meter / plug",
    "the world's average (Uptime Institute survey, 2024); large clouds report 1.09 to 1.2",
)
"""Power usage effectiveness: kWh that a data centre draws per kWh that its servers draw."""

NO_DATA_CENTRE = Factor("PUE", 1.0, 1.0, 1.0, "meter / plug", "this device is not in a data centre")


def pue_of(device: Device, given_pue: float | None = None) -> Factor:
    """PUE of a device: as given; else 1 for boards, phones and NPUs, and the world's average.

    Raises:
        UserError: for a PUE below 1.
    """
    if given_pue is not None:
        if not 1 <= given_pue < float("inf"):
            raise UserError(f"PUE {given_pue:g}: expected at least 1 (data centre over servers)")
        return given("PUE", given_pue, PUE.unit)
    return NO_DATA_CENTRE if device.kind in ("board", "phone", "npu") else PUE


def intensity_of(region: Region) -> Factor:
    """Carbon intensity of a region's grid in g CO2e/kWh, with its range."""
    year = region.year if region.year is not None else "year not stated"
    source = f"{region.name}: {region.source}, {year}; {region.grounds}"
    name, ends = "grid intensity", (region.intensity, region.low, region.high)
    return Factor(name, *ends, "g/kWh", source)


def given_intensity(grams: float) -> Factor:
    """Carbon intensity in g CO2e/kWh as stated by the user, without a range.

    Raises:
        UserError: for an intensity below zero.
    """
    if not 0 <= grams < float("inf"):
        raise UserError(f"intensity {grams:g} g/kWh: expected at least 0")
    return given("grid intensity", grams, "g/kWh")


def at_the_meter(energy: Estimate, pue: Factor) -> Estimate:
    """kWh at the meter of a data centre, from `energy` in kWh at its servers' plugs."""
    return energy.times(energy.name, "kWh", pue)


def carbon(metered: Estimate, intensity: Factor) -> Estimate:
    """Carbon in kg CO2e of `metered` in kWh."""
    return metered.times(metered.name, "kg CO2e", intensity, scale=1e-3)


def sci(operational: Estimate, embodied_kg: float, units: float = 1) -> Estimate:
    """Software carbon intensity `(E * I + M) / R` (ISO/IEC 21031) in kg CO2e per functional unit.

    Args:
        operational: `E * I`, in kg.
        embodied_kg: `M`, the share of the hardware's embodied carbon attributed to this use, in kg.
        units: `R`: inferences, or 1 for one training run.

    Raises:
        UserError: for embodied carbon below zero, or units not above zero.
    """
    if not 0 <= embodied_kg < float("inf"):
        raise UserError(f"embodied carbon {embodied_kg:g} kg: expected at least 0")
    if not 0 < units < float("inf"):
        raise UserError(f"{units:g} functional units: expected above zero")
    factors = (
        given("embodied carbon", embodied_kg, "kg CO2e"),
        given("functional units", units, "", inverse=True),
    )

    def formula(v: Values) -> float:
        return (operational.formula(v) + v["embodied carbon"]) / v["functional units"]

    return Estimate("SCI", "kg CO2e/unit", joined([*operational.factors, *factors]), formula)
