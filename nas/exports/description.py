"""What an exported file says about itself: task, classes in order, preprocessing and counts.

All of it is read from the network's description, the content of `config.json`. Knows the names and
forms under which formats hold it. Does not write files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
"""A network's description and its weights, from which `nas.load` builds it."""

ONNX_FILE = "model.onnx"
"""The network for onnxruntime, at any batch size."""

LABELS_FILE = "labels.json"
"""Names of the classes in the order of the logits, as a JSON list."""

PREPROCESSING_FILE = "preprocessing.json"
"""From a file or a text to the network's input, and the network's counts."""

SCORES_FILE = "scores.json"
"""Confusion matrix, accuracy by class and mistakes on the test part; see `ClassScores.to_json`."""

Task = Literal["image-classification", "text-classification", "text-generation"]


def task_of(config: Mapping[str, Any]) -> Task:
    """What a network is for, in Hugging Face's terms."""
    if "mean" in config:
        return "image-classification"
    return "text-classification" if "classes" in config else "text-generation"


def preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """From a file or a text to the network's input, step by step."""
    if task_of(config) == "image-classification":
        from evaluators.data.preprocessing import Preprocessing  # imports Pillow

        return Preprocessing.of(config).to_json()
    tokens = "characters" if config.get("characters") else "tokenizer.json"
    padding = {"padding": config["padding"]} if "padding" in config else {}
    return {"tokens": tokens, "length": config["input_shape"][0], **padding}


def properties(config: Mapping[str, Any]) -> dict[str, str]:
    """All of it as pairs of texts, for formats that hold such pairs."""
    prepared = preprocessing(config)
    known: dict[str, Any] = {
        "task": task_of(config),
        "space": config["space"],
        "architecture": config["architecture"]["id"],
        "input_shape": config["input_shape"],
        "preprocessing": prepared,
        "macs": config["costs"]["macs"],
        "params": config["costs"]["params"],
        "config": {name: value for name, value in config.items() if name in READ},
    }
    if "classes" in config:
        known["labels"] = config["classes"]
    if "mean" in prepared:
        known |= {name: prepared[name] for name in ("mean", "std", "input_size")}
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in known.items()
    }


READ = (
    *("space", "architecture", "input_shape", "mean", "std", "image_size", "bits", "white"),
    *("classes", "padding", "vocabulary", "characters", "costs", "convention"),
)
"""Entries of a description that a prediction reads."""


def files(config: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the files beside every format, by name."""
    about = {
        "task": task_of(config),
        "input_shape": config["input_shape"],
        "preprocessing": preprocessing(config),
        "macs": config["costs"]["macs"],
        "params": config["costs"]["params"],
    }
    texts = {PREPROCESSING_FILE: json.dumps(about, indent=1, ensure_ascii=False) + "\n"}
    if "classes" in config:
        labels = json.dumps(config["classes"], indent=1, ensure_ascii=False)
        texts[LABELS_FILE] = labels + "\n"
    return texts
