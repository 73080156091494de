"""Users' code may print, exit, move to another folder, and leave threads behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from users_code import SEARCH, place

ROOT = Path(__file__).resolve().parents[2]


def nas(folder: Path, *arguments: Any, program: str = "from nas.cli import main; main()") -> Any:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_exits_of_evaluators_are_failed_evaluations(tmp_path: Path) -> None:
    body = "if arch['depth'] == 3: sys.exit(0)"
    ended = nas(place(tmp_path, body), *SEARCH, "--trials", 16, "--out", "r", "--json", "--quiet")
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["evaluations"], result["failed"]) == (16, 4)
    assert "SystemExit" in result["first_failure"]


def test_what_evaluators_print_does_not_break_the_json(tmp_path: Path) -> None:
    body = "print('epoch 1'); subprocess.run(['echo', 'from a child']); os.write(1, b'raw')"
    ended = nas(place(tmp_path, body), *SEARCH, "--trials", 3, "--out", "r", "--json")
    assert json.loads(ended.stdout)["evaluations"] == 3
    for printed in ("epoch 1", "from a child", "raw"):
        assert printed in ended.stderr


def test_evaluators_may_change_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    body = f"os.chdir({str(tmp_path / 'elsewhere')!r})"
    ended = nas(place(tmp_path / "here", body), *SEARCH, "--trials", 4, "--out", "r", "--quiet")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "here" / "r" / "summary.json").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_threads_of_evaluators_do_not_keep_the_program_alive(tmp_path: Path) -> None:
    body = "threading.Thread(target=time.sleep, args=(1000,)).start()"
    ended = nas(place(tmp_path, body), *SEARCH, "--trials", 2, "--out", "r", "--json", "--quiet")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["evaluations"] == 2


@pytest.mark.parametrize("name", ["a?x=1", "50% {off}", "a#b c", "läufe"])
def test_run_folders_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "runs").mkdir()
    place(tmp_path)
    for trials, more in ((3, ()), (5, ("--resume",))):
        ended = nas(
            tmp_path, *SEARCH, "--trials", trials, "--out", f"runs/{name}", "--quiet", *more
        )
        assert ended.returncode == 0, ended.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [name]
    shown = nas(tmp_path, "frontier", f"runs/{name}", "--json")
    assert shown.returncode == 0
    with closing(sqlite3.connect(tmp_path / "runs" / name / "study.db")) as study:
        assert study.execute("select count(*) from trials").fetchone() == (5,)


def test_a_file_system_without_locks_is_named_as_the_reason(tmp_path: Path) -> None:
    program = (
        "import errno, fcntl, os\n"
        "def flock(*_): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))\n"
        "fcntl.flock = flock\nfrom nas.cli import main\nmain()\n"
    )
    ended = nas(place(tmp_path), *SEARCH, "--trials", 2, "--out", "r", program=program)
    assert ended.returncode == 2
    assert "No locks available" in ended.stderr
    assert "--out on a local disk" in ended.stderr


def test_nothing_is_resumed_where_no_run_is(tmp_path: Path) -> None:
    ended = nas(place(tmp_path), *SEARCH, "--out", "r", "--resume")
    assert ended.returncode == 2
    assert ended.stderr.strip() == ("nas: no run to resume in r: it has no specification.json")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_says_how_to_continue(tmp_path: Path, number: int) -> None:
    place(tmp_path, "time.sleep(0.3)")
    program = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from nas.cli import main\nmain()"
    )  # a test process in the background ignores SIGINT, which its children inherit
    command = [sys.executable, "-c", program, *SEARCH,
               "--trials", "100", "--out", "my run"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        study = tmp_path / "my run" / "study.db"
        until = time.monotonic() + 60
        while not study.exists() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        "nas: interrupted; continue with: nas search --out 'my run' --resume"
    )
    ended = nas(tmp_path, "search", "--out", "my run", "--resume", "--trials", 6, "--quiet")
    assert ended.returncode == 0, ended.stderr


TRAINING = """
import json, signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from torch import nn
from evaluators.data.files.images import load_data
from nas.training.loop import Recipe, fit

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
data = load_data("digits")

def backward(inputs, targets, step):
    loss = nn.functional.cross_entropy(network(inputs), targets)
    loss.backward()
    return float(loss)

def on_step(done, steps, loss):
    if done == 20:
        print("at 20", flush=True)

recipe = Recipe(float(sys.argv[2]), 32)
try:
    fit(network, data.batches("train"), recipe, backward, seed=0, checkpoint=Path(sys.argv[1]),
        on_step=on_step)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(130)
"""


def test_a_training_saves_its_step_when_it_is_interrupted(tmp_path: Path) -> None:
    from nas.training.checkpoint import steps_done

    (tmp_path / "training.py").write_text(TRAINING)
    checkpoint = tmp_path / "network.pt"
    with subprocess.Popen(
        [sys.executable, "training.py", str(checkpoint), "2000"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at 20\n"
        assert not checkpoint.exists()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert (said, process.returncode) == ("interrupted\n", 130)
    assert steps_done(checkpoint) >= 20


RECORD = {
    "record": "efficiency", "version": 1, "name": "a", "space": "s", "architecture": "b",
    "made": "2026-01-01", "results": [], "measured": [], "estimated": [], "versions": {},
    "counts": {"macs": 9, "params": 3, "activation_bytes": 4, "input_shape": [3],
               "convention": {"flops_per_mac": 1, "text": "MACs"}},
}  # fmt: skip


@pytest.mark.parametrize(
    "command",
    ["frontier r", "show r best", "leaderboard r", "runs .", "device list", "device show A100",
     "carbon --device A100 --hours 1", "count --space plain.py:plain --archs a.jsonl",
     "profile torch.nn:Identity --input 1x3 --count-only", "compare b.json b.json"],
)  # fmt: skip
def test_json_goes_to_standard_output_and_nothing_else(tmp_path: Path, command: str) -> None:
    place(tmp_path)
    if " r" in command:
        ended = nas(tmp_path, *SEARCH, "--trials", 4, "--out", "r", "--quiet")
        assert ended.returncode == 0, ended.stderr
    (tmp_path / "a.jsonl").write_text('{"width": 8, "depth": 1}\n')
    (tmp_path / "b.json").write_text(json.dumps(RECORD))
    ended = nas(tmp_path, *command.split(), "--json")
    assert ended.returncode == 0, ended.stderr
    json.loads(ended.stdout)
