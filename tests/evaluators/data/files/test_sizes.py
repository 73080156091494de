"""The size that images are resized to: the median of the short sides, within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.data.files.sizes import LEAST_SIZE, MAX_DEFAULT_SIZE, resizing

SIDES = st.integers(1, 4000)
SIZES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=60)


@given(SIZES)
def test_at_most_half_of_the_images_are_smaller_and_at_most_half_larger(
    sizes: list[tuple[int, int]],
) -> None:
    size = resizing(sizes).size
    sides = np.array(sizes).min(axis=1)
    assert LEAST_SIZE <= size <= MAX_DEFAULT_SIZE
    if size < MAX_DEFAULT_SIZE:
        assert (sides > size).sum() <= len(sides) / 2
    if size > LEAST_SIZE:
        assert (sides < size).sum() <= len(sides) / 2


@given(SIZES, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(
    sizes: list[tuple[int, int]], draw: object
) -> None:
    shuffled = list(sizes)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resizing(shuffled) == resizing(sizes)


def test_the_commonest_of_many_sizes_does_not_decide() -> None:
    sizes = [(40, 40)] * 3 + [(100 + i, 90 + i) for i in range(20)]
    assert resizing(sizes).size == 98


@pytest.mark.parametrize(
    ("sizes", "given", "words"),
    [
        ([(32, 32)] * 3, None, "all are 32×32 pixels and stay so"),
        ([(40, 32)] * 3, None, "to 32 pixels and the centre 32×32 cropped: the median of all"),
        ([(9, 12), (20, 12), (12, 30)], None, "the median of the short sides, which are 9 to 12"),
        ([(300, 260)] * 3, None, "at most 224, not 260"),
        ([(500, 300), (900, 600)], None, "at most 224, since the median of the short sides"),
        ([(5, 5)], None, "at least 8, not 5"),
        ([], 48, "to 48 pixels and the centre 48×48 cropped, as --image-size says"),
    ],
)
def test_the_words_say_how_and_why(
    sizes: list[tuple[int, int]], given: int | None, words: str
) -> None:
    assert words in resizing(sizes, given).words
