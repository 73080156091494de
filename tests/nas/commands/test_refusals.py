"""What can be refused is refused before anything trains, in `--dry-run` and in the search."""

from __future__ import annotations

import os
import shlex
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from nas.cli import main

SEARCH = ("search", "--space", "mobilenet-tiny", "--data", "digits", "--max-flops", "300k")
OPTUNA = "--strategy optuna --sampler"

REFUSED = {
    "--objective speed": "unknown objective 'speed'",
    "--region nowhere": "unknown region 'nowhere'",
    "--region aws:nowhere": "unknown region 'aws:nowhere'",
    f"{OPTUNA} tpe --sampler-option nosuch=1": "unknown option of sampler tpe 'nosuch'",
    f"{OPTUNA} tpe --sampler-option n_startup_trials=abc": "sampler tpe fails with n_startup",
    f"{OPTUNA} tpe --sampler-option n_ei_candidates=0": "sampler tpe fails with n_ei_candidates=0",
    f"{OPTUNA} tpe --sampler-option gamma=3": "sampler tpe fails with gamma=3",
    f"{OPTUNA} nsga2 --sampler-option population_size=1": "sampler nsga2",
    f"{OPTUNA} nsga3 --sampler-option dividing_parameter=x": "sampler nsga3 fails with dividing",
    f"{OPTUNA} grid": "sampler grid lists every architecture",
    "--penalty 0.3": "--penalty is of --strategy darts: with evolution it would do nothing",
    "--strategy random --bins 3": "--bins is of --strategy evolution",
    "--sampler tpe": "--sampler is of --strategy optuna",
    "--strategy darts --sampler-option x=1": "--sampler-option is of --strategy optuna",
    "--torch-device nonsense": "device 'nonsense' cannot be used",
    "--torch-device meta": "device 'meta' cannot be used",
    "--torch-device cuda:99": "device 'cuda:99' cannot be used",
    "--finalists 9 --trials 8": "--finalists 9 are chosen from --trials 8",
    "--batch-size 5000": "fewer than a batch of 5000",
    "--evaluator gone.py:score": "no file 'gone.py'",
    "--evaluator own.py:score": "unknown name in own.py 'score'",
    "--workers 2 --ray-address 127.0.0.1:1": "no Ray cluster answers",
    "--mlflow nonsense://x": "MLflow at nonsense://x",
    "--mlflow sqlite:///own.py": "MLflow at sqlite:///own.py: file is not a database",
    "--learn-from gone": "gone is not a run",
    "--out own.py": "own.py",
    "--out own.py/run": "own.py is a file",
    "--out full": "full is neither empty nor a run",
    "--resume --out gone": "no run to resume in gone",
}  # fmt: skip


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command ends that is refused."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    return line


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("options", list(REFUSED))
def test_a_search_that_cannot_run_is_refused_before_it_trains(
    options: str,
    dry: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("limit = 3\n")
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    place = [] if "--out" in options else ["--out", "run"]
    arguments = [*SEARCH, *shlex.split(options), *place, *["--dry-run"] * dry]
    assert REFUSED[options] in refusal(arguments, capsys)
    left = {path.name for path in Path().iterdir()} - {"__pycache__"}  # of own.py, where it is read
    assert left == {"full", "own.py"}
    assert os.listdir("full") == ["thesis.txt"]


@pytest.mark.parametrize("dry", [True, False])
def test_a_disk_without_space_for_the_supernet_is_refused(
    dry: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 4096))
    line = refusal([*SEARCH, "--out", str(tmp_path / "run"), *["--dry-run"] * dry], capsys)
    assert "has 4,096 bytes free; the supernet's checkpoint needs" in line
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run."""
    place = tmp_path_factory.mktemp("refused") / "run"
    quick = ("--supernet-epochs", "0.5", "--train-epochs", "0", "--finalists", "1", "--quiet")
    with pytest.raises(SystemExit) as ended:
        main([*SEARCH, *quick, "--trials", "2", "--out", str(place)])
    assert not ended.value.code
    return place


LATER = {
    "train RUN --epochs 5 --out file/x": "cannot make file: ",
    "train RUN --epochs 5 --out file": "file is not empty",
    "train RUN --epochs 5 --early-exit 1 --out file/x": "cannot make file: ",
    "train RUN --epochs 5 --target-flops 40k --out file/x": "cannot make file: ",
    "export RUN --out file/x": "cannot make file: ",
    "export RUN --dynamic --out file/x": "cannot make file: ",
    "export RUN --dynamic --int8 --out x": "expected no --int8",
    "export RUN --dynamic --arch knee --out x": "expected no --arch",
    "export RUN --dynamic --format onnx --out x": "expected no --format",
    "export RUN --dynamic --all-frontier --out x": "expected no --all-frontier",
    "export RUN --all-frontier --arch knee --out x": "expected no --arch",
    "fidelity RUN --architectures 2": "2 architectures have no order to speak of",
    "fidelity RUN --architectures 100000000": "expected 8,192 at most",
}


@pytest.mark.parametrize("command", LATER)
def test_commands_on_a_run_are_refused_before_they_train(
    command: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    before = sorted(run.rglob("*"))
    arguments = [part.replace("RUN", str(run)) for part in shlex.split(command)]
    assert LATER[command] in refusal(arguments, capsys)
    assert os.listdir() == ["file"]
    assert sorted(run.rglob("*")) == before
