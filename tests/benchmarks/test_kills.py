"""A search that is killed in each of its phases loses and doubles nothing: a short benchmark."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow
def test_a_killed_search_loses_and_doubles_nothing(tmp_path: Path) -> None:
    described = importlib.util.spec_from_file_location("kills", SCRIPT)
    assert described is not None
    assert described.loader is not None
    kills = importlib.util.module_from_spec(described)
    sys.modules["kills"] = kills
    described.loader.exec_module(kills)
    kills.measure(4, tmp_path / "kills.json", seed=1, modes=("one process",))
    found = json.loads((tmp_path / "kills.json").read_text())
    for row in (row for row in found["rows"] if row["kind"] == "kill"):
        assert row["lost"] == row["doubled"] == row["processes_left"] == 0, row
        assert all(row[key] for key in ("code_right", "command_printed", "cursor_shown")), row
    for row in (row for row in found["rows"] if row["kind"] == "end"):
        assert row["trials"] == kills.TRIALS, row
        assert row["code"] == row["doubled"] == row["leftovers"] == 0, row
