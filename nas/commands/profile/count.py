"""Counting architectures from JSON lines, as `nas count` does: a line out for each line in."""

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
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.reading import BadArchitecture, read_rows

COUNT_LINES = 4096
"""Lines priced at a time: enough for whole columns, few enough that a long pipe keeps flowing."""


def print_counts(space_name: str, file: Path, *, as_json: bool) -> None:
    """`nas count`."""
    space = load_space(space_name)
    tables = CostTables(space)
    header = f"{'macs':>16} {'params':>14} {'memory':>14}\n"
    template = "%16d %14d %14d\n"
    if as_json:
        header, template = "", '{"macs": %d, "params": %d, "memory": %d}\n'
    with _without_collection():
        for numbers, batch in read_batches(file):
            try:
                rows = read_rows(space, batch)
            except BadArchitecture as error:
                raise UserError(f"{file}, line {numbers[error.index]}: {error}") from error
            costs = tables.score(rows)
            columns = [costs[metric].tolist() for metric in COUNTED]
            lines = [template % row for row in zip(*columns, strict=True)]
            sys.stdout.write(header + "".join(lines))
            sys.stdout.flush()
            header = ""


@contextmanager
def _without_collection() -> Iterator[None]:
    """JSON has no cycles, and looking for them among its lists takes a third of the time."""
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
        stream: IO[str] = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    with stream:
        lines = enumerate(stream, start=1)
        while part := list(islice(lines, COUNT_LINES)):
            part = [(number, line) for number, line in part if not line.isspace()]
            numbers = [number for number, _ in part]
            yield numbers, _together(part) or [_parsed(file, n, line) for n, line in part]


def _together(part: list[tuple[int, str]]) -> list[dict[str, object]] | None:
    """All lines as one JSON array, which is read twice as fast; None if anything is unusual."""
    lines = [line.strip() for _, line in part]
    if not all(line[0] == "{" and line[-1] == "}" for line in lines):
        return None
    try:
        values = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        return None
    if len(values) != len(lines) or not all(isinstance(value, dict) for value in values):
        return None
    return [_choices(value) for value in values]


def _parsed(file: Path, number: int, line: str) -> dict[str, object]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise UserError(f"{file}, line {number}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}, line {number}: expected a JSON object of choices")
    return _choices(values)


def _choices(values: dict[str, object]) -> dict[str, object]:
    """What `nas show --json` and exports write has the choices one level down."""
    inner = values.get("choices")
    return inner if isinstance(inner, dict) else values
