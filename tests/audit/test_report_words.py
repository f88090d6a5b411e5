"""Figures are written as a reader takes them in, and names so that they cannot pass for others."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vetted_mw.audit.report.page.marks import fitted, nice_ticks
from vetted_mw.audit.report.sums import Summed
from vetted_mw.audit.report.words import (
    ENERGY,
    MASS,
    count,
    interval,
    listed,
    measured,
    percent,
    printable,
    shortened,
    three_digits,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234567.0, "1,230,000"), (0.001234, "0.00123"), (9.999, "10.0"), (0.9996, "1.00"), (12.0, "12.0")],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    """A number has three significant digits and never a power of ten."""
    assert three_digits(value) == text


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_three_digits_are_near(value: float) -> None:
    """What is written is within half a percent of what is meant."""
    assert math.isclose(float(three_digits(value).replace(",", "")), value, rel_tol=5.1e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 Wh"),
        (0.5, "500 mWh"),
        (999.9, "1.00 kWh"),
        (1.0, "1.00 Wh"),
        (2.5e6, "2.50 MWh"),
        (1e-9, "0.00000100 mWh"),
    ],
)
def test_figures_get_the_unit_that_suits_them(value: float, text: str) -> None:
    """A figure is shown in the largest unit of which there is at least one."""
    assert measured(value, ENERGY) == text


def test_bounds_share_their_figures_unit() -> None:
    """An interval is told in the unit of its figure, so that the three can be compared."""
    summed = Summed(1500.0, 700.0, 3300.0, 1700.0)
    assert interval(summed, MASS) == "0.700 to 3.30"
    assert interval(summed, MASS, named=True) == "0.700 to 3.30 kg"


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "-"),
        (0, 5, "0.0 %"),
        (1, 3, "33.3 %"),
        (3, 3, "100.0 %"),
        (1, 10**6, "<0.1 %"),
        (10**6 - 1, 10**6, ">99.9 %"),
        (0.1 + 0.2, 0.3, "100.0 %"),
    ],
)
def test_something_is_never_shown_as_nothing(part: float, whole: float, text: str) -> None:
    """A share that is not nothing is not 0 %, and one that is not all is not 100 %."""
    assert percent(part, whole) == text


@given(st.text())
def test_names_hold_nothing_hidden(text: str) -> None:
    """Whatever a name holds, no character in what is shown moves a cursor, hides or turns the writing round."""
    shown = printable(text)
    assert len(shown) == len(text)
    assert not {unicodedata.category(one) for one in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(max_size=60), st.integers(3, 40))
def test_long_names_keep_both_ends(text: str, characters: int) -> None:
    """A shortened name is no longer than asked for, and begins and ends as the name does."""
    shown = shortened(text, characters)
    assert len(shown) <= characters
    assert shown[:1] == printable(text)[:1]
    assert shown[-1:] == printable(text)[-1:]


@given(st.text(max_size=500), st.floats(40, 900))
def test_names_fit_their_place(text: str, pixels: float) -> None:
    """A name is cut to the room there is, and a short one is left whole."""
    shown = fitted(text, pixels)
    assert len(shown) * 9 <= pixels or len(shown) <= 3
    assert fitted("gpt", 100) == "gpt"


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_ticks_are_few_and_reach_the_highest(highest: float) -> None:
    """An axis begins at zero, ends at or just above the highest value, and has two to seven evenly spaced ticks."""
    ticks = nice_ticks(highest)
    assert ticks[0] == 0
    assert highest <= ticks[-1] * (1 + 1e-6)
    assert ticks[-2] < highest
    assert 2 <= len(ticks) <= 7


def test_an_axis_without_values_has_ticks() -> None:
    """Where everything is zero there is an axis all the same."""
    assert nice_ticks(0.0) == [0.0, 1.0]


def test_counts_agree_with_what_they_count() -> None:
    """One is one, and lists of nothing say so."""
    assert (count(1, "calls"), count(2000, "calls"), count(7)) == ("1 call", "2,000 calls", "7")
    assert (listed([]), listed(["a", "b"])) == ("none", "a, b")
