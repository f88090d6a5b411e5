"""Energy-Charts: what is measured, what is forecast, and the seam between them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.asked import RECORDINGS, read, reason_of, recorded, service, signal_of, terms_for, told_by
from grid.samples import NOW
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.signal import GridSignal, Ineligible, SignalKind, TemporalMatch, read_at
from vetted_mw.grid.sources import energy_charts
from vetted_mw.grid.sources.fetching import Answer

CHARTS = service("energy_charts")
QUARTER = timedelta(minutes=15)
FIRST = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def day(measured: list[Any], forecast: list[Any], **changed: Any) -> dict[str, Any]:
    """Return an answer whose quarters of an hour start at 09:30 UTC; `NOW` is in the fifth."""
    starts = [int(FIRST.timestamp()) + 900 * number for number in range(len(measured))]
    return {"unix_seconds": starts, "co2eq": measured, "co2eq_forecast": forecast, "deprecated": False} | changed


SEAM = day([30.0, 31.5, 59.6, None, None, None], [None, None, None, 49.4, 48.0, 47.0])


def forecast_of(answer: Any, *, at: datetime = NOW) -> GridSignal | NoSignal:
    return read(CHARTS, "FR", answer, at=at)[1]


@recorded
def test_the_recording_has_59_6_measured_and_49_4_forecast_at_its_seam() -> None:
    """The last measured value is live, the forecast after it is not, and neither takes the other's place."""
    data = (RECORDINGS / "energy-charts" / "co2eq_fr.json").read_bytes()
    seam = datetime.fromtimestamp(1_791_086_400, tz=UTC)
    at = seam + timedelta(minutes=7)
    live, forecast = read(CHARTS, "FR", data, at=at)
    assert isinstance(live, GridSignal)
    assert isinstance(forecast, GridSignal)
    assert (live.gco2_per_kwh, live.kind, live.observed_at) == (59.6, SignalKind.MEASURED, seam)
    assert (forecast.gco2_per_kwh, forecast.kind) == (49.4, SignalKind.FORECAST)
    assert forecast.observed_at == seam + QUARTER
    assert read_at(live, at).live_eligible
    assert read_at(forecast, at).ineligible is Ineligible.NOT_MEASURED


@recorded
def test_no_quarter_of_the_recording_makes_its_forecast_live() -> None:
    """Read at whatever time of the day: the live value is the last one measured by then, and no forecast decides."""
    data = (RECORDINGS / "energy-charts" / "co2eq_fr.json").read_bytes()
    written = json.loads(data)
    for start, value in zip(written["unix_seconds"], written["co2eq_forecast"], strict=True):
        at = datetime.fromtimestamp(start, tz=UTC)
        live, forecast = read(CHARTS, "FR", data, at=at)
        assert isinstance(live, GridSignal)
        over = [
            measured
            for begun, measured in zip(written["unix_seconds"], written["co2eq"], strict=True)
            if measured is not None and begun + 900 <= start
        ]
        if over:  # else none is over, and the last one is told, to be refused
            assert live.gco2_per_kwh == over[-1]
        assert (read_at(live, at).ineligible is Ineligible.FUTURE_DATED) == (not over)
        if value is None:
            assert isinstance(forecast, NoSignal)
            assert forecast.reason is NoSignalReason.NO_DATA
        else:
            assert isinstance(forecast, GridSignal)
            assert forecast.gco2_per_kwh == value
            assert not read_at(forecast, at).live_eligible


def test_the_last_measured_value_is_the_live_one() -> None:
    """The signal is of the quarter's end, of the whole country, and by the service's own factors."""
    live = signal_of(CHARTS, "SE_3", SEAM)
    assert (live.source, live.zone, live.area, live.kind) == ("energy_charts_live", "SE_3", "SE", "measured")
    assert (live.gco2_per_kwh, live.observed_at) == (59.6, FIRST + 3 * QUARTER)
    assert str(live.method) == "unknown/unknown/average/energy_charts"
    assert (live.resolution_minutes, live.proxy_share, live.mix) == (15, None, ())
    assert (live.fetched_at, live.max_age_minutes) == (NOW, 180.0)
    assert read_at(live, NOW).live_eligible


