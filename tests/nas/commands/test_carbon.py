"""`nas carbon`: arithmetic, ranges that are always there, and wrong input in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hardware_profiles.electricity.grid import load_region
from hardware_profiles.lookup import load_device
from nas.cli import main
from nas.commands.show.carbon import Workload, estimate, format_factor, format_number, format_result

EXACT = ("--host-watts", "0", "--pue", "1", "--intensity", "400")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["carbon", *arguments])
    return int(end.value.code or 0)


def printed_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(*arguments, "--json") == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def ranges(content: Any) -> list[dict[str, float]]:
    """Every part of printed JSON that has a value."""
    parts = content.values() if isinstance(content, dict) else content
    inner = [found for part in parts if isinstance(part, dict | list) for found in ranges(part)]
    return inner + ([content] if isinstance(content, dict) and "value" in content else [])


def test_hours_times_power_times_pue_times_intensity(capsys: pytest.CaptureFixture[str]) -> None:
    device = load_device("V100")
    idle, tdp = device.idle_watts.value, device.tdp_watts.value
    content = printed_json(
        capsys,
        *("--device", "V100", "--hours", "10", "--count", "4", "--host-watts", "30"),
        *("--pue", "1.5", "--intensity", "400"),
    )
    watts = idle + 0.75 * (tdp - idle) + 30
    training = content["training"]
    assert training["energy"]["value"] == pytest.approx(10 * 4 * watts / 1e3)
    assert training["metered"]["value"] == pytest.approx(1.5 * training["energy"]["value"])
    assert training["carbon"]["value"] == pytest.approx(0.4 * training["metered"]["value"])
    assert training["carbon"]["unit"] == "kg CO2e"


def test_a_mac_is_two_flops(capsys: pytest.CaptureFixture[str]) -> None:
    macs = printed_json(capsys, "--device", "V100", "--train-macs", "1.1e18")
    flops = printed_json(capsys, "--device", "V100", "--train-flops", "2.2e18")
    assert macs == flops
    assert macs["factors"][0] == {
        **{"name": "operations of training", "value": 2.2e18, "low": 2.2e18, "high": 2.2e18},
        **{"unit": "FLOP", "source": "given; taken as exact"},
        **{"result_low": macs["training"]["carbon"]["value"]},
        **{"result_high": macs["training"]["carbon"]["value"]},
    }


def test_devices_share_the_time_and_not_the_energy(capsys: pytest.CaptureFixture[str]) -> None:
    one = printed_json(capsys, "--device", "V100", "--train-macs", "1e18")["training"]
    ten = printed_json(capsys, "--device", "V100", "--train-macs", "1e18", "--count", "10")
    assert ten["training"]["energy"] == one["energy"]
    assert ten["training"]["time"]["value"] == pytest.approx(one["time"]["value"] / 10)


def test_training_and_inferences_add_up_with_their_embodied_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = printed_json(
        capsys,
        *("--device", "A100", "--region", "fr", "--train-macs", "1e18", "--inferences", "1M"),
        *("--macs", "4.1G", "--memory-bytes", "100MB", "--embodied-kg", "10"),
    )
    for end in ("value", "low", "high"):
        kg = [content[part]["carbon"][end] for part in ("training", "inference", "total")]
        assert kg[0] + kg[1] == pytest.approx(kg[2])
        assert content["total"]["sci"][end] == pytest.approx((kg[2] + 10) / 1e6)
    one = content["inference"]["one"]["value"]
    assert content["inference"]["energy"]["value"] == pytest.approx(one * 1e6 / 3.6e6)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--train-macs", "1.1e18"),
        ("--train-flops", "3.14e23", "--precision", "fp32", "--utilisation", "0.4"),
        ("--hours", "79", "--count", "64", "--region", "us"),
        ("--macs", "4.1G", "--latency", "5ms", *EXACT),
        ("--macs", "300M", "--inferences", "1e6", "--embodied-kg", "2"),
    ],
)
def test_no_figure_is_printed_without_its_range(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    content = printed_json(capsys, "--device", "V100", *arguments)
    found = ranges(content)
    assert len(found) > 10
    for entry in found:
        assert entry["low"] <= entry["value"] <= entry["high"], entry
    for factor in content["factors"]:
        assert factor["source"], factor
    section = list(content)[2]
    assert content[section]["carbon"]["low"] < content[section]["carbon"]["high"]
    assert run("--device", "V100", *arguments) == 0
    text = capsys.readouterr().out
    assert "Ranges are the worst case" in text
    results = text[: text.index("\nfactor ")].splitlines()
    assert all(" to " in line for line in results if line.startswith("  "))


def test_text_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ("--train-macs", "1.1e18", "--macs", "4.1G", "--memory-bytes", "1GB")
    assert run("--device", "MI300X", "--count", "1000", *arguments) == 0
    assert not [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]


def test_without_a_region_it_is_the_worlds_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    content = printed_json(capsys, "--device", "V100", "--hours", "1")
    assert content["place"] == "World (WORLD)"
    assert any("No --region" in note for note in content["notes"])
    grid = next(factor for factor in content["factors"] if factor["name"] == "grid intensity")
    world = load_region("world")
    assert (grid["value"], grid["low"], grid["high"]) == (world.intensity, world.low, world.high)


def test_a_board_is_in_no_data_centre() -> None:
    factors = estimate(Workload("RaspberryPi5", macs=3e8)).result.factors
    assert next(factor.value for factor in factors if factor.name == "PUE") == 1


def test_the_factor_that_moves_most_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    content = printed_json(capsys, "--device", "V100", "--train-macs", "1e18", *EXACT)
    spans = {f["name"]: f["result_high"] - f["result_low"] for f in content["factors"]}
    assert content["training"]["carbon"]["widest"] == max(spans, key=lambda name: spans[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to estimate: expected --train-macs, --train-flops, --hours or --macs"),
        (("--hours", "-3"), "hours = -3: expected above zero"),
        (("--hours", "nan"), "hours = nan: expected above zero"),
        (("--hours", "1", "--train-macs", "1e18"), "--train-macs and --hours contradict each"),
        (("--train-flops", "1e18", "--train-macs", "1e18"), "--train-macs and --train-flops cont"),
        (("--hours", "1", "--utilisation", "0.5"), "--utilisation has no effect with --hours"),
        (("--hours", "1", "--region", "frnace"), "unknown region 'frnace': did you mean 'france'"),
        (("--hours", "1", "--region", "us", "--intensity", "3"), "--region and --intensity contra"),
        (("--hours", "1", "--intensity", "-1"), "intensity -1 g/kWh: expected at least 0"),
        (("--hours", "1", "--pue", "0.9"), "PUE 0.9: expected at least 1"),
        (("--hours", "1", "--host-watts", "-5"), "host power -5 W: expected at least 0"),
        (("--hours", "1", "--embodied-kg", "nan"), "embodied carbon nan kg: expected at least 0"),
        (("--hours", "1", "--latency", "5ms"), "--latency needs --macs"),
        (("--hours", "1", "--count", "0"), "--count"),
        (("--train-macs", "many"), "malformed size 'many'"),
        (("--train-macs", "1e18", "--utilisation", "30"), "utilisation 30: expected above 0"),
        (("--train-macs", "1e18", "--precision", "bf16"), "V100 has no peak for precision 'bf16'"),
        (("--macs", "4G", "--latency", "soon"), "malformed time 'soon'"),
        (("--macs", "4G", "--inferences", "0"), "size '0' must be above zero"),
        (("--device", "V10", "--hours", "1"), "unknown device 'V10': did you mean 'V100'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--device", "V100", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.startswith("nas: ")
    assert printed.err.count("\n") == 1


def test_results_are_printed_in_a_readable_multiple_of_their_unit() -> None:
    assert format_result(1287e3, "kWh") == "1.29 GWh"
    assert format_result(652, "kg CO2e") == "652 kg"
    assert format_result(552e3, "kg CO2e") == "552 t"
    assert format_result(2e-12, "kg CO2e") == "0.002 µg"
    assert format_factor(125e12, "FLOP/s") == "125 TFLOP/s"
    assert format_factor(3.14e23, "FLOP") == "3.14e+23 FLOP"
    assert format_number(2814) == "2,810"


def test_the_page_of_figures_is_made_of_what_the_benchmark_prints(tmp_path: Path) -> None:
    """`tests/benchmarks/test_figures.py` compares the page with these files."""
    root = Path(__file__).parents[3]
    script, result = root / "benchmarks" / "carbon_published.py", tmp_path / "published.json"
    done = subprocess.run(
        [sys.executable, str(script), "--json", str(result)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    stored = root / "benchmarks" / "results"
    for path, name in (
        (result, "carbon_published.json"),
        (result.with_stem("published_operations"), "carbon_operations.json"),
    ):
        rows = json.loads((stored / name).read_text())["rows"]
        assert json.loads(path.read_text())["rows"] == rows
