"""Writes the files beside the weights that Hugging Face's `from_pretrained` and pipelines read.

A model class that transformers does not have is loaded from the folder's own code: `config.json`
names it, and `trust_remote_code=True` allows it. That code is the `python` format and the module
generated here; neither imports this package. Writing does not need transformers. Does not know how
the result is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from nas.exports.source.python_source import tied_names
from nas.exports.source.source_text import literal
from search_spaces.serial import Blocks

MODULE = "modeling_network"
MODEL_FILE = f"{MODULE}.py"
MODEL_TYPE = "budget_nas"

Kind = Literal["image-classification", "text-classification", "text-generation"]

AUTO: dict[Kind, str] = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
}
"""Class of transformers whose `from_pretrained` reads a network of this kind."""

OUTPUTS: dict[Kind, str] = {
    "image-classification": "ImageClassifierOutput",
    "text-classification": "SequenceClassifierOutput",
    "text-generation": "CausalLMOutput",
}

BILINEAR = 2
"""Pillow's number of the filter that resized the training images."""


def kind_of(blocks: Blocks) -> Kind | None:
    """The task of a network; None if its output is a feature map, which no pipeline reads."""
    from search_spaces.onnx.writer import inputs_of

    tensor, (*_, (_, (*_, last))) = inputs_of(blocks)["input"], blocks
    if not tensor.ids:
        return "image-classification" if len(last.out_shape) == 1 else None
    return "text-generation" if len(last.out_shape) == 2 else "text-classification"


def settings(kind: Kind, config: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that transformers reads from `config.json`, to add to the network's description."""
    name = AUTO[kind].replace("AutoModel", "Network")
    labels = {} if kind == "text-generation" else dict(enumerate(config["classes"]))
    return {
        "model_type": MODEL_TYPE,
        "architectures": [name],
        "auto_map": {"AutoConfig": f"{MODULE}.NetworkConfig", AUTO[kind]: f"{MODULE}.{name}"},
        "dtype": "float32",
        **(
            {
                "id2label": {str(index): label for index, label in labels.items()},
                "label2id": {label: index for index, label in labels.items()},
            }
            if labels
            else {}
        ),
    }


def files(kind: Kind, blocks: Blocks, config: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the files to write by name, besides `config.json`, weights and `network.py`."""
    made = {MODEL_FILE: _module(kind, blocks)}
    if kind == "image-classification":
        made["preprocessor_config.json"] = _json(_preprocessor(config))
    elif "padding" in config:
        made["tokenizer_config.json"] = _json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": config["input_shape"][0],
                "pad_token": "[PAD]",
                "unk_token": "[UNK]",
                "cls_token": "[CLS]",
                "sep_token": "[SEP]",
                "model_input_names": ["input_ids", "attention_mask"],
            }
        )
    return made


def _preprocessor(config: Mapping[str, Any]) -> dict[str, Any]:
    """Preprocessing of the training images: size, crop, scale, mean and standard deviation.

    It resizes once, also where the network's input is smaller than the images it was trained on.
    """
    size = config["input_shape"][-1]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config["mean"]),
        "image_std": list(config["std"]),
        # Pipelines convert images to RGB by default; a network of one channel takes grey ones.
        "do_convert_rgb": len(config["mean"]) == 3,
    }


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"


def _module(kind: Kind, blocks: Blocks) -> str:
    """Source of the module that `auto_map` names."""
    output, name = OUTPUTS[kind], AUTO[kind].replace("AutoModel", "Network")
    argument = "pixel_values" if kind == "image-classification" else "input_ids"
    tied = tied_names(blocks)
    ties = f"    _tied_weights_keys = {literal_dict(tied)}\n" if tied else ""
    tie_lines = ""
    for layer, source in tied.items():
        (of, block, _, op, _), (_, table, _, words, _) = layer.split("."), source.split(".")
        tie_lines += (
            f"        shared = self.{of}[{literal(table)}].ops[{literal(words)}]\n"
            f"        self.{of}[{literal(block)}].ops[{literal(op)}].weight = shared.weight\n"
        )
    if tie_lines:
        tie_lines = (
            "\n    def tie_weights(self, *args: Any, **kwargs: Any) -> None:\n"
            '        """Tie the weights after they were loaded."""\n'
            f"        super().tie_weights(*args, **kwargs)\n{tie_lines}"
        )
    pads = ""
    if kind == "text-classification":
        pads = (
            "        missing = self.config.input_shape[0] - input_ids.shape[1]\n"
            "        if missing > 0 and getattr(self.config, 'padding', None) is not None:\n"
            "            input_ids = F.pad(input_ids, (0, missing), value=self.config.padding)\n"
        ).replace("'", '"')
    loss = "F.cross_entropy(logits, labels)"
    if kind == "text-generation":
        loss = "F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())"
    return f'''\
"""For `{AUTO[kind]}.from_pretrained(FOLDER, trust_remote_code=True)`."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import {output}

from .network import Network


class NetworkConfig(PretrainedConfig):
    """The content of `config.json`."""

    model_type = "{MODEL_TYPE}"


class {name}(PreTrainedModel):
    """The network of `network.py` as a model of transformers."""

    config_class = NetworkConfig
    main_input_name = "{argument}"
{ties}
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        # The blocks are attached here directly, so that weights keep their names.
        self.blocks = Network().blocks
        self.post_init()

    def forward(
        self, {argument}: Tensor, labels: Tensor | None = None, **kwargs: Any
    ) -> {output}:
        """Return logits, and the mean cross-entropy if labels are given."""
{pads}        logits = Network.forward(self, {argument})
        loss = None if labels is None else {loss}
        return {output}(loss=loss, logits=logits)
{tie_lines}'''


def literal_dict(names: Mapping[str, str]) -> str:
    """Source of a dict of strings, indented for the body of a class."""
    entries = "".join(f"        {literal(k)}: {literal(v)},\n" for k, v in names.items())
    return f"{{\n{entries}    }}"
