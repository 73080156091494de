"""The Python interface: the command line's names and values, one-line errors, notebook views."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import nas
import nas.api
from evaluators.costs.tables import CostTables
from nas.commands.settings import settings
from nas.engine.search import Outcome
from nas.run.specification import Specification
from search_spaces.catalogue import load_space

EVALUATOR = "def score(arch):\n    return {'accuracy': 0.5, 'slowness': len(arch)}\n"


@pytest.fixture
def evaluator(tmp_path: Path) -> str:
    """A user's evaluator, which returns at once."""
    (tmp_path / "own.py").write_text(EVALUATOR)
    return f"{tmp_path / 'own.py'}:score"


def test_every_public_name_is_importable_and_listed() -> None:
    for name in nas.__all__:
        assert getattr(nas, name) is not None
    assert set(nas.__all__) <= set(dir(nas))
    assert nas.figures.frontier.__module__.startswith("nas.report.figures")
    assert nas.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = nas.serach


def test_search_has_an_argument_for_every_setting() -> None:
    arguments = inspect.signature(nas.search).parameters
    assert set(settings()) <= set(arguments)
    assert {"out", "resume", "config", "workers", "ray_address", "mlflow", "quiet"} <= set(
        arguments
    )


def test_search_takes_values_as_people_write_them(evaluator: str, tmp_path: Path) -> None:
    outcome = nas.search(
        space="mobilenet-tiny",
        evaluator=evaluator,
        max_flops="300k",
        min_flops=50_000,
        max={"slowness": 1000},
        max_params="2M",
        objective="accuracy",
        green_exponents="0.1,0.2",
        sampler_option={"population_size": "8"},
        time_limit="90s",
        strategy="optuna",
        trials=4,
        out=tmp_path / "run",
        quiet=True,
    )
    specification = outcome.run.specification
    assert specification.high == {"macs": 300_000, "slowness": 1000, "params": 2_000_000}
    assert specification.low == {"macs": 50_000}
    assert specification.objectives == ("accuracy",)
    assert specification.green_exponents == (0.1, 0.2)
    assert specification.sampler_options == {"population_size": 8}
    assert specification.time_limit == 90
    assert outcome.best.metrics["macs"] <= 300_000
    assert outcome.winner is None, "nothing is trained without data"
    assert outcome.best.arch.id in repr(outcome)


def test_search_returns_frontier_and_winner_and_shows_both(copied: Path) -> None:
    outcome = nas.search(out=copied, resume=True, quiet=True)
    assert outcome.run.folder == copied
    frame = outcome.frontier()
    assert list(frame.index) == [e.arch.id for e in outcome.run.front()]
    assert frame.loc[outcome.best.arch.id, "winner"]
    assert outcome.winner == copied / "winner"
    assert nas.load(outcome.winner).config["architecture"]["id"] == outcome.best.arch.id
    html = outcome._repr_html_()
    assert html.count("<svg") == html.count("</svg>") == 1
    assert all(arch in html for arch in frame.index)
    assert "<script" not in html
    assert "test accuracy" in html


