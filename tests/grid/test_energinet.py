"""Energinet: Denmark's two zones out of one answer, UTC without an offset, and the forecast refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from grid.asked import RECORDINGS, reason_of, recorded, service, signal_of
from grid.samples import NOW
from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Ineligible, read_at
from vetted_mw.grid.sources import energinet
from vetted_mw.grid.sources.shipped import terms_of
from vetted_mw.signal_configuration import SignalConfiguration

DENMARK = service("energinet")


def record(at: str = "2026-11-22T10:20:00", area: Any = "DK1", value: Any = 97.0, **changed: Any) -> dict[str, Any]:
    """Return one record; its local time is another one, which is never read."""
    return {"Minutes5UTC": at, "Minutes5DK": "2001-01-01T00:00:00", "PriceArea": area, "CO2Emission": value} | changed


def answer(*records: Any, dataset: Any = "CO2Emis") -> dict[str, Any]:
    """Return an answer of these records."""
    return {"total": 2_133_788, "limit": 24, "dataset": dataset, "records": list(records)}


BOTH = answer(
    record("2026-11-22T10:15:00", "DK1", 90.0),
    record("2026-11-22T10:25:00", "DK2", 60.0),
    record("2026-11-22T10:20:00", "DK1", 97.0),
    record("2026-11-22T10:20:00", "DK2", 50.0),
)


@recorded
def test_the_recording_of_another_dataset_is_refused() -> None:
    """Production and exchange of the same zones hold no emission."""
    data = (RECORDINGS / "energinet" / "ElectricityProdex5MinRealtime.json").read_bytes()
    assert reason_of(DENMARK, "DK_1", data) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize(
    ("zone", "value", "end"),
    [
        ("DK_1", 97.0, datetime(2026, 11, 22, 10, 25, tzinfo=UTC)),
        ("DK_2", 60.0, datetime(2026, 11, 22, 10, 30, tzinfo=UTC)),
    ],
)
def test_each_zone_gets_its_own_latest_five_minutes(zone: str, value: float, end: datetime) -> None:
    """In whatever order the records come, by area, of the interval's end."""
    for turned in (BOTH, BOTH | {"records": BOTH["records"][::-1]}):
        seen = signal_of(DENMARK, zone, turned)
        assert (seen.gco2_per_kwh, seen.observed_at) == (value, end)
        assert (seen.source, seen.zone, seen.area, seen.kind) == ("energinet_live", zone, zone, "measured")
        assert str(seen.method) == "consumption/unknown/average/energinet"
        assert (seen.resolution_minutes, seen.max_age_minutes) == (5, 30.0)
        assert read_at(seen, NOW).live_eligible


@pytest.mark.parametrize("dataset", ["CO2EmisProg", "co2emis", "DeclarationEmission5min", None, 1, ["CO2Emis"]])
def test_a_forecast_is_refused_whatever_we_asked(dataset: Any) -> None:
    """The forecast has the same shape; only its name tells it."""
    assert reason_of(DENMARK, "DK_1", answer(record(), dataset=dataset)) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize("at", ["2026-11-22T10:20:00", "2026-11-22T10:20:00Z", "2026-11-22T11:20:00+01:00"])
def test_the_utc_column_is_utc(at: str) -> None:
    """Without an offset it is UTC, and with one it is what it says."""
    seen = signal_of(DENMARK, "DK_1", answer(record(at)))
    assert seen.observed_at == datetime(2026, 11, 22, 10, 25, tzinfo=UTC)
    assert seen.observed_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("at", [None, "", 1_795_342_800, "9999-12-31T23:58:00", "noon"])
def test_a_record_without_a_utc_time_is_no_signal(at: Any) -> None:
    """The local column never takes its place."""
    written = answer(record() | {"Minutes5UTC": at, "Minutes5DK": "2026-11-22T11:20:00"})
    assert reason_of(DENMARK, "DK_1", written) is NoSignalReason.NOT_UNDERSTOOD


