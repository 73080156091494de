"""`nas curves`: the curves of a run, exported to TensorBoard and MLflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from tensorboardX.proto.event_pb2 import Event

from nas.cli import main
from nas.engine.search import Outcome
from nas.run.curves import curves_of, scalars
from nas.run.folder import Run
from nas.run.specification import VERSION


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def events(file: Path) -> list[tuple[int, str, float]]:
    """`(step, tag, value)` of an event file: records of length, two checksums and a message."""
    content, place, found = file.read_bytes(), 0, []
    while place < len(content):
        size = int.from_bytes(content[place : place + 8], "little")
        event = Event.FromString(content[place + 12 : place + 12 + size])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        place += 16 + size
    return found


def test_tensorboard_gets_every_point(
    finished: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curves = curves_of(finished.run)
    assert "supernet" in curves
    assert any(name.startswith("trained/") for name in curves)
    logs = tmp_path / "logs"
    for _ in range(2):  # the second export replaces the first
        assert run("curves", str(finished.run.folder), "--tensorboard", str(logs)) == 0
    for name, points in curves.items():
        (file,) = (logs / name).glob("events.out.tfevents.*")
        written = events(file)
        expected = list(scalars(points))
        assert [(s, n) for s, n, _ in written] == [(s, n) for s, n, _ in expected]
        assert [v for *_, v in written] == pytest.approx([v for *_, v in expected], rel=1e-5)
    capsys.readouterr()
    assert run("curves", str(finished.run.folder), "--json") == 0
    assert json.loads(capsys.readouterr().out) == curves


def test_without_mlflow_the_error_has_the_command_that_installs_it(
    finished: Outcome, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    folder = str(finished.run.folder)
    for command in ("curves", "train"):
        assert run(command, folder, "--mlflow", "sqlite:///x.db") == 2
        error = capsys.readouterr().err
        assert "mlflow is not installed: pip install 'budget-nas[mlflow]'" in error
        assert error.count("\n") == 1


def test_mlflow_gets_every_point_once(finished: Outcome, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for _ in range(2):  # the second export replaces the first
        assert run("curves", str(finished.run.folder), "--mlflow", uri) == 0
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    found = client.search_runs([experiment.experiment_id])
    logged = {r.info.run_name: r for r in found}
    curves = curves_of(finished.run)
    assert len(found) == len(curves)
    assert logged.keys() == curves.keys()
    history = client.get_metric_history(logged["supernet"].info.run_id, "loss")
    assert [m.step for m in history] == [p["step"] for p in curves["supernet"]]


def test_training_logs_to_mlflow(copied: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert run("train", str(copied), "--epochs", "0.5", "--quiet", "--mlflow", uri) == 0
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(copied.resolve().name)
    names = {r.info.run_name for r in client.search_runs([experiment.experiment_id])}
    assert names == curves_of(Run(copied)).keys()


def test_an_mlflow_that_does_not_answer_is_an_error_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    nowhere = "http://127.0.0.1:9"
    assert run("search", "--data", "digits", "--out", str(out), "--mlflow", nowhere) == 2
    error = capsys.readouterr().err
    assert f"MLflow at {nowhere}" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_run_of_another_version_is_an_error(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / "specification.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 9}))
    assert run("curves", str(copied)) == 2
    assert f"has format 9, expected at most {VERSION}" in capsys.readouterr().err
