"""Sums over blocks, against those of whole networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hardware_profiles.latency.block_sums import BlockSums
from search_spaces.catalogue import load_space
from search_spaces.ops import Op


def test_the_sum_over_blocks_is_that_of_the_network() -> None:
    space = load_space("cnn-tiny", image_size=8, channels=1, classes=10)
    valued = []

    def value(ops: Sequence[Op]) -> npt.NDArray[np.float64]:
        valued.append(ops)
        return np.array([sum(op.macs for op in ops), len(ops)], dtype=np.float64)

    sums = BlockSums(space, value)
    rows = space.sample(50, 0)
    found = sums(rows)
    for row, arch in zip(found, space.decode(rows), strict=True):
        ops = [op for _, block in space.ops(arch) for op in block]
        assert row.tolist() == [sum(op.macs for op in ops), len(ops)]
    once = len(valued)
    np.testing.assert_array_equal(sums(rows[::-1]), found[::-1])
    assert len(valued) == once
