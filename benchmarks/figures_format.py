"""What `figures.py` reads and how it writes a number: results, rows, rounding.

Does not know any benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True)
class Result:
    """One file of `benchmarks/results/`, as `report.emit` writes it."""

    command: str
    date: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    def row(self, *leading: object) -> Mapping[str, Any]:
        """The one row whose first values are these.

        Raises:
            LookupError: if no row, or more than one, begins so.
        """
        found = [r for r in self.rows if tuple(r.values())[: len(leading)] == leading]
        if len(found) != 1:
            raise LookupError(f"{len(found)} rows of '{self.command}' begin with {leading}")
        return found[0]

    def column(self, name: str, **where: object) -> list[Any]:
        """A column's values, of the rows where other columns have the given values."""
        return [r[name] for r in self.rows if all(r[k] == v for k, v in where.items())]


Results = Mapping[str, Result]
"""Results by the name of their file."""


@dataclass(frozen=True)
class Row:
    """A line of a table. `command` is that of the result the numbers come from."""

    what: str
    measured: str
    peer: str
    command: str


@dataclass(frozen=True)
class Topic:
    """A section of the page. `remarks` hold no measured number."""

    title: str
    rows: list[Row]
    remarks: list[str] = field(default_factory=list)


def load(folder: Path) -> Results:
    """Every result by the name of its file."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        names = ("command", "date", "machine", "settings", "rows")
        results[path.stem] = Result(*(content[name] for name in names))
    return results


def fixed(value: float | Decimal, digits: int = 0) -> str:
    """Rounded half up from the decimal that the file has, with thousands separated."""
    return f"{Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):,}"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage."""
    return f"{fixed(100 * Decimal(str(share)), digits)} %"


def sized(count: float) -> str:
    """Three figures and a suffix: 17.4M, 39.2k, 5.1; exact ones without decimals: 3M."""
    for suffix, unit in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= unit:
            scaled = Decimal(str(count)) / unit
            digits = 0 if scaled % 1 == 0 or scaled >= 100 else 1 if scaled >= 10 else 2
            return fixed(scaled, digits) + suffix
    return fixed(count, 1 if count < 100 else 0)


def span(values: Sequence[float], digits: int = 2) -> str:
    """The smallest and the largest value, or the one that both round to."""
    low, high = fixed(min(values), digits), fixed(max(values), digits)
    return low if low == high else f"{low} to {high}"


def spread(shares: Sequence[float]) -> str:
    """Mean and standard deviation of shares, as percentages."""
    return f"{fixed(100 * mean(shares), 1)} ± {fixed(100 * stdev(shares), 1)} %"


def listed(*parts: str) -> str:
    """Several figures in one cell."""
    return "; ".join(parts)
