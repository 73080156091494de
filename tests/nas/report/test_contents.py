"""Contents of a report: they agree with the run and its space."""

from __future__ import annotations

import base64
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.costs.tables import CostTables, block_costs
from nas.cli import main
from nas.engine.search import Outcome
from nas.report.command import report_and_print
from nas.report.contents import ReportSource
from nas.report.findings.choices import (
    ABSENT,
    ChosenOptions,
    OptionShares,
    axes,
    frequencies,
    importance,
)
from nas.report.networks import INPUT, OFF, Networks, template
from nas.report.page import embedded, page
from nas.report.published import published
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.history import failures, largest_costs, predictor, progress
from nas.run.objectives import objective
from nas.run.specification import VERSION, make
from nas.run.study import Study
from nas.studies.fidelity_result import ScoredTwice, compare
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.space import Choice

FORMATS = {"Uint8Array": "B", "Uint32Array": "I", "Float64Array": "d"}


def unpack(packed: dict[str, str]) -> list[Any]:
    """As the page unpacks a column, without numpy."""
    data = base64.b64decode(packed["data"])
    code = FORMATS[packed["type"]]
    return list(struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data))


@pytest.fixture(scope="module")
def contents(scored: Outcome) -> dict[str, Any]:
    return ReportSource.of(Run(scored.run.folder)).contents()


def test_the_points_are_the_evaluations_that_did_not_fail(
    scored: Outcome, contents: dict[str, Any]
) -> None:
    evaluations = scored.run.evaluations()
    done = [e for e in evaluations if e.error is None]
    points = contents["points"]
    assert 0 < points["count"] == len(done) < len(evaluations)
    assert bytes(unpack(points["ids"])).hex() == "".join(e.arch.id for e in done)
    assert unpack(points["feasible"]) == [e.feasible for e in done]
    assert [evaluations[n] for n in unpack(points["numbers"])] == done
    for name, column in points["columns"].items():
        if not name.startswith("carbon"):
            assert unpack(column) == [e.metrics[name] for e in done]
    joules = np.array(unpack(points["columns"]["energy_mj_V100"])) / 1e3
    grams = np.array(unpack(points["columns"]["carbon_ug_V100"])) / 1e6
    intensity = grams / (joules / 3.6e6)
    assert np.allclose(intensity, intensity[0])
    assert 100 < intensity[0] < 1000


def test_the_frontier_the_knee_and_the_winner_are_the_runs(
    scored: Outcome, contents: dict[str, Any]
) -> None:
    done = [e for e in scored.run.evaluations() if e.error is None]
    points = contents["points"]
    flagged = {done[i].arch.id for i, on in enumerate(unpack(points["front"])) if on}
    assert flagged == {e.arch.id for e in scored.run.front()}
    assert done[points["knee"]].arch == scored.run.find("knee").arch
    assert done[points["winner"]].arch == scored.run.find("best").arch


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny", "nasbench201", "darts", "gpt-conv"])
def test_any_network_can_be_put_together_from_its_codes(name: str) -> None:
    space = load_space(name)
    rows = np.unique(space.sample(20, 3), axis=0)
    content = json.loads(json.dumps(Networks(space, {"ops": len}).to_json(rows)))
    forms = {k: unpack(v) for k, v in content["forms"].items() if k != "costs"}
    costs = {name: unpack(column) for name, column in content["forms"]["costs"].items()}
    total = CostTables(space).score(rows)["macs"]
    for row, arch, macs in zip(rows, space.decode(rows), total, strict=True):
        found = []
        for block in content["blocks"]:
            key = sum(
                int(row[c]) * w for c, w in zip(block["columns"], block["weights"], strict=True)
            )
            form = unpack(block["forms"])[unpack(block["keys"]).index(key)]
            if form != OFF:
                found.append((block["name"], form))
        expected = space.ops(arch)
        assert [block for block, _ in found] == [block for block, _ in expected]
        for (_, form), (_, ops) in zip(found, expected, strict=True):
            members = forms["ops"][forms["start"][form] : forms["start"][form + 1]]
            drawn = [content["ops"][index] for index in members]
            assert [op["name"] for op in drawn] == [op.name for op in ops]
            assert [tuple(op["out"]) for op in drawn] == [op.out_shape for op in ops]
            assert [costs[m][form] for m in ("macs", "params", "memory")] == list(block_costs(ops))
            assert costs["ops"][form] == len(ops)
            edges = content["templates"][forms["template"][form]]["edges"]
            assert len(edges) == sum(len(op.inputs) for op in ops)
        assert sum(costs["macs"][form] for _, form in found) == macs


