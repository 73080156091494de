"""Loads search spaces by name, by family or from a user's file (`file.py:OBJECT`).

Knows the named spaces, and which properties of the data each kind of space takes. Does not know the
spaces themselves (`spaces/`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Literal

from search_spaces.errors import UserError, unknown
from search_spaces.space import SearchSpace
from search_spaces.spaces.bert import bert
from search_spaces.spaces.cnn import cnn
from search_spaces.spaces.cnn_presets import parse_fitted
from search_spaces.spaces.gpt import gpt
from search_spaces.spaces.mobilenet import mobilenet
from search_spaces.spaces.papers.attentivenas import attentivenas
from search_spaces.spaces.papers.autoformer import PRESETS as AUTOFORMER_PRESETS
from search_spaces.spaces.papers.autoformer import autoformer
from search_spaces.spaces.papers.darts import darts
from search_spaces.spaces.papers.fbnet import fbnet
from search_spaces.spaces.papers.macro import macro
from search_spaces.spaces.papers.nasbench201 import nasbench201
from search_spaces.spaces.papers.ofa import ofa_mbv3, ofa_proxyless
from search_spaces.spaces.resnet import ofa_resnet50, resnet
from search_spaces.spaces.token_pruning import KEEP_RATES, Rates, parse_rates
from search_spaces.spaces.vit import vit
from search_spaces.user_files import load_object, running_user_code

FAMILIES: dict[str, Callable[..., SearchSpace]] = {
    "cnn": cnn,
    "mobilenet": mobilenet,
    "vit": vit,
    "vit-pruned": partial(vit, keep_rates=KEEP_RATES),
}
PRESETS = ("tiny", "cifar", "imagenet")

SPACES: dict[str, Callable[..., SearchSpace]] = {
    **{
        f"{family}-{preset}": partial(function, preset)
        for family, function in FAMILIES.items()
        for preset in PRESETS
    },
    "ofa-mbv3": ofa_mbv3,
    "ofa-mbv3-1.2": partial(ofa_mbv3, 1.2),
    "ofa-proxyless": ofa_proxyless,
    "ofa-resnet50": ofa_resnet50,
    "attentivenas": attentivenas,
    "fbnet": fbnet,
    "resnet": resnet,
    **{f"autoformer-{preset}": partial(autoformer, preset) for preset in AUTOFORMER_PRESETS},
    "nasbench201": nasbench201,
    "darts": darts,
    "darts-imagenet": partial(darts, "imagenet"),
    "macro": macro,
}
"""All named spaces of images, as functions of `image_size`, `channels` and `classes`."""

TEXT_SPACES: dict[str, Callable[..., SearchSpace]] = {
    "gpt": gpt,
    "gpt-llama": partial(gpt, "llama"),
    "gpt-char": partial(gpt, "char"),
    "gpt-conv": partial(gpt, "conv"),
}
"""All named spaces of language models, as functions of `vocabulary`."""

SENTENCE_SPACES: dict[str, Callable[..., SearchSpace]] = {
    "bert": bert,
    "bert-mini": partial(bert, "mini"),
    "bert-pruned": partial(bert, keep_rates=KEEP_RATES),
    "bert-pruned-mini": partial(bert, "mini", keep_rates=KEEP_RATES),
}
"""All named spaces of networks that classify sentences, as functions of the `SHAPES`."""

PRUNED = tuple(
    name for name in (*FAMILIES, *SPACES, *SENTENCE_SPACES) if "pruned" in name.split("-")
)
"""Names of the spaces whose networks drop tokens."""

Samples = Literal["images", "text", "sentences"]
"""Data of a space: images, text for next-token prediction, or sentences with labels."""

SHAPES: dict[Samples, tuple[str, ...]] = {
    "images": ("image_size", "channels", "classes"),
    "text": ("vocabulary",),
    "sentences": ("sequence", "vocabulary", "classes", "padding"),
}
"""By kind of data, the arguments of a space's function that describe the data."""

TEN_CLASSES = ("tiny", "cifar", "nasbench201", "darts", "macro")
"""Endings of the names of spaces with 10 classes by default; others have 1000."""


def preset_for(image_size: int) -> str:
    """Return the preset for images of this size, in pixels."""
    return "tiny" if image_size < 32 else "cifar" if image_size < 64 else "imagenet"


