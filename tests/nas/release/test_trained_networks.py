"""Exports of networks that `nas train` made: what is in the folder is what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nas.cli import main
from nas.exports.saved import load
from nas.release.efficiency import read_record
from search_spaces.exits.network import ExitNetwork


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def only_made(folder: Path) -> Path:
    """The one network in `RUN/trained`."""
    (place,) = [path for path in (folder / "trained").iterdir() if path.is_dir()]
    return place


@pytest.fixture
def winner(copied: Path) -> str:
    identity = json.loads((copied / "winner" / "config.json").read_text())["architecture"]["id"]
    return str(identity)


def test_a_cut_network_is_exported_by_its_folder(copied: Path, winner: str, tmp_path: Path) -> None:
    options = ("--arch", winner, "--target-flops", "30k", "--quiet")
    assert run("train", str(copied), *options) == 0
    place, out = only_made(copied), tmp_path / "out"
    formats = ("--format", "safetensors,onnx,pt2,python", "--quiet")
    assert run("export", str(copied), "--arch", place.name, "--out", str(out), *formats) == 0
    network = load(out)
    x = torch.randn(3, *network.config["input_shape"])
    assert torch.equal(network(x), load(place)(x))
    assert read_record(out).counts.macs == network.config["costs"]["macs"] <= 30_000
    card = (out / "README.md").read_text()
    assert "cut to fewer FLOPs" in card
    assert f"nas train copied --arch {winner} --target-flops 30000\n" in card
    assert f"nas export copied --arch {place.name} --format" in card


def test_code_that_this_process_has_from_other_networks_is_not_taken_for_its_own(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers leaves it after from_pretrained: a package on the path."""
    cache = tmp_path / "modules"
    (cache / "transformers_modules").mkdir(parents=True)
    (cache / "transformers_modules" / "__init__.py").touch()
    monkeypatch.syspath_prepend(cache)
    options = ("--out", str(tmp_path / "out"), "--format", "safetensors", "--quiet")
    assert run("export", str(copied), *options) == 0


def test_a_network_with_exits_is_exported_by_its_folder(
    copied: Path, winner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", str(copied), "--arch", winner, "--early-exit", "50", "--quiet") == 0
    place, out = only_made(copied), tmp_path / "out"
    by_folder = ("export", str(copied), "--arch", place.name, "--out", str(out), "--quiet")
    capsys.readouterr()
    assert run(*by_folder) == 2  # the default formats have ONNX among them
    assert "a network with early exits is not written as onnx" in capsys.readouterr().err
    assert not out.exists()
    assert run(*by_folder, "--format", "safetensors") == 0
    network = load(out)
    assert isinstance(network, ExitNetwork)
    x = torch.randn(8, *network.config["input_shape"])
    with torch.no_grad():
        assert torch.equal(network(x), load(place)(x))
    card = (out / "README.md").read_text()
    assert "## Early exits" in card
    assert f"{network.config['metrics']['avg_flops']:,.0f} FLOPs per test sample" in card
    assert f"nas train copied --arch {winner} --early-exit 50\n" in card
    assert f"nas export copied --arch {place.name} --format safetensors" in card
