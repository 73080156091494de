"""Order of samples in training batches."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.data.batches import epoch_order, training_batch

LAW = settings(deadline=None)
"""Deadlines are off, since durations on shared machines vary."""


@LAW
@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 2**32), st.integers(0, 5))
def test_an_epoch_has_whole_batches_without_an_image_twice(
    n: int, batch_size: int, seed: int, epoch: int
) -> None:
    count = max(1, n // batch_size)
    steps = range(epoch * count, (epoch + 1) * count)
    chosen = [training_batch(n, batch_size, seed, step) for step in steps]
    assert {len(batch) for batch in chosen} == {min(n, batch_size)}
    indices = torch.cat(chosen).tolist()
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(n))


@LAW
@given(st.integers(2, 200), st.integers(1, 64), st.integers(0, 99), st.integers(0, 40))
def test_a_batch_depends_on_seed_and_step_alone(
    n: int, batch_size: int, seed: int, step: int
) -> None:
    first = training_batch(n, batch_size, seed, step).clone()
    training_batch(n, batch_size, seed + 1, 0)
    epoch_order.cache_clear()
    assert torch.equal(training_batch(n, batch_size, seed, step), first)


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = [epoch_order(100, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4
