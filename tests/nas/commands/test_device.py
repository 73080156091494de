"""`nas device list` and `show`: what they print; wrong input is one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles.lookup import device_names
from nas.cli import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with a table of a known device and one of another, on 80 columns."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "budget-nas"
    (folder / "devices").mkdir(parents=True)
    (folder / "tables").mkdir()
    table: dict[str, Any] = {
        "device": "v100",
        "space": "mobilenet-imagenet",
        "runtime": "onnxruntime",
        "kind": "measured",
    }
    (folder / "tables" / "one.json").write_text(json.dumps(table))
    table |= {"device": "kitchen", "space": "vit-tiny", "runtime": "torch [cpu]"}
    (folder / "tables" / "two.json").write_text(json.dumps(table))
    return folder


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(["device", *arguments])
    return int(end.value.code or 0)


def test_list_has_a_line_for_each_device_and_says_where_latencies_come_from(
    capsys: Captured,
) -> None:
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    by_name = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert {*device_names(), "kitchen"} <= set(by_name)
    assert " ".join(by_name["V100"]) == "V100 gpu 15.7T 125T 900G 32G 300 mobilenet-imagenet"
    assert by_name["A100"][-1] == "estimate"
    assert by_name["kitchen"] == ["kitchen", "vit-tiny"]
    assert by_name["TPUv4"][2] == "275T"  # bf16, where there is no fp16


def test_list_as_json_holds_the_same(capsys: Captured) -> None:
    assert run("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {*device_names(), "kitchen"}
    v100 = rows["V100"]
    assert (v100["fp32_flops"], v100["fp16_flops"], v100["bf16_flops"]) == (15.7e12, 125e12, None)
    assert (v100["bandwidth_bytes_per_s"], v100["tdp_watts"]) == (900e9, 300)
    assert v100["latency"] == "measured"
    assert v100["tables"] == [{"space": "mobilenet-imagenet", "runtime": "onnxruntime"}]
    assert rows["A100"]["latency"] == "estimate"
    assert rows["A100"]["tables"] == []


def test_a_broken_file_is_named_and_hides_no_device(folder: Path, capsys: Captured) -> None:
    (folder / "devices" / "Broken.toml").write_text("name = ")
    (folder / "tables" / "broken.json").write_text('{"device": "A100"}')
    assert run("list", "--json") == 0
    printed = capsys.readouterr()
    assert "Broken" not in {row["name"] for row in json.loads(printed.out)}
    assert "Broken.toml is not valid TOML" in printed.err
    assert "broken.json is not a latency table: no 'space'" in printed.err


def test_show_prints_each_figure_with_source_year_confidence_and_note(capsys: Captured) -> None:
    assert run("show", "rtx 4090") == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    words = " ".join(text.split())
    assert "RTX4090 NVIDIA GeForce RTX 4090 24 GB, gpu" in words
    assert "peak fp16 165 TFLOP/s datasheet 2022 NVIDIA Ada GPU architecture whitepaper" in words
    assert "dense, fp32 accumulation" in words
    assert "idle 20 W estimate" in words
    assert "latency: estimate from the datasheet of RTX4090 (fp32" in words


def test_show_as_json_is_the_whole_device(capsys: Captured) -> None:
    assert run("show", "V100", "--json") == 0
    device = json.loads(capsys.readouterr().out)
    assert device["peak_flops"]["fp16"]["value"] == 125e12
    assert device["peak_flops"]["fp16"]["confidence"] == "datasheet"
    assert device["tables"] == [{"space": "mobilenet-imagenet", "runtime": "onnxruntime"}]
    assert device["latency"].startswith("estimate from the datasheet")


def test_show_says_which_latencies_are_measured(capsys: Captured) -> None:
    assert run("show", "V100") == 0
    text = capsys.readouterr().out
    assert "latency on mobilenet-imagenet: measured with onnxruntime" in text
    assert "latency on other spaces: estimate" in text
    assert run("show", "Kitchen") == 0
    text = capsys.readouterr().out
    assert "no datasheet" in text
    assert "measured with torch [cpu]" in text
    assert run("show", "kitchen", "--json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "kitchen"


def test_show_measures_this_machine(capsys: Captured) -> None:
    assert run("show", "this-machine", "--json") == 0
    device = json.loads(capsys.readouterr().out)
    assert device["memory_bytes"]["confidence"] == "measured"


def test_show_takes_the_path_of_a_file(tmp_path: Path, capsys: Captured) -> None:
    assert run("show", "H100", "--json") == 0
    device = json.loads(capsys.readouterr().out)
    lines = ['name = "copy"', 'title = "A [bold] copy"', 'kind = "gpu"']
    for field in ("bandwidth_bytes_per_s", "memory_bytes", "tdp_watts", "idle_watts"):
        value = device[field]["value"]
        lines.append(f'{field} = {{ value = {value}, source = "H100", year = 2024 }}')
    lines.append('peak_flops.fp8 = { value = 1e12, source = "H100", year = 2024 }')
    (tmp_path / "copy.toml").write_text("\n".join(lines))
    assert run("show", str(tmp_path / "copy.toml")) == 0
    assert "A [bold] copy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("V10", "unknown device 'V10': did you mean 'V100'? (known: A100, "),
        ("nowhere.toml", "cannot read the device file nowhere.toml: No such file"),
        ("Broken", "Broken.toml is not valid TOML"),
        ("Lacking", "Lacking.toml: kind: missing"),
        ("Kitchen", "kitchen.toml: title: missing"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    name: str, message: str, folder: Path, capsys: Captured
) -> None:
    (folder / "devices" / "Broken.toml").write_text("name = ")
    (folder / "devices" / "Lacking.toml").write_text('name = "Lacking"\ntitle = "x"\n')
    (folder / "devices" / "kitchen.toml").write_text('name = "kitchen"\n')
    assert run("show", name) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("nas: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
