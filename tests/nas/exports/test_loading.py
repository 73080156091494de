"""`nas.load` refuses exports that are broken or hostile in one line, before it takes memory."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import nas
from nas.exports import checks, fresh_process
from nas.exports.writing import export
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import build
from search_spaces.serial import blocks_from_json

MUCH = 2**30


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from evaluators.costs.tables import CostTables
    from evaluators.data.files.images import load_data

    data = load_data("digits")
    space = load_space("mobilenet-tiny", **data.space_options)
    network = build(space, space.smallest)
    place = tmp_path_factory.mktemp("export") / "d"
    return export(network, space.smallest, CostTables(space), data, place, formats=("safetensors",))


def folder(exported: Path, place: Path, config: Any) -> Path:
    place.mkdir(exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (place / "config.json").write_text(text)
    (place / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    return place


def refusal(place: Path) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        nas.load(place)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MUCH / 1024
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ops(config: Any) -> list[dict[str, Any]]:
    return [op for block in config["network"] for op in block["ops"]]


def convolution(config: Any) -> dict[str, Any]:
    return next(op for op in ops(config) if op["type"] == "Conv2d")


def setting(name: str, value: Any) -> Callable[[Any], None]:
    return lambda config: convolution(config).__setitem__(name, value)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "no network": lambda c: c.pop("network"),
    "network is a number": lambda c: c.update(network=3),
    "network is a word": lambda c: c.update(network="Conv2d"),
    "blocks are numbers": lambda c: c.update(network=[1, 2]),
    "no version": lambda c: c.pop("format_version"),
    "a later version": lambda c: c.update(format_version=99),
    "an unknown op": lambda c: convolution(c).update(type="Conv9d"),
    "the type of an op is a list": lambda c: convolution(c).update(type=["Conv2d"]),
    "no name": lambda c: convolution(c).pop("name"),
    "an unknown setting": setting("colour", 3),
    "stride 0": setting("stride", 0),
    "a negative stride": setting("stride", -1),
    "a kernel that is a word": setting("kernel", "3"),
    "a kernel that is a fraction": setting("kernel", 1.5),
    "a kernel that is true": setting("kernel", True),
    "a gigantic kernel": setting("kernel", 10**9),
    "more than gigantic padding": setting("padding", 10**30),
    "groups 0": setting("groups", 0),
    "negative size": lambda c: convolution(c)["out_shape"].__setitem__(0, -4),
    "size 0": lambda c: convolution(c)["out_shape"].__setitem__(0, 0),
    "gigantic size": lambda c: convolution(c)["out_shape"].__setitem__(0, 10**12),
    "another size": lambda c: convolution(c)["out_shape"].__setitem__(0, 7),
    "no shape": lambda c: convolution(c).update(out_shape=[]),
    "no inputs": lambda c: ops(c)[1].update(inputs=[]),
    "a cycle": lambda c: ops(c)[1]["inputs"][0].__setitem__(0, ops(c)[1]["name"]),
    "an unknown input": lambda c: ops(c)[1]["inputs"][0].__setitem__(0, "nothing"),
    "an unknown block": lambda c: ops(c)[1]["inputs"][0].__setitem__(0, "@nothing"),
    "an input without a name": lambda c: ops(c)[1]["inputs"][0].__setitem__(0, ""),
    "two ops of one name": lambda c: ops(c)[1].update(name=ops(c)[0]["name"]),
    "two blocks of one name": lambda c: c["network"][1].update(name=c["network"][0]["name"]),
    "a block without ops": lambda c: c["network"][0].update(ops=[]),
    "a missing block": lambda c: c["network"].pop(),
    "exits that are a word": lambda c: c.update(exits="early"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_descriptions_are_refused(exported: Path, tmp_path: Path, change: str) -> None:
    config = json.loads((exported / "config.json").read_text())
    changed = copy.deepcopy(config)
    CHANGES[change](changed)
    assert changed != config
    refusal(folder(exported, tmp_path / "d", changed))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"config"', "[" * 100_000, '{"a":' * 100_000, "\x00\xff"]
)
def test_what_is_no_description_is_refused(exported: Path, tmp_path: Path, text: str) -> None:
    refusal(folder(exported, tmp_path / "d", text))


def test_weights_of_another_type_or_shape_are_refused(exported: Path, tmp_path: Path) -> None:
    place = folder(exported, tmp_path / "d", json.loads((exported / "config.json").read_text()))
    weights = load_file(exported / "model.safetensors")
    name = "blocks.stem.ops.conv.weight"
    changes: dict[str, dict[str, torch.Tensor]] = {
        f"{name} is another type": {k: v.half() for k, v in weights.items()},
        f"{name} is missing": {k: v for k, v in weights.items() if k != name},
        "more is float32 1": {**weights, "more": torch.zeros(1)},
        f"{name} is float32 3": {**weights, name: torch.zeros(3)},
    }
    for said, changed in changes.items():
        save_file(changed, place / "model.safetensors")
        assert said in refusal(place)
    (place / "model.safetensors").write_bytes(b"\xff" * 100)
    refusal(place)


def test_networks_of_nan_are_not_exported(exported: Path) -> None:
    network = nas.load(exported)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    blocks = blocks_from_json(network.config["network"])
    with pytest.raises(UserError, match="not finite: it cannot be exported"):
        checks.samples(network, blocks)


@pytest.mark.parametrize("side", ["given", "expected"])
def test_the_fresh_process_does_not_pass_nan(
    tmp_path: Path, exported: Path, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nas.load(exported)
    x = torch.randn(2, *network.config["input_shape"])
    with torch.no_grad():
        expected = network(x)
    place = folder(exported, tmp_path / "d", json.loads((exported / "config.json").read_text()))
    if side == "expected":
        expected[0, 0] = float("nan")
    else:
        weights = load_file(exported / "model.safetensors")
        weights = {k: torch.full_like(v, float("nan")) if v.is_floating_point() else v
                   for k, v in weights.items()}  # fmt: skip
        save_file(weights, place / "model.safetensors")
    torch.save([(x, expected)], tmp_path / "samples.pt")
    plan = {"samples": str(tmp_path / "samples.pt"), "folder": str(place), "tolerance": 1e-4,
            "formats": ["safetensors"], "files": {}, "transformers": None, "space": None,
            "root": str(Path(nas.__file__).parents[1]), "costs": None}  # fmt: skip
    monkeypatch.setattr(fresh_process, "OWN_PACKAGES", ())
    with pytest.raises(fresh_process.Failed, match="not finite"):
        fresh_process.check(plan)
