"""A frontier for notebooks: frames, Parquet, figures; and the difference of two architectures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from evaluators.costs.tables import CostTables
from nas.cli import main
from nas.commands.show.difference import changes, difference
from nas.engine.search import Outcome
from nas.report import figures
from nas.report.notebook import frontier_svg
from nas.run.folder import Run, read_evaluations
from nas.run.objectives import objective
from nas.run.study import read_with_optuna
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError


def test_reading_the_file_gives_the_evaluations_that_optuna_reads(
    scored: Outcome, finished: Outcome
) -> None:
    for outcome in (scored, finished):
        path = outcome.run.study_path
        mine, theirs = read_evaluations(path), read_with_optuna(path)
        assert mine == theirs
        assert [e.arch.items_ for e in mine] == [e.arch.items_ for e in theirs]
        assert [e.ended for e in mine] == [e.ended for e in theirs]
    assert any(e.error for e in read_evaluations(scored.run.study_path))
    assert any(e.violation for e in read_evaluations(scored.run.study_path))


def test_a_study_that_another_program_holds_is_read_by_optuna(
    scored: Outcome, tmp_path: Path
) -> None:
    broken = tmp_path / "study.db"
    broken.write_bytes(b"no database at all, and long enough to be inspected" * 40)
    with pytest.raises(UserError, match="cannot read the study"):
        read_evaluations(broken)


def test_the_frontier_is_a_frame_with_its_knee_and_winner(scored: Outcome) -> None:
    run = scored.run
    table = run.frontier()
    front = run.front()
    assert list(table.index) == [e.arch.id for e in front]
    assert table.index.name == "id"
    assert table["macs"].dtype == "int64"
    assert list(table["accuracy"]) == [e.metrics["accuracy"] for e in front]
    assert table.index[table["knee"]].tolist() == [run.find("knee").arch.id]
    assert table.index[table["winner"]].tolist() == [run.find("best").arch.id]
    for evaluation in front:
        row = table.loc[evaluation.arch.id]
        for choice in scored.task.space.choices:
            if choice.name in evaluation.arch:
                assert row[choice.name] == evaluation.arch[choice.name]
            else:
                assert choice.name not in table or pd.isna(row[choice.name])


def test_a_parquet_file_has_the_frontier(
    scored: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "front.parquet"
    with pytest.raises(SystemExit) as end:
        main(["frontier", str(scored.run.folder), "--json", "--parquet", str(path)])
    assert not end.value.code
    printed = json.loads(capsys.readouterr().out)
    read = pd.read_parquet(path)
    assert list(read.index) == [row["id"] for row in printed]
    assert list(read["macs"]) == [row["macs"] for row in printed]


def test_every_figure_is_a_plotly_figure_with_data(scored: Outcome) -> None:
    run = scored.run
    drawn = [
        figures.frontier(run),
        figures.frontier(run, x="params"),
        figures.progress(run),
        figures.progress(run, against="hours"),
        figures.predictor(run),
    ]
    for figure in drawn:
        assert isinstance(figure, go.Figure)
        assert any(trace.x is not None and len(trace.x) > 1 for trace in figure.data)
        json.loads(figure.to_json())
    front = next(trace for trace in figures.frontier(run).data if trace.name == "frontier")
    assert list(front.text) == [e.arch.id for e in run.front()]
    with pytest.raises(UserError, match="unknown metric 'parms': did you mean 'params'"):
        figures.frontier(run, x="parms")


@pytest.mark.parametrize("name", ["mobilenet-cifar", "vit-tiny", "nasbench201"])
def test_differences_of_blocks_add_up_to_the_total_difference(name: str) -> None:
    space = load_space(name)
    tables = CostTables(space)
    archs = space.decode(space.sample(6, 1))
    for first in archs[:3]:
        for second in archs[3:]:
            found = difference(space, first, second, {"ops": len})
            costs = [tables.cost(arch) for arch in (first, second)]
            for metric in ("macs", "params"):
                gap = sum(block.added[metric] for block in found.blocks)
                assert gap == costs[1][metric] - costs[0][metric]
            assert all(changes(block) for block in found.blocks)
            differing = {b.block for b in found.blocks}
            ops = [dict(space.ops(arch)) for arch in (first, second)]
            everywhere = {*ops[0], *ops[1]}
            assert differing == {b for b in everywhere if ops[0].get(b) != ops[1].get(b)}
            assert found.alike == len(everywhere) - len(differing)
    same = difference(space, archs[0], archs[0])
    assert (same.choices, same.blocks) == ({}, ())


def test_the_command_prints_the_difference_as_tables_and_json(
    scored: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, front = str(scored.run.folder), scored.run.front()
    ids = front[0].arch.id, front[-1].arch.id
    with pytest.raises(SystemExit):
        main(["diff", folder, *ids, "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert (printed["first"], printed["second"]) == ids
    for metric in ("macs", "params", "latency_ms_V100"):
        gap = sum(block["difference"][metric] for block in printed["blocks"])
        values = printed["metrics"][metric]
        assert gap == pytest.approx(values["second"] - values["first"])
    with pytest.raises(SystemExit):
        main(["diff", folder, *ids])
    out = capsys.readouterr().out
    assert all(block["block"] in out for block in printed["blocks"])
    with pytest.raises(SystemExit) as end:
        main(["diff", folder, ids[0], ids[0]])
    assert end.value.code == 0
    assert "are the same architecture" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["diff", folder, ids[0], ids[0], "--json"])
    assert end.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["choices"], printed["blocks"]) == ({}, [])


def test_the_line_of_a_notebook_is_the_frontier_of_its_two_axes(scored: Outcome) -> None:
    """Points of the run's frontier of three objectives lie beside it."""
    run = Run(scored.run.folder)
    vars(run)["objectives"] = tuple(map(objective, ("accuracy", "macs", "-slowness")))
    front = run.front()
    accuracies = [e.metrics["accuracy"] for e in front]
    assert accuracies != sorted(accuracies)
    drawn = frontier_svg(run, run.evaluations())
    (line,) = re.findall(r'<path d="([^"]*)"', drawn)
    heights = [float(y) for y in re.findall(r"(?:M[\d.]+ |V)([\d.]+)", line)]
    assert 1 < len(heights) < len(front)
    assert heights == sorted(heights, reverse=True)  # pixels, from the top
    assert drawn.count("<title>") == len(front)
