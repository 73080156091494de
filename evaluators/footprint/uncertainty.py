"""Interval arithmetic: estimates with their range and all factors they were computed from.

An estimate is a formula over factors, each with a likely value, a low and a high end, and a source.
Formulas are monotone in each factor, so the interval of a result is exact: its ends have every
factor at the end that makes the result smallest or largest. Knows intervals. Does not know what is
computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any

Values = Mapping[str, float]
"""Values of factors by name."""


@dataclass(frozen=True)
class Factor:
    """An input of a result, in `unit`, with `low <= value <= high`."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str
    """Source of the value and of its range."""
    inverse: bool = False
    """Whether a larger value makes the result smaller, as for a utilisation."""

    def __post_init__(self) -> None:
        """Check that the range contains the value."""
        ends = (self.low, self.value, self.high)
        if not all(map(isfinite, ends)) or not self.low <= self.value <= self.high:
            raise ValueError(f"{self.name}: {self.value} is not within {self.low} to {self.high}")

    @property
    def best(self) -> float:
        """The end that makes the result smallest."""
        return self.high if self.inverse else self.low

    @property
    def worst(self) -> float:
        """The end that makes the result largest."""
        return self.low if self.inverse else self.high


GIVEN = "given; taken as exact"


def given(name: str, value: float, unit: str, *, inverse: bool = False) -> Factor:
    """A factor stated by the user, with no range."""
    return Factor(name, value, value, value, unit, GIVEN, inverse)


@dataclass(frozen=True)
class Estimate:
    """A result in `unit`, as a formula over factors that is monotone in each of them."""

    name: str
    unit: str
    factors: tuple[Factor, ...]
    formula: Callable[[Values], float] = field(repr=False, compare=False)

    @cached_property
    def value(self) -> float:
        """The result with all factors at their likely values."""
        return self.formula({f.name: f.value for f in self.factors})

    @cached_property
    def low(self) -> float:
        """The smallest result that the factors' ranges allow."""
        return self.formula({f.name: f.best for f in self.factors})

    @cached_property
    def high(self) -> float:
        """The largest result that the factors' ranges allow."""
        return self.formula({f.name: f.worst for f in self.factors})

    def swing(self, factor: Factor) -> tuple[float, float]:
        """The results at both ends of a factor, with all others at their likely values."""
        values = {f.name: f.value for f in self.factors}
        low = self.formula(values | {factor.name: factor.best})
        return low, self.formula(values | {factor.name: factor.worst})

    @cached_property
    def widest(self) -> Factor | None:
        """The factor whose range changes the result most; None if no factor has a range."""
        spans = {f.name: high - low for f in self.factors for low, high in [self.swing(f)]}
        widest = max(self.factors, key=lambda f: spans[f.name], default=None)
        return widest if widest is not None and spans[widest.name] > 0 else None

    def times(self, name: str, unit: str, *factors: Factor, scale: float = 1.0) -> Estimate:
        """This result multiplied by factors and a constant, as an estimate of another quantity."""
        names = [factor.name for factor in factors]

        def formula(values: Values) -> float:
            result = self.formula(values) * scale
            for factor in names:
                result *= values[factor]
            return result

        return Estimate(name, unit, joined([*self.factors, *factors]), formula)

    def to_json(self) -> dict[str, Any]:
        """Value, range and the factor that contributes most to it."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "widest": self.widest.name if self.widest else None,
        }


def total(name: str, parts: Sequence[Estimate]) -> Estimate:
    """The sum of estimates in one unit; a factor that several share varies once in the range.

    Raises:
        ValueError: for estimates in different units, or different factors of one name.
    """
    units = {part.unit for part in parts}
    if len(units) != 1:
        raise ValueError(f"cannot add {', '.join(sorted(units))}")
    factors = joined([factor for part in parts for factor in part.factors])
    return Estimate(name, units.pop(), factors, lambda v: sum(p.formula(v) for p in parts))


def joined(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """Factors without repetition.

    Raises:
        ValueError: if two factors of one name differ.
    """
    found: dict[str, Factor] = {}
    for factor in factors:
        if found.setdefault(factor.name, factor) != factor:
            raise ValueError(f"two different factors are called '{factor.name}'")
    return tuple(found.values())
