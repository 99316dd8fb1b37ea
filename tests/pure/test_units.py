"""Sizes and times as people write them."""

from __future__ import annotations

import argparse

import pytest

from pytest_imagebuild.units import age_text, parse_age, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("12B", 12),
        ("1KB", 1000),
        ("1kb", 1000),
        ("1KiB", 1024),
        ("20GB", 20_000_000_000),
        ("20 GB", 20_000_000_000),
        ("1.5GiB", 1_610_612_736),
        ("2T", 2_000_000_000_000),
        ("3M", 3_000_000),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1XB", "1.GB", "1e9", "ten", "1GB 2MB", "nan"])
def test_what_is_no_size_is_answered_with_examples(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse_size(text)
    assert str(caught.value) == (f"{text!r} is not a size. Write a number with a unit, such as 20GB, 500MB or 1.5GiB.")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("12h", 43200), ("14d", 1209600), ("2w", 1209600), ("0d", 0), ("1.5 h", 5400)]
)
def test_an_age_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "14", "14D", "d", "-1d", "1y", "1 month"])
def test_what_is_no_age_is_answered_with_examples(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse_age(text)
    assert str(caught.value) == f"{text!r} is not a time. Write a number with a unit, such as 14d, 12h, 2w or 30m."


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_400, "99.4 kB"),
        (99_950, "100 kB"),
        (999_600, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (5e13, "50.0 TB"),
    ],
)
def test_a_size_is_shown_in_decimal_units(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (20 * 86400, "20 d")],
)
def test_an_age_is_shown_in_the_largest_unit_that_fits_twice(seconds: float, text: str) -> None:
    assert age_text(seconds) == text
