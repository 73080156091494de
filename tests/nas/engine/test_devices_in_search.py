"""Searches for devices: latency, energy and GreenScore as costs, bounds, objectives and columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.device_prices import device_tables, find_target, load_target
from evaluators.footprint.energy import JOULES_PER_KWH
from hardware_profiles.electricity.grid import load_region
from hardware_profiles.fitting.fitted import fit_latency
from hardware_profiles.latencies import table_path
from hardware_profiles.latency.roofline import Roofline
from hardware_profiles.lookup import load_device
from nas.cli import main
from nas.engine.search import Outcome, search
from nas.run.folder import Run
from nas.run.specification import make
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

SCORE = """
def score(arch):
    return {"accuracy": 0.5 + sum("5" in str(value) for value in arch.values()) / 60}
"""


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def evaluator(tmp_path: Path) -> str:
    path = tmp_path / "score_for_devices.py"
    path.write_text(SCORE)
    return f"{path}:score"


def searched(folder: Path, evaluator: str, resume: bool = False, **settings: Any) -> Outcome:
    given = {"space": "macro", "trials": 30, "evaluator": evaluator, **settings}
    return search(make(given), folder, resume=resume)


def printed(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert (ended.value.code or 0) == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err.strip().splitlines()[-1]


def test_latency_and_energy_on_devices_are_budgets_that_nothing_breaks(
    evaluator: str, tmp_path: Path
) -> None:
    space = load_space("macro")
    tables = device_tables(space, [find_target(name, space) for name in ("V100", "raspi4")])
    costs = tables.score(space.sample(500, 0))
    high = {m: float(np.quantile(costs[m], 0.3)) for m in tables.metrics if "_" in m}
    assert len(high) == 4
    outcome = searched(
        tmp_path / "run", evaluator, devices=["v100", "raspi4"], high=high, region="fr"
    )
    for evaluation in outcome.run.evaluations():
        assert all(evaluation.metrics[metric] <= bound for metric, bound in high.items())
    devices = Roofline(load_device("V100")), Roofline(load_device("RaspberryPi4"))
    best = outcome.winner
    for latency in devices:
        whole = sum(latency.milliseconds(ops) for _, ops in space.ops(best.arch))
        assert best.metrics[f"latency_ms_{latency.device}"] == pytest.approx(whole)


def test_a_run_keeps_what_it_was_priced_with(evaluator: str, tmp_path: Path) -> None:
    """A device's file that changes, or goes, changes no run."""
    space = load_space("macro")
    folder = tmp_path / "config" / "budget-nas" / "devices"
    folder.mkdir(parents=True)
    text = load_device("V100").model_dump_json()
    mine = json.loads(text) | {"name": "mine", "aliases": []}
    rows = [
        f"{key} = {json.dumps(value) if not isinstance(value, dict) else _toml(value)}"
        for key, value in mine.items()
        if value is not None
    ]
    (folder / "mine.toml").write_text("\n".join(rows))
    outcome = searched(tmp_path / "run", evaluator, devices=[str(folder / "mine.toml")], trials=10)
    before = outcome.winner.metrics["latency_ms_mine"]
    (folder / "mine.toml").unlink()
    kept = load_target(tmp_path / "run" / "devices", "mine", space)
    cost = device_tables(space, [kept]).cost(outcome.winner.arch)
    assert cost["latency_ms_mine"] == pytest.approx(before)
    again = searched(tmp_path / "run", evaluator, resume=True, devices=["mine"], trials=20)
    assert len(again.run.evaluations()) == 20
    with pytest.raises(UserError, match="devices"):
        searched(tmp_path / "run", evaluator, resume=True, devices=["V100"], trials=20)


def _toml(value: dict[str, Any]) -> str:
    inner = ", ".join(
        f"{k} = {_toml(v) if isinstance(v, dict) else json.dumps(v)}" for k, v in value.items()
    )
    return f"{{ {inner} }}"


def test_a_fitted_latency_is_a_budget(evaluator: str, tmp_path: Path) -> None:
    space = load_space("macro")
    rows = space.canonical(space.sample(40, 1))
    board = Roofline(load_device("RaspberryPi4"))
    times = [sum(board.milliseconds(ops) for _, ops in space.ops(a)) for a in space.decode(rows)]
    fit_latency(space, rows, np.array(times), "board").save(table_path("board", "macro", "fitted"))
    bound = float(np.quantile(times, 0.4))
    high = {"latency_ms_board": bound}
    outcome = searched(tmp_path / "run", evaluator, devices=["board"], high=high, trials=15)
    metrics = outcome.winner.metrics
    assert metrics["latency_ms_board"] <= bound
    assert "energy_mj_board" not in metrics  # no datasheet says what it draws
    assert outcome.task.targets[0].latency.origin == "fitted"