@pytest.mark.parametrize(
    ("minutes", "value"), [(0, None), (44, None), (45, 49.4), (59.9, 49.4), (60, 48.0), (75, 47.0), (90, None)]
)
def test_the_forecast_is_the_one_that_covers_now(minutes: float, value: float | None) -> None:
    """From a quarter's start to just before its end; where only a measured value or nothing stands there is none."""
    at = FIRST + timedelta(minutes=minutes)
    found = forecast_of(SEAM, at=at)
    if value is None:
        assert isinstance(found, NoSignal)
        assert (found.source, found.reason) == ("energy_charts_forecast", NoSignalReason.NO_DATA)
        return
    assert isinstance(found, GridSignal)
    assert (found.source, found.kind, found.gco2_per_kwh) == ("energy_charts_forecast", "forecast", value)
    seen = read_at(found, at)
    assert (seen.temporal_match, seen.ineligible) == (TemporalMatch.FORECAST, Ineligible.NOT_MEASURED)


VALUES = st.none() | st.floats(1, 1500)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, max_size=20), st.lists(st.floats(0, 1500), max_size=20), st.integers(0, 20))
def test_nulls_are_passed_over_and_forecasts_never_fill_them(
    measured: list[float | None], forecast: list[float], trailing: int
) -> None:
    """For any day, with holes and nulls at its end, the live value is the last measured one and of its own time."""
    length = len(measured) + len(forecast) + trailing
    written = [*measured, *[None] * (length - len(measured))]
    ahead = [*[None] * len(measured), *forecast, *[None] * trailing]
    last = max((number for number, value in enumerate(measured) if value is not None), default=None)
    if last is None:
        assert reason_of(CHARTS, "FR", day(written, ahead)) is NoSignalReason.NO_DATA
        return
    over = [number for number, value in enumerate(measured[:4]) if value is not None]  # four are over at `NOW`
    last = over[-1] if over else last
    live = signal_of(CHARTS, "FR", day(written, ahead))
    assert (live.gco2_per_kwh, live.observed_at) == (measured[last], FIRST + (last + 1) * QUARTER)
    assert live.kind is SignalKind.MEASURED


@pytest.mark.parametrize(
    ("at", "value", "ineligible"),
    [
        ("10:24:59", 31.0, None),
        ("10:25:00", 32.0, None),
        ("10:31:07", 32.0, None),
        ("10:39:59", 32.0, None),
        ("10:40:00", 33.0, None),
        ("09:30:00", 33.0, Ineligible.FUTURE_DATED),
    ],
)
def test_a_quarter_that_is_not_over_is_passed_over(at: str, value: float, ineligible: Ineligible | None) -> None:
    """A value that ends more than five minutes ahead hides none that is over; where nothing is over it is told, refused."""
    now = datetime.fromisoformat(f"2026-11-22T{at}+00:00")
    live = signal_of(CHARTS, "FR", day([29.0, 30.0, 31.0, 32.0, 33.0], [None] * 5), at=now)
    assert live.gco2_per_kwh == value
    assert read_at(live, now).ineligible is ineligible


@pytest.mark.parametrize(
    "answer",
    [
        day([30.0, 31.0], [None]),
        day([30.0, 31.0], [None, None, None]),
        day([30.0, 31.0], [None, None], unix_seconds=[1_791_064_800]),
        day([30.0], [None], unix_seconds=[1_791_064_800, 1_791_065_700]),
        day([30.0, None], [None, None], co2eq=[30.0]),
        day([30.0], [None], co2eq={"0": 30.0}),
        day([30.0], [None], co2eq=None),
        day([30.0], [None], co2eq_forecast=None),
        day([30.0], [None], unix_seconds="1791064800"),
        day([30.0, 31.0], [None, 29.0]),
        day([30.0, 31.0], [None, None], unix_seconds=[1_791_065_700, 1_791_064_800]),
        day([30.0, 31.0], [None, None], unix_seconds=[1_791_064_800, 1_791_064_800]),
        day([30.0], [None], unix_seconds=["1791064800"]),
        day([30.0], [None], unix_seconds=[1_791_064_800.5]),
        day([30.0], [None], unix_seconds=[True]),
        day([30.0], [None], unix_seconds=[None]),
        day([30.0], [None], unix_seconds=[10**30]),
        day([30.0], [None], unix_seconds=[253_402_300_799]),
        {"unix_seconds": [1_791_064_800], "co2eq": [30.0]},
        [],
        "30.0",
    ],
)
def test_arrays_that_do_not_fit_together_are_refused_whole(answer: Any) -> None:
    """Of unequal length, both set at one moment, out of order, or no times: no value would have a sure time."""
    assert reason_of(CHARTS, "FR", answer) is NoSignalReason.NOT_UNDERSTOOD
    assert isinstance(forecast_of(answer), NoSignal)


