"""Sizes: parsing and formatting."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.sizes import format_size, parse_millijoules, parse_size
from search_spaces.errors import UserError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("300M", 300_000_000),
        ("4.1G", 4_100_000_000),
        ("2MiB", 2_097_152),
        ("4MB", 4_000_000),
        ("512KiB", 524_288),
        (".5k", 500),
        ("1e6", 1_000_000),
        ("1_000", 1000),
        ("1,000,000", 1_000_000),
        ("1,500.5k", 1_500_500),
        (" 3 m ", 3_000_000),
        ("2 mib", 2_097_152),
        ("1.5e3k", 1_500_000),
        ("1GiB", 2**30),
        ("0.5TiB", 2**39),
        ("0.6", 1),
        ("2T", 2 * 10**12),
    ],
)
def test_sizes_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "abc",
        "3X",
        "-3M",
        "+3",
        "0",
        "0.0M",
        "0.4",
        "1e-9",
        "1.2.3",
        "1,5M",
        "0,5",
        "1,5000",
        "1000,000",
        ",5",
        "1.500,000",
        "3 M M",
        "nan",
        "inf",
        "1e",
        "0x10",
    ],
)
def test_malformed_sizes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"malformed size|must be above zero"):
        parse_size(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(300_774_272, "301M"), (4.1e9, "4.1G"), (999, "999"), (999_600, "1M"), (1000, "1k"), (0, "0")],
)
def test_sizes_are_written_with_three_digits(count: float, text: str) -> None:
    assert format_size(count) == text


@given(st.integers(1, 10**15))
def test_written_sizes_read_back_within_their_digits(count: int) -> None:
    assert parse_size(format_size(count)) == pytest.approx(count, rel=0.006)


@given(st.integers(1, 2**53))
def test_plain_counts_read_exactly(count: int) -> None:
    assert parse_size(str(count)) == parse_size(f"{count:,}") == parse_size(f"{count:_}") == count


@given(st.integers(1, 99_999), st.sampled_from("kMGT"))
def test_decimals_read_exactly(hundredths: int, unit: str) -> None:
    factor = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[unit]
    text = f"{hundredths // 100}.{hundredths % 100:02d}{unit}"
    assert parse_size(text) == hundredths * factor // 100
    assert parse_size(text.lower() + "B") == hundredths * factor // 100


# Exponents of three digits: see `test_sizes_beyond_floats_are_refused`.
@given(st.text(max_size=8).filter(lambda text: not re.search(r"(?i)e\+?\d{3}", text)))
def test_any_text_is_a_size_or_one_clear_line(text: str) -> None:
    try:
        size = parse_size(text)
    except UserError:
        return
    assert size > 0


@pytest.mark.parametrize("text", ["1e400", "9" * 400])
def test_sizes_beyond_floats_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_size(text)


def test_whole_numbers_beyond_floats_precision_are_exact() -> None:
    assert parse_size("9007199254740993") == 9007199254740993


def test_a_unit_follows_the_figure() -> None:
    assert format_size(2_000_000, "B") == "2MB"
    assert format_size(12, "B") == "12 B"


@given(st.integers(1, 10**17))
def test_written_sizes_are_short_and_keep_their_sign(count: int) -> None:
    assert len(format_size(count).rstrip("kMGTP")) <= 4
    assert format_size(-count).startswith("-")


@pytest.mark.parametrize(
    ("text", "millijoules"),
    [("5mJ", 5.0), ("5", 5.0), ("0.2J", 200.0), ("300uJ", 0.3), ("2kJ", 2e6), ("5mj", 5.0)],
)
def test_energies_are_parsed(text: str, millijoules: float) -> None:
    assert parse_millijoules(text) == pytest.approx(millijoules)


@pytest.mark.parametrize("text", ["5MJ", "0J", "5 Wh", "-1mJ", ""])
def test_a_megajoule_is_not_a_mistyped_millijoule(text: str) -> None:
    with pytest.raises(UserError, match="malformed energy"):
        parse_millijoules(text)
