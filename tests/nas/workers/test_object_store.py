"""Objects that are pickled for Ray's object store and rebuilt on shared arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluators.data.files.images import load_data
from nas.workers.object_store import SharedObject
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build, channels_last


@dataclass
class Holder:
    """An object of a local class, with any content."""

    content: object


def rebuilt(thing: object) -> object:
    return SharedObject.of(Holder(thing)).rebuild().content


@given(
    st.sampled_from([torch.float32, torch.int64, torch.uint8, torch.bfloat16, torch.bool]),
    st.lists(st.integers(0, 4), max_size=4),
    st.booleans(),
)
def test_a_tensor_comes_back_with_its_type_shape_and_layout(
    dtype: torch.dtype, shape: list[int], transposed: bool
) -> None:
    tensor = torch.randint(0, 2, shape).to(dtype)
    tensor = tensor.permute(list(reversed(range(len(shape))))) if transposed else tensor
    back = rebuilt(tensor)
    assert isinstance(back, Tensor)
    assert (back.dtype, back.shape, back.stride()) == (dtype, tensor.shape, tensor.stride())
    assert torch.equal(back, tensor)


def test_a_network_computes_the_same_in_its_own_layout() -> None:
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    network = channels_last(build(space, space.largest)).eval()
    back = rebuilt(network)
    assert isinstance(back, nn.Module)
    images = torch.randn(2, 1, *space.input_shape(space.largest)[1:])
    assert torch.equal(back(images), network(images))
    layouts = [weight.stride() for weight in back.parameters()]
    assert layouts == [weight.stride() for weight in network.parameters()]
    assert all(isinstance(weight, nn.Parameter) for weight in back.parameters())


def test_tied_weights_stay_tied() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    back = rebuilt([first, second])
    assert isinstance(back, list)
    assert back[0].weight is back[1].weight


def test_bytes_of_tensors_are_stored_once_and_outside_of_the_pickle() -> None:
    data = load_data("digits")
    shared = SharedObject.of([data.train, data.train.images, data.train.images.flatten(1)])
    assert len(shared.pickled) < 10_000
    size = data.train.images.nbytes + data.train.labels.nbytes
    assert sum(array.nbytes for array in shared.arrays) == size
    assert all(isinstance(array, np.ndarray) for array in shared.arrays)


def test_only_the_elements_of_a_view_are_stored() -> None:
    shared = SharedObject.of(torch.zeros(1_000_000)[:3])
    assert sum(array.nbytes for array in shared.arrays) == 12


def test_an_object_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError, match="generator"):
        SharedObject.of(number for number in range(3))
