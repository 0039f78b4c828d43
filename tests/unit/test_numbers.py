"""Numbers as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linklab.numbers import (
    amount_text,
    digits_text,
    duration_text,
    number_text,
    ratio_text,
    seconds_text,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.00312, "0.00312"),
        (0.312, "0.312"),
        (3.12, "3.12"),
        (31.2, "31.2"),
        (312.0, "312"),
        (3123.0, "3123"),
        (0.0123456, "0.0123"),
        (0.9994, "0.999"),
        (0.9996, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (0.000000123, "0.000000123"),
    ],
)
def test_seconds_have_three_digits_that_count(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


@given(st.floats(1e-6, 1e5))
def test_seconds_as_text_are_the_seconds_to_half_a_percent(seconds: float) -> None:
    text = seconds_text(seconds)
    assert float(text) == pytest.approx(seconds, rel=0.0051)
    digits = re.sub(r"^[0.]*", "", text).replace(".", "")
    assert len(digits) == 3 or seconds > 999


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "-"),
        (0.5, "0.5x"),
        (1.0, "1x"),
        (1.44, "1.4x"),
        (9.94, "9.9x"),
        (9.99, "10x"),
        (10.4, "10x"),
        (40.7, "41x"),
        (312.4, "312x"),
        (12345.0, "12345x"),
    ],
)
def test_a_factor_has_two_or_three_digits(ratio: float | None, text: str) -> None:
    assert ratio_text(ratio) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (3.46e-6, "3.46 us"),
        (0.0135, "13.5 ms"),
        (21.74, "21.7 s"),
        (217.4, "217 s"),
        (999.9e-9, "1.00 us"),
        (-0.002, "-2.00 ms"),
        (2.5e-9, "2.50 ns"),
    ],
)
def test_durations_have_three_digits_and_a_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.46e-6, "s", "3.46 us"),
        (9.5512, "Mbit/s", "9.55 Mbit/s"),
        (0.0, "%", "0 %"),
        (-0.25, "%", "-0.250 %"),
        (1234.5, "", "1234"),
    ],
)
def test_an_amount_has_its_unit_and_a_time_the_one_that_suits_it(
    value: float, unit: str, text: str
) -> None:
    assert amount_text(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "-"),
        (None, "", "-"),
        (0.0, "s", "0"),
        (0.5, "s", "0.500"),
        (70, "", "70"),
        (70.5, "", "70.5"),
        (123456.0, "", "123456"),
        (123456.0, "KiB", "123456"),
    ],
)
def test_a_number_under_a_title_with_its_unit_and_a_count_whole(
    value: float | None, unit: str, text: str
) -> None:
    assert number_text(value, unit) == text


@given(st.floats(-1e6, 1e6), st.integers(2, 6))
def test_digits_are_as_many_as_asked_for_and_no_exponent(value: float, digits: int) -> None:
    text = digits_text(value, digits)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits), abs=0.5e-9)