def samples_of(name: str) -> Samples:
    """Return the kind of data that the networks of a space take.

    A user's function is classified by its arguments: with `vocabulary` and `classes` the data are
    sentences, with `vocabulary` alone text, otherwise images.

    Raises:
        UserError: for an unknown name, or a file that does not define a space.
    """
    if ":" not in name:
        name, _ = _without_rates(name)
        if parse_fitted(name):
            return "images"
        if name not in SPACES | TEXT_SPACES | SENTENCE_SPACES | FAMILIES:
            raise unknown("space", name, [*SPACES, *TEXT_SPACES, *SENTENCE_SPACES, *FAMILIES])
        return (
            "text" if name in TEXT_SPACES else "sentences" if name in SENTENCE_SPACES else "images"
        )
    found = load_object(name)
    if isinstance(found, SearchSpace):
        if len(found.input_shape(found.largest)) == 3:
            return "images"
        *_, (_, (*_, last)) = found.ops(found.largest)
        return "text" if len(last.out_shape) == 2 else "sentences"
    arguments = inspect.signature(found).parameters if callable(found) else {}
    if "vocabulary" not in arguments:
        return "images"
    return "sentences" if "classes" in arguments else "text"


def load_space(
    name: str,
    *,
    image_size: int | None = None,
    channels: int = 3,
    classes: int | None = None,
    vocabulary: int | None = None,
    sequence: int | None = None,
    padding: int | None = None,
) -> SearchSpace:
    """Load a space by name, by family (which selects a preset by image size) or from a file.

    Args:
        name: `mobilenet-cifar`, `mobilenet`, `cnn-32-16`, or `file.py:OBJECT`: a
            `SearchSpace`, or a function that returns one and whose arguments are those in `SHAPES`.
            The keep rates of a space with token pruning follow an `@`
            (`token_pruning.parse_rates`).
        image_size: size of the data's images in pixels; by default, that of the preset.
        channels: number of channels of the data's images.
        classes: number of classes; by default, that of the space's usual data set.
        vocabulary: number of token ids; by default, that of the network's paper.
        sequence: number of tokens of a sentence.
        padding: token id of padding; none by default.

    Raises:
        UserError: for an unknown name, or a file that does not define a space.
    """
    given = {
        "image_size": image_size,
        "channels": channels,
        "classes": classes,
        "vocabulary": vocabulary,
        "sequence": sequence,
        "padding": padding,
    }
    samples = samples_of(name)
    shape = {argument: given[argument] for argument in SHAPES[samples]}
    if ":" in name:
        ten = {"classes": classes or 10} if samples == "images" else {}
        known = {argument: value for argument, value in shape.items() if value is not None}
        return _from_file(name, **known | ten)
    name, rates = _without_rates(name)
    if samples != "images":
        return (TEXT_SPACES | SENTENCE_SPACES)[name](**shape, **rates)
    if name in FAMILIES:
        name = f"{name}-{preset_for(image_size or 224)}"
    if parse_fitted(name):
        size = name.removeprefix("cnn-")
        return cnn(size, image_size=image_size, channels=channels, classes=classes or 10)
    if classes is None:
        small = name.endswith(TEN_CLASSES) and not name.startswith("autoformer")
        classes = 10 if small else 1000
    return SPACES[name](image_size=image_size, channels=channels, classes=classes, **rates)


def _without_rates(name: str) -> tuple[str, dict[str, Rates]]:
    """The name without keep rates, and the rates as keyword arguments."""
    space, at, rates = name.partition("@")
    if not at:
        return name, {}
    if space not in PRUNED:
        raise UserError(
            f"'{space}' drops no tokens, so it takes no '@{rates}': expected one of "
            f"{', '.join(PRUNED)}"
        )
    return space, {"keep_rates": parse_rates(rates)}


def _from_file(reference: str, **shape: int) -> SearchSpace:
    found = load_object(reference)
    try:
        with running_user_code():
            space = found if isinstance(found, SearchSpace) else found(**shape)
    except (Exception, SystemExit) as error:
        raise UserError(f"'{reference}' fails: {type(error).__name__}: {error}") from error
    if not isinstance(space, SearchSpace):
        raise UserError(f"'{reference}' returns a {type(space).__name__}, expected a SearchSpace")
    return space