def test_greenscore_is_an_objective_a_column_and_a_sort_key(
    evaluator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    outcome = searched(
        folder,
        evaluator,
        devices=["V100"],
        objectives=["greenscore", "accuracy"],
        green_exponents=[0.1, 0.05],
    )
    space, tables = outcome.task.space, outcome.task.tables
    largest = tables.cost(space.largest)
    for evaluation in outcome.run.evaluations():
        m = evaluation.metrics
        green = m["accuracy"] * (largest["macs"] / m["macs"]) ** 0.1
        green *= (largest["energy_mj_V100"] / m["energy_mj_V100"]) ** 0.05
        assert m["greenscore"] == pytest.approx(green)
    best = max(e.metrics["greenscore"] for e in outcome.run.evaluations())
    assert outcome.winner.metrics["greenscore"] == best
    rows = json.loads(printed(capsys, 0, "frontier", str(folder), "--sort", "greenscore", "--json"))
    scores = [row["greenscore"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert "unknown metric 'speed'" in printed(
        capsys, 2, "frontier", str(folder), "--sort", "speed"
    )


def test_the_frontier_on_devices_that_the_search_did_not_know(
    evaluator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    outcome = searched(folder, evaluator)
    devices = ["--device", "V100", "--device", "rpi4"]
    rows = json.loads(printed(capsys, 0, "frontier", str(folder), *devices, "--json"))
    names = ("latency_ms_V100", "latency_ms_RaspberryPi4")
    points = np.array([[-row["accuracy"], *(row[name] for name in names)] for row in rows])
    for point in points:  # none is as good in everything and better in something
        assert not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
    all_of = device_tables(load_space("macro"), [find_target("V100", load_space("macro"))])
    by_id = {e.arch.id: e for e in outcome.run.evaluations()}
    for row in rows:
        assert row["latency_ms_V100"] == pytest.approx(
            all_of.cost(by_id[row["id"]].arch)["latency_ms_V100"]
        )
    text = printed(capsys, 0, "frontier", str(folder), *devices)
    assert "V100: estimate from the datasheet" in text
    assert "unknown device" in printed(capsys, 2, "frontier", str(folder), "--device", "toaster")


def test_the_leaderboard_ranks_by_accuracy_and_by_greenscore(
    evaluator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    searched(folder, evaluator)
    asked = ["leaderboard", str(folder), "--device", "V100", "--region", "de"]
    board = json.loads(printed(capsys, 0, *asked, "--json"))
    networks = board["networks"]
    assert len(networks) == len(Run(folder).evaluations())
    assert [n["place_by_greenscore"] for n in networks] == list(range(1, len(networks) + 1))
    greens = [n["greenscore"] for n in networks]
    assert greens == sorted(greens, reverse=True)
    first = next(n for n in networks if n["place_by_accuracy"] == 1)
    assert first["accuracy"] == max(n["accuracy"] for n in networks)
    # mJ an inference, as kWh, times grams a kWh, in micrograms.
    grams = load_region("de").intensity * first["energy_mj_V100"] / 1e3 / JOULES_PER_KWH
    assert first["co2e_ug"] == pytest.approx(1e6 * grams)
    text = printed(capsys, 0, *asked)
    assert "relative to the largest network of macro" in text
    assert "g/kWh, Germany" in text
    without = printed(capsys, 0, "leaderboard", str(folder))
    assert "no CO2: its exponent is 0" in without
    assert "unknown region" in printed(capsys, 2, *asked[:-1], "atlantis")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-latency", "5ms", "--device", "toaster"], "unknown device 'toaster'"),
        (["--max-energy", "5mJ"], "--max-energy needs --device"),
        (["--max-energy", "5mm", "--device", "V100"], "malformed energy '5mm'"),
        (["--max-latency", "0.0001ms", "--device", "V100"], "the nearest one has"),
        (["--region", "atlantis"], "unknown region"),
        (["--green-exponents", "1"], "expected two numbers"),
        (["--device", "there-is-none.json"], "is not a latency table"),
    ],
)
def test_wrong_devices_are_told_in_one_line_and_leave_nothing(
    options: list[str],
    message: str,
    evaluator: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    asked = ["search", "--space", "macro", "--evaluator", evaluator, "--out", str(folder)]
    line = printed(capsys, 2, *asked, *options)
    assert line.startswith("nas: ")
    assert message in line
    assert not folder.exists()


def test_a_name_in_a_published_table_is_not_a_device_of_that_alias(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`raspi4` is a column there, and an alias of our Raspberry Pi 4 here."""
    space = load_space("macro")
    archs = space.decode(
        BudgetedSpace(device_tables(space, []), Budget({}, {})).sample(40, np.random.default_rng(0))
    )
    lines = [
        json.dumps({**dict(a), "accuracy": 0.01 * i, "latency_ms_raspi4": 1.0 + i})
        for i, a in enumerate(archs)
    ]
    table = tmp_path / "published.jsonl"
    table.write_text("\n".join(lines))
    asked = ["search", "--space", "macro", "--evaluator", f"table:{table}", "--trials", "10"]
    options = ["--max-latency", "9ms", "--device", "raspi4", "--out", str(tmp_path / "run")]
    printed(capsys, 0, *asked, *options)
    found = [e for e in Run(tmp_path / "run").evaluations() if e.error is None]
    assert all(1.0 <= e.metrics["latency_ms_raspi4"] <= 9 for e in found)
    assert found
