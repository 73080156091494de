"""Devices: contents of their files, look-up, detection, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hardware_profiles import detected
from hardware_profiles.detected import cpu_watts, known_gpu, this_machine
from hardware_profiles.device import Device, device_files, read_device
from hardware_profiles.lookup import device_names, load_device
from hardware_profiles.machine import memory_bytes
from search_spaces.errors import UserError

PACKAGED = (
    "A100", "AppleM2", "EPYC7763-core", "H100", "JetsonAGXOrin", "JetsonOrinNano", "L4", "MI300X",
    "RTX4090", "RaspberryPi4", "RaspberryPi5", "Snapdragon865", "Snapdragon865-CPU", "T4", "TPUv4",
    "TPUv5e", "V100",
)  # fmt: skip

MINE = """\
name = "Mine"
title = "My board"
kind = "board"
aliases = ["desk board"]
peak_flops.fp32 = { value = 1e12, source = "measured by me", year = 2024, confidence = "measured" }
bandwidth_bytes_per_s = { value = 10e9, source = "its maker", year = 2024 }
memory_bytes = { value = 4e9, source = "its maker", year = 2024 }
tdp_watts = { value = 10, source = "its maker", year = 2024 }
idle_watts = { value = 2, source = "a meter", year = 2024, confidence = "measured" }
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an empty folder of the user's devices."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "budget-nas" / "devices"
    folder.mkdir(parents=True)
    return folder


def test_packaged_devices_are_complete() -> None:
    assert set(device_files()) == set(PACKAGED)
    assert set(device_names()) == {*PACKAGED, "this-machine"}


@pytest.mark.parametrize("name", PACKAGED)
def test_each_packaged_device_is_complete_and_plausible(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    figures = [*device.peak_flops.values(), device.bandwidth_bytes_per_s, device.memory_bytes]
    figures += [device.tdp_watts, device.idle_watts]
    assert all(figure.source and 2010 <= figure.year <= 2030 for figure in figures)
    assert device.idle_watts.value < device.tdp_watts.value
    # A derived figure states its derivation.
    derived = [figure for figure in figures if figure.confidence == "derived"]
    assert all(figure.note for figure in derived)
    # From a Raspberry Pi's memory and arithmetic to those of an HBM stack and tensor cores.
    assert 1e9 < device.bandwidth_bytes_per_s.value < 1e13
    assert all(1e10 < figure.value < 1e16 for figure in device.peak_flops.values())
    ridge = max(f.value for f in device.peak_flops.values()) / device.bandwidth_bytes_per_s.value
    assert 1 < ridge < 2000


def test_sparse_figures_are_halved_and_missing_precisions_missing() -> None:
    assert load_device("H100").peak_flops["fp16"].value == 989.4e12
    assert "sparse" in load_device("H100").peak_flops["fp16"].note
    assert load_device("RTX4090").peak_flops["fp16"].value == 165.2e12
    assert "fp32 accumulation" in load_device("RTX4090").peak_flops["fp16"].note
    assert load_device("L4").peak_flops["int8"].value == 242.5e12
    assert "bf16" not in load_device("V100").peak_flops
    assert "fp32" not in load_device("TPUv5e").peak_flops


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("v100", "V100"),
        ("rtx 4090", "RTX4090"),
        ("RTX_4090", "RTX4090"),
        ("orin-nano", "JetsonOrinNano"),
        ("Pi 5", "RaspberryPi5"),
        ("epyc 7763", "EPYC7763-core"),
    ],
)
def test_names_and_aliases_ignore_case_and_separators(typed: str, name: str) -> None:
    assert load_device(typed).name == name


def test_no_two_packaged_devices_share_a_name_or_alias() -> None:
    devices = [read_device(path) for path in device_files().values()]
    found = [load_device(n).name == d.name for d in devices for n in (d.name, *d.aliases)]
    assert all(found)


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [("V10", "V100"), ("rtx-409", "RTX4090"), ("orin nanno", "JetsonOrinNano")],
)
def test_a_typo_names_the_nearest_device(typed: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"unknown device '{typed}': did you mean '{nearest}'"):
        load_device(typed)


def test_a_users_file_is_found_by_name_alias_and_path(mine: Path, tmp_path: Path) -> None:
    (mine / "Mine.toml").write_text(MINE)
    (tmp_path / "Mine.toml").write_text(MINE)
    assert load_device("mine") == load_device("desk board")
    assert load_device("mine") == load_device(str(tmp_path / "Mine.toml"))
    assert load_device("mine").peak_flops["fp32"].confidence == "measured"
    assert "Mine" in device_names()


def test_a_users_file_overrides_the_packaged_one(mine: Path) -> None:
    (mine / "v100.toml").write_text(MINE.replace("Mine", "v100"))
    assert load_device("V100").peak_flops["fp32"].value == 1e12
    assert "V100" not in device_names()


