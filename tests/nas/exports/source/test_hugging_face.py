"""Hugging Face's layout of every kind of network: transformers reads it and says the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from nas.exports.source import hugging_face, python_source
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import Network
from search_spaces.space import SearchSpace
from search_spaces.spaces.bert import bert
from search_spaces.spaces.gpt import PRESETS, decoder

os.environ["HF_HUB_OFFLINE"] = "1"


def tiny_gpt() -> SearchSpace:
    """With a tied head and learnt positions."""
    small = {"vocabulary": 40, "contexts": (8, 16), "widths": (32,), "depths": (2,)}
    heads: dict[str, Any] = {"heads": (2,), "groups": (1,), "mlp_widths": (64,), "head_width": 16}
    return decoder("gpt-small", replace(PRESETS["gpt2"], **small, **heads))


def laid_out(
    space: SearchSpace, arch: Architecture, more: dict[str, Any], folder: Path
) -> tuple[Network, hugging_face.Kind]:
    """A network in Hugging Face's layout."""
    torch.manual_seed(0)
    blocks = space.ops(arch)
    network = Network(blocks).eval()
    kind = hugging_face.kind_of(blocks)
    assert kind is not None
    config = {"input_shape": list(space.input_shape(arch)), **more}
    config |= hugging_face.settings(kind, config)
    (folder / "config.json").write_text(json.dumps(config))
    for name, text in hugging_face.files(kind, blocks, config).items():
        (folder / name).write_text(text)
    source = python_source.write_python(blocks, ["A network."], ["The network."])
    (folder / python_source.SOURCE_FILE).write_text(source)
    tied = network.tied_weights
    weights = {n: t.contiguous() for n, t in network.state_dict().items() if n not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return network, kind


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where transformers keeps the code of models: one place of this file's, and nowhere else."""
    import transformers.dynamic_module_utils as dynamic

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.mark.parametrize("kind", ["images", "sentences", "text", "tied"])
def test_from_pretrained_gives_the_same(kind: str, tmp_path: Path, modules: None) -> None:
    import transformers

    space = {
        "images": lambda: load_space("mobilenet-tiny", channels=3, classes=4),
        "sentences": lambda: bert("mini", sequence=12, vocabulary=50, classes=4, padding=0),
        "text": lambda: load_space("gpt-char", vocabulary=40),
        "tied": tiny_gpt,
    }[kind]()
    about: dict[str, Any] = {"classes": ["a", "b", "c", "d"]}
    about |= {"mean": [0.5] * 3, "std": [0.2] * 3} if kind == "images" else {}
    about |= {"padding": 0} if kind == "sentences" else {}
    folder = tmp_path / kind
    folder.mkdir()
    network, found = laid_out(space, space.smallest, about, folder)
    auto = getattr(transformers, hugging_face.AUTO[found])
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    shape = space.input_shape(space.smallest)
    x = torch.randn(2, *shape) if kind == "images" else torch.randint(1, 40, (2, *shape))
    with torch.no_grad():
        expected, given = network(x), model(x)
    assert torch.equal(given.logits, expected)
    assert given.loss is None
    labels = x if kind in ("text", "tied") else torch.tensor([1, 3])
    assert model(x, labels=labels).loss.item() > 0
    names = {name for name, _ in network.named_parameters()}
    assert {name for name, _ in model.named_parameters()} == names


def test_a_pipeline_prepares_images_as_the_network_was_trained(
    tmp_path: Path, modules: None
) -> None:
    import transformers

    space = load_space("mobilenet-tiny", image_size=16, channels=3, classes=4)
    about = {"classes": list("abcd"), "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    network, _ = laid_out(space, space.smallest, about, tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    side = space.input_shape(space.smallest)[-1]
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    prepared = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    mean, std = (torch.tensor(about[name]).view(3, 1, 1) for name in ("mean", "std"))
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
    assert (prepared[0] - expected).abs().max() < 1e-5
    classify = transformers.pipeline(
        "image-classification", str(tmp_path), trust_remote_code=True, device="cpu"
    )
    said = {entry["label"]: entry["score"] for entry in classify(Image.fromarray(pixels))}
    with torch.no_grad():
        scores = network(expected[None]).softmax(dim=1)[0]
    assert said == {label: pytest.approx(float(scores["abcd".index(label)])) for label in said}
