"""Lines of Python, broken as formatters break them.

Knows text. Does not know networks.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import Any

from nas.exports.source.python_rules import Code

WIDTH = 100
STEP = "    "


def call(indent: int, head: str, arguments: Sequence[str], tail: str, comment: str = "") -> str:
    """`head arguments tail` on one line, or its arguments on a line of their own, or one a line.

    Args:
        head: ends with the opening bracket; `tail` begins with the closing one.
        comment: behind the last line, where there is place for it.
    """
    space, inner = STEP * indent, STEP * (indent + 1)
    joined = ", ".join(arguments)
    behind = f"  # {comment}" if comment else ""
    for mark in (behind, ""):
        line = f"{space}{head}{joined}{tail}"
        if len(line) + len(mark) <= WIDTH:
            return line + mark
    mark = behind if len(f"{space}{tail}{behind}") <= WIDTH else ""
    if len(inner + joined) <= WIDTH:
        return f"{space}{head}\n{inner}{joined}\n{space}{tail}{mark}"
    listed = "".join(f"{inner}{argument},\n" for argument in arguments)
    return f"{space}{head}\n{listed}{space}{tail}{mark}"


def docstring(indent: int, text: str, more: Sequence[str] = ()) -> str:
    """A docstring of a first line and more lines below it."""
    space = STEP * indent
    if not more:
        return f'{space}"""{text}"""'
    body = "\n".join(f"{space}{line}".rstrip() for line in more)
    return f'{space}"""{text}\n\n{body}\n{space}"""'


def folded(text: str, width: int) -> list[str]:
    """Words in lines of at most so many characters."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def literal(value: Any) -> str:
    """A value as source; text in double quotes, `Code` as it is."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def identifier(name: str) -> str:
    """A name as Python allows it."""
    cleaned = re.sub(r"\W", "_", name)
    if not cleaned or cleaned[0].isdigit() or keyword.iskeyword(cleaned):
        cleaned = f"_{cleaned}"
    return cleaned


def camel(name: str) -> str:
    """`stage_layer` as `StageLayer`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[\W_]+", name) if part)


def member(of: str, name: str) -> str:
    """An entry of a `ModuleDict`, by attribute where the name allows it."""
    if name.isidentifier() and not keyword.iskeyword(name):
        return f"{of}.{name}"
    return f"{of}[{literal(name)}]"