def test_a_broken_file_of_the_users_hides_no_other_device(mine: Path) -> None:
    (mine / "Broken.toml").write_text("name = ")
    assert load_device("orin nano").name == "JetsonOrinNano"
    with pytest.raises(UserError, match=r"Broken\.toml is not valid TOML"):
        load_device("broken")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "My board"\n', "", r"Mine\.toml: title: missing"),
        ("value = 10, ", "", r"tdp_watts\.value: missing"),
        ("value = 10,", "value = -10,", r"tdp_watts\.value: .* greater than 0, given -10"),
        ("value = 10,", "value = 0,", r"tdp_watts\.value: .* greater than 0"),
        ("value = 10,", "value = inf,", r"tdp_watts\.value: .* finite"),
        ("value = 10,", 'value = "10 W",', r"tdp_watts\.value: .* number, given '10 W'"),
        ("value = 10,", "value = true,", r"tdp_watts\.value: .* number, given True"),
        ("year = 2024 }", "year = 24 }", r"year: .* greater than or equal to 1990, given 24"),
        ("tdp_watts", "tdp_wats", r"tdp_watts: missing"),
        ('kind = "board"', 'kind = "toaster"', r"kind: input should be 'gpu', .* given 'toaster'"),
        ("fp32", "fp33", r"peak_flops\.fp33: input should be 'fp64', 'fp32'"),
        ("peak_flops.fp32 = {", "peak_flops = {} #", r"peak_flops: .* at least 1 item"),
        ('"measured" }', '"sure" }', r"confidence: .*'datasheet', .* given 'sure'"),
        ('source = "a meter"', 'sauce = "a meter"', r"idle_watts\.source: missing"),
        ('source = "a meter"', 'source = ""', r"idle_watts\.source: .* at least 1 character"),
        ('name = "Mine"', 'name = "My board"', "name: .* pattern"),
        ('name = "Mine"', 'name = "Other"', "name: 'Other', expected 'Mine' as in the file name"),
        ('name = "Mine"', 'name = "Mine', "is not valid TOML: .*line 1"),
    ],
)
def test_an_invalid_file_raises_one_line_that_names_the_field(
    old: str, new: str, message: str, mine: Path
) -> None:
    assert old in MINE
    (mine / "Mine.toml").write_text(MINE.replace(old, new))
    with pytest.raises(UserError, match=message) as raised:
        load_device("Mine")
    assert "\n" not in str(raised.value)


def test_an_unknown_field_names_the_nearest(mine: Path) -> None:
    (mine / "Mine.toml").write_text(MINE + "[launch_second]\nvalue = 1e-6\n")
    message = "launch_second: unknown field, did you mean 'launch_seconds'?"
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        load_device("Mine")


def test_an_unreadable_file_raises_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the device file .*nowhere\.toml: No such"):
        load_device(str(tmp_path / "nowhere.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="it is not UTF-8 text"):
        load_device(str(tmp_path / "bytes.toml"))


def test_this_machine_is_measured_once_and_labels_estimates() -> None:
    device = load_device("This Machine")
    assert device is this_machine()
    assert device.name == "this-machine"
    assert device.bandwidth_bytes_per_s.confidence == "measured"
    assert device.idle_watts.confidence == "estimate"
    if not torch.cuda.is_available():
        assert device.peak_flops["fp32"].confidence == "measured"
        assert device.memory_bytes.value == memory_bytes()


@pytest.mark.parametrize(
    ("model", "usable", "total", "virtual", "watts", "note"),
    [
        ("AMD EPYC 7763 64-Core Processor", 128, 128, False, 280, ""),
        ("AMD EPYC 7763 64-Core Processor", 2, 128, False, 280 / 64, "2 of 128 threads"),
        ("AMD EPYC 7763 64-Core Processor", 2, 2, True, 8, "virtual machine"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 28, 28, False, 120, ""),
        ("Some Processor 9000", 4, 4, False, 16, ""),
    ],
)
def test_processor_power_is_from_the_table_or_a_labelled_estimate(
    model: str, usable: int, total: int, virtual: bool, watts: float, note: str
) -> None:
    figure = cpu_watts(model, usable, total, virtual=virtual)
    assert figure.value == pytest.approx(watts)
    assert figure.confidence == "estimate"
    assert model in figure.source
    assert note in figure.note


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA L40S", None),
    ],
)
def test_a_gpu_is_known_by_its_exact_name_only(name: str, known: str | None) -> None:
    found = known_gpu(name)
    assert (found.name if found else None) == known


def test_a_known_gpu_has_its_datasheet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 15_843_721_216

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    device: Device = detected._gpu("Tesla T4")
    assert device.name == "this-machine"
    assert device.peak_flops == load_device("T4").peak_flops
    assert device.memory_bytes.value == Properties.total_memory
