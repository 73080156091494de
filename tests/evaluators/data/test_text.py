"""Texts as data: windows, scores, parts and errors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluators.data.dataset import Data
from evaluators.data.text import SCORED_TOKENS, TextData, Vocabulary, Windows, loss
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace
from search_spaces.spaces.gpt import Preset, decoder

CPU = torch.device("cpu")


def text(*sizes: int, context: int = 8, words: int = 50) -> TextData:
    """Parts whose ids count up, so that a token identifies its position."""
    train, validation, test = (
        (torch.arange(n) % words).int() for n in (sizes if len(sizes) == 3 else sizes * 3)
    )
    return TextData("counting", train, validation, test, Vocabulary(words, "x" * words), context)


class Successor(nn.Module):
    """Predicts the next token of a counting text with probability `sure`."""

    def __init__(self, words: int, sure: float) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.full((words, words), (1 - sure) / (words - 1)).log())
        with torch.no_grad():
            for token in range(words):
                self.table[token, (token + 1) % words] = math.log(sure)
        self.dropout = nn.Dropout(0.9)
        self.seen: list[Tensor] = []

    def forward(self, ids: Tensor) -> Tensor:
        self.seen.append(ids)
        return self.dropout(self.table[ids])


def test_a_text_is_data() -> None:
    data: Data = text(100)
    assert (data.metric, data.unit, data.label_smoothing) == ("loss", "tokens", 0.0)
    assert data.worst == pytest.approx(math.log(50))
    assert data.space_options == {"vocabulary": 50}


# Windows


@given(st.integers(20, 300), st.integers(1, 17), st.integers(0, 99))
def test_a_window_is_followed_by_itself_one_further(n: int, context: int, seed: int) -> None:
    windows = Windows("", torch.arange(n), context)
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = windows.draw(torch.arange(len(windows)), generator, CPU)
    assert inputs.shape == targets.shape == (len(windows), context)
    assert inputs.dtype == torch.int64
    assert (targets == inputs + 1).all()
    assert (inputs.diff(dim=1) == 1).all()
    assert int(inputs.min()) >= 0
    assert int(targets.max()) < n


@given(st.integers(20, 300), st.integers(1, 17))
def test_an_epoch_has_as_many_windows_as_fit_side_by_side(n: int, context: int) -> None:
    windows = Windows("", torch.arange(n), context)
    assert len(windows) * context < n <= (len(windows) + 1) * context


def test_over_a_training_every_token_occurs_at_every_position() -> None:
    windows = Windows("", torch.arange(41), 4)
    generator = torch.Generator().manual_seed(0)
    seen = {
        (place, int(token))
        for _ in range(300)
        for row in windows.draw(torch.arange(10), generator, CPU)[0]
        for place, token in enumerate(row)
    }
    # The first and last ones have too few neighbours.
    assert {(p, t) for p in range(4) for t in range(4, 36)} <= seen


def test_noise_replaces_its_share_of_the_tokens_that_are_read_by_others_of_the_text() -> None:
    ids = torch.arange(4000) % 1000  # a token of the text that is drawn is seldom the same
    windows, indices = Windows("", ids, 40), torch.arange(90)
    cpu = torch.device("cpu")
    plain, following = windows.draw(indices, torch.Generator().manual_seed(0), cpu)
    noised, same = windows.mixed(0.2).draw(indices, torch.Generator().manual_seed(0), cpu)
    assert torch.equal(following, same)
    assert (noised != plain).float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert noised.dtype == plain.dtype
    assert noised.max() < 1000
    nothing, _ = windows.mixed(0.0).draw(indices, torch.Generator().manual_seed(0), cpu)
    assert torch.equal(nothing, plain)


def test_windows_follow_from_the_generator_alone() -> None:
    windows = Windows("", torch.arange(500), 8)
    indices = torch.arange(20)
    first, again, other = (
        windows.draw(indices, torch.Generator().manual_seed(s), CPU)[0] for s in (1, 1, 2)
    )
    assert first.equal(again)
    assert not first.equal(other)


# Scores


@pytest.mark.parametrize("context", [1, 7, 8, 64])
def test_the_loss_is_in_nats_a_token_whatever_the_context(context: int) -> None:
    ids = torch.arange(1000) % 50
    assert loss(Successor(50, 0.25), ids, context) == pytest.approx(math.log(4), rel=1e-5)


def test_every_token_but_the_first_and_a_rest_is_predicted_once() -> None:
    network = Successor(50, 0.5)
    loss(network, torch.arange(45), 10)
    assert torch.cat(network.seen).flatten().tolist() == list(range(40))


def test_a_wrong_window_counts_by_its_share() -> None:
    ids = torch.arange(81) % 50
    ids[33] = 0  # the token after 32 and the one before 34
    wrong = -math.log(0.5 / 49)
    expected = (78 * -math.log(0.5) + 2 * wrong) / 80
    assert loss(Successor(50, 0.5), ids, 8) == pytest.approx(expected, rel=1e-5)


def test_few_tokens_are_spread_over_the_whole_text() -> None:
    network = Successor(50, 0.5)
    ids = torch.arange(1001) // 20  # which twentieth
    loss(network, ids, 10, most=200)
    seen = torch.cat(network.seen)
    assert seen.shape == (20, 10)
    assert sorted(set(seen[:, 0].tolist())) == np.unique(np.arange(20) * 50 // 20).tolist()


@pytest.mark.parametrize("training", [True, False])
def test_scoring_evaluates_and_leaves_the_mode(training: bool) -> None:
    network = Successor(50, 0.25).train(training)
    assert loss(network, torch.arange(100) % 50, 8) == pytest.approx(math.log(4), rel=1e-5)
    assert network.training is network.dropout.training is training


def test_the_validation_part_is_scored_in_part_and_the_test_part_whole() -> None:
    size = SCORED_TOKENS + 10_001
    data = text(100, size, size)
    network = Successor(50, 0.5)
    data.score(network, "validation", (1000,))
    assert sum(ids.numel() for ids in network.seen) == SCORED_TOKENS // 1000 * 1000
    network.seen.clear()
    data.score(network, "test", (1000,))
    assert sum(ids.numel() for ids in network.seen) == size // 1000 * 1000


# Parts and spaces


def test_parts_and_their_extents() -> None:
    data = text(60, 50, 40)
    assert [data.extent(p) for p in ("train", "validation", "test", "searched")] == [
        60,
        50,
        40,
        110,
    ]
    assert data.part("searched").tolist() == [*range(50), *range(10), *range(50)]
    kept = data.only("train", "validation")
    assert [kept.extent(p) for p in ("train", "validation", "test")] == [60, 50, 0]
    assert data.only("searched").extent("searched") == 110


def test_calibration_is_windows_of_the_training_part() -> None:
    data = text(100)
    samples = data.calibration(5, seed=0)
    assert samples.shape == (5, 8)
    assert data.calibration(5, seed=0).equal(samples)
    assert len(data.calibration(500, seed=0)) == 12
    (inputs,) = data.inputs(samples, (4,), CPU)
    assert inputs.equal(samples[:, :4].long())


def tiny(words: int = 50) -> SearchSpace:
    contexts, widths = (8, 16), (8, 16)
    ranges = Preset(words, contexts, widths, (1, 2), (1,), (1,), (16,), 8, llama=True, tied=False)
    return decoder("tiny", ranges)


def test_windows_are_as_long_as_the_longest_context_of_the_space() -> None:
    data = text(100, context=0).for_space(tiny())
    assert data.context == 16
    assert data.samples == "windows of 16 tokens"
    assert len(data.batches("train")) == 6


@pytest.mark.parametrize(("sizes", "part"), [((16, 99, 99), "train"), ((99, 16, 99), "validation")])
def test_a_part_shorter_than_the_longest_context_is_one_line(
    sizes: tuple[int, int, int], part: str
) -> None:
    message = f"counting: the {part} part has 16 tokens, expected more than 16, the longest context"
    with pytest.raises(UserError, match=message):
        text(*sizes).for_space(tiny())
    text(17).for_space(tiny())


def test_a_space_of_images_or_of_fewer_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="vit-tiny has no language models, but counting is text"):
        text(100).for_space(load_space("vit-tiny"))
    with pytest.raises(UserError, match="has 50 different tokens, but space tiny 20"):
        text(100).for_space(tiny(20))


def test_a_space_has_the_vocabulary_of_the_text() -> None:
    for name in ("gpt-char", "gpt", "gpt-llama"):
        space = load_space(name, **text(100).space_options)
        assert space.ops(space.largest)[-1][1][-1].out_shape[-1] == 50


def test_another_name_is_another_training() -> None:
    batches = text(100).batches()
    assert batches.identity == {"windows": 12, "context": 8, "data": "counting"}
    assert replace(text(100), name="b").batches().identity != batches.identity