@pytest.mark.parametrize("value", [1, 1.0, 1100, 3000.0, "59.6"])
def test_what_a_grid_can_emit_is_a_value(value: Any) -> None:
    """Whatever lies between the bounds is told as the service writes it."""
    assert signal_of(CHARTS, "FR", day([30.0, value], [None, None])).gco2_per_kwh == float(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1, NoSignalReason.NOT_A_NUMBER),
        (-0.01, NoSignalReason.NOT_A_NUMBER),
        ("ND", NoSignalReason.NOT_A_NUMBER),
        (True, NoSignalReason.NOT_A_NUMBER),
        ([59.6], NoSignalReason.NOT_A_NUMBER),
        (1e300, NoSignalReason.NOT_A_NUMBER),
        (3000.1, NoSignalReason.IMPLAUSIBLE),
        (0, NoSignalReason.IMPLAUSIBLE),
        (0.0596, NoSignalReason.IMPLAUSIBLE),
    ],
)
def test_what_is_no_intensity_is_refused_and_nothing_older_taken(value: Any, reason: NoSignalReason) -> None:
    """A negative, a word, more than any grid emits or less: measured or forecast, it is no signal."""
    assert reason_of(CHARTS, "FR", day([30.0, value], [None, None])) is reason
    forecast = forecast_of(day([30.0, None], [None, value]), at=FIRST + QUARTER)
    assert isinstance(forecast, NoSignal)
    assert forecast.reason is reason


UNKNOWN = b"'xx' is not the code for an available country. Available: al, at, ba, be"
PAGE = b"\xef\xbb\xbf\r\n<!DOCTYPE html><html><head><title>Maintenance</title></head></html>"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (UNKNOWN, NoSignalReason.NOT_UNDERSTOOD),
        (PAGE, NoSignalReason.HTML_PAGE),
        (b"<HTML>", NoSignalReason.HTML_PAGE),
        (b"", NoSignalReason.NOT_UNDERSTOOD),
        (json.dumps(SEAM).encode()[:-5], NoSignalReason.NOT_UNDERSTOOD),
    ],
)
def test_text_and_pages_are_no_answer(body: bytes, reason: NoSignalReason) -> None:
    """Plain text, a page with status 200 and a cut answer give their reason, for both kinds of value."""
    live, forecast = read(CHARTS, "FR", body)
    assert isinstance(live, NoSignal)
    assert isinstance(forecast, NoSignal)
    assert (live.reason, forecast.reason) == (reason, reason)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "reason", "wait"),
    [
        (Answer(status=400, body=UNKNOWN), NoSignalReason.BAD_REQUEST, None),
        (Answer(status=200, body=PAGE), NoSignalReason.HTML_PAGE, None),
        (Answer(status=429, body=b"", retry_after_seconds=77.0), NoSignalReason.RATE_LIMITED, 900.0),
        (Answer(status=429, body=b"", retry_after_seconds=1200.0), NoSignalReason.RATE_LIMITED, 1200.0),
        (Answer(status=429, body=b""), NoSignalReason.RATE_LIMITED, 900.0),
        (Answer(status=503, body=PAGE), NoSignalReason.OUTAGE, None),
    ],
)
async def test_a_refusal_is_told_with_its_reason(answer: Answer, reason: NoSignalReason, wait: float | None) -> None:
    """An unknown country, maintenance and a limit each say what they are, and how long to wait where they do."""
    told = await told_by(CHARTS, "FR", answer)
    assert told
    assert {(one.reason, one.retry_after_seconds) for one in told if isinstance(one, NoSignal)} == {(reason, wait)}
    assert not any(isinstance(one, GridSignal) for one in told)


@pytest.mark.parametrize(("zone", "country"), [("FR", "fr"), ("SE_3", "se"), ("FI", "fi"), ("DE_LU", "de")])
def test_the_request_names_the_country(zone: str, country: str) -> None:
    """Country level only, in lower case, without a key."""
    asked = energy_charts.request("https://api.energy-charts.info", terms_for(CHARTS, zone))
    assert (asked.url, asked.headers) == (f"https://api.energy-charts.info/co2eq?country={country}", ())
