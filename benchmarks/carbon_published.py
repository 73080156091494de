"""Published energy and carbon of trainings, beside what our functions derive from their inputs.

    python benchmarks/carbon_published.py

Each published figure has up to two rows. `its inputs` multiplies what its paper states (watts or
achieved FLOP/s, hours, PUE, grams a kWh): that tests our arithmetic and finds slips of the paper.
`our defaults` is what `nas carbon` says of the same work with nothing known but the device and the
FLOPs or hours: that tests our defaults, and no default was chosen by these rows. Ranges are the
worst case. Below: what an operation costs at several shares of a V100's peak. docs/figures.md has
both tables, and docs/carbon.md says what cannot be derived.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from report import emit

from evaluators.footprint.carbon import (
    PUE,
    at_the_meter,
    carbon,
    given_intensity,
    intensity_of,
    pue_of,
)
from evaluators.footprint.energy import (
    device_hours,
    per_operation,
    training_energy,
)
from evaluators.footprint.uncertainty import Estimate, Factor, given
from hardware_profiles.lookup import load_device
from hardware_profiles.electricity.grid import load_region
from nas.commands.show.carbon import format_number

RESNET50_MACS = 4_089_184_256
IMAGENET_IMAGES = 1_281_167
EPOCHS = 90
TRAINING_PASSES = 3
"""Cost of a training step in forward passes: gradients of inputs and weights are one each."""

GPT3_FLOPS = 3.14e23
"""Brown et al. (2020), table D.1: 3,640 petaFLOP/s-days."""

POUND = 453.59237
STRUBELL_GRAMS = 0.954 * POUND
"""Strubell et al. (2019): the US average in pounds a kWh, as grams."""

V100 = load_device("V100")


def bert_large_macs() -> float:
    """A pretraining of BERT-large as Devlin et al. (2019) describe it, forward passes only.

    A million steps of 256 sequences, nine tenths of them 128 tokens long and the rest 512; 24
    layers 1,024 wide, and the head over 30,522 words at the 15% of tokens that are masked.
    """
    layers, width, words = 24, 1024, 30_522
    total = 0.0
    for length, share in ((128, 0.9), (512, 0.1)):
        a_token = layers * (12 * width**2 + 2 * length * width)
        a_token += 0.15 * (width**2 + width * words)
        total += 256 * length * share * 1e6 * a_token
    return total


def powered(kilowatts: float, hours: float) -> Estimate:
    """Energy of a power that a paper states."""
    factors = (given("power", kilowatts, "kW"), given("hours", hours, "h"))
    return Estimate("training", "kWh", factors, lambda v: v["power"] * v["hours"])


def digits(value: float) -> str:
    """Four digits, without exponents: a slip of a paper is often in the third."""
    return f"{float(f'{value:.4g}'):,.0f}" if value >= 1000 else f"{value:.4g}"


def row(
    what: str, how: str, energy: Estimate, pue: Factor, intensity: Factor, inputs: str
) -> dict[str, str]:
    """One line of the table; energies at the meter."""
    metered = at_the_meter(energy, pue)
    result = {"figure": what, "by": how}
    for name, found in (("kWh", metered), ("kg CO2e", carbon(metered, intensity))):
        exact = found.low == found.high
        ends = "" if exact else f" ({digits(found.low)} to {digits(found.high)})"
        result[name] = f"{digits(found.value)}{ends}"
    return result | {"from": inputs}


def published(what: str, kwh: float, kg: float, source: str) -> dict[str, str]:
    return {
        "figure": what,
        "by": "published",
        "kWh": f"{kwh:,}",
        "kg CO2e": f"{kg:,}",
        "from": source,
    }


def energies() -> list[dict[str, str]]:
    us = intensity_of(load_region("us"))
    resnet = 2 * TRAINING_PASSES * RESNET50_MACS * IMAGENET_IMAGES * EPOCHS
    bert = 2 * TRAINING_PASSES * bert_large_macs()
    gpt3_hours = device_hours(V100, GPT3_FLOPS, utilisation=24.6 / 125)
    gpt3_power = gpt3_hours.times("training", "kWh", given("power", 0.330, "kW"))
    return [
        published("ResNet-50", 12.2, 5.7, "no source found; 467 g/kWh"),
        row(
            *("ResNet-50", "our defaults", training_energy(V100, operations=resnet), PUE, us),
            f"{format_number(resnet)} FLOPs ({EPOCHS} epochs of ImageNet), V100 in fp16, US",
        ),
        row(
            *("ResNet-50", "our defaults"),
            *(training_energy(V100, operations=resnet, precision="fp32"), PUE, us),
            "the same in fp32",
        ),
        published("'BERT-large'", 1507, 652, "Strubell et al. (2019): their BERT-base"),
        row(
            *("'BERT-large'", "its inputs", powered(12.04151, 79), pue_of(V100, 1.58)),
            given_intensity(STRUBELL_GRAMS),
            "12,041.51 W of 64 V100, 79 h, PUE 1.58, 0.954 lb/kWh",
        ),
        row(
            *("'BERT-large'", "its inputs", powered(12.04151, 79.2), pue_of(V100, 1.58)),
            given_intensity(STRUBELL_GRAMS),
            "the same for 3.3 days, which their text has: 79.2 h",
        ),
        row(
            *("'BERT-large'", "our defaults", training_energy(V100, hours=79.2, count=64)),
            *(PUE, us, "64 V100, 79.2 h, watts unknown, US"),
        ),
        row(
            *("BERT-large", "our defaults", training_energy(V100, operations=bert), PUE, us),
            f"{format_number(bert)} FLOPs of Devlin et al.'s pretraining, V100 in fp16, US",
        ),
        published("GPT-3", 1_287_000, 552_000, "Patterson et al. (2021), table 4"),
        row(
            *("GPT-3", "its inputs", gpt3_power, pue_of(V100, 1.10), given_intensity(429)),
            "3.14e23 FLOPs, 24.6 TFLOP/s and 330 W a V100, PUE 1.10, 429 g/kWh",
        ),
        row(
            *("GPT-3", "our defaults", training_energy(V100, operations=GPT3_FLOPS), PUE, us),
            "3.14e23 FLOPs, V100 in fp16, US",
        ),
    ]


def operations() -> list[dict[str, str]]:
    """Picojoules an operation of the board alone, by the share of the peak that is reached."""
    rows = []
    for precision, shares in (("fp32", (1.0, 0.6, 0.25, 0.2)), ("fp16", (1.0, 0.24, 0.2))):
        for share in shares:
            energy = training_energy(
                V100, operations=1e18, precision=precision, utilisation=share, host_watts=0
            )
            cost = per_operation(energy, 1e18)
            value, low, high = map(format_number, (cost.value, cost.low, cost.high))
            rows.append(
                {
                    "precision": precision,
                    "share of peak": f"{share:.0%}",
                    "pJ/FLOP": f"{value} ({low} to {high})",
                    "at 300 W": format_number(
                        1e12 * 300 / (V100.peak_flops[precision].value * share)
                    ),
                }
            )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write; default benchmarks/results")
    options = parser.parse_args(arguments)
    settings = {"device": V100.name, "PUE": PUE.value, "FLOPs": "two a MAC, 3 x forward"}
    emit("carbon_published", energies(), settings, options.json)
    beside = options.json.with_stem(f"{options.json.stem}_operations") if options.json else None
    emit("carbon_operations", operations(), {"device": V100.name, "host": "none"}, beside)


if __name__ == "__main__":
    main()
