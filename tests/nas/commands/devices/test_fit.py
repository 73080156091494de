"""`nas device fit` and `propose`: a latency table from timed networks, and wrong input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from evaluators.costs.tables import CostTables
from evaluators.device_prices import find_target
from hardware_profiles.device import device_files
from hardware_profiles.fitting.fitted import load_fitted
from hardware_profiles.latencies import find_latency
from nas.cli import main
from search_spaces.catalogue import load_space
from search_spaces.space import Rows

SPACE = load_space("vit-tiny")
ROWS = np.unique(SPACE.sample(160, seed=0), axis=0)
Captured = pytest.CaptureFixture[str]


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(["device", *arguments])
    return int(end.value.code or 0)


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of tables, which does not exist yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "config" / "budget-nas" / "tables"


def milliseconds(rows: Rows) -> list[float]:
    """Latencies of a device that takes 1 ms per million MACs and 10 us per op."""
    price = {"ms": lambda ops: sum(op.macs / 1e6 + 0.01 for op in ops)}
    return CostTables(SPACE, prices=price).score(rows, ("ms",))["ms"].tolist()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Timed networks with one column per choice, two of numbers and one of text."""
    path = tmp_path / "timed.csv"
    archs = [dict(arch) for arch in SPACE.decode(ROWS)]
    with path.open("w", newline="") as stream:
        names = [choice.name for choice in SPACE.choices]
        writer = csv.writer(stream)
        writer.writerow([*names, "latency_ms_toaster", "latency_ms_kettle", "place"])
        for arch, time in zip(archs, milliseconds(ROWS), strict=True):
            values = [json.dumps(arch[name]) if name in arch else "" for name in names]
            writer.writerow([*values, time, 2 * time, "kitchen"])
    return path


def fit(file: Path, *more: str, name: str = "toaster") -> int:
    return run("fit", "--name", name, "--space", "vit-tiny", "--from", str(file), *more)


def test_a_fit_is_saved_among_the_users_tables_and_its_agreement_is_printed(
    file: Path, user: Path, capsys: Captured
) -> None:
    assert fit(file, "--samples", "30") == 0
    printed = capsys.readouterr()
    assert "samples          30" in printed.out
    assert "cross-validated  Spearman" in printed.out
    assert "held out" in printed.out
    (path,) = user.iterdir()
    assert str(path) in printed.out
    model = load_fitted(path)
    np.testing.assert_allclose(model.predict(SPACE, ROWS), milliseconds(ROWS), rtol=0.1)
    assert find_latency("toaster", SPACE).origin == "fitted"


def test_a_table_counts_under_every_alias_of_its_device(file: Path, user: Path) -> None:
    named = ("--metric", "latency_ms_toaster")
    assert fit(file, *named, name="RaspberryPi4") == 0
    for alias in ("RaspberryPi4", "raspberry-pi 4", "Pi 4", "raspi4"):
        target = find_target(alias, SPACE)
        assert target.latency.origin == "fitted"
        assert target.metrics == ("latency_ms_RaspberryPi4", "energy_mj_RaspberryPi4")
    assert find_target("raspi4", load_space("macro")).latency.origin == "estimate"
    # A datasheet that is given as a file is what is used.
    sheet = user / "RaspberryPi4.toml"
    sheet.write_bytes(device_files()["RaspberryPi4"].read_bytes())
    assert find_latency(str(sheet), SPACE).origin == "estimate"


def test_json_contains_the_same_and_nothing_else_is_printed(
    file: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "fitted.json"
    assert fit(file, "--samples", "30", "--seed", "3", "--out", str(out), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["device"] == "toaster"
    assert said["metric"] == "latency_ms_toaster"
    assert said["origin"] == "fitted"
    assert said["additive"] is True
    assert said["samples"] == said["cross_validated"]["n"] == 30
    assert said["on_the_rest"]["n"] == len(ROWS) - 30
    assert said["on_the_rest"]["spearman"] > 0.98
    assert said["file"] == str(out)
    assert load_fitted(out).samples == 30


def test_a_fit_to_all_rows_holds_none_out(file: Path, capsys: Captured) -> None:
    assert fit(file, "--metric", "latency_ms_kettle", "--json", name="other") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["metric"] == "latency_ms_kettle"
    assert said["samples"] == len(ROWS)
    assert said["on_the_rest"] is None


def test_another_fit_replaces_a_fit_but_not_a_measured_table(
    file: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "table.json"
    assert fit(file, "--samples", "10", "--out", str(out)) == 0
    assert fit(file, "--samples", "20", "--out", str(out)) == 0
    assert load_fitted(out).samples == 20
    out.write_text('{"kind": "measured"}')
    capsys.readouterr()
    assert fit(file, "--out", str(out)) == 2
    assert "is a table of kind 'measured'" in capsys.readouterr().err
    assert out.read_text() == '{"kind": "measured"}'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "latency_ms_toster"], "did you mean 'latency_ms_toaster'?"),
        (["--metric", "place"], "unknown column of numbers in"),
        (["--name", "kitten"], "so give --metric: 'latency_ms_kitten': did you mean"),
        (["--name", "a/b"], "malformed device name 'a/b'"),
        (["--samples", "4"], "--samples 4: expected at least 5"),
        (["--samples", "4000"], "--samples 4000: "),
        (["--space", "vit-tony"], "unknown space 'vit-tony': did you mean 'vit-tiny'?"),
        (["--space", "mobilenet-tiny"], "row 1: the architecture lacks stem_width"),
        (["--from", "nowhere.csv"], "no table nowhere.csv"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, file: Path, user: Path, capsys: Captured
) -> None:
    assert fit(file, *arguments) == 2  # the last value of an option counts
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not user.exists()


def test_too_few_usable_readings_are_an_error(tmp_path: Path, user: Path, capsys: Captured) -> None:
    path = tmp_path / "few.jsonl"
    lines = [
        json.dumps({**arch, "latency_ms_toaster": time})
        for arch, time in zip(SPACE.decode(ROWS[:6]), [1.0, 2.0, 0.0, 1.5, -1.0, 1.2], strict=True)
    ]
    path.write_text("\n".join(lines))
    assert fit(path) == 2
    assert "4 of 6 latencies on toaster can be used: expected at least 5" in capsys.readouterr().err
    assert not user.exists()


def test_proposed_networks_can_be_timed_and_fitted(tmp_path: Path, capsys: Captured) -> None:
    smaller = int(np.median(CostTables(SPACE).score(ROWS)["macs"]))
    options = ["--space", "vit-tiny", "--number", "8", "--max-flops", str(smaller)]
    assert run("propose", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(set(lines)) == 8
    rows = SPACE.encode([SPACE.architecture(json.loads(line)) for line in lines])
    assert CostTables(SPACE).score(rows)["macs"].max() <= smaller
    path = tmp_path / "timed.jsonl"
    timed = zip(lines, milliseconds(rows), strict=True)
    path.write_text("\n".join(json.dumps({**json.loads(a), "ms": time}) for a, time in timed))
    assert fit(path, "--metric", "ms", "--json") == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--number", "0"], "--number 0: expected at least 1"),
        (["--max-flops", "10"], "the nearest one has"),
    ],
)
def test_wrong_input_of_propose_is_one_line(
    arguments: list[str], message: str, capsys: Captured
) -> None:
    assert run("propose", "--space", "vit-tiny", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
