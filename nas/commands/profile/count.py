"""Counts architectures given as JSON lines, one line of counts for each: `nas count`.

Knows the format of the lines and cost tables. Does not know how ops are counted.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from evaluators.costs.tables import CostTables
from evaluators.metrics import COUNTED
from nas.commands.show.result import print_result
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.files import open_text, without_repeats
from search_spaces.reading import BadArchitecture, read_rows

LONGEST_LINE = 1_000_000
"""Most characters of a line; a device has no end of one."""

COUNT_LINES = 4096
"""Lines per batch: enough for vectorised lookups, few enough to print a long pipe continuously."""


def print_counts(space_name: str, file: Path, *, as_json: bool) -> None:
    """Print MACs, parameters and peak memory of architectures: `nas count`.

    Args:
        space_name: name of the space, or `file.py:OBJECT`.
        file: JSON lines, or `-` for standard input.
        as_json: print one JSON object per line.

    Raises:
        UserError: for an unknown space, a file that cannot be read, or a line that is not an
            architecture of the space; the counts of earlier batches are printed before.
    """
    space = load_space(space_name)
    tables = CostTables(space)
    header = f"{'macs':>16} {'params':>14} {'memory':>14}\n"
    template = "%16d %14d %14d\n"
    if as_json:
        header, template = "", '{"macs": %d, "params": %d, "memory": %d}\n'
    with _without_garbage_collection():
        for numbers, batch in read_batches(file):
            try:
                rows = read_rows(space, batch)
            except BadArchitecture as error:
                raise UserError(f"{file}, line {numbers[error.index]}: {error}") from error
            costs = tables.score(rows)
            columns = [costs[metric].tolist() for metric in COUNTED]
            lines = [template % row for row in zip(*columns, strict=True)]
            print_result(header + "".join(lines), end="")
            header = ""


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection, which takes a third of the time; parsed JSON has no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_batches(file: Path) -> Iterator[tuple[list[int], list[dict[str, object]]]]:
    """Read architectures from JSON lines: line numbers and contents, `COUNT_LINES` at a time.

    Args:
        file: a file, or `-` for standard input; empty lines are skipped.

    Raises:
        UserError: if the file cannot be read, or a line is not a JSON object.
    """
    try:
        from_stdin = str(file) == "-"
        stream: IO[str] = sys.stdin if from_stdin else open_text(file)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    with stream:
        lines = enumerate(_lines(stream, file), start=1)
        while part := list(islice(lines, COUNT_LINES)):
            part = [(number, line) for number, line in part if not line.isspace()]
            numbers = [number for number, _ in part]
            yield numbers, _parse_together(part) or [_parse_line(file, n, line) for n, line in part]


def _lines(stream: IO[str], file: Path) -> Iterator[str]:
    try:
        while line := stream.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise UserError(f"{file} has a line of more than {LONGEST_LINE} characters")
            yield line
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not a text file in UTF-8") from error


def _parse_together(part: list[tuple[int, str]]) -> list[dict[str, object]] | None:
    """Parse all lines as one JSON array, twice as fast; None if a line is not a JSON object."""
    lines = [line.strip() for _, line in part]
    if not all(line[0] == "{" and line[-1] == "}" for line in lines):
        return None
    text = ",".join(lines)
    try:
        values = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        return None
    if len(values) != len(lines) or not all(isinstance(value, dict) for value in values):
        return None
    colons = text.count(":")
    if colons != sum(map(len, values)) and colons != _names(values):
        return None  # a name may be given twice, of which the parser takes the last
    return [_choices(value) for value in values]


def _names(value: object) -> int:
    """Number of names in a JSON value: each has one colon at least."""
    if isinstance(value, dict):
        return len(value) + sum(map(_names, filter(_is_nested, value.values())))
    return sum(map(_names, filter(_is_nested, value))) if isinstance(value, list) else 0


def _is_nested(value: object) -> bool:
    return isinstance(value, dict | list)


def _parse_line(file: Path, number: int, line: str) -> dict[str, object]:
    try:
        values = json.loads(line, object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}, line {number}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}, line {number}: expected a JSON object of choices")
    return _choices(values)


def _choices(values: dict[str, object]) -> dict[str, object]:
    """The choices of an architecture, which `nas show --json` and exports nest in `choices`."""
    inner = values.get("choices")
    return inner if isinstance(inner, dict) else values
