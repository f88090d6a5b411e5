"""Table, CSV and page say the same, keep apart what may not be added, and hold no name that could do harm."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.counting import START, counted, quarter, report_of_rows
from vetted_mw.audit.report.csv_form import COLUMNS, sums_csv
from vetted_mw.audit.report.page.page import page
from vetted_mw.audit.report.table import report_table
from vetted_mw.audit.report.totals import totals


def _table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_lines_of_a_group_add_up_to_the_total() -> None:
    """In the CSV every group of a boundary adds up to its total, in every column that can be added."""
    narrow = [row | {"boundary": "narrow", "query_id": f"n{place}"} for place, row in enumerate(quarter(9))]
    lines = _table("".join(sums_csv(totals([*quarter(), *narrow]))))
    added = [name for name in COLUMNS[6:] if name != "grid_intensity_gco2_per_kwh"]
    for boundary in ("comprehensive", "narrow"):
        of_boundary = [line for line in lines if line["boundary"] == boundary]
        (total,) = [line for line in of_boundary if line["group"] == "total"]
        groups = {line["group"] for line in of_boundary} - {"total"}
        assert groups == {"completion", "model", "region", "day", "day_model_region"}
        for group in groups:
            for name in added:
                summed = sum(float(line[name]) for line in of_boundary if line["group"] == group)
                assert summed == pytest.approx(float(total[name]), rel=1e-9), (group, name)


def test_abandoned_work_has_lines_of_its_own() -> None:
    """Abandoned attempts are not in the lines of answers, in the CSV and in the table."""
    rows = [counted(1), counted(2, completion_status="abandoned", request_id=counted(1)["query_id"])]
    lines = _table("".join(sums_csv(totals(rows))))
    assert [(one["completion_status"], one["calls"]) for one in lines if one["group"] == "model"] == [
        ("abandoned", "1"),
        ("complete", "1"),
    ]
    words = [line.split("  ")[0] for line in report_table(report_of_rows(rows)).splitlines()]
    assert words.count("abandoned attempts") == 3
    assert words.count("total") == 4


@given(st.text(max_size=12))
def test_no_name_becomes_a_formula(name: str) -> None:
    """Whatever a caller named its model, a spreadsheet reads text, and a CSV reader the same cell."""
    text = "".join(sums_csv(totals([counted(1, model=name)])))
    (line,) = [one for one in _table(text) if one["group"] == "model"]
    assert not line["model"].lstrip().startswith(("=", "+", "-", "@"))
    assert line["requests"] == "1"


def test_the_csv_is_as_rfc_4180_has_it() -> None:
    """Lines end in CR LF, cells with quotes or commas are quoted, numbers have no exponent, units are in the head."""
    rows = [counted(1, model='a "b", c', gco2e=1.5e-7, energy_wh=2.5e9, ml_water=3e-20)]
    lines = list(sums_csv(totals(rows)))
    assert all(line.endswith("\r\n") and line.count("\n") == 1 for line in lines)
    (model,) = [line for line in lines if line.startswith("model,")]
    assert '"a ""b"", c"' in model
    cells = next(csv.DictReader(io.StringIO("".join(lines), newline="")))
    assert (cells["gco2e_g"], cells["energy_wh"], cells["ml_water_ml"]) == ("0.00000015", "2500000000", "0")


def test_negative_savings_are_shown_as_such() -> None:
    """Where more was emitted than the default region's figures say, table and page say that savings are negative."""
    rows = [counted(1, gco2e=3.0, default_region="fr", default_region_gco2e=1.0)]
    report = report_of_rows(rows)
    assert "savings -2.00 g" in report_table(report)
    assert "attributional comparison, not avoided emissions" in report_table(report)
    assert "2.00 g (200.0 %) more: the savings are negative" in page(report)
    assert "Attributional comparison, not avoided emissions" in page(report)


