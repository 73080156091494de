"""Defaults of a specification that depend on its other settings: space, evaluator, objectives.

Knows settings and kinds of data by their names. Does not load data.
"""

from __future__ import annotations

from collections.abc import Callable

from evaluators.data.files.text import is_text
from evaluators.metrics import MEAN_MACS
from nas.run.specification import Specification
from nas.task.evaluator_kinds import kind_of, needs_images
from nas.task.schedule import TIMED_BATCH
from search_spaces.catalogue import samples_of

TEXT_SPACE = "gpt-conv"
"""The space by default where the data are a text."""


def with_defaults(
    specification: Specification, runnable_space: Callable[[str], str]
) -> Specification:
    """Return a specification as a user wrote it, with the settings that others imply.

    Args:
        runnable_space: for the name of a space, the one to load; asked for where the objectives
            depend on it.
    """
    return _with_objectives(_with_time(_with_space_of_data(specification)), runnable_space)


def _with_space_of_data(specification: Specification) -> Specification:
    """The space of language models, where the data are a text and no space is named."""
    data = specification.data
    if "space" in specification.model_fields_set or data is None or not is_text(data):
        return specification
    return specification.model_copy(update={"space": TEXT_SPACE})


def _with_time(specification: Specification) -> Specification:
    """Defaults of a search with a time of its own: evaluator, space and batch."""
    if not specification.limited:
        return specification
    defaults = {"evaluator": "halving", "space": "cnn", "batch_size": TIMED_BATCH}
    given = specification.model_fields_set
    # An evaluator that does not train has no use for the others.
    if "evaluator" in given and specification.evaluator != "halving":
        return specification
    return specification.model_copy(
        update={name: value for name, value in defaults.items() if name not in given}
    )


def _with_objectives(
    specification: Specification, runnable_space: Callable[[str], str]
) -> Specification:
    """Default objectives: the loss for language models, mean FLOPs for early exits."""
    default = "objectives" not in specification.model_fields_set
    if not default or not needs_images(kind_of(specification.evaluator)):
        return specification
    if samples_of(runnable_space(specification.space)) == "text":
        return specification.model_copy(update={"objectives": ("loss", "macs")})
    if specification.early_exit is not None:
        return specification.model_copy(update={"objectives": ("accuracy", MEAN_MACS)})
    return specification
