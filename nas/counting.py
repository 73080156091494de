"""Counting architectures from JSON lines, as `nas count` does: a line out for each line in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from evaluators.costs import CostTables
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

COUNT_LINES = 4096
"""Lines priced at a time, so that a pipe is answered while it is written."""


def print_counts(space_name: str, file: Path, *, as_json: bool) -> None:
    """`nas count`."""
    space = load_space(space_name)
    tables = CostTables(space)
    header = "" if as_json else f"{'macs':>16} {'params':>14} {'memory':>14}\n"
    for lines in _chunks(file):
        archs = []
        for number, line in lines:
            try:
                values = json.loads(line)
            except ValueError as error:
                raise UserError(f"{file}, line {number}: not JSON ({error})") from error
            if not isinstance(values, dict):
                raise UserError(f"{file}, line {number}: expected a JSON object of choices")
            try:
                archs.append(space.architecture(values.get("choices", values)))
            except UserError as error:
                raise UserError(f"{file}, line {number}: {error}") from error
        costs = tables.score(space.encode(archs))
        print(header, end="")
        header = ""
        for macs, params, memory in zip(*(c.tolist() for c in costs.values()), strict=True):
            if as_json:
                print(f'{{"macs": {macs}, "params": {params}, "memory": {memory}}}')
            else:
                print(f"{macs:>16,} {params:>14,} {memory:>14,}")


def _chunks(file: Path) -> Iterator[list[tuple[int, str]]]:
    try:
        stream = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    with stream:
        chunk: list[tuple[int, str]] = []
        for number, line in enumerate(stream, start=1):
            if line.strip():
                chunk.append((number, line))
            if len(chunk) == COUNT_LINES:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
