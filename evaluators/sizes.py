"""Parse and format sizes, times and energies: `300M`, `4.1G`, `2MiB`, `5ms`, `5mJ`."""

from __future__ import annotations

import re
from fractions import Fraction

from search_spaces.errors import UserError

LARGEST_SEED = 2**32 - 1
"""Largest random seed: those derived from it still fit into 64 bits."""

_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_PATTERN = re.compile(
    r"(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?\d+))?\s*([kmgtp]?|[kmgt]i)b?", re.IGNORECASE
)

_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(?![\d,])")
"""Commas as they group the digits of a large number."""

MAX_EXPONENT = 30

_JOULES = {"u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}
_ENERGY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([umkK]?)[jJ])?")
"""MJ, a million joules, is none of them: it is not a mistyped mJ."""

_WATT_HOURS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([km]?)Wh)?")

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|m|h)?")


def parse_size(text: str) -> int:
    """Parse a count or a number of bytes: `300M` is 300,000,000 and `2MiB` is 2,097,152.

    Raises:
        UserError: if the text is not a size above zero and below 1e30.
    """
    number = text.strip().replace("_", "")
    if "," in number and _THOUSANDS.match(number) is None:
        # 1,5M is not 15M.
        raise UserError(f"malformed size '{text}': expected a decimal point, such as 1.5M")
    match = _PATTERN.fullmatch(number.replace(",", ""))
    if match is None:
        raise UserError(f"malformed size '{text}': expected a number such as 300M, 4.1G or 2MiB")
    number, exponent, unit = match.groups()
    factor = {**_FACTORS, **_BINARY}[unit.lower()]
    if abs(int(exponent or 0)) > MAX_EXPONENT or len(number) > MAX_EXPONENT:
        raise UserError(f"size '{text}' is too large: expected below 1e{MAX_EXPONENT}")
    size = round(Fraction(number) * Fraction(10) ** int(exponent or 0) * factor)
    if size <= 0:
        raise UserError(f"size '{text}' must be above zero")
    return size


def format_size(count: float, unit: str = "") -> str:
    """Format a count with three significant digits: 300774272 is `301M`."""
    for suffix, factor in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= 0.9995 * factor:
            return f"{_digits(count / factor)}{suffix}{unit}"
    return f"{_digits(count)}{unit}" if unit == "" else f"{_digits(count)} {unit}"


def parse_milliseconds(text: str) -> float:
    """Parse a time as milliseconds: `5ms`, `0.2s`, `300us`; a plain number is milliseconds.

    Raises:
        UserError: if the text is not a time above zero, and for minutes, which are a mistyped `ms`.
    """
    if text.strip().endswith("m"):
        raise UserError(f"'{text}' would be minutes: expected a latency such as 5ms, 0.2s or 300us")
    return 1e3 * _seconds(text, "ms", "5ms, 0.2s or 300us")


def parse_seconds(text: str) -> float:
    """Parse a time as seconds: `90s`, `5m`, `2h`; a plain number is seconds.

    Raises:
        UserError: if the text is not a time above zero.
    """
    return _seconds(text, "s", "90s, 5m or 2h")


def parse_millijoules(text: str) -> float:
    """Parse an energy as millijoules: `5mJ`, `0.2J`, `300uJ`; a plain number is millijoules.

    Raises:
        UserError: if the text is not an energy above zero.
    """
    match = _ENERGY.fullmatch(text.strip())
    value = (
        float(match[1]) * _JOULES["m" if match[2] is None else match[2].lower()] if match else 0.0
    )
    if not value > 0:
        raise UserError(
            f"malformed energy '{text}': expected an energy above zero such as 5mJ, 0.2J or 300uJ"
        )
    return 1e3 * value


def parse_watt_hours(text: str) -> float:
    """Parse an energy as watt-hours: `50Wh`, `0.2kWh`, `500mWh`; a plain number is watt-hours.

    Raises:
        UserError: if the text is not an energy above zero.
    """
    match = _WATT_HOURS.fullmatch(text.strip())
    value = float(match[1]) * {"k": 1e3, "m": 1e-3}.get(match[2] or "", 1.0) if match else 0.0
    if not value > 0:
        raise UserError(
            f"malformed energy '{text}': expected an energy above zero such as 50Wh or 0.2kWh"
        )
    return value


def _seconds(text: str, unit: str, examples: str) -> float:
    match = _TIME.fullmatch(text.strip())
    value = float(match[1]) * _SECONDS[match[2] or unit] if match else 0.0
    if not value > 0:
        raise UserError(f"malformed time '{text}': expected a time above zero such as {examples}")
    return value


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 or value == int(value) else f"{value:.3g}"


def parse_exponents(text: str) -> tuple[float, float]:
    """Parse the exponents of GreenScore: `0.035,0.035`.

    Raises:
        UserError: for anything but two numbers.
    """
    try:
        alpha, beta = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"malformed exponents '{text}': expected two numbers, α,β") from None
    return alpha, beta
