"""Writes the `onnx` format: a graph from the network's ops, for any batch size.

The writer is the one that the latency tables time, with batch norms folded into convolutions, so
the exported file runs the operators that the search priced. Writing takes a fraction of a second.
A network with a user-defined op that has no ONNX rule is traced by torch's exporter instead. Does
not know runtimes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from nas.exports.quiet import quietly
from search_spaces.errors import UserError
from search_spaces.onnx.rules import RULES
from search_spaces.onnx.writer import inputs_of, write_onnx
from search_spaces.serial import Blocks

OUTPUT = "logits"
MAX_BYTES = 2**31 - 2**20
"""Largest ONNX file: protobuf limits a message to 2 GiB; 1 MiB is left for the graph."""


def input_name(blocks: Blocks) -> str:
    """The name of the model's input: `tokens` for ids, else `images`."""
    return "tokens" if inputs_of(blocks)["input"].ids else "images"


def write(
    network: nn.Module, blocks: Blocks, path: Path, properties: Mapping[str, str] | None = None
) -> None:
    """Write a network, which must be in evaluation mode, to `path`.

    Args:
        properties: what the file says about itself, as its `metadata_props`.

    Raises:
        UserError: if its weights exceed the 2 GB of one ONNX file.
    """
    state = network.state_dict()
    if sum(tensor.nbytes for tensor in state.values()) > MAX_BYTES:
        raise UserError(
            "the network has more than 2 GB of weights, which one ONNX file cannot hold"
        )
    if any(type(op) not in RULES for _, ops in blocks for op in ops):
        _trace(network, blocks, path)
        describe(path, properties or {})
        return
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
    model = folded(write_onnx(blocks, weights))
    _rename(model, {"input": input_name(blocks), "output": OUTPUT})
    onnx.checker.check_model(model)
    onnx.helper.set_model_props(model, dict(properties or {}))
    path.write_bytes(model.SerializeToString())


def describe(path: Path, properties: Mapping[str, str]) -> None:
    """Write what a file says about itself into the file."""
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(properties))
    path.write_bytes(model.SerializeToString())


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold each batch norm into its convolution if nothing else reads that one; in place.

    Runtimes fold when they load a file. Folding here gives every runtime the same graph and lets
    quantisation see the weights that run (Jacob et al., 2018, section 3.2).
    """
    graph = model.graph
    producers = {node.output[0]: node for node in graph.node}
    readers = Counter(name for node in graph.node for name in node.input)
    values = {tensor.name: tensor for tensor in graph.initializer}
    folded_norms = []
    for norm in graph.node:
        if norm.op_type != "BatchNormalization":
            continue
        conv = producers.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or readers[conv.output[0]] != 1:
            continue
        weight, *bias = (numpy_helper.to_array(values[name]) for name in conv.input[1:])
        scale, shift, mean, variance = (
            numpy_helper.to_array(values[name]).astype(np.float64) for name in norm.input[1:]
        )
        epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
        factor = scale / np.sqrt(variance + epsilon)
        moved = shift + ((bias[0] if bias else 0.0) - mean) * factor
        scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        for name, value in ((conv.input[1], scaled), (f"{conv.input[1]}.shift", moved)):
            values[name] = numpy_helper.from_array(value.astype(np.float32), name)
        del conv.input[2:]
        conv.input.append(f"{conv.input[1]}.shift")
        conv.output[0] = norm.output[0]
        folded_norms.append(norm)
    for norm in folded_norms:
        graph.node.remove(norm)
    read = {name for node in graph.node for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(tensor for name, tensor in values.items() if name in read)
    return model


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Rename inputs and outputs of a model, in place."""
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for names_of in (node.input, node.output):
            for index, name in enumerate(names_of):
                names_of[index] = names.get(name, name)


def _trace(network: nn.Module, blocks: Blocks, path: Path) -> None:
    """Write the network with torch's exporter."""
    x = example(blocks, 2)
    with quietly():
        torch.onnx.export(
            network,
            (x,),
            path,
            input_names=[input_name(blocks)],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def example(blocks: Blocks, batch: int) -> torch.Tensor:
    """Random inputs `(batch, ...)` of a network: noise, or ids within its smallest vocabulary."""
    from search_spaces.token_ops import Embedding

    generator = torch.Generator().manual_seed(batch)
    tensor = inputs_of(blocks)["input"]
    if not tensor.ids:
        return torch.randn(batch, *tensor.shape, generator=generator)
    vocabularies = [op.vocabulary for _, ops in blocks for op in ops if isinstance(op, Embedding)]
    return torch.randint(min(vocabularies), (batch, *tensor.shape), generator=generator)
