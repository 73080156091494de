"""Labelled sentences as data: padding, scores, parts and errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from evaluators.data.dataset import Data
from evaluators.data.scoring import SCORING_BATCH
from evaluators.data.sentences import SentenceData, Sentences
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.spaces.bert import bert

CPU = torch.device("cpu")


def sentences(n: int, sequence: int = 8) -> Sentences:
    """The label is the first id after the start, modulo 3."""
    ids = torch.randint(3, 20, (n, sequence), generator=torch.Generator().manual_seed(n)).int()
    ids[:, 0] = 2
    ids[:, 5:] = 0
    return Sentences(ids, ids[:, 1].long() % 3)


def data_of(*sizes: int) -> SentenceData:
    train, validation, test = (sentences(n) for n in sizes)
    return SentenceData("three", train, validation, test, ("a", "b", "c"), 20, "{}")


class Knows(nn.Module):
    """Predicts the labels of `sentences`; a dropout reveals training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.9)
        self.lengths: list[int] = []

    def forward(self, ids: Tensor) -> Tensor:
        self.lengths.append(ids.shape[1])
        return self.dropout(nn.functional.one_hot(ids[:, 1] % 3, 3) + self.weight)


def test_sentences_are_data() -> None:
    data: Data = data_of(30, 20, 10)
    assert (data.metric, data.worst, data.unit) == ("accuracy", 0.0, "sentences")
    assert data.space_options == {"sequence": 8, "vocabulary": 20, "classes": 3, "padding": 0}
    assert data.description == {"classes": ["a", "b", "c"], "padding": 0}


@pytest.mark.parametrize("n", [1, SCORING_BATCH, SCORING_BATCH + 1])
@pytest.mark.parametrize("training", [True, False])
def test_accuracy_is_the_share_of_right_labels(n: int, training: bool) -> None:
    network = Knows().train(training)
    data = data_of(1, n, n)
    assert data.score(network, "validation", (8,)) == {"accuracy": 1.0}
    data.test.labels[-1] = (data.test.labels[-1] + 1) % 3
    assert data.score(network, "test", (8,)) == {"accuracy": (n - 1) / n}
    assert network.training is network.dropout.training is training


def test_a_shorter_network_is_given_the_first_tokens() -> None:
    network = Knows()
    data_of(1, 5, 1).score(network, "validation", (4,))
    assert network.lengths == [4]


def test_parts_and_their_extents() -> None:
    data = data_of(30, 20, 10)
    assert [data.extent(p) for p in ("train", "validation", "test", "searched")] == [30, 20, 10, 50]
    assert data.part("searched").ids.equal(torch.cat([data.train.ids, data.validation.ids]))
    kept = data.only("validation")
    assert [kept.extent(p) for p in ("train", "validation", "test")] == [0, 20, 0]
    assert kept.space_options == data.space_options


def test_batches_are_ids_and_labels() -> None:
    data = data_of(30, 20, 10)
    batches = data.batches()
    ids, labels = batches.draw(torch.tensor([3, 1]), torch.Generator(), CPU)
    assert ids.equal(data.train.ids[[3, 1]].long())
    assert labels.equal(data.train.labels[[3, 1]])
    assert len(data.batches("searched")) == 50


def test_calibration_is_of_training_sentences() -> None:
    data = data_of(30, 20, 10)
    samples = data.calibration(7, seed=1)
    assert len(samples) == 7
    known = data.train.ids.tolist()
    assert all(row in known for row in samples.tolist())
    (inputs,) = data.inputs(samples, (8,), CPU)
    assert inputs.dtype == torch.int64


def test_spaces_that_do_not_classify_these_sentences_are_refused() -> None:
    data = data_of(30, 20, 10)
    space = load_space("bert-mini", **data.space_options)
    assert data.for_space(space) is data
    for other, message in (
        (load_space("gpt-char"), "gpt-char does not classify sentences into the 3 classes"),
        (load_space("vit-tiny"), "vit-tiny does not classify sentences"),
        (bert("mini", sequence=8, classes=2), "into the 3 classes of three"),
        (bert("mini", sequence=9, classes=3), "takes 9 tokens, but the sentences of three have 8"),
        (bert("mini", sequence=8, classes=3, vocabulary=9), "has 20 different tokens, but space"),
    ):
        with pytest.raises(UserError, match=message):
            data.for_space(other)
