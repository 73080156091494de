"""Runs, exports, tables and devices that an earlier version wrote are read as that version did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from nas.cli import main
from nas.task.own_code import trusting

OLD = Path(__file__).parents[1] / "data" / "0.1.0"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _trusted() -> Iterator[None]:
    """Runs of the earlier version have no record of their files: the user trusts them once."""
    with trusting():
        yield


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files, copied into the working folder: the runs name their space `space.py:plain`."""
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    return folder


def printed(capsys: pytest.CaptureFixture[str], command: str) -> Any:
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--json"])
    output = capsys.readouterr()
    assert not end.value.code, output.err
    return json.loads(output.out)


def without_measurements(content: Any) -> Any:
    """Drop what depends on the machine and the day, and sentences for people (`changes`)."""
    if isinstance(content, dict):
        return {
            name: without_measurements(value)
            for name, value in content.items()
            if name not in ("footprint", "folder", "milliseconds", "seconds", "changes")
        }
    return [without_measurements(v) for v in content] if isinstance(content, list) else content


def assert_same(found: Any, expected: Any, place: str = "") -> None:
    if isinstance(expected, dict):
        assert set(expected) <= set(found), place
        for name, value in expected.items():
            assert_same(found[name], value, f"{place}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, value in enumerate(expected):
            assert_same(found[index], value, f"{place}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-9), place
    else:
        assert found == expected, place


@pytest.mark.parametrize("command", EXPECTED["commands"])
def test_commands_print_what_the_earlier_version_printed(
    command: str, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = without_measurements(printed(capsys, command))
    assert_same(found, without_measurements(EXPECTED["commands"][command]), command)


@pytest.mark.parametrize("name", EXPECTED["networks"])
def test_networks_give_the_outputs_of_the_earlier_version(name: str, old: Path) -> None:
    expected = EXPECTED["networks"][name]
    network = nas.load(name)
    shape = network.config["input_shape"]
    inputs = torch.linspace(-1, 1, 2 * prod(shape)).reshape(2, *shape)
    with torch.no_grad():
        outputs = network(inputs)
    assert network.config["architecture"]["id"] == expected["id"]
    assert network.config["costs"] == expected["costs"]
    assert outputs[0].tolist() == pytest.approx(expected["output"]["first row"], abs=1e-4)


@pytest.mark.parametrize(("run", "trials"), [("unfinished", 9), ("darts", 5)])
def test_a_run_of_the_earlier_version_resumes_and_repeats_nothing(
    run: str, trials: int, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = nas.Run(run).evaluations()
    found = printed(capsys, f"search --out {run} --resume --trials {trials} --quiet")
    after = nas.Run(run).evaluations()
    assert after[: len(before)] == before
    assert len({e.arch for e in after}) == len(after) == found["evaluations"] == trials
