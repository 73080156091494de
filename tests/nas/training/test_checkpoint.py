"""Checkpoints: counting steps without loading them, and the last good state of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluators.data.files.images import load_data
from evaluators.data.images import ImageBatches, ImageData
from nas.training.checkpoint import LastGoodState, pack, restore, steps_done, write_checkpoint
from nas.training.loop import Recipe, fit
from search_spaces.errors import UserError


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits")


def test_steps_are_counted_without_a_file_and_with_one(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    assert steps_done(path) == 0
    write_checkpoint(path, pack({"seed": 0}, 7, {"network": torch.nn.Linear(3, 2)}))
    assert steps_done(path) == 7


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 100])
def test_steps_of_a_corrupt_checkpoint_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "training.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"training\.pt is corrupt or truncated"):
        steps_done(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    packed = pack({"seed": 0}, 7, {"network": torch.nn.Linear(30, 20)})
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"training\.pt is corrupt or truncated"):
        steps_done(path)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_last_good_state_is_restored(tmp_path: Path, on_disk: bool) -> None:
    path = tmp_path / "training.pt"
    network = torch.nn.Linear(3, 2)
    parts = {"network": network}
    state = LastGoodState(path if on_disk else None)
    for step in (0, 4):
        good = network.weight.detach().clone()
        packed = pack({}, step, parts)
        if step == 0:
            state.begin(packed)
            assert not list(tmp_path.iterdir()), "the checkpoint file is written by `update` only"
        else:
            state.update(packed)
        with torch.no_grad():
            network.weight.fill_(torch.nan)
        assert state.restore(parts) == step
        assert torch.equal(network.weight, good)
        with torch.no_grad():
            network.weight.add_(1.0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["training.pt"] * on_disk
    if on_disk:
        assert restore(path, {}, parts) == 4


@pytest.mark.parametrize("step", [1, 15])
def test_a_rollback_from_disk_and_one_from_memory_end_with_the_same_weights(
    data: ImageData, tmp_path: Path, step: int
) -> None:
    """The checkpoint is written after the last step only, and the training diverges before."""

    def trained(checkpoint: Path | None) -> torch.Tensor:
        torch.manual_seed(0)
        network = torch.nn.Linear(64, 10)
        diverged: list[int] = []

        def backward(images: torch.Tensor, targets: torch.Tensor, at: int) -> float:
            loss = torch.nn.functional.cross_entropy(network(images.flatten(1)), targets)
            loss.backward()
            if at == step and not diverged:
                diverged.append(at)
                return float("nan")
            return loss.item()

        recipe = replace(Recipe(epochs=1, batch_size=64), ema=0.5)
        fit(network, ImageBatches.of(data), recipe, backward, seed=0, checkpoint=checkpoint)
        assert diverged
        return network.weight

    assert torch.equal(trained(tmp_path / "training.pt"), trained(None))
    assert [entry.name for entry in tmp_path.iterdir()] == ["training.pt"]
