"""Every format says what its classes, its preprocessing and its counts are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open

from evaluators.data.preprocessing import Preprocessing
from nas.exports.description import LABELS_FILE, PREPROCESSING_FILE
from pictures import write_export

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("described") / "export"
    return write_export(place, ("safetensors", "onnx", "pt2", "python"))


def test_the_labels_are_a_list_in_the_order_of_the_logits(exported: Path) -> None:
    assert json.loads((exported / LABELS_FILE).read_text()) == DIGITS


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "pt2"])
def test_the_file_itself_says_it(kind: str, exported: Path) -> None:
    config = json.loads((exported / "config.json").read_text())
    if kind == "onnx":
        model = onnx.load(exported / "model.onnx")
        said = {entry.key: entry.value for entry in model.metadata_props}
    elif kind == "safetensors":
        with safe_open(exported / "model.safetensors", "pt") as file:
            said = file.metadata()
    else:
        wanted = dict.fromkeys(
            ("labels", "preprocessing", "macs", "params", "mean", "std", "input_size", "task"), ""
        )
        torch.export.load(exported / "model.pt2", extra_files=wanted)
        said = {k: v.decode() if isinstance(v, bytes) else v for k, v in wanted.items()}
    assert json.loads(said["labels"]) == DIGITS
    assert int(said["macs"]) == config["costs"]["macs"]
    assert int(said["params"]) == config["costs"]["params"]
    assert json.loads(said["mean"]) == config["mean"]
    assert json.loads(said["std"]) == config["std"]
    assert int(said["input_size"]) == config["input_shape"][-1]
    assert said["task"] == "image-classification"
    steps = json.loads(said["preprocessing"])
    assert steps == Preprocessing.of(config).to_json()
    assert (steps["channels"], steps["resize"], steps["crop_rule"]) == ("grey", 8, "centre")


def test_the_source_has_its_classes_as_constants(exported: Path) -> None:
    code = "import network; assert network.CLASSES[3] == '3'; print(network.MEAN, network.STD)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=exported, capture_output=True, text=True
    )
    config = json.loads((exported / "config.json").read_text())
    assert done.stdout.strip() == f"{config['mean']} {config['std']}", done.stderr


def test_a_folder_of_one_format_says_it_too(tmp_path: Path) -> None:
    place = write_export(tmp_path / "export", ("pt2",))
    assert {path.name for path in place.iterdir()} == {
        *("model.pt2", LABELS_FILE, PREPROCESSING_FILE, ".export.json"),
    }
    about = json.loads((place / PREPROCESSING_FILE).read_text())
    assert about["task"] == "image-classification"
    assert about["input_shape"][0] == 1
    assert about["macs"] > 0
