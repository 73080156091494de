"""Objects taken apart for Ray's object store and put together again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluators.data.image_files import load_data
from nas.workers.object_store import Apart
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build, channels_last


@dataclass
class Holder:
    """Something of one's own, with whatever inside."""

    content: object


def again(thing: object) -> object:
    return Apart.of(Holder(thing)).whole().content


@given(
    st.sampled_from([torch.float32, torch.int64, torch.uint8, torch.bfloat16, torch.bool]),
    st.lists(st.integers(0, 4), max_size=4),
    st.booleans(),
)
def test_a_tensor_comes_back_with_its_type_shape_and_layout(
    dtype: torch.dtype, shape: list[int], turned: bool
) -> None:
    tensor = torch.randint(0, 2, shape).to(dtype)
    tensor = tensor.permute(list(reversed(range(len(shape))))) if turned else tensor
    back = again(tensor)
    assert isinstance(back, Tensor)
    assert (back.dtype, back.shape, back.stride()) == (dtype, tensor.shape, tensor.stride())
    assert torch.equal(back, tensor)


def test_a_network_computes_the_same_in_its_own_layout() -> None:
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    network = channels_last(build(space, space.largest)).eval()
    back = again(network)
    assert isinstance(back, nn.Module)
    images = torch.randn(2, 1, *space.input_shape(space.largest)[1:])
    assert torch.equal(back(images), network(images))
    layouts = [weight.stride() for weight in back.parameters()]
    assert layouts == [weight.stride() for weight in network.parameters()]
    assert all(isinstance(weight, nn.Parameter) for weight in back.parameters())


def test_tied_weights_stay_tied() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    back = again([first, second])
    assert isinstance(back, list)
    assert back[0].weight is back[1].weight


def test_bytes_of_tensors_are_outside_of_the_pickle_and_once() -> None:
    data = load_data("digits")
    apart = Apart.of([data.train, data.train.images, data.train.images.flatten(1)])
    assert len(apart.pickled) < 10_000
    size = data.train.images.nbytes + data.train.labels.nbytes
    assert sum(array.nbytes for array in apart.arrays) == size
    assert all(isinstance(array, np.ndarray) for array in apart.arrays)


def test_a_part_of_a_tensor_does_not_take_the_whole_along() -> None:
    apart = Apart.of(torch.zeros(1_000_000)[:3])
    assert sum(array.nbytes for array in apart.arrays) == 12


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError, match="generator"):
        Apart.of(number for number in range(3))
