"""The sums as CSV (RFC 4180): plain numbers in base units, one table, safe to open in a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from typing import TYPE_CHECKING

from vetted_mw.audit.report.sums import Group
from vetted_mw.audit.report.words import printable
from vetted_mw.instants import rfc3339
from vetted_mw.rounding import significant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vetted_mw.audit.report.content import Report
    from vetted_mw.audit.report.sums import Summed, Sums
    from vetted_mw.audit.report.totals import Totals

__all__ = ["COLUMNS", "REPORT_COLUMNS", "report_csv", "sums_csv"]

COLUMNS = (
    "group",
    "boundary",
    "day",
    "model",
    "region",
    "completion_status",
    "requests",
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "energy_wh",
    "energy_wh_ci90_lo",
    "energy_wh_ci90_hi",
    "energy_wh_expected",
    "gco2e_g",
    "gco2e_g_ci90_lo",
    "gco2e_g_ci90_hi",
    "gco2e_g_expected",
    "gco2e_operational_g",
    "gco2e_embodied_g",
    "ml_water_ml",
    "ml_water_ml_ci90_lo",
    "ml_water_ml_ci90_hi",
    "ml_water_ml_expected",
    "grid_intensity_gco2_per_kwh",
    "live_calls",
    "live_energy_wh",
    "compared_calls",
    "compared_gco2e_g",
    "default_region_gco2e_g",
)
REPORT_COLUMNS = (
    *COLUMNS,
    "period_from",
    "period_to",
    "issuers",
    "key_ids_not_verified",
    "receipts_not_kept",
    "software",
)
"""What the report's own table has besides: the same on each line, so that no line is ever without its origin."""
_MOST_NAMED = 20
_GROUPS: tuple[tuple[str, tuple[Group, ...]], ...] = (
    ("total", ()),
    ("completion", (Group.COMPLETION,)),
    ("model", (Group.MODEL, Group.COMPLETION)),
    ("region", (Group.REGION, Group.COMPLETION)),
    ("day", (Group.DAY, Group.COMPLETION)),
    ("day_model_region", (Group.DAY, Group.MODEL, Group.REGION, Group.COMPLETION)),
)
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may take for a formula's begin, in the width of East Asian texts too."""
_DIGITS = 12
"""What adding up leaves of a number; the last of its digits are noise."""


def report_csv(report: Report) -> Iterator[str]:
    """Yield the lines of the table with what it is of on each: period, issuers, keys, losses, and what made it."""
    totals = report.totals
    about = (
        *_period(report),
        _named(totals.issuers),
        _named(totals.keys),
        str(sum(totals.not_kept.values())),
        report.software,
    )
    yield _line(REPORT_COLUMNS)
    for line in _lines(totals):
        yield _line((*line, *about))


def sums_csv(totals: Totals) -> Iterator[str]:
    """Yield the lines of the table, their ends included.

    Column `group` says by what a line's receipts are grouped; a column that does not belong to it is empty. All lines
    of one group and boundary add up to the `total` of that boundary; lines of two groups are never to be added.
    """
    yield _line(COLUMNS)
    yield from map(_line, _lines(totals))


def _lines(totals: Totals) -> Iterator[tuple[str, ...]]:
    for boundary in totals.boundaries:
        for name, groups in _GROUPS:
            for values, sums in totals.by(boundary, *groups).items():
                told = dict(zip(groups, values, strict=True))
                yield (name, boundary, *(told.get(group, "") for group in _COLUMN_GROUPS), *_numbers(sums))


_COLUMN_GROUPS = (Group.DAY, Group.MODEL, Group.REGION, Group.COMPLETION)


def _period(report: Report) -> tuple[str, str]:
    """Return begin and end, which is not in it; without bounds, those of the days that have receipts."""
    begin = end = ""
    if (days := report.days) is not None:
        begin, end = str(days[0]), str(min(days[1], date.max - timedelta(days=1)) + timedelta(days=1))
    return (
        begin if report.since is None else rfc3339(report.since),
        end if report.until is None else rfc3339(report.until),
    )


def _named(counts: Mapping[str, int]) -> str:
    names = sorted(name for name in counts if name)
    return "; ".join([*names[:_MOST_NAMED], *(["..."] if len(names) > _MOST_NAMED else [])])


def _numbers(sums: Sums) -> Iterator[str]:
    yield from map(str, (sums.requests, sums.calls, sums.prompt_tokens, sums.completion_tokens))
    yield from _figure(sums.energy_wh)
    yield from _figure(sums.gco2e)
    yield from map(_number, (sums.gco2e_operational, sums.gco2e_embodied))
    yield from _figure(sums.ml_water)
    yield "" if sums.grid_gco2_per_kwh is None else _number(sums.grid_gco2_per_kwh)
    yield from (str(sums.live_calls), _number(sums.live_wh), str(sums.compared))
    yield from map(_number, (sums.compared_gco2e, sums.default_gco2e))


def _figure(summed: Summed) -> Iterator[str]:
    return map(_number, (summed.value, summed.low, summed.high, summed.expected))


def _number(value: float) -> str:
    """Write a number without an exponent, which not every reader takes."""
    text = f"{significant(value, _DIGITS):.15f}" if abs(value) < 1 else repr(significant(value, _DIGITS))
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _line(cells: tuple[str, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([_harmless(cell) for cell in cells])
    return line.getvalue()


def _harmless(text: str) -> str:
    """Keep a name that a caller chose from being run as a formula: an apostrophe makes it text."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
