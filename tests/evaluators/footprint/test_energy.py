"""Energy and carbon: arithmetic, units, and ranges that contain all combinations of factors."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.costs.tables import CostTables
from evaluators.footprint.carbon import (
    PUE,
    at_the_meter,
    carbon,
    given_intensity,
    intensity_of,
    pue_of,
    sci,
)
from evaluators.footprint.energy import (
    energy_price,
    inference_energy,
    per_operation,
    training_energy,
)
from evaluators.footprint.power import LOAD, precision_of
from evaluators.footprint.uncertainty import Estimate, Factor, total
from evaluators.footprint.uncertainty import given as given_factor
from hardware_profiles.device import Device, Figure
from hardware_profiles.electricity.grid import load_region
from hardware_profiles.latency.roofline import Roofline
from hardware_profiles.latency.traffic import ops_bytes
from hardware_profiles.lookup import device_names, load_device
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.ops import Op


def figure(value: float, confidence: str = "datasheet") -> Figure:
    return Figure.model_validate(
        {"value": value, "source": "a sheet", "year": 2020, "confidence": confidence}
    )


DEVICE = Device(
    name="round",
    title="a device of round numbers",
    kind="gpu",
    peak_flops={"fp32": figure(1e13), "fp16": figure(1e14)},
    bandwidth_bytes_per_s=figure(1e12),
    memory_bytes=figure(1e10),
    tdp_watts=figure(300.0),
    idle_watts=figure(100.0),
)

V100 = load_device("V100")


def test_hours_times_devices_times_watts() -> None:
    energy = training_energy(DEVICE, hours=10, count=8, host_watts=50)
    assert energy.unit == "kWh"
    assert energy.value == pytest.approx(10 * 8 * (100 + 200 * LOAD.value + 50) / 1000)


def test_operations_over_reached_peak_are_the_seconds() -> None:
    energy = training_energy(
        DEVICE, operations=1e18, precision="fp16", utilisation=0.5, host_watts=0
    )
    seconds = 1e18 / (1e14 * 0.5)
    assert energy.value == pytest.approx(seconds * (100 + 200 * LOAD.value) / 3.6e6)


def test_kilowatt_hours_times_pue_times_grams() -> None:
    energy = training_energy(DEVICE, hours=1)
    region = load_region("us")
    metered = at_the_meter(energy, PUE)
    result = carbon(metered, intensity_of(region))
    assert metered.value == pytest.approx(energy.value * 1.56)
    assert result.value == pytest.approx(metered.value * region.intensity / 1000)
    assert result.low == pytest.approx(energy.low * 1.09 * region.low / 1000)
    assert result.high == pytest.approx(energy.high * 1.6 * region.high / 1000)
    assert result.unit == "kg CO2e"


@pytest.mark.parametrize(
    ("kwh", "grams", "kg"),
    [(1507, 432.7, 652), (1_287_000, 429, 552_000), (12.2, 467.2, 5.7)],
)
def test_published_energy_times_published_intensity(kwh: float, grams: float, kg: float) -> None:
    energy = Estimate("training", "kWh", (given_factor("all", kwh, "kWh"),), lambda v: v["all"])
    assert carbon(energy, given_intensity(grams)).value == pytest.approx(kg, rel=1e-3)


def test_watts_of_a_paper_give_its_energy() -> None:
    # Strubell et al. (2019): 12,041.51 W of 64 V100 for 79 hours at a PUE of 1.58.
    joules = Estimate(
        "training", "kWh", (given_factor("kW", 12.04151, "kW"),), lambda v: 79 * v["kW"]
    )
    assert at_the_meter(joules, pue_of(V100, 1.58)).value == pytest.approx(1503, rel=1e-3)


def test_inference_is_bound_by_the_slower_of_compute_and_memory() -> None:
    fast = inference_energy(DEVICE, macs=1e9, host_watts=0, precision="fp32")
    slow = inference_energy(DEVICE, macs=1e9, memory_bytes=1e10, host_watts=0, precision="fp32")
    watts = 100 + 200 * LOAD.value
    assert fast.value == pytest.approx(2e9 / (1e13 * 0.5) * watts)
    assert slow.value == pytest.approx(1e10 / (1e12 * 0.75) * watts)


def test_a_measured_latency_is_idle_where_the_device_is_not_busy() -> None:
    busy = 2e9 / (1e13 * 0.5)
    energy = inference_energy(DEVICE, macs=1e9, seconds=0.01, host_watts=20, precision="fp32")
    assert energy.value == pytest.approx(120 * 0.01 + 200 * LOAD.value * busy)


def test_kernels_take_idle_time() -> None:
    one = inference_energy(DEVICE, macs=1e6, precision="fp32", host_watts=0)
    many = inference_energy(DEVICE, macs=1e6, precision="fp32", host_watts=0, kernels=1000)
    assert many.value - one.value == pytest.approx(1000 * 4e-6 * 100)
    assert many.low - one.low < many.value - one.value < many.high - one.high


def test_an_operation_has_no_constant_energy() -> None:
    quarter = training_energy(V100, operations=1e18, precision="fp32", utilisation=0.25)
    whole = training_energy(V100, operations=1e18, precision="fp32", utilisation=1.0)
    assert per_operation(quarter, 1e18).value == pytest.approx(4 * per_operation(whole, 1e18).value)
    watts = whole.value * 3.6e6 / (1e18 / 15.7e12)
    assert per_operation(whole, 1e18).value == pytest.approx(1e12 * watts / 15.7e12)


def test_an_estimated_figure_has_a_range_and_a_printed_one_has_none() -> None:
    guess = DEVICE.model_copy(update={"idle_watts": figure(100.0, "estimate")})
    known, guessed = (training_energy(device, hours=1) for device in (DEVICE, guess))
    by_name = {factor.name: factor for factor in guessed.factors}
    assert (by_name["idle power"].low, by_name["idle power"].high) == (50, 150)
    assert guessed.low < known.low < known.value == guessed.value < known.high <= guessed.high


@settings(max_examples=60, deadline=None)
@given(
    device=st.sampled_from([load_device(name) for name in device_names() if name[0].isupper()]),
    macs=st.floats(1e6, 1e13),
    memory=st.none() | st.floats(1e3, 1e12),
    seconds=st.none() | st.floats(1e-5, 10),
    host=st.none() | st.floats(0, 1000),
    region=st.sampled_from(["us", "world", "ca-qc", "gcp:europe-west1"]),
)
def test_the_interval_holds_every_combination_of_the_factors(
    device: Device,
    macs: float,
    memory: float | None,
    seconds: float | None,
    host: float | None,
    region: str,
) -> None:
    energy = inference_energy(
        device, macs=macs, memory_bytes=memory, seconds=seconds, host_watts=host
    ).times("inference", "kWh", scale=1 / 3.6e6)
    result = carbon(at_the_meter(energy, pue_of(device)), intensity_of(load_region(region)))
    assert 0 < result.low <= result.value <= result.high
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = {f.name: float(generator.choice([f.low, f.high, f.value])) for f in result.factors}
        found = result.formula(values)
        assert result.low <= found * (1 + 1e-9)
        assert found <= result.high * (1 + 1e-9)


def test_the_widest_factor_is_the_one_that_moves_most() -> None:
    factors = (
        Factor("a", 2.0, 1.0, 3.0, "", "x"),
        Factor("b", 10.0, 9.0, 11.0, "", "x"),
        Factor("c", 4.0, 1.0, 8.0, "", "x", inverse=True),
    )
    estimate = Estimate("e", "", factors, lambda v: v["a"] * v["b"] / v["c"])
    assert (estimate.low, estimate.value, estimate.high) == (9 / 8, 5, 33)
    assert estimate.swing(factors[2]) == (2.5, 20)
    assert estimate.widest is factors[2]
    assert Estimate("e", "", (given_factor("a", 1, ""),), lambda v: v["a"]).widest is None


def test_what_two_estimates_share_is_counted_once() -> None:
    shared = Factor("grid", 2.0, 1.0, 4.0, "", "x")
    a, b = (
        Estimate("e", "kg", (shared, given_factor(name, 1.0, "")), lambda v: v["grid"])
        for name in "ab"
    )
    both = total("both", [a, b])
    assert [factor.name for factor in both.factors] == ["grid", "a", "b"]
    assert (both.low, both.value, both.high) == (2, 4, 8)
    other = Estimate("e", "kg", (Factor("grid", 3.0, 1.0, 4.0, "", "x"),), lambda v: v["grid"])
    with pytest.raises(ValueError, match="two different factors are called 'grid'"):
        total("both", [a, other])
    with pytest.raises(ValueError, match="cannot add"):
        total("both", [a, Estimate("e", "J", (), lambda v: 1.0)])


def test_a_range_that_does_not_hold_its_value_is_refused() -> None:
    with pytest.raises(ValueError, match="is not within"):
        Factor("a", 1.0, 2.0, 3.0, "", "x")
    with pytest.raises(ValueError, match="is not within"):
        Factor("a", float("nan"), 0.0, 3.0, "", "x")


def test_software_carbon_intensity_adds_the_embodied_share() -> None:
    operational = carbon(at_the_meter(training_energy(DEVICE, hours=1), PUE), given_intensity(400))
    score = sci(operational, embodied_kg=3.0, units=1000)
    assert score.value == pytest.approx((operational.value + 3.0) / 1000)
    assert score.low == pytest.approx((operational.low + 3.0) / 1000)
    assert score.high == pytest.approx((operational.high + 3.0) / 1000)


def test_the_usual_precision_is_one_the_device_has() -> None:
    assert precision_of(V100) == "fp16"
    assert precision_of(load_device("A100")) == "bf16"
    assert precision_of(load_device("A100"), "INT8") == "int8"
    assert precision_of(load_device("RaspberryPi4")) == "fp32"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training_energy(V100), "either the operations or the hours"),
        (lambda: training_energy(V100, hours=1, operations=1), "either the operations or the"),
        (lambda: training_energy(V100, hours=0), "hours = 0: expected above zero"),
        (lambda: training_energy(V100, operations=-1), "operations = -1: expected above zero"),
        (lambda: training_energy(V100, hours=1, count=0), "0 devices: expected at least 1"),
        (lambda: training_energy(V100, operations=1, precision="bf16"), "has no peak for precis"),
        (lambda: training_energy(V100, operations=1, utilisation=0), "utilisation 0: expected ab"),
        (lambda: training_energy(V100, hours=1, host_watts=-1), "host power -1 W"),
        (lambda: inference_energy(V100, macs=0), "MACs = 0: expected above zero"),
        (lambda: inference_energy(V100, macs=1, seconds=-1), "latency = -1"),
        (lambda: inference_energy(V100, macs=1, memory_bytes=0), "memory traffic = 0"),
        (lambda: pue_of(V100, 0.5), "PUE 0.5: expected at least 1"),
        (lambda: given_intensity(-1), "intensity -1 g/kWh"),
    ],
)
def test_invalid_inputs_raise_one_line(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


class Fixed:
    """A latency of the same number of milliseconds for every block."""

    device, origin, summary = "round", "measured", "fixed"

    def __init__(self, value: float) -> None:
        self.value = value

    def milliseconds(self, ops: Sequence[Op]) -> float:
        return self.value


def test_a_block_costs_what_an_inference_of_it_does() -> None:
    space = load_space("mobilenet-tiny")
    ops = space.blocks[1].ops(
        *(space.choices[space.column[name]].options[-1] for name in space.blocks[1].choices)
    )
    traffic = sum(ops_bytes(ops, 4))
    macs = sum(op.macs for op in ops)
    for milliseconds in (1e-6, 0.1, 50.0):
        price = energy_price(DEVICE, Fixed(milliseconds))  # type: ignore[arg-type]
        energy = inference_energy(
            DEVICE,
            macs=macs,
            memory_bytes=traffic,
            seconds=milliseconds / 1e3,
            precision="fp32",
            host_watts=0,
        )
        assert price(ops) == pytest.approx(1e3 * energy.value)
    assert energy_price(DEVICE, Fixed(50.0))(ops) > 100 * 50.0  # type: ignore[arg-type]


def test_energy_is_a_column_of_cost_tables() -> None:
    space = load_space("mobilenet-tiny")
    price = energy_price(V100, Roofline(V100))
    tables = CostTables(space, prices={"energy_mj_V100": price})
    rows = space.sample(200, seed=0)
    scored = tables.score(rows)["energy_mj_V100"]
    one = tables.cost(space.decode(rows[:1])[0])["energy_mj_V100"]
    assert isclose(one, scored[0], rel_tol=1e-9)
    assert (scored > 0).all()
    smallest, largest = (tables.cost(a)["energy_mj_V100"] for a in (space.smallest, space.largest))
    assert smallest < largest
