"""Logs of learning curves: the same points in each of them, as they happen, and no run lost."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient
from tensorboardX.proto.event_pb2 import Event

from nas.cli import main
from nas.commands.show.curves import LogOptions, logged_to
from nas.engine.search import Outcome
from nas.run.curves import Points, curves_of, read_curve
from nas.run.folder import Run
from nas.training.curve import Curve
from nas.training.logs import log as logs
from nas.training.logs.tensorboard import TensorBoardLog
from nas.training.loop import Recipe
from search_spaces.errors import UserError

ROOT = Path(__file__).parents[4]
SEARCH = [
    *("search", "--data", "digits", "--max-flops", "300k", "--trials", "4", "--finalists", "2"),
    *("--supernet-epochs", "1", "--train-epochs", "1", "--quiet"),
]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def events(folder: Path) -> list[tuple[int, str, float]]:
    """`(step, tag, value)` of the event files of a curve, in the order of their making."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda f: f.stat().st_mtime_ns):
        content, place = file.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + size])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            place += 16 + size
    return found


class Remembered:
    """A log in memory, which can fail."""

    replaces = False

    def __init__(self, fails_at: int = 10**9) -> None:
        self.begun: list[Path] = []
        self.points: list[tuple[str, int, dict[str, float]]] = []
        self.ended: list[Mapping[str, Points]] = []
        self._fails_at = fails_at

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.begun.append(folder)

    def point(self, curve: str, step: int, values: Mapping[str, float]) -> None:
        if step >= self._fails_at:
            raise UserError("the server is gone")
        self.points.append((curve, step, dict(values)))

    def end(self, curves: Mapping[str, Points]) -> None:
        self.ended.append(curves)


def trained(folder: Path, steps: int = 40, *, first: int = 1) -> None:
    """Record a training of a network whose score is its weight, the number of the step."""
    network = torch.nn.Linear(1, 1)
    curve = Curve(
        folder / "trained" / "abc-1-epochs.jsonl",
        Recipe(epochs=1),
        validate=lambda network: {"accuracy": network.weight.item()},  # type: ignore[operator, union-attr]
    )
    curve.watch(network)
    for step in range(first, steps + 1):
        torch.nn.init.constant_(network.weight, step)
        curve(step, steps, 1.0)


def test_points_are_logged_as_they_happen_with_scores_now_and_then(
    finished: Outcome, tmp_path: Path
) -> None:
    log = Remembered()
    with logs.logging_to([log]):
        assert logs.wanted()
        logs.begin(tmp_path, finished.run.specification)
        logs.begin(tmp_path, finished.run.specification)
        trained(tmp_path)
    assert log.begun == [tmp_path]
    assert {curve for curve, _, _ in log.points} == {"trained/abc-1-epochs"}
    assert [step for _, step, _ in log.points] == list(range(1, 41))
    scored = {s: v["validation_accuracy"] for _, s, v in log.points if "validation_accuracy" in v}
    assert 4 <= len(scored) <= 11
    assert all(score == step for step, score in scored.items())
    assert 40 in scored
    # The run keeps the same.
    kept = read_curve(tmp_path / "trained" / "abc-1-epochs.jsonl")
    assert [logs.values_of(point) for point in kept] == [values for _, _, values in log.points]


def test_without_a_log_nothing_is_scored(tmp_path: Path) -> None:
    assert not logs.wanted()
    trained(tmp_path)
    points = read_curve(tmp_path / "trained" / "abc-1-epochs.jsonl")
    assert not any("validation_accuracy" in point for point in points)


def test_a_log_that_fails_is_left_alone_and_the_training_goes_on(
    finished: Outcome, tmp_path: Path
) -> None:
    broken, sound = Remembered(fails_at=10), Remembered()
    with logs.logging_to([broken, sound]) as opened:
        logs.begin(tmp_path, finished.run.specification)
        trained(tmp_path)
    assert [step for _, step, _ in broken.points] == list(range(1, 10))
    assert len(sound.points) == 40
    assert [str(one.failure) for one in opened] == ["the server is gone", "None"]
    assert not logs.wanted()


