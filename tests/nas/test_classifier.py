"""`nas.Classifier`: fit, predict, score, save and load, with the arguments of `nas.search`."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import nas
from pictures import SHAPES, write_pictures
from search_spaces.errors import UserError

SETTINGS = {
    "space": "mobilenet-tiny",
    "max_flops": "900k",
    "image_size": 32,
    "evaluator": "naswot",
    "trials": 4,
    "train_epochs": 1,
    "batch_size": 16,
}


def test_it_fits_predicts_scores_and_is_saved(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 8, seed=0, largest=80)
    write_pictures(tmp_path / "new", 3, seed=1, largest=80)
    classifier = nas.Classifier(**SETTINGS, out=tmp_path / "run")
    fitted = classifier.fit(tmp_path / "pictures")
    assert fitted is classifier
    assert classifier.outcome_.winner == tmp_path / "run" / "winner"
    assert tuple(classifier.classes_) == SHAPES
    probabilities = classifier.predict_proba(tmp_path / "new")
    assert probabilities.shape == (15, 5)
    assert np.allclose(probabilities.sum(axis=1), 1)
    labels = classifier.predict(tmp_path / "new")
    assert list(labels) == [SHAPES[index] for index in probabilities.argmax(axis=1)]
    names = sorted(tmp_path.glob("new/*/*"))
    truth = np.array([path.parent.name for path in names])
    assert classifier.score(tmp_path / "new") == pytest.approx(
        float((classifier.predict(names) == truth).mean())
    )
    place = classifier.save(tmp_path / "saved")
    assert list(nas.Classifier.load(place).predict(tmp_path / "new")) == list(labels)
    assert list(nas.Classifier.load(tmp_path / "run").predict(names[0])) == [labels[0]]
    with pytest.raises(UserError, match="exists: expected a new folder"):
        classifier.save(tmp_path / "saved")


def test_arguments_are_those_of_a_search_and_scikit_learn_clones_them() -> None:
    from sklearn.base import clone

    parameters = set(inspect.signature(nas.Classifier).parameters)
    assert {"max_flops", "time", "space", "trials", "out", "workers"} <= parameters
    assert "data" not in parameters
    copied = clone(nas.Classifier(max_flops="20M", time="30m"))
    assert copied.get_params() == {"max_flops": "20M", "time": "30m"}
    assert copied.set_params(time="1h").get_params()["time"] == "1h"
    with pytest.raises(UserError, match="no argument 'max_flop': did you mean 'max_flops'"):
        nas.Classifier(max_flop="20M")


def test_before_fit_there_is_nothing_to_predict_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="call fit"):
        nas.Classifier().predict("a.png")
    with pytest.raises(UserError, match="no folder"):
        nas.Classifier.load(tmp_path / "nowhere")
