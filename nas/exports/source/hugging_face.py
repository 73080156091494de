"""Hugging Face's layout beside the weights: what `from_pretrained` and pipelines read.

A model that transformers does not know brings its own code: `config.json` names it, and
`trust_remote_code=True` allows it. That code is the `python` format and the few lines here; neither
imports anything of ours. Writing takes no transformers. Does not know how it is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from nas.exports.source.python_source import tied_names
from nas.exports.source.source_text import literal
from search_spaces.serial import Blocks

MODULE = "modeling_network"
FILE = f"{MODULE}.py"
MODEL_TYPE = "budget_nas"

Kind = Literal["image-classification", "text-classification", "text-generation"]

AUTO: dict[Kind, str] = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
}
"""The class whose `from_pretrained` reads a network of this kind."""

OUTPUTS: dict[Kind, str] = {
    "image-classification": "ImageClassifierOutput",
    "text-classification": "SequenceClassifierOutput",
    "text-generation": "CausalLMOutput",
}

BILINEAR = 2
"""Pillow's number of the filter by which training images were resized."""


def kind_of(blocks: Blocks) -> Kind | None:
    """What a network is for; None for one that gives features, which no pipeline reads."""
    from search_spaces.onnx.writer import inputs_of

    taken, (*_, (_, (*_, last))) = inputs_of(blocks)["input"], blocks
    if not taken.ids:
        return "image-classification" if len(last.out_shape) == 1 else None
    return "text-generation" if len(last.out_shape) == 2 else "text-classification"


def settings(kind: Kind, config: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` says beside the description of the network."""
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
    """The files beside `config.json` and the weights, by name; `network.py` is not among them."""
    made = {FILE: _module(kind, blocks)}
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
    """As the network's own images were prepared: size, scale, mean and deviation."""
    size = config["input_shape"][-1]
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config["mean"]),
        "image_std": list(config["std"]),
        # What pipelines turn images into before: a network of one channel takes grey ones.
        "do_convert_rgb": len(config["mean"]) == 3,
    }


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"


def _module(kind: Kind, blocks: Blocks) -> str:
    """The module that `auto_map` names."""
    output, name = OUTPUTS[kind], AUTO[kind].replace("AutoModel", "Network")
    taken = "pixel_values" if kind == "image-classification" else "input_ids"
    tied = tied_names(blocks)
    ties = f"    _tied_weights_keys = {literal_dict(tied)}\n" if tied else ""
    again = ""
    for layer, source in tied.items():
        (of, block, _, op, _), (_, table, _, words, _) = layer.split("."), source.split(".")
        again += (
            f"        shared = self.{of}[{literal(table)}].ops[{literal(words)}]\n"
            f"        self.{of}[{literal(block)}].ops[{literal(op)}].weight = shared.weight\n"
        )
    if again:
        again = (
            "\n    def tie_weights(self, *args: Any, **kwargs: Any) -> None:\n"
            '        """Once more after weights were put in."""\n'
            f"        super().tie_weights(*args, **kwargs)\n{again}"
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
    """What `config.json` says."""

    model_type = "{MODEL_TYPE}"


class {name}(PreTrainedModel):
    """The network of `network.py` with what transformers expects around it."""

    config_class = NetworkConfig
    main_input_name = "{taken}"
{ties}
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        # The blocks are this model's own, so that weights keep the names of their file.
        self.blocks = Network().blocks
        self.post_init()

    def forward(
        self, {taken}: Tensor, labels: Tensor | None = None, **kwargs: Any
    ) -> {output}:
        """Logits, and with labels their mean cross-entropy."""
{pads}        logits = Network.forward(self, {taken})
        loss = None if labels is None else {loss}
        return {output}(loss=loss, logits=logits)
{again}'''


def literal_dict(names: Mapping[str, str]) -> str:
    """A dict of text as it stands in the body of a class."""
    entries = "".join(f"        {literal(k)}: {literal(v)},\n" for k, v in names.items())
    return f"{{\n{entries}    }}"
