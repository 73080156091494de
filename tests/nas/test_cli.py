"""The command line: what it prints, and that wrong input is one line and exit code 2."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nas.cli import main
from nas.engine.search import Outcome
from nas.exports.folder import RECORD
from nas.run.specification import make
from nas.task.new_run import new_folder
from search_spaces.catalogue import load_space


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def test_help_imports_neither_torch_nor_ray_nor_optuna() -> None:
    code = (
        "import sys, runpy\n"
        "sys.argv = ['run_search.py', '--help']\n"
        "try: runpy.run_path('run_search.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'ray', 'optuna', 'numpy', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--max-flops" in done.stdout


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "nas", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nas ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--space", "mobilnet"], "unknown space 'mobilnet': did you mean 'mobilenet'?"),
        (["search", "--data", "digit"], "unknown data 'digit': did you mean 'digits'?"),
        (["search", "--data", "./nowhere"], "no data at './nowhere'"),
        (["search", "--sampler", "nsga"], "unknown sampler 'nsga': did you mean 'nsga"),
        (["search", "--strategy", "randon"], "unknown strategy 'randon': did you mean 'random'?"),
        (["search", "--objective", "acuracy"], "unknown objective 'acuracy'"),
        (["search", "--max-flops", "50X"], "--max-flops: malformed size '50X': expected a number"),
        (["search", "--max", "latency_ms"], "--max: malformed 'latency_ms': expected NAME=VALUE"),
        (["search", "--max", "macs=nan"], "--max: malformed bound 'nan': expected a finite number"),
        (["search", "--max", "macs=1k"], "the nearest one has 41,440 FLOPs"),
        (["search", "--max", "mac=1M"], "unknown metric 'mac': did you mean 'macs'?"),
        (["search", "--min", "macs=2M", "--max-flops", "1M"], "minimum 2M FLOPs is above maximum"),
        (["search", "--green-exponents", "1"], "--green-exponents: malformed exponents '1'"),
        (["search", "--sampler-option", "x"], "--sampler-option: malformed 'x': expected NAME="),
        (["search", "--max-latency", "5ms"], "--max-latency needs --device"),
        (["search", "--max-latency", "soon", "--device", "a"], "malformed time 'soon'"),
        (["search", "--max-latency", "5m", "--device", "a"], "'5m' would be minutes: expected a"),
        (["search", "--time-limit", "0s"], "malformed time '0s': expected a time above zero"),
        (["search", "--strategy", "darts", "--penalty-metric", "memory"], "memory"),
        (["search", "--estimator", "gumble"], "estimator = 'gumble'"),
        (["search", "--proxies", "naswott"], "unknown zero-cost proxy 'naswott': did you mean 'na"),
        (
            ["search", "--proxies", "naswot", "--strategy", "random"],
            "--proxies is of --strategy evolution",
        ),
        (["search", "--max-flops", "1k"], "the nearest one has 41,440 FLOPs"),
        (["search", "--max-flops", "1M", "--min-flops", "2M"], "contradictory budget"),
        (["search", "--augment", "spin"], "unknown augmentation 'spin'"),
        (["search", "--torch-device", "cuda:77"], "device 'cuda:77' cannot be used"),
        (["search", "--trials", "-3"], "trials = -3"),
        (["search", "--trials", "many"], "--trials"),
        (["search", "--config", "nowhere.json"], "no file nowhere.json"),
        (["search", "--resume"], "--resume needs --out"),
        (["search", "--ray-address", "host:1"], "--ray-address needs --workers"),
        (["search", "--space", "nowhere.py:SPACE"], "no file 'nowhere.py'"),
        (["search", "--fast"], "No such option: --fast"),
        (["serach"], "No such command 'serach'"),
        (["runs", "nowhere"], "no folder nowhere"),
        (["runs", "."], "no runs below ."),
        (["runs"], "no folder runs"),
        (["frontier", "nowhere"], "nowhere is not a run"),
        (["count", "--space", "vit", "--archs", "nowhere"], "cannot read nowhere"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    *before, error = printed.err.splitlines()
    assert message in error
    assert error.startswith("nas: ")
    # Looking at data and bounds for ten seconds leaves a line on a busy machine.
    assert all(line.startswith(("run folder: ", "  preparing, ")) for line in before)
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_dry_run_says_what_would_happen_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("search", "--max-flops", "300k", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    assert plan["architectures"] == space.size
    assert plan["smallest"] < plan["median"] < plan["largest"]
    assert 0 < plan["share"] < 1
    assert plan["seconds"] > 0
    assert run("search", "--max-flops", "300k", "--dry-run") == 0
    assert "random architectures" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_frontier_as_table_json_and_csv_hold_the_same(
    finished: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(finished.run.folder)
    assert run("frontier", folder, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == [e.arch.id for e in finished.frontier]
    assert run("frontier", folder, "--csv") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["id"] for line in lines] == [row["id"] for row in rows]
    assert [float(line["macs"]) for line in lines] == [row["macs"] for row in rows]
    assert run("frontier", folder) == 0
    table = capsys.readouterr().out
    assert all(row["id"] in table for row in rows)
    (marked,) = (line for line in table.splitlines() if "winner" in line)
    assert finished.winner.arch.id in marked
    bound = rows[0]["macs"]
    assert run("frontier", folder, "--json", "--max-flops", str(int(bound))) == 0
    assert [r["id"] for r in json.loads(capsys.readouterr().out)] == [rows[0]["id"]]


@pytest.mark.parametrize("name", ["best", "knee", "id"])
def test_show_has_every_choice_once_and_blocks_that_add_up(
    finished: Outcome, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = finished.winner.arch.id[:8] if name == "id" else name
    assert run("show", str(finished.run.folder), name, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert sum(block["macs"] for block in shown["blocks"]) == shown["metrics"]["macs"]
    assert sum(block["params"] for block in shown["blocks"]) == shown["metrics"]["params"]
    assert max(block["memory"] for block in shown["blocks"]) == shown["metrics"]["memory"]
    choices = {}
    for block in shown["blocks"]:
        assert not choices.keys() & block["choices"].keys()
        choices |= block["choices"]
    assert choices == shown["choices"]
    assert run("show", str(finished.run.folder), name) == 0
    assert shown["id"] in capsys.readouterr().out


def test_an_id_prefix_of_several_architectures_or_none_is_an_error(
    finished: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", str(finished.run.folder), "") == 2
    assert "fits 8 architectures" in capsys.readouterr().err
    assert run("show", str(finished.run.folder), "zzz") == 2
    assert "expected best, knee or the beginning of an id" in capsys.readouterr().err


def test_export_keeps_a_trained_network_and_refuses_a_full_folder(
    copied: Path, finished: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "taken"
    assert run("export", str(copied), "--arch", "best", "--out", str(out)) == 0
    assert "trained weights" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert config["metrics"]["test_accuracy"] == finished.summary.winner.score.value
    about = {"README.md", "architecture.svg", "efficiency.json", RECORD}
    hub = {"modeling_network.py", "network.py", "preprocessor_config.json"}
    about |= {"labels.json", "preprocessing.json", "scores.json"}
    files = {"config.json", "model.safetensors", "model.onnx"}
    assert {p.name for p in out.iterdir()} == files | about | hub
    assert run("export", str(copied), "--arch", "best", "--out", str(out)) == 2
    assert "is not empty" in capsys.readouterr().err
    assert run("export", str(copied), "--arch", "best", "--out", str(out), "--overwrite",
               "--format", "onnx") == 0  # fmt: skip
    assert {p.name for p in out.iterdir()} == {"model.onnx", *about}
    assert run("export", str(copied), "--out", str(tmp_path / "x"), "--format", "onx") == 2
    assert "did you mean 'onnx'?" in capsys.readouterr().err


def test_train_takes_any_architecture_of_the_run(
    copied: Path, finished: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = finished.frontier[0].arch.id
    assert run("train", str(copied), "--arch", arch, "--epochs", "2", "--quiet", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["id"] == arch
    assert result["test_accuracy"] > 0.3  # chance is a tenth
    assert (copied / "trained" / arch / "model.safetensors").exists()


def test_count_prints_a_line_for_each_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evaluators.costs.tables import CostTables

    space = load_space("mobilenet-cifar")
    archs = space.decode(space.sample(20, seed=3))
    file = tmp_path / "archs.jsonl"
    file.write_text("".join(arch.key + "\n" for arch in archs))
    assert run("count", "--space", "mobilenet-cifar", "--archs", str(file), "--json") == 0
    counts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    tables = CostTables(space)
    assert counts == [tables.cost(arch) for arch in archs]
    file.write_text(archs[0].key + "\n{\n")
    assert run("count", "--space", "mobilenet-cifar", "--archs", str(file), "--json") == 2
    assert "line 2: not JSON" in capsys.readouterr().err


def test_every_line_of_a_pipe_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    space = load_space("mobilenet-cifar")
    text = "".join(arch.key + "\n" for arch in space.decode(space.sample(100, seed=3)))
    reader, writer = os.pipe()

    def write() -> None:  # more than a pipe holds, so that it waits for who reads
        with os.fdopen(writer, "w") as pipe:
            pipe.write(text)

    thread = threading.Thread(target=write)
    thread.start()
    path = f"/dev/fd/{reader}"
    assert run("count", "--space", "mobilenet-cifar", "--archs", path, "--json") == 0
    thread.join()
    os.close(reader)
    assert len(capsys.readouterr().out.splitlines()) == 100


@pytest.mark.parametrize("nested", [False, True])
def test_a_choice_that_is_given_twice_is_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], nested: bool
) -> None:
    space = load_space("mobilenet-cifar")
    arch = next(iter(space.decode(space.sample(1, seed=3))))
    name, value = next(iter(arch.items()))
    lines = [arch.key, f"{arch.key[:-1]},{json.dumps(name)}:{json.dumps(value)}}}"]
    if nested:
        lines = [f'{{"id":"a:b","choices":{line}}}' for line in lines]
    file = tmp_path / "archs.jsonl"
    file.write_text(lines[0] + "\n")
    assert run("count", "--space", "mobilenet-cifar", "--archs", str(file), "--json") == 0
    file.write_text("\n".join(lines))
    assert run("count", "--space", "mobilenet-cifar", "--archs", str(file), "--json") == 2
    assert f"line 2: not JSON ('{name}' is given twice" in capsys.readouterr().err


def test_a_config_file_is_overridden_by_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "search.json"
    config.write_text(json.dumps({"space": "vit-tiny", "high": {"macs": 500_000}}))
    assert run("search", "--config", str(config), "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["space"] == "vit-tiny"
    options = ("--space", "mobilenet-tiny", "--dry-run", "--json")
    assert run("search", "--config", str(config), *options) == 0
    assert json.loads(capsys.readouterr().out)["space"] == "mobilenet-tiny"
    config.write_text('{"spaec": "vit"}')
    assert run("search", "--config", str(config), "--dry-run") == 2
    assert "did you mean 'space'?" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_the_run_stays_as_it_was(copied: Path) -> None:
    """A limit on file sizes stands for the disk: the checkpoint of `train` does not fit."""

    def kept() -> dict[Path, bytes]:
        """All files but those that record the attempt itself: its energy and learning curve."""
        records = (".lock", "footprint.json")
        files = [p for p in copied.rglob("*") if p.is_file() and p.name not in records]
        return {p: p.read_bytes() for p in files if p.suffix != ".jsonl"}

    before = kept()
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        "from nas.cli import main\n"
        f"main(['train', {str(copied)!r}, '--epochs', '0.3', '--quiet'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot write" in done.stderr
    assert kept() == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY


def test_a_search_on_a_folder_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    digits = load_digits()
    for index in range(300):
        place = tmp_path / "images" / f"digit{digits.target[index]}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.round(digits.images[index] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{index}.png")
    out = tmp_path / "run"
    options = [
        "--trials",
        "2",
        "--supernet-epochs",
        "1",
        "--train-epochs",
        "0",
        "--batch-size",
        "32",
    ]
    assert run("search", "--data", str(tmp_path / "images"), "--out", str(out), "--max-flops",
               "300k", "--quiet", "--json", *options) == 0  # fmt: skip
    summary = json.loads(capsys.readouterr().out)
    assert summary["space"] == "mobilenet-tiny"
    config = json.loads((out / "winner" / "config.json").read_text())
    assert config["classes"] == [f"digit{digit}" for digit in range(10)]


def test_a_run_folder_is_named_after_the_data_or_else_the_space() -> None:
    for settings, name in (
        ({}, "digits"),
        ({"data": "some/pets"}, "pets"),
        ({"evaluator": "file.py:score", "space": "macro"}, "macro"),
        ({"evaluator": "file.py:score", "data": "cifar10"}, "cifar10"),
    ):
        folder = new_folder(make(settings))
        assert folder.parent == Path("runs")
        assert folder.name.startswith(f"{name}-")