def test_a_null_is_passed_over_for_the_value_before_it() -> None:
    """The newest record may not be filled in yet."""
    seen = signal_of(DENMARK, "DK_1", answer(record("2026-11-22T10:25:00", value=None), record()))
    assert (seen.gco2_per_kwh, seen.observed_at.minute) == (97.0, 25)


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([], NoSignalReason.NO_DATA),
        ([record(area="DK2")], NoSignalReason.NO_DATA),
        ([record(value=None)], NoSignalReason.NO_DATA),
        ([record(value="ND")], NoSignalReason.NOT_A_NUMBER),
        ([record(value=-3.0)], NoSignalReason.NOT_A_NUMBER),
        ([record(value=True)], NoSignalReason.NOT_A_NUMBER),
        ([record(value=97_000)], NoSignalReason.IMPLAUSIBLE),
        ([record(), None], NoSignalReason.NOT_UNDERSTOOD),
        ([7], NoSignalReason.NOT_UNDERSTOOD),
    ],
)
def test_records_without_a_value_of_the_zone_are_no_signal(records: list[Any], reason: NoSignalReason) -> None:
    """Nothing of the zone is no data; a value that is none is refused and nothing older taken."""
    assert reason_of(DENMARK, "DK_1", answer(*records)) is reason


@pytest.mark.parametrize("value", [0, 0.0, "0", 0.097])
def test_zero_stands_for_no_value(value: Any) -> None:
    """The service does not say that it counts direct emissions only, so less than a gram is not believed."""
    assert reason_of(DENMARK, "DK_1", answer(record(value=value))) is NoSignalReason.IMPLAUSIBLE
    assert signal_of(DENMARK, "DK_1", answer(record(value=1))).gco2_per_kwh == 1.0


@pytest.mark.parametrize(
    ("ahead", "minute", "ineligible"),
    [
        (["2026-11-22T10:35:00", "2026-11-22T11:00:00", "2099-01-01T00:00:00", "9999-12-31T23:58:00"], 25, None),
        (["2026-11-22T10:30:00"], 35, None),
    ],
)
def test_five_minutes_that_are_not_over_are_passed_over(
    ahead: list[str], minute: int, ineligible: Ineligible | None
) -> None:
    """What ends more than five minutes ahead hides no value that is over."""
    seen = signal_of(DENMARK, "DK_1", answer(*[record(at, value=5.0) for at in ahead], record()))
    assert seen.observed_at == datetime(2026, 11, 22, 10, minute, tzinfo=UTC)
    assert read_at(seen, NOW).ineligible is ineligible


def test_where_nothing_is_over_the_value_is_refused_in_sight() -> None:
    """The signal is there and says why it does not decide."""
    ahead = signal_of(DENMARK, "DK_1", answer(record("2026-11-22T11:00:00"), record("2026-11-22T11:30:00", value=5.0)))
    assert ahead.gco2_per_kwh == 5.0
    assert read_at(ahead, NOW).ineligible is Ineligible.FUTURE_DATED


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"dataset":"CO2Emis"}', NoSignalReason.NOT_UNDERSTOOD),
        (b'{"dataset":"CO2Emis","records":{}}', NoSignalReason.NOT_UNDERSTOOD),
        (b"[]", NoSignalReason.NOT_UNDERSTOOD),
        (b"<html>", NoSignalReason.HTML_PAGE),
    ],
)
def test_what_is_no_answer_is_no_signal(body: bytes, reason: NoSignalReason) -> None:
    """Another document, or a page, has its reason."""
    assert reason_of(DENMARK, "DK_1", body) is reason


@pytest.mark.parametrize(("minutes", "ineligible"), [(30, None), (30.1, Ineligible.STALE), (-5.1, "future_dated")])
def test_a_value_is_fresh_for_half_an_hour(minutes: float, ineligible: str | None) -> None:
    """Longer than its lag, shorter than an outage."""
    seen = signal_of(DENMARK, "DK_1", BOTH)
    assert read_at(seen, seen.observed_at + timedelta(minutes=minutes)).ineligible == ineligible


@pytest.mark.parametrize("zone", ["FR", "SE_3", "IS", "DE_LU", "FI", "SE_4", "DK"])
def test_denmark_stands_in_for_no_other_zone(zone: str) -> None:
    """The service has nothing for them, so it is not asked."""
    assert terms_of(DENMARK, zone, SignalConfiguration()) is None


@pytest.mark.parametrize("areas", [["DK1"], ["DK1", "DK2"]])
def test_the_request_asks_for_all_areas_at_once_with_an_encoded_filter(areas: list[str]) -> None:
    """One GET per dataset and minute is allowed; quotes, braces and blanks are percent-encoded."""
    asked = energinet.request("https://api.energidataservice.dk", areas)
    parts = urlsplit(asked.url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.path == "/dataset/CO2Emis"
    assert json.loads(query["filter"]) == {"PriceArea": areas}
    assert (query["start"], query["sort"], query["limit"]) == ("now-PT2H", "Minutes5UTC DESC", str(12 * len(areas)))
    assert not set(asked.url) & set('{}[]" ')
    assert asked.headers == ()
