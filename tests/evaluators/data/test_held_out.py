"""Stratified parts held out of labelled samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.data.held_out import stratified

LAW = settings(deadline=None)
"""Deadlines are off, since durations on shared machines vary."""


@st.composite
def labels_of_classes(draw: st.DrawFn) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    counts = draw(st.lists(st.integers(3, 60), min_size=1, max_size=6))
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)


@LAW
@given(labels_of_classes(), st.floats(0.05, 0.5), st.integers(0, 2**32))
def test_stratified_parts_are_disjoint_and_cover_everything(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], share: float, seed: int
) -> None:
    rest, held = stratified(labels, share, seed)
    assert sorted([*rest, *held]) == list(range(len(labels)))


@LAW
@given(labels_of_classes(), st.floats(0.05, 0.5), st.integers(0, 2**32))
def test_stratified_holds_out_the_share_of_each_class(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], share: float, seed: int
) -> None:
    _, held = stratified(labels, share, seed)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        here = int((labels[held] == label).sum())
        assert here == max(1, round(share * count))


@LAW
@given(labels_of_classes(), st.integers(0, 2**32))
def test_the_same_seed_splits_alike(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], seed: int
) -> None:
    first, again = stratified(labels, 0.2, seed), stratified(labels, 0.2, seed)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_another_seed_splits_differently() -> None:
    labels = np.repeat(np.arange(5, dtype=np.int64), 40)
    assert not np.array_equal(stratified(labels, 0.2, 0)[1], stratified(labels, 0.2, 1)[1])