def test_ops_are_laid_out_below_what_they_read_and_never_upon_each_other() -> None:
    space = load_space("mobilenet-cifar")
    for _, ops in space.ops(space.largest):
        drawn = template(ops)
        places = list(zip(drawn["x"], drawn["y"], strict=True))
        assert len(set(places)) == len(ops)
        for source, target in drawn["edges"]:
            assert source == INPUT or drawn["y"][source] < drawn["y"][target]


def test_the_hypervolume_ends_where_all_evaluations_end_and_never_falls(scored: Outcome) -> None:
    evaluations = scored.run.evaluations()
    worst = scored.task.worst
    content = progress(evaluations, scored.run.objectives, worst)
    assert content.evaluations[-1] == len(evaluations)
    assert content.hypervolumes[-1] == ranking.hypervolume(
        evaluations, scored.run.objectives, worst
    )
    assert content.hypervolumes == sorted(content.hypervolumes)
    assert all(h is not None and h >= 0 for h in content.hours)


def test_what_decides_an_objective_is_the_most_important_choice() -> None:
    choices = (
        Choice("decides", (1, 2, 3)),
        Choice("idle", (1, 2, 3)),
        Choice("at_times", (1, 2), "idle", (3,)),
    )
    rng = np.random.default_rng(0)
    codes = rng.integers(0, [3, 3, 2], size=(400, 3)).astype(np.uint8)
    codes[codes[:, 1] != 2, 2] = ABSENT
    chosen = ChosenOptions(choices, codes)
    values = codes[:, :1] + 0.01 * rng.random((400, 1))
    for word in ("accuracy", "loss"):
        found = importance(chosen, values, [objective(word)], seed=0)[word]
        assert max(found, key=found.__getitem__) == "decides"
        assert found["decides"] > 0.9
        assert sum(found.values()) == pytest.approx(1)
    assert (
        importance(ChosenOptions(choices, codes[:5]), values[:5], [objective("accuracy")], 0) == {}
    )


def test_frequencies_count_those_that_have_the_choice() -> None:
    choice = Choice("kernel", (3, 5))
    codes = np.array([[0], [1], [1], [ABSENT]], dtype=np.uint8)
    (share,) = frequencies(ChosenOptions((choice,), codes), np.array([False, True, False, True]))
    assert share == OptionShares((0.3333, 0.6667), (0.0, 1.0), (3, 1))


def test_choices_are_read_without_the_space_too(scored: Outcome) -> None:
    done = [e for e in scored.run.evaluations() if e.error is None]
    known, guessed = (ChosenOptions.of(done, space) for space in (scored.task.space, None))
    for evaluation, row in zip(done, guessed.codes.tolist(), strict=True):
        named = zip(guessed.choices, row, strict=True)
        assert dict(evaluation.arch) == {c.name: c.options[i] for c, i in named if i != ABSENT}
    assert {c.name for c in guessed.choices} <= {c.name for c in known.choices}
    assert 3 < len(axes(known)) <= 10


def test_failures_have_reasons_and_a_predictor_with_its_error(scored: Outcome) -> None:
    evaluations = scored.run.evaluations()
    content = failures(evaluations)
    assert content["failed"] == sum(e.error is not None for e in evaluations) > 0
    assert "no </script>" in content["reasons"][0]["reason"]
    fits = predictor(evaluations)
    assert len(fits) > 1
    assert fits[0]["after"] < fits[-1]["after"]
    assert {"model", "error", "tau"} <= set(fits[0])


def test_nothing_in_the_run_can_end_the_script_that_holds_it(contents: dict[str, Any]) -> None:
    text = embedded(contents)
    assert "</script" not in text
    assert json.loads(text) == contents
    whole = page(contents, title="<b>run</b> & co")
    assert "<title>&lt;b&gt;run&lt;/b&gt; &amp; co: search report</title>" in whole
    assert "connect-src" not in whole.partition("</head>")[0]


def test_what_is_not_known_is_said_with_the_command_that_tells(contents: dict[str, Any]) -> None:
    panels = {p["key"]: p for section in contents["panels"].values() for p in section}
    assert panels["fidelity"]["text"].startswith("No supernet")
    assert "nas device measure --name V100" in panels["latency-0"]["text"]
    assert "nas train" in panels["curves"]["text"]
    assert panels["hypervolume"]["rows"][-1][0] == "40"


