"""Networks as JSON: reading returns what was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import SPACES, load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import Network
from search_spaces.serial import blocks_from_json, blocks_to_json


def written() -> Any:
    """One block of two ops, as JSON."""
    build = BlockBuilder(3, 8, 8)
    build.activation("relu", build.conv("conv", build.input, 4, 3), "relu")
    return json.loads(json.dumps(blocks_to_json([("first", build.ops)])))


@given(name=st.sampled_from(sorted(SPACES)), seed=st.integers(0, 2**32 - 1))
def test_networks_of_any_space_round_trip(name: str, seed: int) -> None:
    space = load_space(name)
    for arch in (*space.decode(space.sample(2, seed)), space.smallest, space.largest):
        blocks = space.ops(arch)
        text = json.dumps(blocks_to_json(blocks))
        again = blocks_from_json(json.loads(text))
        assert again == blocks
        assert json.dumps(blocks_to_json(again)) == text


@settings(max_examples=6, deadline=None)
@given(name=st.sampled_from(["mobilenet-tiny", "vit-tiny"]), seed=st.integers(0, 2**32 - 1))
def test_a_network_that_was_read_computes_the_same(name: str, seed: int) -> None:
    space = load_space(name)
    (arch,) = space.decode(space.sample(1, seed))
    network = Network(space.ops(arch)).eval()
    again = Network(blocks_from_json(json.loads(json.dumps(blocks_to_json(space.ops(arch))))))
    again.load_state_dict(network.state_dict())
    x = torch.randn(2, *space.input_shape(arch), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network(x))


def test_settings_of_ops_are_written_by_name() -> None:
    (block,) = written()
    conv, relu = block["ops"]
    assert block["name"] == "first"
    assert conv == {
        "type": "Conv2d",
        "name": "conv",
        "inputs": [["input", [3, 8, 8]]],
        "out_shape": [4, 8, 8],
        "kernel": 3,
        "stride": 1,
        "padding": 1,
        "groups": 1,
        "bias": False,
        "dilation": 1,
    }
    assert (relu["type"], relu["function"]) == ("Activation", "relu")


def test_an_empty_network_round_trips() -> None:
    assert blocks_from_json(blocks_to_json([])) == []


def test_an_unknown_op_type_suggests_the_nearest_one() -> None:
    content = written()
    content[0]["ops"][0]["type"] = "Conv3d"
    with pytest.raises(UserError, match=r"unknown op type 'Conv3d': did you mean 'Conv2d'\?"):
        blocks_from_json(content)


@pytest.mark.parametrize("key", ["type", "name", "inputs", "out_shape"])
def test_an_op_with_a_missing_key_raises(key: str) -> None:
    content = written()
    del content[0]["ops"][1][key]
    with pytest.raises(UserError, match="malformed network description"):
        blocks_from_json(content)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("colour", "red"),
        ("inputs", 5),
        ("inputs", ["input"]),
        ("inputs", [["input", 3]]),
        ("out_shape", None),
        ("type", ["Conv2d"]),
        ("type", 5),
    ],
)
def test_a_malformed_op_raises(key: str, value: object) -> None:
    content = written()
    content[0]["ops"][0][key] = value
    with pytest.raises(UserError, match=r"malformed network description|unknown op type"):
        blocks_from_json(content)


@pytest.mark.parametrize(
    "content", [None, 5, "text", [5], [None], [{}], {"name": "x"}, [{"name": "x", "ops": [1]}]]
)
def test_malformed_content_raises(content: Any) -> None:
    with pytest.raises(UserError, match="malformed network description"):
        blocks_from_json(content)


@pytest.mark.parametrize("key", ["name", "ops"])
def test_a_block_with_a_missing_key_raises(key: str) -> None:
    content = written()
    del content[0][key]
    with pytest.raises(UserError, match=f"malformed network description: '{key}'"):
        blocks_from_json(content)