def test_the_failure_is_told_at_the_end_with_the_command_that_logs_again(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Remembered(fails_at=10)
    monkeypatch.setattr(LogOptions, "opened", lambda self: [broken])
    with (
        pytest.raises(UserError, match=r"server is gone; to retry: nas curves .* --mlflow http"),
        logged_to(LogOptions(mlflow="http://host:1"), copied),
    ):
        trained(copied)
    assert broken.ended[0].keys() == curves_of(Run(copied)).keys()


def test_the_reason_of_an_interrupted_search_is_not_hidden(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Remembered(fails_at=10)
    monkeypatch.setattr(LogOptions, "opened", lambda self: [broken])

    def interrupted() -> None:
        with logged_to(LogOptions(mlflow="x"), copied):
            trained(copied)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert broken.ended == [{}]


class Refusing(Remembered):
    """A log that answers, but takes no run."""

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        (folder / "left").mkdir()
        raise UserError("the project is read-only")


def test_a_log_that_takes_no_run_ends_the_search_before_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LogOptions, "opened", lambda self: [Refusing()])
    out = tmp_path / "run"
    assert run(*SEARCH, "--out", str(out), "--wandb", "project") == 2
    assert capsys.readouterr().err == "nas: the project is read-only\n"
    assert not out.exists()


def test_settings_that_logs_show_leave_out_where_a_run_is_kept(finished: Outcome) -> None:
    specification = finished.run.specification.model_copy(update={"storage": "sqlite:///x.db"})
    assert "storage" not in logs.settings_of(specification)
    assert logs.settings_of(specification)["high"] == finished.run.specification.high


def test_a_search_logs_its_supernet_and_its_race_with_scores(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(*SEARCH, "--out", str(out), "--tensorboard", "auto") == 0
    curves = curves_of(Run(out))
    for name, points in curves.items():
        written = events(out / "tensorboard" / name)
        assert {(s, t) for s, t, _ in written} == {
            (int(p["step"]), tag) for p in points for tag in logs.values_of(p)
        }
        scored = [p["validation_accuracy"] for p in points if "validation_accuracy" in p]
        # The winner trains on the validation part too.
        assert bool(scored) == (name == "supernet" or "-0." in name or len(curves) == 1), name
        assert all(0 <= score <= 1 for score in scored)


def test_a_search_gets_the_same_weights_with_a_log_as_without(
    finished: Outcome, tmp_path: Path
) -> None:
    for name, options in (("plain", []), ("logged", ["--tensorboard", str(tmp_path / "logs")])):
        assert run(*SEARCH, "--out", str(tmp_path / name), *options) == 0
    first, second = (Run(tmp_path / name).evaluations() for name in ("plain", "logged"))
    assert [e.metrics for e in first] == [e.metrics for e in second]
    winners = [(tmp_path / n / "winner" / "model.safetensors").read_bytes() for n in
               ("plain", "logged")]  # fmt: skip
    assert winners[0] == winners[1]


def test_tensorboard_goes_on_after_a_resumed_training(tmp_path: Path) -> None:
    for steps in (range(1, 6), range(4, 9)):  # the last checkpoint was after 3
        log = TensorBoardLog(str(tmp_path / "logs"))
        log.begin(tmp_path, {})
        for step in steps:
            log.point("winner", step, {"loss": step / 10})
        log.end({})
    written = [(step, value) for step, tag, value in events(tmp_path / "logs" / "winner")]
    assert [step for step, _ in written] == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8]
    assert all(math.isclose(value, step / 10, rel_tol=1e-5) for step, value in written)


@pytest.mark.parametrize("command", ["search --data digits --max-flops 300k", "train {}"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_trains(
    command: str, copied: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    before = sorted(copied.rglob("*"))
    words = command.format(copied).split()
    assert run(*words, "--tensorboard", str(tmp_path / "file" / "logs")) == 2
    error = capsys.readouterr().err
    assert error.startswith("nas: cannot")
    assert error.count("\n") == 1
    assert sorted(copied.rglob("*")) == before


def test_mlflow_has_points_before_the_training_has_ended(copied: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    with logged_to(LogOptions(mlflow=uri), copied):
        trained(copied, 20)
        experiment = client.get_experiment_by_name(copied.resolve().name)
        (live,) = client.search_runs([experiment.experiment_id])
        assert live.info.run_name == "trained/abc-1-epochs"
        assert live.info.status == "RUNNING"
        history = client.get_metric_history(live.info.run_id, "loss")
        assert [m.step for m in history] == list(range(1, 21))
    ended = client.search_runs([experiment.experiment_id])
    assert {r.info.run_name for r in ended} == curves_of(Run(copied)).keys()
    assert {r.info.status for r in ended} == {"FINISHED"}


@pytest.mark.parametrize("command", ["curves", "train"])
def test_without_wandb_the_error_has_the_command_that_installs_it(
    command: str,
    copied: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    assert run(command, str(copied), "--wandb", "project") == 2
    error = capsys.readouterr().err
    assert error == "nas: wandb is not installed: pip install 'budget-nas[wandb]'\n"


needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")


def wandb_environment(home: Path, **given: str) -> dict[str, str]:
    """The environment of a machine without a key."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return {**kept, "HOME": str(home), "PYTHONPATH": path, **given}


@needs_wandb
def test_wandb_offline_has_every_point(copied: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nas", "curves", str(copied), "--wandb", "project", "--json"],
        env=wandb_environment(tmp_path, WANDB_MODE="offline"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    curves = json.loads(done.stdout)
    (file,) = (copied / "wandb").glob("offline-run-*/run-*.wandb")
    logged = history(file)
    for name, points in curves.items():
        of_curve = [row for row in logged if f"{name}/step" in row]
        assert [int(row[f"{name}/step"]) for row in of_curve] == [p["step"] for p in points]
        assert [row[f"{name}/loss"] for row in of_curve] == [p["loss"] for p in points]


@needs_wandb
def test_a_search_logs_to_wandb_offline(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "nas", *SEARCH, "--out", str(out), "--wandb", "project"],
        env=wandb_environment(tmp_path, WANDB_MODE="offline"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "run in" in done.stdout
    (file,) = (out / "wandb").glob("offline-run-*/run-*.wandb")
    logged = history(file)
    assert any("supernet/validation_accuracy" in row for row in logged)
    assert any("supernet/loss" in row for row in logged)


@needs_wandb
def test_wandb_without_a_key_is_refused_before_anything_trains(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nas", *SEARCH, "--out", str(tmp_path / "run"), "--wandb", "p"],
        env=wandb_environment(tmp_path),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("nas: wandb has no key here")
    assert not (tmp_path / "run").exists()


def history(file: Path) -> list[dict[str, Any]]:
    """The logged rows of an offline run."""
    from wandb.proto import wandb_internal_pb2 as messages

    found = []
    for content in records(file.read_bytes()):
        record = messages.Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            keys = {"/".join(i.nested_key) if i.nested_key else i.key: i for i in items}
            found.append({key: json.loads(item.value_json) for key, item in keys.items()})
    return found


def records(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, after wandb's header of 7 bytes."""
    place, whole, block = 7, b"", 32_768
    while place + 7 <= len(content):
        rest = block - place % block
        if rest < 7:
            place += rest
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part of one
            yield whole
            whole = b""
