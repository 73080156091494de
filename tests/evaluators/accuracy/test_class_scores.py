"""Scores by class: confusions, accuracies and mistakes are those of the predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from evaluators.accuracy.class_scores import MAX_MISTAKES, ClassScores, scored_classes
from evaluators.data.files.images import load_data
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build

CLASSES = ("ant", "bee", "cat")


def scores() -> ClassScores:
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 0, 0])
    confidence = np.array([0.9, 0.5, 0.8, 0.6, 0.7])
    return ClassScores.of(predicted, confidence, labels, CLASSES, list("vwxyz"))


def test_rows_of_the_confusion_matrix_are_classes_and_columns_predictions() -> None:
    assert scores().confusion.tolist() == [[1, 0, 1], [2, 1, 0], [0, 0, 0]]
    assert scores().confusions == [("bee", "ant", 2), ("ant", "cat", 1)]
    assert scores().accuracy == pytest.approx(0.4)
    low, high = scores().interval
    assert low <= 0.4 <= high


def test_a_class_without_samples_has_no_accuracy() -> None:
    ant, bee, cat = scores().by_class
    assert (ant.accuracy, bee.accuracy, cat.accuracy) == (0.5, pytest.approx(1 / 3), None)
    assert cat.interval is None


def test_mistakes_are_named_the_most_confident_first() -> None:
    found = [(one.name, one.index, one.label, one.predicted) for one in scores().mistakes]
    assert found == [("z", 4, "bee", "ant"), ("y", 3, "bee", "ant"), ("w", 1, "ant", "cat")]
    assert [one.probability for one in scores().mistakes] == [0.7, 0.6, 0.5]
    assert "bee 33.3%" in scores().in_brief
    assert "z, bee taken for ant (70.0%)" in scores().in_brief


def test_only_the_most_confident_mistakes_are_kept() -> None:
    n = 3 * MAX_MISTAKES
    confidence = np.linspace(0.4, 0.9, n)
    zeros = np.zeros(n, dtype=np.int64)
    found = ClassScores.of(zeros, confidence, zeros + 1, CLASSES).mistakes
    assert [one.index for one in found] == list(range(n - 1, n - 1 - MAX_MISTAKES, -1))


def test_without_mistakes_there_is_nothing_to_say() -> None:
    zeros = np.zeros(3, dtype=np.int64)
    assert ClassScores.of(zeros, np.ones(3), zeros, CLASSES).in_brief == ""


def test_what_is_written_is_read_back() -> None:
    content = json.loads(json.dumps(scores().to_json()))
    again = ClassScores.from_json(content)
    assert again.to_json() == scores().to_json() == content
    with pytest.raises(ValueError, match="confusion of"):
        ClassScores.from_json({**content, "classes": ["ant"]})


def test_a_networks_scores_are_those_of_its_data() -> None:
    data = load_data("digits")
    space = load_space("mobilenet-tiny", **data.space_options)
    torch.manual_seed(0)
    network = build(space, space.smallest).train()
    shape = space.input_shape(space.smallest)
    found = scored_classes(network, data, "test", shape)
    assert found is not None
    assert network.training
    assert found.accuracy == data.score(network, "test", shape)["accuracy"]
    assert found.samples == len(data.test)
    assert found.confusion.sum(axis=1).tolist() == data.test.labels.bincount().tolist()
    first = found.mistakes[0]
    assert first.name is not None
    row = int(first.name.removeprefix("row "))
    from sklearn.datasets import load_digits

    assert str(load_digits().target[row]) == first.label
