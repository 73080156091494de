"""Writes the `python` format: one file with the network in plain PyTorch, generated from its ops.

Its weights have the names that `model.safetensors` uses, which its `load` reads. The file imports
torch, and safetensors in `load`; it does not import this package. Does not know how the file is
checked.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.data.preprocessing import Preprocessing
from nas.exports.source.network_class import NetworkClass
from nas.exports.source.source_text import LINE_LENGTH, literal, wrapped
from search_spaces.networks import plain_parts
from search_spaces.networks.modules import ties
from search_spaces.onnx.writer import inputs_of
from search_spaces.serial import Blocks

SOURCE_FILE = "network.py"

TEXT_WIDTH = 96


def write_python(
    blocks: Blocks,
    about: Sequence[str],
    network: Sequence[str],
    constants: Mapping[str, Sequence[Any]] | None = None,
) -> str:
    """The source file of a network.

    Args:
        about: paragraphs of the module docstring; the first is a title of one line.
        network: paragraphs of the class docstring; the first is one line.
        constants: lists to write at the top of the module, by name.

    Raises:
        UserError: for an op type that cannot be written.
    """
    made = NetworkClass(blocks)
    tensor = inputs_of(blocks)["input"]
    own = made.source(
        _paragraphs(network, TEXT_WIDTH), "tokens" if tensor.ids else "images", tensor.shape
    )
    classes = [block.source for block in made.classes.values()]
    body = "\n\n\n".join([*classes, *made.functions, own, _load(blocks)])
    parts = _parts(body)
    listed = "\n".join(_constant(name, values) for name, values in (constants or {}).items())
    code = "\n\n\n".join([*parts, body])
    head = "\n".join(_paragraphs(about, TEXT_WIDTH))
    imports = _imports(code)
    closing = '"""' if "\n" not in head and len(head) <= TEXT_WIDTH - 2 else '\n"""'
    listed = f"\n{listed}\n" if listed else ""
    return f'"""{head}{closing}\n\n{imports}{listed}\n\n{code}\n'


def _constant(name: str, values: Sequence[Any]) -> str:
    """Source of a list, in lines of one value each if it is too long."""
    # Strings as in JSON, whose escapes are those of Python.
    sources = [
        json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
        for value in values
    ]
    line = f"{name} = [{', '.join(sources)}]"
    if len(line) <= LINE_LENGTH:
        return line
    return f"{name} = [\n" + "".join(f"    {source},\n" for source in sources) + "]"


def constants(config: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """What the module says about its input and output: classes in order, mean and deviation."""
    names = {"classes": "CLASSES", "mean": "MEAN", "std": "STD"}
    return {name: config[key] for key, name in names.items() if key in config}


def _paragraphs(texts: Sequence[str], width: int) -> list[str]:
    """Paragraphs as lines of a docstring, separated by empty lines; the first is one line."""
    first, *others = map(_quoted, texts)
    lines = [" ".join(first.split())]
    for text in others:
        lines.append("")
        # Indented text, such as a code example, keeps its lines.
        lines += text.splitlines() if text.startswith(" ") else wrapped(text, width)
    return lines


def _quoted(text: str) -> str:
    """A text inside a docstring: names of data and spaces may have quotes, which would end it."""
    quoted = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'{quoted[:-1]}\\"' if quoted.endswith('"') else quoted


def _parts(code: str) -> list[str]:
    """Sources of the definitions in `plain_parts` that the code calls, in their order there."""
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
    """Import statements for the names that the code uses, in the order of import sorters."""
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
    """Source of the function `load`."""
    tied = "".join(
        f"    weights[{literal(layer)}] = weights[\n        {literal(source)}\n    ]\n"
        if len(layer) + len(source) > 68
        else f"    weights[{literal(layer)}] = weights[{literal(source)}]\n"
        for layer, source in tied_names(blocks).items()
    )
    return f'''\
def load(folder: str | Path | None = None) -> Network:
    """Return the network in evaluation mode, with weights beside this file or in `folder`."""
    from safetensors.torch import load_file

    file = Path(folder or Path(__file__).parent) / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"no {{file}}: Network() returns the network without its weights")
    weights = load_file(file)
{tied}    network = Network()
    network.load_state_dict(weights)
    return network.eval()'''


def tied_names(blocks: Blocks) -> dict[str, str]:
    """Names of tied weights in the state dict, each with the name of its source weight."""

    def weight_name(op: str) -> str:
        return f"blocks.{op.replace('/', '.ops.')}.weight"

    return {weight_name(layer): weight_name(source) for layer, source in ties(blocks)}


def file_description(config: Mapping[str, Any]) -> list[str]:
    """Paragraphs of the module docstring, from the description of an export."""
    costs, shape = config["costs"], config["input_shape"]
    size = "x".join(map(str, shape))
    paragraphs = [f"A network of the space {config['space']} for {config['data']}."]
    if "mean" in config:
        paragraphs.append(
            f"Input: (batch, {', '.join(map(str, shape))}) float32: {Preprocessing.of(config)}. "
            f"Output: logits of the {len(config['classes'])} CLASSES."
        )
    else:
        paragraphs.append(f"Input: int64 token ids (batch, {size}).")
    paragraphs.append(
        f"{costs['macs']:,} multiply-accumulates per sample and {costs['params']:,} "
        f"parameters. {config['convention']}"
    )
    paragraphs.append("    network = load()  # with the weights beside this file")
    return paragraphs
