"""A classifier in the manner of scikit-learn: `fit` searches, `predict` uses the winner.

Knows `nas.search` and predictions. Does nothing itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from difflib import get_close_matches
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nas.api import Outcome, search
from nas.commands.settings import settings
from nas.inference.inputs import image_files
from nas.inference.opening import export_folder, open_network
from nas.inference.predictor import Predictor
from search_spaces.errors import UserError

OWN = ("out", "resume", "config", "workers", "ray_address", "mlflow", "quiet")
"""Arguments of `nas.search` beside its settings."""


class Classifier:
    """Searches for a network within a budget, and classifies with the winner.

        classifier = nas.Classifier(max_flops="20M", time="30m").fit("photos/")
        classifier.predict("new/*.jpg")

    Arguments are those of `nas.search`, without `data`.

    Attributes:
        classes_: names of the classes, in the order of `predict_proba`'s columns.
        outcome_: result of the search; absent from a classifier that was loaded.

    Raises:
        UserError: for an argument that does not exist.
    """

    def __init__(self, **given: Any) -> None:
        for name in given:
            if name not in _ARGUMENTS:
                near = get_close_matches(name, _ARGUMENTS, n=1)
                hint = f"did you mean '{near[0]}'?" if near else "help(nas.Classifier) lists them"
                raise UserError(f"nas.Classifier has no argument '{name}': {hint}")
        self._given = given
        self._predictor: Predictor | None = None
        self._folder: Path | None = None

    def fit(self, data: str | Path) -> Self:
        """Search on data, and train the winner.

        Args:
            data: what `nas search --data` takes: a folder with one folder of images per class, a
                Parquet file, a table of labelled sentences, or a name.

        Raises:
            UserError: for data or settings that cannot be used.
        """
        outcome = search(data=str(data), **{"quiet": True, **self._given})
        if outcome.winner is None:
            raise UserError(f"{outcome.run.folder} has no trained winner to predict with")
        self.outcome_: Outcome = outcome
        return self._open(outcome.winner)

    def predict(self, inputs: str | Path | Sequence[str | Path]) -> npt.NDArray[np.str_]:
        """The most probable class of each image file, or of each sentence: `(n,)`.

        Args:
            inputs: one or several; a folder or a pattern stands for the image files it holds.

        Raises:
            UserError: for a file that is no image, or before `fit`.
        """
        highest = self.predict_proba(inputs).argmax(axis=1)
        return np.array(self._fitted.classes)[highest]

    def predict_proba(self, inputs: str | Path | Sequence[str | Path]) -> npt.NDArray[np.float64]:
        """Probabilities `(n, classes)` of the classes in the order of `classes_`.

        Raises:
            UserError: for a file that is no image, or before `fit`.
        """
        given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
        if self._fitted.of_images:
            return self._fitted.image_probabilities(image_files(given))
        return self._fitted.text_probabilities([str(text) for text in given])

    def score(self, data: str | Path) -> float:
        """Accuracy on labelled data: a folder with a folder of images per class, or a table.

        If it names a test part, that alone is scored.

        Raises:
            UserError: for data without labels, or with one that the network does not have.
        """
        return self._fitted.scores(Path(data)).accuracy

    def save(self, folder: str | Path) -> Path:
        """Copy the trained network to a new folder, for `load`, `nas.load` and `nas predict`.

        Raises:
            UserError: if the folder exists, or before `fit`.
        """
        _ = self._fitted
        assert self._folder is not None
        target = Path(folder)
        try:
            return Path(shutil.copytree(self._folder, target))
        except FileExistsError:
            raise UserError(f"{target} exists: expected a new folder") from None
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror or error}") from error

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """A classifier with the network of an export, or of a run's winner.

        Raises:
            UserError: if there is none.
        """
        return cls()._open(export_folder(folder))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments that were given, as scikit-learn's `clone` reads them."""
        return dict(self._given)

    def set_params(self, **given: Any) -> Self:
        """Change arguments, for the next `fit`.

        Raises:
            UserError: for an argument that does not exist.
        """
        self._given = type(self)(**{**self._given, **given})._given
        return self

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """Names of the classes, in the order of `predict_proba`'s columns."""
        return np.array(self._fitted.classes)

    @property
    def _fitted(self) -> Predictor:
        if self._predictor is None:
            raise UserError("the classifier has no network yet: call fit, or nas.Classifier.load")
        return self._predictor

    def _open(self, folder: Path) -> Self:
        predictor = open_network(folder)
        predictor.check(images=predictor.of_images)
        self._predictor, self._folder = predictor, folder
        return self

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"nas.Classifier({given})"


_ARGUMENTS = sorted({*settings(), *OWN} - {"data"})
Classifier.__signature__ = Signature(  # type: ignore[attr-defined]
    [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in _ARGUMENTS]
)
