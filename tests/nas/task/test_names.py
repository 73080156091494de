"""Misspelt names are refused with the nearest one, before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.run.specification import Specification
from nas.task.names import check_names
from search_spaces.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("field", "given", "near"),
    [
        ("space", "mobilnet", "mobilenet"),
        ("data", "cifar1O", "cifar10"),
        ("strategy", "evolutoin", "evolution"),
        ("evaluator", "supernett", "supernet"),
        ("augmentation", ("crop", "mixupp"), "mixup"),
    ],
)
def test_the_nearest_name_is_suggested(field: str, given: object, near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{near}'"):
        check_names(Specification(**{field: given}))


@pytest.mark.parametrize(
    "given",
    [
        {"space": "own.py:plain", "evaluator": "own.py:score"},
        {"space": "cnn-32-16", "evaluator": "table:results.csv"},
        {"space": "bert-pruned@0.9", "data": "owner/name"},
        {"data": "."},
    ],
)
def test_names_that_only_their_use_can_check_pass(given: dict[str, str]) -> None:
    check_names(Specification(**given))


def test_a_path_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match=r"no data at 'nowhere/train\.parquet'"):
        check_names(Specification(data="nowhere/train.parquet"))


@pytest.mark.parametrize(
    "option",
    ["--space=mobilnet", "--data=digit", "--strategy=luck", "--evaluator=luck", "--trails"],
)
def test_a_misspelt_option_is_refused_without_importing_torch(option: str) -> None:
    code = (
        "import atexit, sys\n"
        "heavy = {'torch', 'ray', 'optuna', 'datasets'}\n"
        "atexit.register(lambda: print(heavy & set(sys.modules)))\n"
        "from nas.cli import main\nmain(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "search", "--max-flops", "300k", option],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.strip() == "set()"
