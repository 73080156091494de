"""`nas device measure` and `check` on the command line, with a small space."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hardware_profiles.latencies import find_latency, table_path
from hardware_profiles.latency.measured import read_measured
from hardware_profiles.measuring import standalone
from nas.cli import main
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

MEASURE = ["device", "measure", "--space", "mobilenet-tiny", "--calibrate", "4"]


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    # Other tests run at the same time: use measurements with any spread.
    monkeypatch.setattr(standalone, "MAX_SPREAD", 100.0)
    return tmp_path


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("nas: ")
    return error


def test_a_table_is_measured_resumed_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    run(*MEASURE, "--name", "board", "--budget", "2s", "--json")
    first = json.loads(capsys.readouterr().out)
    path = Path(first["table"])
    assert path == table_path("board", "mobilenet-tiny", "measured")
    before = read_measured(path)
    assert first["measured"] == len(before.blocks) > 20
    run(*MEASURE, "--name", "board", "--budget", "2s", "--json")
    assert len(read_measured(path).blocks) > len(before.blocks)
    kept = {before.key(b): b.ms for b in before.blocks}
    after = read_measured(path)
    assert all(kept.get(after.key(b), b.ms) == b.ms for b in after.blocks)
    latency = find_latency("board", load_space("mobilenet-tiny"))
    assert latency.origin == "measured"
    capsys.readouterr()
    run("device", "check", "board", "--networks", "4", "--json")
    checked = json.loads(capsys.readouterr().out)
    assert checked["n"] + checked["noisy"] == 4
    assert all(network["predicted_ms"] > 0 for network in checked["networks"])


def test_another_space_runtime_or_setting_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    run(*MEASURE, "--name", "board", "--budget", "4s")
    assert "threads 1, not 2" in refused(capsys, *MEASURE, "--name", "board", "--threads", "2")
    assert "not torch" in refused(capsys, *MEASURE, "--name", "board", "--runtime", "torch")
    assert "not torch" in refused(capsys, "device", "check", "board", "--runtime", "torch")
    with pytest.raises(UserError, match="known for space mobilenet-tiny, not for vit-tiny"):
        find_latency("board", load_space("vit-tiny"))
    assert "unknown runtime 'tensorrt'" in refused(capsys, *MEASURE, "--runtime", "tensorrt")
    assert "no measured table" in refused(capsys, "device", "check", "toaster")


@pytest.mark.slow
def test_a_board_is_measured_by_a_script_without_our_packages(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "board"
    run(*MEASURE, "--name", "board", "--budget", "6s", "--script", str(folder))
    assert "measure.py" in capsys.readouterr().out
    # As on the board, our packages cannot be imported.
    command = [sys.executable, "-I", str(folder / "measure.py")]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    run(*MEASURE, "--name", "board", "--from", str(folder / "result.json"), "--json")
    content = json.loads(capsys.readouterr().out)
    table = read_measured(Path(content["table"]))
    assert table.reference_ms > 0
    wrong = ["--calibrate", "5", "--overwrite", "--from", str(folder / "result.json")]
    assert "another plan" in refused(capsys, *MEASURE, "--name", "board", *wrong)
    wrong = ["--threads", "2", "--overwrite", "--from", str(folder / "result.json")]
    assert "another plan" in refused(capsys, *MEASURE, "--name", "board", *wrong)
    assert "is not empty" in refused(capsys, *MEASURE, "--script", str(folder))
