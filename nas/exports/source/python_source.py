"""The `python` format: one file with the network in plain PyTorch, generated from its ops.

The names of its weights are those of `model.safetensors`, which it loads. It imports torch, and
safetensors where weights are loaded; nothing of ours. Does not know how the file is checked.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nas.exports.source.network_class import NetworkClass
from nas.exports.source.source_text import folded, literal
from search_spaces.networks import plain_parts
from search_spaces.networks.modules import ties
from search_spaces.onnx.writer import inputs_of
from search_spaces.serial import Blocks

FILE = "network.py"

TEXT_WIDTH = 96


def write_python(blocks: Blocks, about: Sequence[str], network: Sequence[str]) -> str:
    """The source of a network.

    Args:
        about: paragraphs of the file's docstring, the first a title of one line.
        network: paragraphs of the class's docstring, the first of one line.

    Raises:
        UserError: for an op type that cannot be written.
    """
    made = NetworkClass(blocks)
    taken = inputs_of(blocks)["input"]
    own = made.source(
        _paragraphs(network, TEXT_WIDTH), "tokens" if taken.ids else "images", taken.shape
    )
    classes = [block.source for block in made.classes.values()]
    body = "\n\n\n".join([*classes, *made.functions, own, _load(blocks)])
    parts = _parts(body)
    code = "\n\n\n".join([*parts, body])
    head = "\n".join(_paragraphs(about, TEXT_WIDTH))
    imports = _imports(code)
    closing = '"""' if "\n" not in head and len(head) <= TEXT_WIDTH - 2 else '\n"""'
    return f'"""{head}{closing}\n\n{imports}\n\n{code}\n'


def _paragraphs(texts: Sequence[str], width: int) -> list[str]:
    """Paragraphs as lines, an empty one between two; the first stays one line."""
    lines = [texts[0]]
    for text in texts[1:]:
        lines.append("")
        # What is laid out already stays as it is.
        lines += text.splitlines() if text.startswith(" ") else folded(text, width)
    return lines


def _parts(code: str) -> list[str]:
    """The parts that the code uses and torch does not have, and those that they use."""
    used: list[str] = []
    known = {
        name: inspect.getsource(part)
        for name, part in vars(plain_parts).items()
        if getattr(part, "__module__", None) == plain_parts.__name__
    }
    for name, source in known.items():
        if re.search(rf"\b{name}\(", code):
            used.append(source.rstrip())
    return used


def _imports(code: str) -> str:
    """What the code uses, in the order in which import sorters put it."""
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    lines = ["from __future__ import annotations\n"]
    if "Callable" in names:
        lines.append("from collections.abc import Callable")
    lines.append("from pathlib import Path\n")
    if "torch" in names:
        lines.append("import torch")
    lines.append("from torch import Tensor, nn")
    if "F" in names:
        lines.append("from torch.nn import functional as F")
    return "\n".join(lines) + "\n"


def _load(blocks: Blocks) -> str:
    """The function that makes the network with its weights."""
    tied = "".join(
        f"    weights[{literal(layer)}] = weights[\n        {literal(source)}\n    ]\n"
        if len(layer) + len(source) > 68
        else f"    weights[{literal(layer)}] = weights[{literal(source)}]\n"
        for layer, source in tied_names(blocks).items()
    )
    return f'''\
def load(folder: str | Path | None = None) -> Network:
    """The network with the weights beside this file, or in `folder`, in evaluation mode."""
    from safetensors.torch import load_file

    file = Path(folder or Path(__file__).parent) / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"no {{file}}: Network() is the network without its weights")
    weights = load_file(file)
{tied}    network = Network()
    network.load_state_dict(weights)
    return network.eval()'''


def tied_names(blocks: Blocks) -> dict[str, str]:
    """Names in the state of tied weights, and of those that they are."""

    def named(end: str) -> str:
        return f"blocks.{end.replace('/', '.ops.')}.weight"

    return {named(layer): named(source) for layer, source in ties(blocks)}


def described(config: Mapping[str, Any]) -> list[str]:
    """What a network's file says of it, from the description of an export."""
    costs, shape = config["costs"], config["input_shape"]
    size = "x".join(map(str, shape))
    paragraphs = [f"A network of the space {config['space']} for {config['data']}."]
    if "mean" in config:
        mean, std = (", ".join(map(str, config[name])) for name in ("mean", "std"))
        paragraphs.append(
            f"It takes images (batch, {', '.join(map(str, shape))}), float32 from 0 to 1, less "
            f"({mean}), divided by ({std}), and gives a logit for each of {len(config['classes'])} "
            "classes."
        )
    else:
        paragraphs.append(f"It takes int64 token ids (batch, {size}).")
    paragraphs.append(
        f"{costs['macs']:,} multiply-accumulates for one sample and {costs['params']:,} "
        f"parameters. {config['convention']}"
    )
    paragraphs.append("    network = load()  # with the weights beside this file")
    return paragraphs
