"""Keeps standard output for the result of a command.

Does not know what the result is. Imports nothing that takes time.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO

_stream: IO[str] | None = None
"""Standard output, while everything else that is written there goes to standard error."""


def print_result(text: str, end: str = "\n") -> None:
    """Print a part of a command's result to standard output."""
    print(text, end=end, file=_stream, flush=True)


@contextlib.contextmanager
def only_json() -> Iterator[None]:
    """Context in which `print_result` alone writes to standard output.

    What users' code, its child processes and libraries print would break the JSON.
    """
    global _stream
    own = sys.stdout is sys.__stdout__ and sys.stdout is not None
    if not own or sys.stdout.fileno() != 1:  # replaced by whoever calls this
        yield
        return
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding) as result:
        os.dup2(2, 1)
        _stream = result
        try:
            yield
        finally:
            _stream = None
            sys.stdout.flush()
            result.flush()
            os.dup2(result.fileno(), 1)
