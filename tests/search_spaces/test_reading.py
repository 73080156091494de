"""Batches of architectures are read as single ones are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.catalogue import SPACES, load_space
from search_spaces.errors import UserError
from search_spaces.reading import BadArchitecture, read_rows


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(sorted(SPACES)), seed=st.integers(0, 2**32 - 1), full=st.booleans())
def test_a_batch_is_read_as_single_architectures(name: str, seed: int, full: bool) -> None:
    space = load_space(name)
    rows = space.sample(20, seed)
    batch = [dict(arch) for arch in space.decode(rows)]
    if full:  # values of inactive choices are allowed, and ignored
        for values in batch:
            for choice in space.choices:
                values.setdefault(choice.name, choice.options[-1])
    assert (read_rows(space, batch) == rows).all()


def test_an_empty_batch_has_no_rows() -> None:
    space = load_space("vit-tiny")
    assert read_rows(space, []).shape == (0, len(space.choices))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 9}, "resolution cannot be 9: expected one of"),
        ({"resolution": [8]}, r"resolution cannot be \[8\]"),
        ({"resolution": True}, "resolution cannot be true"),
        ({"stage0_se": 1}, "stage0_se cannot be 1: expected one of false, true"),
        ({"resolutoin": 8}, "did you mean 'resolution'"),
        ({"resolution": None}, "resolution cannot be null"),
    ],
)
def test_the_error_names_the_first_invalid_architecture(
    change: dict[str, object], message: str
) -> None:
    space = load_space("mobilenet-tiny")
    batch: list[dict[str, object]] = [dict(arch) for arch in space.decode(space.sample(9, 0))]
    batch[4].update(change)
    batch[7].update(change)
    with pytest.raises(BadArchitecture, match=message) as caught:
        read_rows(space, batch)
    assert caught.value.index == 4
    assert isinstance(caught.value, UserError)


def test_the_error_names_a_missing_choice() -> None:
    space = load_space("mobilenet-tiny")
    batch = [dict(arch) for arch in space.decode(space.sample(3, 0))]
    del batch[1]["head_width"]
    with pytest.raises(BadArchitecture, match="lacks head_width") as caught:
        read_rows(space, batch)
    assert caught.value.index == 1


def test_a_list_of_uneven_parts_is_refused_in_one_line() -> None:
    uneven = {"ks": [7] * 20, "e": [6] * 19 + [[6]], "d": [4] * 5, "r": 224}
    with pytest.raises(BadArchitecture, match=r"'e' is \[6, .*, expected 20 values"):
        read_rows(load_space("ofa-mbv3"), [uneven])
