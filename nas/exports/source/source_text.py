"""Formats lines of Python source as code formatters do.

Knows text. Does not know networks.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import Any

from nas.exports.source.python_rules import Code

LINE_LENGTH = 100
INDENT = "    "


def call(indent: int, head: str, arguments: Sequence[str], tail: str, comment: str = "") -> str:
    """A call `head arguments tail`, broken into lines if it is too long.

    The arguments stand on the same line if they fit, else together on the next line, else one per
    line.

    Args:
        head: ends with the opening bracket; `tail` begins with the closing one.
        comment: appended to the last line if it fits.
    """
    space, inner = INDENT * indent, INDENT * (indent + 1)
    joined = ", ".join(arguments)
    behind = f"  # {comment}" if comment else ""
    for mark in (behind, ""):
        line = f"{space}{head}{joined}{tail}"
        if len(line) + len(mark) <= LINE_LENGTH:
            return line + mark
    mark = behind if len(f"{space}{tail}{behind}") <= LINE_LENGTH else ""
    if len(inner + joined) <= LINE_LENGTH:
        return f"{space}{head}\n{inner}{joined}\n{space}{tail}{mark}"
    listed = "".join(f"{inner}{argument},\n" for argument in arguments)
    return f"{space}{head}\n{listed}{space}{tail}{mark}"


def docstring(indent: int, text: str, more: Sequence[str] = ()) -> str:
    """A docstring of a first line and further lines."""
    space = INDENT * indent
    if not more:
        return f'{space}"""{text}"""'
    body = "\n".join(f"{space}{line}".rstrip() for line in more)
    return f'{space}"""{text}\n\n{body}\n{space}"""'


def wrapped(text: str, width: int) -> list[str]:
    """The words of a text in lines of at most `width` characters."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def literal(value: Any) -> str:
    """Source of a value: strings in double quotes, `Code` verbatim."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def identifier(name: str) -> str:
    """A name turned into a valid Python identifier."""
    cleaned = re.sub(r"\W", "_", name)
    if not cleaned or cleaned[0].isdigit() or keyword.iskeyword(cleaned):
        cleaned = f"_{cleaned}"
    return cleaned


def camel(name: str) -> str:
    """Convert `stage_layer` to `StageLayer`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[\W_]+", name) if part)


def member(of: str, name: str) -> str:
    """Source that reads an entry of a `ModuleDict`, by attribute if the name is an identifier."""
    if name.isidentifier() and not keyword.iskeyword(name):
        return f"{of}.{name}"
    return f"{of}[{literal(name)}]"
