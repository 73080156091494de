"""The examples run as their first lines say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluators.costs.tables import CostTables
from nas.engine.search import search
from nas.run.specification import make
from search_spaces.catalogue import load_space

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_own_space_is_counted_searched_and_pictured(tmp_path: Path) -> None:
    space = load_space(f"{ROOT / 'examples' / 'own_space.py'}:plain", image_size=8, channels=1)
    assert space.size == 16
    # 9 * 8 * 64 MACs for the first convolution, 8 * 10 for the classifier.
    assert CostTables(space).cost(space.smallest)["macs"] == 9 * 8 * 64 + 80
    run = tmp_path / "run"
    command = [sys.executable, "run_search.py", "--space", "examples/own_space.py:plain"]
    command += ["--data", "digits", "--max-flops", "200k", "--trials", "4", "--quiet", "--json"]
    command += ["--supernet-epochs", "0.5", "--train-epochs", "0", "--workers", "1"]
    done = subprocess.run(
        [*command, "--out", str(run)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout)["winner"]["macs"] <= 200_000
    picture = tmp_path / "frontier.png"
    drawing = [sys.executable, "examples/frontier_picture.py", str(run), str(picture)]
    subprocess.run(drawing, cwd=ROOT, check=True)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_evaluator_of_ones_own_keeps_a_bound_on_what_it_measures(tmp_path: Path) -> None:
    settings = {
        "space": "mobilenet-cifar",
        "evaluator": f"{ROOT / 'examples' / 'own_evaluator.py'}:score",
        "high": {"macs": 3_000_000, "latency_ms": 2.5},
        "trials": 40,
    }
    outcome = search(make(settings), tmp_path / "run")
    assert 0 < outcome.winner.metrics["latency_ms"] <= 2.5
    assert outcome.winner.metrics["macs"] <= 3_000_000
