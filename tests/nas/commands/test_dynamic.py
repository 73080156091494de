"""`nas export --dynamic`, `nas dynamic` and `nas adapt`, from a run to what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from evaluators.costs.tables import CostTables
from nas.commands import dynamic as dynamic_command
from nas.commands.show.dynamic import export_dynamic_and_print
from nas.dynamic.adaptive_resolution import at_resolutions
from nas.dynamic.network import DynamicNetwork
from nas.engine.search import Outcome
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

app = typer.Typer()
app.command()(dynamic_command.dynamic)
app.command()(dynamic_command.adapt)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_run_is_exported_and_its_subnets_are_listed_and_scored(
    finished: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "d"
    folder = finished.run.folder
    export_dynamic_and_print(folder, out, overwrite=False, quiet=True, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    front = {e.arch.id: e for e in finished.run.front()}
    listed = {s["id"]: s for s in printed["subnets"]}
    assert printed["range"] > 20
    assert front.keys() <= listed.keys()
    assert all(listed[i]["accuracy"] == e.metrics["accuracy"] for i, e in front.items())
    best = max(front.values(), key=lambda e: e.metrics["accuracy"]).arch
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    tables, ends = CostTables(space), {space.smallest.id, space.largest.id}
    resized = {a.id: tables.cost(a)["macs"] <= 200_000 for a in at_resolutions(space, best)}
    assert any(resized.values())
    assert all((i in listed) == (admitted or i in ends) for i, admitted in resized.items())
    assert set(listed) == {*front, *ends, *(i for i, admitted in resized.items() if admitted)}

    content = json.loads(run("dynamic", out, "--max-flops", "150k", "--test", "--json"))
    chosen = DynamicNetwork.load(out).choose(max_flops="150k")
    assert content["chosen"] == chosen.id
    scores = {s["id"]: s["test_accuracy"] for s in content["subnets"] if "test_accuracy" in s}
    assert list(scores) == [chosen.id]
    printed = run("dynamic", out)
    assert "range of FLOPs" in printed
    assert all(i in printed for i in listed)

    content = json.loads(run("adapt", out, "--max-flops", "150k", "--json"))
    assert (out / "adaptive.json").exists()
    assert content["validation_macs"] <= 150_000
    assert sum(level["share"] for level in content["levels"]) == pytest.approx(1)
    assert "test accuracy" in run("adapt", out, "--max-loss", "1")


def test_a_run_without_a_supernet_has_no_shared_weights(copied: Path, tmp_path: Path) -> None:
    path = copied / "specification.json"
    specification = json.loads(path.read_text())
    path.write_text(json.dumps({**specification, "evaluator": "train"}))
    with pytest.raises(UserError, match="shares a supernet's weights"):
        export_dynamic_and_print(copied, tmp_path / "d", overwrite=False, quiet=True)
    assert not (tmp_path / "d").exists()
