"""Fingrid: Finland's emission factor, consumed or produced, in the plain and the list form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from grid.asked import KEY, reason_of, service, signal_of
from grid.samples import NOW
from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Ineligible, read_at
from vetted_mw.grid.sources import fingrid

CONSUMED = service("fingrid", figure="consumption")
PRODUCED = service("fingrid", figure="production")


def value(**changed: Any) -> dict[str, Any]:
    """Return one value as the service writes it; `...` takes a member out."""
    written = {
        "datasetId": 265,
        "startTime": "2026-11-22T10:27:00.000Z",
        "endTime": "2026-11-22T10:30:00.000Z",
        "value": 38.2,
    } | changed
    return {name: one for name, one in written.items() if one is not ...}


def listed(*values: Any) -> dict[str, Any]:
    """Return values in the list form."""
    return {"data": list(values), "pagination": {"total": len(values), "currentPage": 1}}


@pytest.mark.parametrize(
    ("source", "number", "method"),
    [
        (CONSUMED, 265, "consumption/direct/average/fingrid"),
        (PRODUCED, 266, "production/direct/average/fingrid"),
    ],
)
@pytest.mark.parametrize("form", [lambda one: one, listed], ids=["plain", "list"])
def test_a_value_is_of_its_dataset(source: Any, number: int, method: str, form: Any) -> None:
    """265 is what is consumed, 266 what is produced; both direct emissions, so they never rank with life-cycle values."""
    seen = signal_of(source, "FI", form(value(datasetId=number)))
    assert (seen.source, seen.zone, seen.area, seen.kind) == ("fingrid_live", "FI", "FI", "measured")
    assert (seen.gco2_per_kwh, str(seen.method)) == (38.2, method)
    assert seen.observed_at == datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
    assert (seen.resolution_minutes, seen.max_age_minutes) == (3, 20.0)
    assert read_at(seen, NOW).live_eligible


@pytest.mark.parametrize("source", [CONSUMED, PRODUCED], ids=["consumption", "production"])
@pytest.mark.parametrize("number", [124, 0, None, "265", "266", True])
def test_another_dataset_is_refused(source: Any, number: Any) -> None:
    """A value of another dataset is not this one's, whatever it is called."""
    assert reason_of(source, "FI", value(datasetId=number)) is NoSignalReason.WRONG_AREA
    assert reason_of(source, "FI", listed(value(datasetId=number))) is NoSignalReason.WRONG_AREA


def test_one_dataset_is_never_taken_for_the_other() -> None:
    """What was produced is no answer to what was consumed, nor the other way round."""
    assert reason_of(CONSUMED, "FI", value(datasetId=266)) is NoSignalReason.WRONG_AREA
    assert reason_of(PRODUCED, "FI", value(datasetId=265)) is NoSignalReason.WRONG_AREA


def test_the_latest_of_a_list_counts() -> None:
    """In whatever order they come, and with or without the dataset's number in each."""
    times = ["09:57", "10:30", "10:03", "10:27"]
    rows = [
        value(endTime=f"2026-11-22T{at}:00Z", startTime="2026-11-22T09:00:00Z", value=float(at[3:])) for at in times
    ]
    for turned in (rows, rows[::-1], [{k: v for k, v in one.items() if k != "datasetId"} for one in rows]):
        seen = signal_of(CONSUMED, "FI", listed(*turned))
        assert (seen.gco2_per_kwh, seen.observed_at) == (30.0, datetime(2026, 11, 22, 10, 30, tzinfo=UTC))


def test_a_listed_value_of_a_time_to_come_is_passed_over() -> None:
    """More than five minutes ahead it hides no older value; alone it is told and refused."""
    ahead = value(endTime="2026-11-22T10:36:08Z", value=1.0)
    seen = signal_of(CONSUMED, "FI", listed(ahead, value()))
    assert (seen.gco2_per_kwh, read_at(seen, NOW).ineligible) == (38.2, None)
    for answer in (ahead, listed(ahead)):
        assert read_at(signal_of(CONSUMED, "FI", answer), NOW).ineligible is Ineligible.FUTURE_DATED


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"value": None}, NoSignalReason.NOT_A_NUMBER),
        ({"value": ...}, NoSignalReason.NOT_A_NUMBER),
        ({"value": -0.1}, NoSignalReason.NOT_A_NUMBER),
        ({"value": "ND"}, NoSignalReason.NOT_A_NUMBER),
        ({"value": True}, NoSignalReason.NOT_A_NUMBER),
        ({"value": 38_200}, NoSignalReason.IMPLAUSIBLE),
        ({"endTime": None}, NoSignalReason.NOT_UNDERSTOOD),
        ({"startTime": ...}, NoSignalReason.NOT_UNDERSTOOD),
        ({"endTime": "2026-11-22T10:30:00"}, NoSignalReason.NO_OFFSET),
        ({"startTime": "2026-11-22T10:27:00"}, NoSignalReason.NO_OFFSET),
        ({"startTime": "2026-11-22T10:33:00Z"}, NoSignalReason.NOT_UNDERSTOOD),
    ],
)
def test_what_is_no_value_of_a_known_time_is_no_signal(changed: dict[str, Any], reason: NoSignalReason) -> None:
    """No number, no time, no offset, or an end before its start: each has its reason, in both forms."""
    assert reason_of(CONSUMED, "FI", value(**changed)) is reason
    assert reason_of(CONSUMED, "FI", listed(value(**changed))) is reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (listed(), NoSignalReason.NO_DATA),
        ({"data": None}, NoSignalReason.NOT_UNDERSTOOD),
        ({"data": [38.2]}, NoSignalReason.NOT_UNDERSTOOD),
        ({"data": [None, value()]}, NoSignalReason.NOT_UNDERSTOOD),
        ({}, NoSignalReason.NOT_UNDERSTOOD),
        ([value()], NoSignalReason.NOT_UNDERSTOOD),
        (b"<!doctype html>", NoSignalReason.HTML_PAGE),
    ],
)
def test_what_is_neither_form_is_no_signal(answer: Any, reason: NoSignalReason) -> None:
    """An empty list is no data; what is no list of values is not understood."""
    assert reason_of(CONSUMED, "FI", answer) is reason


def test_zero_and_texts_are_values() -> None:
    """A grid may emit nothing, and an instant has no length."""
    seen = signal_of(CONSUMED, "FI", value(value=0, startTime="2026-11-22T12:30:00+02:00"))
    assert (seen.gco2_per_kwh, seen.resolution_minutes) == (0.0, None)
    assert signal_of(CONSUMED, "FI", value(value="38.2")).gco2_per_kwh == 38.2


@pytest.mark.parametrize(("minutes", "ineligible"), [(20, None), (20.1, "stale"), (-5.1, Ineligible.FUTURE_DATED)])
def test_five_missed_updates_make_a_value_stale(minutes: float, ineligible: str | None) -> None:
    """Twenty minutes after its interval's end it no longer decides."""
    seen = signal_of(CONSUMED, "FI", value())
    assert read_at(seen, seen.observed_at + timedelta(minutes=minutes)).ineligible == ineligible


@pytest.mark.parametrize(("figure", "number"), [("consumption", 265), ("production", 266)])
def test_the_key_is_a_header(figure: str, number: int) -> None:
    """The URL names the dataset and holds no key."""
    asked = fingrid.request("https://data.fingrid.fi", figure=figure, key=KEY)
    assert asked.url == f"https://data.fingrid.fi/api/datasets/{number}/data/latest"
    assert asked.headers == (("x-api-key", KEY),)
    assert KEY not in repr(asked)