def test_a_supernets_fidelity_and_a_winners_curve_are_in_the_report(copied: Path) -> None:
    panels = {
        p["key"]: p
        for section in ReportSource.of(Run(copied)).contents()["panels"].values()
        for p in section
    }
    assert f"nas fidelity {copied}" in panels["fidelity"]["text"]
    assert panels["curves"]["figure"] is not None
    rows = [ScoredTwice(f"{n:012x}", n, n / 10, n / 9, 1.0, 2.0) for n in range(1, 7)]
    content = compare(rows, "accuracy").to_json()
    (copied / "fidelity.json").write_text(json.dumps(content), encoding="utf-8")
    (first, *_) = ReportSource.of(Run(copied)).contents()["panels"]["trust"]
    assert "Kendall's τ 1.00" in first["text"]
    assert len(first["rows"]) == 6


def test_published_networks_stand_beside_imagenet_alone() -> None:
    for name in ("imagenet-1k", "ILSVRC/imagenet-1k", "data/imagenet", "/mnt/ImageNet/"):
        content = published(make({"data": name}))
        assert {"MobileNetV2", "AlphaNet-A6"} <= {n["name"] for n in content}
        assert all(n["source"] and 0.5 < n["accuracy"] < 1 and n["macs"] > 1e8 for n in content)
    for name in (None, "digits", "cifar10", "zh-plus/tiny-imagenet", "imagenet-100", "imagenet22k"):
        assert published(make({"data": name})) == []


def test_a_run_without_evaluations_is_one_line(scored: Outcome, tmp_path: Path) -> None:
    shutil.copy(scored.run.folder / "specification.json", tmp_path)
    with pytest.raises(UserError, match="has no evaluated architecture yet"):
        report_and_print(tmp_path)
    Study(tmp_path / "study.db", scored.task.space, scored.run.objectives)
    with pytest.raises(UserError, match=r"has no evaluated architecture yet: .*--serve waits"):
        report_and_print(tmp_path)
    assert not (tmp_path / "report.html").exists()
    assert ReportSource.of(Run(tmp_path)).contents()["points"]["count"] == 0


def test_a_run_whose_data_are_gone_is_reported_without_layers(
    scored: Outcome, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(scored.run.folder, tmp_path / "run"))
    content = json.loads((folder / "specification.json").read_text(encoding="utf-8"))
    content |= {"data": str(tmp_path / "gone"), "devices": []}
    (folder / "specification.json").write_text(json.dumps(content), encoding="utf-8")
    content = ReportSource.of(Run(folder)).contents()
    assert content["networks"] is None
    assert "gone" in content["missing"]
    assert content["points"]["count"] > 0
    assert content["panels"]["progress"][0]["rows"]
    done = [e for e in Run(folder).evaluations() if e.error is None]
    assert largest_costs(done, Run(folder).objectives)["macs"] > 0


def test_a_run_of_a_later_version_says_which_program_can(scored: Outcome, tmp_path: Path) -> None:
    content = json.loads((scored.run.folder / "specification.json").read_text(encoding="utf-8"))
    (tmp_path / "specification.json").write_text(
        json.dumps(content | {"version": 7, "novelty": 1}), encoding="utf-8"
    )
    with pytest.raises(UserError, match=f"has format 7, expected at most {VERSION}"):
        Run(tmp_path)


def test_a_run_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "specification.json").write_text(
        json.dumps({"space": "macro", "objectives": ["accuracy", "macs"], "version": 1}),
        encoding="utf-8",
    )
    space = load_space("macro")
    study = Study(tmp_path / "study.db", space, [objective("accuracy"), objective("macs")])
    costs = CostTables(space).cost(space.smallest)
    study.add(Evaluation(space.smallest, {"accuracy": 0.5, **costs}))
    assert ReportSource.of(Run(tmp_path)).contents()["points"]["count"] == 1


def test_the_command_writes_where_it_is_asked_and_prints_the_place(
    scored: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "page.html"
    with pytest.raises(SystemExit) as end:
        main(["report", str(scored.run.folder), "--out", str(out), "--device", "RaspberryPi4"])
    assert not end.value.code
    assert capsys.readouterr().out.strip() == str(out)
    text = out.read_text(encoding="utf-8")
    assert "latency on RaspberryPi4, ms" in text
    assert "latency on V100, ms" in text
    for arguments, message in (
        (["report", str(tmp_path)], "is not a run"),
        (["report", str(scored.run.folder), "--out", str(tmp_path)], "is a folder"),
        (["report", str(scored.run.folder), "--device", "V1000"], "V1000"),
        (["report", str(scored.run.folder), "--serve", "--out", "x"], "one of the two"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        said = capsys.readouterr()
        assert end.value.code == 2
        assert message in said.err
        assert len(said.err.splitlines()) == 1
