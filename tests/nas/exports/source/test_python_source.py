"""The `python` format: in every space the generated file is the network, and stands alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from evaluators.counting.torch_counter import count_module
from nas.exports.source.python_rules import RULES
from nas.exports.source.python_source import (
    constants,
    file_description,
    tied_names,
    write_python,
)
from search_spaces.architecture import Architecture
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import SENTENCE_SPACES, SPACES, TEXT_SPACES, load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import MODULES, Network
from search_spaces.onnx.writer import inputs_of
from search_spaces.ops import Op
from search_spaces.serial import Blocks
from search_spaces.spaces.bert import bert

ROOT = Path(__file__).parents[4]
LARGE = ("autoformer-small", "autoformer-base", "gpt", "bert", "ofa-resnet50", "bert-pruned")
"""Whose smallest member is enough."""
NAMES = sorted({*SPACES, *TEXT_SPACES, *SENTENCE_SPACES} - {"gpt-llama"})
ABOUT = ("A network.", "What it is for.")


def settled(network: nn.Module) -> nn.Module:
    """Weights and statistics that it does not begin with, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return network.eval()


def written(blocks: Blocks) -> Any:
    """The generated network's class."""
    scope: dict[str, Any] = {"__name__": "taken", "__file__": "network.py"}
    exec(compile(write_python(blocks, ABOUT, ABOUT), "network.py", "exec"), scope)
    return scope["Network"]


def example(blocks: Blocks, batch: int) -> torch.Tensor:
    taken = inputs_of(blocks)["input"]
    generator = torch.Generator().manual_seed(batch)
    if taken.ids:
        x = torch.randint(1, 50, (batch, *taken.shape), generator=generator)
        x[:, -3:] = 0  # padding, where there is some
        return x
    return torch.randn(batch, *taken.shape, generator=generator)


def check(blocks: Blocks) -> None:
    torch.manual_seed(0)
    ours = settled(Network(blocks))
    theirs = written(blocks)().eval()
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for batch in (1, 2):
        x = example(blocks, batch)
        with torch.no_grad():
            expected, given = ours(x), theirs(x)
        assert (expected - given).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    counts = [count_module(network, [example(blocks, 1)]) for network in (ours, theirs)]
    assert counts[0].macs == counts[1].macs
    assert counts[0].params == counts[1].params


def archs_of(name: str) -> list[Architecture]:
    space = load_space(name)
    drawn = space.decode(space.canonical(space.sample(1, 3)))
    return [space.smallest] if name in LARGE else [space.smallest, *drawn]


@pytest.mark.parametrize("name", NAMES)
def test_in_every_space_the_file_is_the_network(name: str) -> None:
    space = load_space(name)
    for arch in archs_of(name):
        check(space.ops(arch))


def test_padding_tells_attention_and_pruning_what_to_leave_out() -> None:
    space = load_space("bert-pruned-mini", sequence=24, vocabulary=50, classes=3, padding=0)
    check(space.ops(space.largest))


def test_grouped_queries_rotations_and_gates(llama_ops: tuple[Op, ...]) -> None:
    check([("block", llama_ops)])


def test_tied_weights_load_from_a_file_that_has_them_once(tmp_path: Path) -> None:
    space = bert("mini", sequence=8, vocabulary=60, language_model=True)
    blocks = space.ops(space.smallest)
    tied = tied_names(blocks)
    assert tied
    ours = Network(blocks).eval()
    weights = {n: t for n, t in ours.state_dict().items() if n not in tied}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "network.py").write_text(write_python(blocks, ABOUT, ABOUT))
    scope: dict[str, Any] = {"__name__": "taken", "__file__": str(tmp_path / "network.py")}
    exec((tmp_path / "network.py").read_text(), scope)
    x = example(blocks, 2)
    with torch.no_grad():
        assert torch.equal(scope["load"]()(x), ours(x))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="without its weights"):
        scope["load"]()


@pytest.mark.parametrize(
    "name",
    [
        'x"""\nimport nowhere\n"""',
        'y"',
        '""""',
        "C:\\users\\x",
        "a\\",
        "line\nbreak",
        "$(x) {x} %s",
    ],
)
def test_names_in_the_file_are_words_and_no_code(name: str) -> None:
    space = load_space("macro")
    blocks = space.ops(space.smallest)
    config = {
        "space": name, "data": name, "input_shape": [3, 8, 8], "convention": "FLOPs.",
        "costs": {"macs": 1, "params": 1}, "mean": [0.5] * 3, "std": [0.5] * 3, "classes": [name],
    }  # fmt: skip
    text = write_python(blocks, file_description(config), [f"Of {name}."], constants(config))
    module = ast.parse(text)
    assert " ".join(f"A network of the space {name} for {name}.".split()) in str(
        ast.get_docstring(module)
    )
    plain = ast.parse(write_python(blocks, ABOUT, ABOUT, {"classes": []}))
    kinds = [type(node) for node in module.body if not isinstance(node, ast.Assign)]
    assert kinds == [type(node) for node in plain.body if not isinstance(node, ast.Assign)]
    (classes, *_) = [node.value for node in module.body if isinstance(node, ast.Assign)]
    assert ast.literal_eval(classes) == [name]


def test_every_op_type_has_a_rule_and_one_without_is_named() -> None:
    assert RULES.keys() == MODULES.keys()

    class Twice(Op):
        pass

    build = BlockBuilder(4)
    build.add_op(Twice("twice", (build.input,), (4,)))
    with pytest.raises(UserError, match="op type Twice cannot be written as plain PyTorch"):
        write_python([("block", build.ops)], ABOUT, ABOUT)


@pytest.mark.parametrize("name", ["mobilenet-imagenet", "vit-tiny", "nasbench201", "darts", "gpt"])
def test_the_file_is_short_formatted_and_clean(name: str, tmp_path: Path) -> None:
    sources = [write_python(load_space(name).ops(arch), ABOUT, ABOUT) for arch in archs_of(name)]
    files = [tmp_path / f"network{index}.py" for index in range(len(sources))]
    for file, source in zip(files, sources, strict=True):
        file.write_text(source)
        assert len(source.splitlines()) < 450
        imported = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name]
            )
            if name
        }
        assert imported <= {"__future__", "collections", "pathlib", "torch", "safetensors"}
    ruff = [sys.executable, "-m", "ruff"]
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for check in (["format", "--check", *settings], ["check", *settings, "--ignore", "D"]):
        done = subprocess.run([*ruff, *check, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
