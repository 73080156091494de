"""A trained network with all that leads from a file or a sentence to its classes.

Knows the preprocessing and the network's function. Does not know which file holds the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.accuracy.class_scores import ClassScores
from evaluators.data.preprocessing import Preprocessing
from nas.exports.description import task_of
from nas.inference.generation import generated, of_network
from nas.inference.inputs import class_indices, image_files, labelled_images, labelled_sentences
from nas.inference.sampling import Sampling
from search_spaces.errors import UserError

BATCH = 64
"""Samples that run at a time."""

TOKENIZER_FILE = "tokenizer.json"

Array = npt.NDArray[Any]
Function = Callable[[Array], Array]
"""A network: from inputs `(n, ...)`, float32 or int64, to logits `(n, ...)`."""


@dataclass(frozen=True)
class Prediction:
    """The classes of one input.

    Attributes:
        input: the file or the sentence.
        label: the most probable class.
        probability: of that class.
        probabilities: of all classes, the most probable first.
    """

    input: str
    label: str
    probability: float
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Predictor:
    """A trained network that classifies image files or sentences, or goes on with a text.

    Attributes:
        place: where it is, for messages.
        config: the network's description.
        function: the network.
        folder: holds the tokenizer of a network of sentences.
    """

    place: str
    config: Mapping[str, Any]
    function: Function
    folder: Path

    @property
    def task(self) -> str:
        """`image-classification`, `text-classification` or `text-generation`."""
        return task_of(self.config)

    @property
    def of_images(self) -> bool:
        """Whether it classifies images."""
        return self.task == "image-classification"

    @property
    def generates(self) -> bool:
        """Whether it is a language model, which goes on with a text."""
        return self.task == "text-generation"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the network's order."""
        return tuple(map(str, self.config["classes"]))

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """What becomes of an image file."""
        return Preprocessing.of(self.config)

    @cached_property
    def tokenizer(self) -> Any:
        """What makes tokens of a sentence.

        Raises:
            UserError: if it is not there.
        """
        from tokenizers import Tokenizer

        path = self.folder / TOKENIZER_FILE
        if not path.is_file():
            raise UserError(f"{self.place} cannot read sentences: no {path}")
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # whatever a malformed file leads to
            raise UserError(f"cannot read {path}: {error}") from error

    def check(self, *, images: bool) -> None:
        """Check that the network takes images, or that it takes sentences.

        Raises:
            UserError: if it does not.
        """
        if self.generates:
            raise UserError(
                f"{self.place} is a language model, which has no classes to predict: expected a "
                "network of images or of sentences"
                if not images
                else f"{self.place} is a language model: expected --text to go on with, not images"
            )
        if images and not self.of_images:
            raise UserError(f"{self.place} classifies sentences: expected --text, not image files")
        if not images and self.of_images:
            raise UserError(f"{self.place} classifies images: expected image files, not a text")

    def predict(self, inputs: str | Path | Sequence[str | Path]) -> list[Prediction]:
        """Classify image files, or sentences, whichever the network is for.

        Args:
            inputs: one or several; a folder or a pattern stands for the image files that it holds.

        Raises:
            UserError: for a file that is no image, or what has no images.
        """
        given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
        self.check(images=self.of_images)
        if self.of_images:
            return self.predict_images(image_files(given))
        return self.predict_texts([str(text) for text in given])

    def predict_images(self, files: Sequence[Path]) -> list[Prediction]:
        """Classify image files.

        Raises:
            UserError: for a file that is no image.
        """
        return self._named([str(file) for file in files], self.image_probabilities(files))

    def predict_texts(self, texts: Sequence[str]) -> list[Prediction]:
        """Classify sentences."""
        return self._named(texts, self.text_probabilities(texts))

    def image_probabilities(self, files: Sequence[Path]) -> npt.NDArray[np.float64]:
        """Probabilities `(n, classes)` of image files.

        Raises:
            UserError: for a file that is no image.
        """
        self.check(images=True)

        def batches() -> Iterator[Array]:
            with ThreadPoolExecutor() as pool:
                for start in range(0, len(files), BATCH):
                    pixels = list(pool.map(self.preprocessing.decode, files[start : start + BATCH]))
                    yield self.preprocessing.inputs(np.stack(pixels))

        return self._probabilities(batches())

    def text_probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Probabilities `(n, classes)` of sentences."""
        self.check(images=False)
        length = self.config["input_shape"][0]

        def batches() -> Iterator[Array]:
            for start in range(0, len(texts), BATCH):
                encoded = self.tokenizer.encode_batch(list(texts[start : start + BATCH]))
                yield np.array([one.ids[:length] for one in encoded], dtype=np.int64)

        return self._probabilities(batches())

    def generate(self, text: str, sampling: Sampling | None = None) -> str:
        """What a language model goes on with after a text, without the text.

        Raises:
            UserError: if the network is none, or the text is empty or of characters that the
                network does not know.
        """
        if not self.generates:
            raise UserError(
                f"{self.place} has classes and does not go on with a text: expected a language "
                "model"
            )
        tokens = of_network(self.config, lambda: self.tokenizer, self.place)
        prompt = tokens.encode(text)
        if not prompt:
            raise UserError("the text to go on with is empty: expected at least one token")
        ids = generated(
            self.function,
            prompt,
            context=self.config["input_shape"][0],
            known=tokens.count,
            sampling=sampling or Sampling(),
        )
        return tokens.continuation(prompt, ids)

    def scores(self, data: Path) -> ClassScores:
        """Classify labelled images or sentences, and compare with their labels.

        Args:
            data: a folder with one folder of images per class, or a table of sentences; if it names
                a test part, that alone is taken.

        Raises:
            UserError: for data without labels, or with one that the network does not have.
        """
        self.check(images=self.of_images)
        found = labelled_images(data) if self.of_images else labelled_sentences(data)
        labels = np.array(class_indices(found.labels, self.classes, str(data)))
        if self.of_images:
            probabilities = self.image_probabilities([Path(one) for one in found.inputs])
        else:
            probabilities = self.text_probabilities([str(one) for one in found.inputs])
        predicted = probabilities.argmax(axis=1)
        confidence = probabilities[np.arange(len(labels)), predicted]
        unit = "images" if self.of_images else "sentences"
        return ClassScores.of(predicted, confidence, labels, self.classes, found.names, unit)

    def _probabilities(self, batches: Iterator[Array]) -> npt.NDArray[np.float64]:
        rows = []
        for batch in batches:
            logits = self.function(batch)
            if not np.isfinite(logits).all():
                raise UserError(f"{self.place}: the network's outputs are not finite numbers")
            rows.append(_softmax(logits))
        found = np.concatenate(rows) if rows else np.zeros((0, len(self.classes)))
        if found.shape[1] != len(self.classes):
            raise UserError(
                f"{self.place}: the network has {found.shape[1]} outputs, expected one for each of "
                f"its {len(self.classes)} classes"
            )
        return found

    def _named(
        self, inputs: Sequence[str], probabilities: npt.NDArray[np.float64]
    ) -> list[Prediction]:
        named = []
        for name, row in zip(inputs, probabilities, strict=True):
            order = np.argsort(-row, kind="stable")
            by_label = {self.classes[index]: float(row[index]) for index in order}
            first = self.classes[order[0]]
            named.append(Prediction(name, first, by_label[first], by_label))
        return named


def _softmax(logits: Array) -> npt.NDArray[np.float64]:
    """Probabilities along the last axis, in double precision."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