def test_positive_savings_and_their_coverage_are_shown() -> None:
    """How many calls could be compared is told with the difference."""
    rows = [counted(1, gco2e=1.0, default_region="fr", default_region_gco2e=4.0), *_uncompared(3)]
    assert "1 of 4 calls (25.0 %)" in page(report_of_rows(rows))
    assert "3.00 g (75.0 %) less" in page(report_of_rows(rows))
    assert "25.0 % of calls" in report_table(report_of_rows(rows))


def test_nothing_to_compare_is_said() -> None:
    """Without any figure of a default region the comparison is not drawn, and the reason is there."""
    report = report_of_rows(_uncompared(1))
    assert "nothing is compared" in page(report)
    assert "no receipt has its figure" in report_table(report)


def test_the_same_receipts_give_the_same_bytes() -> None:
    """The page is a function of the receipts: nothing of the clock or of chance is in it."""
    assert page(report_of_rows(quarter(9))) == page(report_of_rows(quarter(9)))


def test_each_form_says_the_same() -> None:
    """Table, CSV and page show one and the same total."""
    report = report_of_rows(quarter(9))
    whole = report.totals.of("comprehensive")
    (line,) = [one for one in _table("".join(sums_csv(report.totals))) if one["group"] == "total"]
    assert float(line["gco2e_g"]) == pytest.approx(whole.gco2e.value)
    shown = f"{whole.gco2e.value * 1000:.0f} mg" if whole.gco2e.value < 1 else f"{whole.gco2e.value:.2f} g"
    assert shown in report_table(report)
    assert shown in page(report)


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        (None, None, "from 2026-08-01 to 2026-08-03 (UTC)"),
        (START, START + timedelta(days=1), "on 2026-08-01 (UTC)"),
        (START, START + timedelta(days=31), "from 2026-08-01 to 2026-08-31, both included (UTC)"),
        (START + timedelta(hours=6), None, "from 2026-08-01 06:00:00 to 2026-08-03 (UTC)"),
        (START, START + timedelta(hours=7), "from 2026-08-01 to before 2026-08-01 07:00:00 (UTC)"),
    ],
)
def test_the_period_is_told(since: datetime | None, until: datetime | None, told: str) -> None:
    """Whole days are told with both ends, anything else as half-open as it is."""
    assert report_of_rows(quarter(3), since=since, until=until).period == told


def test_many_ledgers_are_summed_up() -> None:
    """Page and table list the largest ledgers and tell how many more there are."""
    rows = [counted(number, ledger_id=f"ledger-{number}", seq=1) for number in range(1, 51)]
    assert "10 more ledgers with fewer rows are not listed" in page(report_of_rows(rows))
    assert "and 30 more with fewer rows" in report_table(report_of_rows(rows))


def test_sums_of_parts_are_told() -> None:
    """Receipts that were left out of the sums, being sums themselves, are told of."""
    rows = [counted(1, calls=2), counted(2, request_id=counted(1)["query_id"])]
    assert "1 receipt is the sum of several calls" in page(report_of_rows(rows))
    assert "sums of several calls: 1;" in report_table(report_of_rows(rows))


def test_a_report_reaches_as_far_as_its_receipts() -> None:
    """A period of centuries does not stretch the axis beyond the days that have receipts; a century of receipts does."""
    far = report_of_rows(quarter(3), since=datetime(1, 1, 1, tzinfo=UTC), until=datetime(9999, 12, 31, tzinfo=UTC))
    assert far.days is not None
    assert (far.days[1] - far.days[0]).days == 2
    wide = report_of_rows(
        [counted(1, issued_at="1000-01-01T00:00:00.000Z"), counted(2, issued_at="9999-12-31T00:00:00.000Z")]
    )
    assert "Emissions per year" in page(wide)


def _uncompared(number: int) -> list[dict[str, Any]]:
    return [counted(100 + one, default_region=None, default_region_gco2e=None) for one in range(number)]