def test_search_takes_a_specification_and_a_folder(
    quick: Specification, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = nas.search(quick, copied, resume=True)
    assert outcome.best.arch.id == nas.Run(copied).winner
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_flop": "3M"}, "nas.search has no argument 'max_flop': did you mean 'max_flops'?"),
        ({"zzz": 1}, r"nas.search has no argument 'zzz': help\(nas.search\) lists the arguments"),
        ({"max_flops": "50X"}, "max_flops: malformed size '50X': expected a number"),
        ({"max_flops": [3]}, r"max_flops: malformed bound \[3\]: expected a finite number"),
        ({"max_flops": float("nan")}, "max_flops: malformed bound nan: expected a finite number"),
        ({"max": "latency_ms"}, "max: malformed 'latency_ms': expected NAME=VALUE"),
        ({"max_latency": "5ms"}, "max_latency needs device"),
        ({"torch_device": 3}, "torch_device = 3: input should be a valid string"),
        ({"trials": 0}, "trials = 0: input should be greater than or equal to 1"),
        ({"strategy": "randon"}, "unknown strategy 'randon': did you mean 'random'?"),
        ({"resume": True}, "resume needs out"),
        ({"ray_address": "auto"}, "ray_address needs workers"),
        (
            {"specification": "mobilenet"},
            "specification = 'mobilenet': expected a nas.Specification",
        ),
        ({"specification": Specification(), "trials": 3}, "trials: expected in the specification"),
        ({"folder": "a", "out": "b"}, "folder and out are the same argument"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nas.UserError, match=message) as raised:
        nas.search(**arguments)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_count_returns_the_costs_of_one_several_or_a_file_of_architectures(tmp_path: Path) -> None:
    space = load_space("mobilenet-tiny")
    archs = space.decode(space.sample(5, seed=3))
    tables = CostTables(space)
    expected = [tables.cost(arch) for arch in archs]
    assert nas.count("mobilenet-tiny", archs) == expected
    assert nas.count(space, archs[0]) == expected[:1]
    file = tmp_path / "archs.jsonl"
    file.write_text("".join(json.dumps({"choices": dict(arch)}) + "\n" for arch in archs))
    assert nas.count("mobilenet-tiny", file) == expected
    with pytest.raises(nas.UserError, match=r"archs\[1\]: "):
        nas.count(space, [archs[0], {"stem_width": -1}])
    with pytest.raises(nas.UserError, match=r"archs\[0\]: expected a dict of choices, not 3"):
        nas.count(space, [3])  # type: ignore[list-item]


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 2))


@pytest.mark.parametrize(
    "inputs", ["1x3x8x8", ["1x3x8x8"], torch.zeros(1, 3, 8, 8), {"input": "1x3x8x8"}]
)
def test_profile_counts_a_network_for_any_way_to_write_its_inputs(inputs: Any) -> None:
    profile = nas.profile(network(), inputs, measure=False)
    assert profile.macs == 36 * 8 * 27 + 288 * 2
    assert profile.params == 8 * 27 + 8 + 288 * 2 + 2
    assert profile.to_json()["macs"] == profile.macs


def test_profile_measures_and_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    live = network().train()
    before = {name: value.clone() for name, value in live.state_dict().items()}
    profile = nas.profile(live, torch.zeros(1, 3, 8, 8), repeats=1)
    assert profile.note is None
    assert profile.peak is not None
    assert profile.to_json()["tree"]["forward_seconds"] > 0
    assert f"{profile.macs:,} FLOPs" in str(profile)
    assert f"{profile.macs:,} FLOPs" in profile._repr_html_()
    assert live.training
    assert all(p.grad is None for p in live.parameters())
    assert all(torch.equal(before[name], value) for name, value in live.state_dict().items())
    profile.write_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_profile_takes_a_file_and_needs_written_inputs_for_it(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef small():\n    return nn.Linear(4, 2)\n"
    )
    target = f"{tmp_path / 'nets.py'}:small"
    assert nas.profile(target, "1x4", measure=False).macs == 8
    with pytest.raises(nas.UserError, match="expected text such as 1x3x224x224"):
        nas.profile(target, torch.zeros(1, 4))
    with pytest.raises(nas.UserError, match="malformed input '1by4'"):
        nas.profile(target, "1by4")


def test_export_writes_a_network_that_load_reads(finished: Outcome, tmp_path: Path) -> None:
    folder = nas.export(finished.run, formats="safetensors", out=tmp_path / "taken")
    assert folder == tmp_path / "taken"
    assert nas.load(folder).config["architecture"]["id"] == finished.winner.arch.id
    with pytest.raises(nas.UserError, match="is not empty"):
        nas.export(finished.run.folder, out=folder)
    with pytest.raises(nas.UserError, match=r"did you mean 'onnx'\?"):
        nas.export(finished.run.folder, "best", ("onx",), out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_notebook_shows_a_run_without_a_frontier(finished: Outcome, tmp_path: Path) -> None:
    from nas.report.notebook import run_html

    shutil.copy(finished.run.folder / "specification.json", tmp_path / "specification.json")
    with pytest.raises(nas.UserError, match="no study"):
        run_html(nas.Run(tmp_path))
