"""Names of spaces: which function makes the space that a user asks for.

Knows the named spaces and how to load one from a file of the user's (`file.py:OBJECT`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from search_spaces.attentivenas import attentivenas
from search_spaces.autoformer import PRESETS as AUTOFORMER_PRESETS
from search_spaces.autoformer import autoformer
from search_spaces.bert import bert
from search_spaces.cells import nasbench201
from search_spaces.darts import darts
from search_spaces.errors import UserError, unknown
from search_spaces.fbnet import fbnet
from search_spaces.gpt import gpt
from search_spaces.macro import macro
from search_spaces.mobilenet import mobilenet
from search_spaces.ofa import ofa_mbv3, ofa_proxyless
from search_spaces.resnet import ofa_resnet50, resnet
from search_spaces.space import SearchSpace
from search_spaces.vit import vit

FAMILIES: dict[str, Callable[..., SearchSpace]] = {"mobilenet": mobilenet, "vit": vit}
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
"""Every named space of images: functions of `image_size`, `channels` and `classes`."""

TEXT_SPACES: dict[str, Callable[..., SearchSpace]] = {
    "bert": bert,
    "gpt": gpt,
    "gpt-llama": partial(gpt, "llama"),
    "gpt-char": partial(gpt, "char"),
}
"""Every named space of token ids: functions with defaults of their own."""

TEN_CLASSES = ("tiny", "cifar", "nasbench201", "darts", "macro")
"""Spaces whose names end so have 10 classes by default, others 1000."""


def preset_for(image_size: int) -> str:
    """The preset that suits images of this size, in pixels."""
    return "tiny" if image_size < 32 else "cifar" if image_size < 64 else "imagenet"


def load_space(
    name: str, *, image_size: int | None = None, channels: int = 3, classes: int | None = None
) -> SearchSpace:
    """Return a space by name, by family (the preset follows from the image size) or from a file.

    Args:
        name: `mobilenet-cifar`, `mobilenet`, or `file.py:OBJECT` where the object is a
            `SearchSpace` or a function of `image_size`, `channels` and `classes` that returns one.
        image_size: size of the data's images in pixels; each preset has its own default.
        channels: channels of the data's images.
        classes: number of classes; when not given, those of the data that the space is for.

    Raises:
        UserError: for an unknown name, or a file that does not give a space.
    """
    if ":" in name:
        return _from_file(name, image_size=image_size, channels=channels, classes=classes or 10)
    if name in FAMILIES:
        name = f"{name}-{preset_for(image_size or 224)}"
    if name in TEXT_SPACES:
        return TEXT_SPACES[name]()
    if name not in SPACES:
        raise unknown("space", name, [*SPACES, *TEXT_SPACES, *FAMILIES])
    if classes is None:
        small = name.endswith(TEN_CLASSES) and not name.startswith("autoformer")
        classes = 10 if small else 1000
    return SPACES[name](image_size=image_size, channels=channels, classes=classes)


def load_object(reference: str) -> Any:
    """Return the object that `file.py:NAME` names.

    Raises:
        UserError: when the file is missing, fails to run, or lacks the name.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no file '{file}' (from '{reference}'; expected file.py:NAME)")
    # A name of its own: the file may be called like a module that is already there.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    module_name = f"{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"'{file}' is not a Python file (expected file.py:NAME)")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a class's module up by name.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"'{file}' fails to run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise unknown(f"name in {file}", name, public)
    return getattr(module, name)


def _from_file(reference: str, **shape: int | None) -> SearchSpace:
    found = load_object(reference)
    try:
        space = found if isinstance(found, SearchSpace) else found(**shape)
    except Exception as error:
        raise UserError(f"'{reference}' fails: {type(error).__name__}: {error}") from error
    if not isinstance(space, SearchSpace):
        raise UserError(f"'{reference}' gives a {type(space).__name__}, expected a SearchSpace")
    return space
