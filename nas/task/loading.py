"""Loads the data of a search: images, text or sentences, whichever the space takes.

Knows which reader suits which space. Does not know files (`evaluators/data`).
"""

from __future__ import annotations

from evaluators.data.dataset import Data
from evaluators.data.files.images import load_data
from evaluators.data.files.sentences import load_sentences
from evaluators.data.files.text import load_text
from nas.run.specification import Specification
from nas.task.evaluator_kinds import DEFAULT_DATA
from search_spaces.catalogue import Samples
from search_spaces.errors import UserError


def load(specification: Specification, samples: Samples) -> Data:
    """The data that a specification names, of the kind that its space takes.

    Raises:
        UserError: if a space of text or sentences has no data, for options of images with other
            data, and for data that cannot be read.
    """
    name, size = specification.data, specification.image_size
    if samples == "images":
        return load_data(name or DEFAULT_DATA, image_size=size)
    if name is None:
        wanted = {
            "text": "tinyshakespeare or a text file",
            "sentences": "a parquet, CSV or JSON-lines file with a text and a label column",
        }
        raise UserError(f"space {specification.space} needs --data: {wanted[samples]}")
    for option, given in (("--image-size", size), ("--augment", specification.augmentation)):
        if given:
            raise UserError(f"{option} is for images, and {specification.space} takes {samples}")
    return load_text(name) if samples == "text" else load_sentences(name)


def check_batch(data: Data, batch_size: int, samples: int, where: str = "") -> None:
    """Raise a `UserError` if there are fewer training samples than a batch."""
    if samples < batch_size:
        given = " ".join(f"{samples} training {data.samples} {where}".split())
        raise UserError(
            f"{data.name} has {given}, fewer than a batch of {batch_size}: expected "
            f"--batch-size {samples} or less"
        )
