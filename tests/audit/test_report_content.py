"""A report is cut to what can be shown: whole steps of time, the largest groups, markup that holds what it is given."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.counting import counted, report_of_rows
from vetted_mw.audit.report.content import largest, steps
from vetted_mw.audit.report.page.days import spans
from vetted_mw.audit.report.page.marks import h, markup
from vetted_mw.audit.report.page.page import page
from vetted_mw.audit.report.sums import Summed, Sums
from vetted_mw.audit.report.table import report_table


def _sums(energy_wh: float) -> Sums:
    return Sums(calls=1, energy_wh=Summed(energy_wh, energy_wh, energy_wh, energy_wh))


@given(st.dates(date(1, 1, 1), date.max), st.integers(0, 30_000))
def test_steps_of_time_leave_no_day_out(first: date, days: int) -> None:
    """Steps follow on each other from the first day to the last, and there are few enough to be seen."""
    last = first + timedelta(days=min(days, (date.max - first).days))
    name, found = spans(first, last)
    assert (found[0].first, found[-1].last) == (first, last)
    assert all(one.last + timedelta(days=1) == other.first for one, other in pairwise(found))
    assert all(one.first <= one.last for one in found)
    assert len(found) <= 125
    assert name in {"day", "week", "month", "year"}


@pytest.mark.parametrize(
    ("days", "name"), [(1, "day"), (120, "day"), (121, "week"), (800, "week"), (801, "month"), (3701, "year")]
)
def test_steps_grow_with_the_period(days: int, name: str) -> None:
    """A bar is a day as long as days can be told apart."""
    first = date(2026, 1, 1)
    assert spans(first, first + timedelta(days=days - 1))[0] == name


def test_the_smaller_groups_become_others() -> None:
    """Of many groups those with the most energy are kept, and what the others add up to is not lost."""
    kept = largest({(name,): _sums(number) for number, name in enumerate("abcdef", start=1)}, 3)
    assert list(kept.shown) == ["f", "e", "d"]
    assert kept.others is not None
    assert (kept.others.energy_wh.value, kept.left) == (6.0, 3)
    assert list(kept.rows) == ["f", "e", "d", "3 others"]


def test_one_group_is_never_called_others() -> None:
    """A group that alone would be `others` is shown by its name."""
    kept = largest({(name,): _sums(1.0) for name in "abcd"}, 3)
    assert (list(kept.shown), kept.others) == (["a", "b", "c", "d"], None)


def test_without_receipts_there_are_no_steps() -> None:
    """Nothing has no axis."""
    assert steps(report_of_rows([]), "comprehensive") == ("day", [])


def test_a_receipt_whose_parts_are_elsewhere_is_not_drawn() -> None:
    """Where only a sum of parts is in the period, its request counts, and no plot pretends to have figures."""
    report = report_of_rows([counted(1, calls=2)])
    assert "<svg" not in page(report)
    assert "total" in report_table(report)


def test_markup_escapes_whatever_it_holds() -> None:
    """Texts, also between elements, and attributes cannot become markup."""
    made = markup(h("p", "<a>", " & ", h("b", "x"), "<i>", "</p>", title='"><script>'))
    assert made == '<p title="&quot;&gt;<script&gt;">&lt;a&gt; &amp; <b>x</b>&lt;i&gt;&lt;/p&gt;</p>'
