"""Reads settings from a file: TOML or YAML by its suffix, otherwise JSON.

Does not know which settings there are.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError
from search_spaces.files import read_json, read_text

YAML_ENDINGS = (".yaml", ".yml")

LONGEST = 2**20
"""Most bytes of a TOML or YAML file: settings are a page."""

DEEPEST = 32
"""Deepest nesting of a YAML file."""


def read_settings(path: Path) -> Any:
    """Content of a file of settings.

    Raises:
        UserError: if it is missing, is not of its kind, is too long, nested too deeply, or has
            aliases, with which a short YAML file stands for an endless one.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".toml":
            return tomllib.loads(_text(path))
        if ending in YAML_ENDINGS:
            return _yaml(_text(path))
        return read_json(path)
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except RecursionError:
        raise UserError(f"cannot read {path}: nested too deeply") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _text(path: Path) -> str:
    with path.open("rb") as file:
        if len(file.read(LONGEST + 1)) > LONGEST:
            raise ValueError("longer than any file of settings")
    return read_text(path)


def _yaml(text: str) -> Any:
    """Parse YAML with plain values only.

    Raises:
        ValueError: for text that is not such YAML.
    """
    import yaml

    try:
        depth = documents = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1
                raise ValueError(f"alias *{event.anchor} at line {line}: write its value out")
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                raise ValueError("several documents: expected one")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise RecursionError
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" (at line {mark.line + 1}, column {mark.column + 1})"
        raise ValueError(f"{error.problem or error.context}{where}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
