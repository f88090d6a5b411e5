"""The numbers of a ledger as they are met."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vetted_mw.audit.verify import series as module
from vetted_mw.audit.verify.series import Gap, Met, Series


def missing(series: Series) -> set[int]:
    return {seq for gap in series.gaps() for seq in range(gap.first, gap.last + 1)}


@given(st.lists(st.integers(min_value=1, max_value=40), max_size=80))
def test_any_order_of_numbers_leaves_just_the_missing_ones(met: list[int]) -> None:
    """Whatever order numbers come in, and however often, the gaps are those never met below the largest."""
    series, seen = Series(), set[int]()
    for seq in met:
        found = series.meet(seq)
        assert (found is Met.TWICE) == (seq in seen)
        assert (found is Met.NEXT) == (seq > max(seen, default=0))
        seen.add(seq)
    assert missing(series) == set(range(1, max(seen, default=0) + 1)) - seen
    assert series.count == len(seen)


@given(st.lists(st.integers(min_value=1, max_value=60), max_size=60, unique=True))
def test_gaps_are_disjoint_ascending_and_name_what_follows(met: list[int]) -> None:
    """Each gap is told once, in order, as wide as it is."""
    series = Series()
    for seq in met:
        series.meet(seq)
    gaps = list(series.gaps())
    assert all(gap.first <= gap.last and gap.after == gap.last + 1 for gap in gaps)
    assert all(one.last + 1 < other.first for one, other in itertools.pairwise(gaps))


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (Gap(first=7, last=7, after=8), "seq 7 is missing between 6 and 8"),
        (Gap(first=7, last=9, after=10), "seq 7 to 9 are missing between 6 and 10"),
        (Gap(first=1, last=1, after=2), "seq 1 is missing before 2"),
        (Gap(first=1, last=4, after=5), "seq 1 to 4 are missing before 5"),
        (Gap(first=9, last=9, after=None), "seq 9 is missing at the end"),
    ],
)
def test_a_gap_is_said_in_words(gap: Gap, words: str) -> None:
    """An auditor reads which numbers are missing, and between which."""
    assert str(gap) == words


def test_a_number_before_the_start_is_no_part_of_the_series() -> None:
    """What lies before the first number is neither a duplicate nor late."""
    series = Series(start=10)
    assert series.meet(9) is Met.OUTSIDE
    assert series.meet(10) is Met.NEXT
    assert not list(series.gaps())


def test_gaps_beyond_count_are_given_up_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: the oldest gaps are told at once when there are too many, and none is lost."""
    monkeypatch.setattr(module, "_MOST_HOLES", 10)
    series = Series()
    told: list[Gap] = []
    for seq in range(2, 100, 2):
        series.meet(seq)
        told += series.overflow()
    assert not series.overflow()
    every = {seq for gap in [*told, *series.gaps()] for seq in range(gap.first, gap.last + 1)}
    assert every == set(range(1, 99, 2))


def test_shuffled_rows_leave_no_gap() -> None:
    """A thousand rows in any order are all there."""
    order = list(range(1, 1001))
    random.Random(5).shuffle(order)  # noqa: S311
    series = Series()
    for seq in order:
        series.meet(seq)
    assert not list(series.gaps())
