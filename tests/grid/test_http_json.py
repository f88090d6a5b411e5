"""Services we do not know: paths, times, units and the key as the operator describes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.asked import OneAnswer
from grid.samples import NOW
from vetted_mw import ConfigurationError, load_configuration
from vetted_mw.grid.absence import Cause, NoSignal, NoSignalReason
from vetted_mw.grid.signal import DECLARED, GridSignal, Ineligible, parse_method, read_at
from vetted_mw.grid.sources import http_json
from vetted_mw.grid.sources.fetching import Answer
from vetted_mw.grid.sources.request import MAX_JSON_BYTES
from vetted_mw.grid.sources.shipped import sources_of
from vetted_mw.grid.sources.terms import Terms
from vetted_mw.grid.units import GRAMS_PER_KWH
from vetted_mw.secret import Secret
from vetted_mw.signal_configuration import JsonReading, SignalConfiguration

KEY = "our/own?key+1"
ENDLESS = pytest.param(10**400, id="endless")
ENDS = "2026-11-22T10:15:00Z"


def described(**changed: Any) -> JsonReading:
    """Return a description with members changed."""
    given_: dict[str, Any] = {
        "zone": "FR",
        "area": "FR",
        "url": Secret("https://grid.example/now"),
        "value": "value",
        "observed_at": "end",
        "estimated": "",
        "unit": "g_per_kwh",
        "method": DECLARED,
        "max_age_minutes": 180.0,
    }
    return JsonReading(**(given_ | changed))


def parsed(answer: Any, **changed: Any) -> GridSignal | NoSignal:
    """Read an answer, bytes as they are and all else as JSON."""
    reading = described(**changed)
    terms = Terms(
        source=http_json.LABEL,
        zone=reading.zone,
        area=reading.area,
        name=reading.zone,
        max_age_minutes=reading.max_age_minutes,
    )
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return http_json.parse(data, NOW, terms=terms, reading=reading)


def signal_of(answer: Any, **changed: Any) -> GridSignal:
    found = parsed(answer, **changed)
    assert isinstance(found, GridSignal), found
    return found


def reason_of(answer: Any, **changed: Any) -> NoSignalReason:
    found = parsed(answer, **changed)
    assert isinstance(found, NoSignal), found
    assert (found.source, found.zone) == ("http_json", "FR")
    return found.reason


def test_a_value_is_what_the_operator_says_it_is() -> None:
    """Zone, area, method and limit are the description's; value and time are the answer's."""
    method = parse_method("production/lifecycle/average/own")
    seen = signal_of({"value": 21.9, "end": ENDS}, area="FR_NORTH", method=method, max_age_minutes=20.0)
    assert (seen.source, seen.zone, seen.area, seen.kind) == ("http_json", "FR", "FR_NORTH", "measured")
    assert (seen.gco2_per_kwh, seen.method, seen.max_age_minutes) == (21.9, method, 20.0)
    assert (seen.estimated, seen.resolution_minutes, seen.proxy_share) == (False, None, None)
    assert (seen.observed_at, seen.fetched_at) == (datetime(2026, 11, 22, 10, 15, tzinfo=UTC), NOW)
    assert read_at(seen, NOW).live_eligible
    assert read_at(seen, NOW + timedelta(minutes=5)).ineligible is Ineligible.STALE


# ---- paths

NESTED = {
    "data": [
        {"from": "2020-05-24T20:30Z", "to": ENDS, "intensity": {"forecast": 146, "actual": 150, "index": "low"}},
        {"to": "2026-11-22T10:30:00Z", "intensity": {"actual": None}},
    ],
    "10": {"-1": 7},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.0.intensity.actual", 150),
        ("data.0.intensity.forecast", 146),
        ("data.-2.intensity.actual", 150),
        ("data.-1.intensity.actual", None),
        ("10.-1", 7),
        ("data.1.intensity", {"actual": None}),
    ],
)
def test_a_path_names_members_and_counts_list_items(path: str, value: Any) -> None:
    """In a list a number counts, from the end when negative; in an object it is a name like any other."""
    assert http_json.at_path(NESTED, path) == value


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "data.2.to",
        "data.-3.to",
        "data.first.to",
        "data.0.0.to",
        "data.0.intensity.actual.more",
        "data.0.to.0",
        "data.0.intensity.forecast.0",
        "data.1.intensity.actual.0",
        "data.99999999999999999999999.to",
    ],
)
def test_a_path_that_leads_nowhere_is_no_signal(path: str) -> None:
    """A missing member, a position beyond the list, or a step into what is no container."""
    answer = NESTED | {"value": 1, "end": ENDS}
    for which in ("value", "observed_at", "estimated"):
        assert reason_of(answer, **{which: path}) is NoSignalReason.NOT_UNDERSTOOD


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Return every place below `value` that a path can name, counted from both ends of a list."""
    found: list[tuple[tuple[str, ...], Any]] = []
    if isinstance(value, dict):
        steps = [(name, one) for name, one in value.items() if name and "." not in name]
    elif isinstance(value, list):
        steps = [(str(number), one) for number, one in enumerate(value)]
        steps += [(str(number - len(value)), one) for number, one in enumerate(value)]
    else:
        steps = []
    for name, one in steps:
        found.append(((*path, name), one))
        found += places(one, (*path, name))
    return found


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_every_place_of_any_answer_is_found_by_its_path(answer: Any) -> None:
    """For any JSON: whatever stands somewhere is what its path gives."""
    for path, value in places(answer):
        assert http_json.at_path(answer, ".".join(path)) == value


def test_a_list_may_be_the_whole_answer() -> None:
    """The first step of a path may be a position."""
    answer = [{"value": 1, "end": ENDS}, {"value": 2, "end": ENDS}]
    assert signal_of(answer, value="-1.value", observed_at="-1.end").gco2_per_kwh == 2.0


# ---- times


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-11-22T10:15:00Z", datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
        ("2026-11-22T10:15:00.250+00:00", datetime(2026, 11, 22, 10, 15, 0, 250_000, tzinfo=UTC)),
        ("2026-11-22T11:15:00+01:00", datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
        ("2026-11-22T04:45:00-05:30", datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
        ("2026-11-22T10:15Z", datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
        (1_795_342_500, datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
        (1_795_342_500.25, datetime(2026, 11, 22, 10, 15, 0, 250_000, tzinfo=UTC)),
        (1_795_342_500_250, datetime(2026, 11, 22, 10, 15, 0, 250_000, tzinfo=UTC)),
        (1_795_342_500_000.0, datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
        (99_999_999_999, datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        (100_000_000_000, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-86_400, datetime(1969, 12, 31, tzinfo=UTC)),
    ],
)
def test_a_time_is_an_instant_with_an_offset_or_a_count(written: Any, instant: datetime) -> None:
    """RFC 3339 with an offset, unix seconds, or unix milliseconds, told apart by their size."""
    seen = signal_of({"value": 1, "end": written})
    assert seen.observed_at == instant
    assert seen.observed_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("written", ["2026-11-22T10:15:00", "2026-11-22 10:15", "2026-11-22", "20261122T101500"])
def test_a_time_without_an_offset_is_refused(written: str) -> None:
    """It could be any zone's, so its age is not known."""
    assert reason_of({"value": 1, "end": written}) is NoSignalReason.NO_OFFSET


@pytest.mark.parametrize(
    "written", [None, True, False, "", "yesterday", "1795342500", [], {}, 10**40, -(10**40), ENDLESS, 1e300]
)
def test_a_time_that_is_none_is_no_signal(written: Any) -> None:
    """Words, truth values, digits in quotes and counts beyond the calendar."""
    assert reason_of({"value": 1, "end": written}) is NoSignalReason.NOT_UNDERSTOOD


@settings(max_examples=150, deadline=None)
@given(st.datetimes(datetime(1974, 1, 1), datetime(5000, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC)))  # noqa: DTZ001
def test_one_instant_reads_the_same_however_it_is_written(instant: datetime) -> None:
    """For any instant since 1974: text, seconds and milliseconds are one."""
    seconds = round((instant - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    ways = [instant.isoformat(), seconds, seconds * 1000]
    assert {signal_of({"value": 1, "end": way}).observed_at for way in ways} == {instant}


# ---- values


@pytest.mark.parametrize(
    ("unit", "written", "grams"),
    [
        ("g_per_kwh", 21.9, 21.9),
        ("kg_per_kwh", 0.0219, 21.9),
        ("kg_per_mwh", 21.9, 21.9),
        ("t_per_mwh", 0.0219, 21.9),
        ("lb_per_mwh", 950.1, 430.958),
        ("lb_per_mwh", 1000, 453.59237),
        ("g_per_kwh", "21.9", 21.9),
        ("g_per_kwh", 1, 1.0),
    ],
)
def test_every_unit_becomes_grams_per_kilowatt_hour(unit: str, written: Any, grams: float) -> None:
    """A gram per kWh is a kilogram per MWh; a pound is 453.59237 g."""
    assert signal_of({"value": written, "end": ENDS}, unit=unit).gco2_per_kwh == pytest.approx(grams, rel=1e-5)


@pytest.mark.parametrize(("unit", "written"), [("g_per_kwh", 0.0219), ("g_per_kwh", 0), ("kg_per_kwh", 21.9)])
def test_a_value_no_grid_can_have_is_in_another_unit(unit: str, written: float) -> None:
    """Far too low is as wrong as far too high, and would win every comparison; the cause names the place."""
    found = parsed({"value": written, "end": ENDS}, unit=unit)
    assert isinstance(found, NoSignal)
    assert (found.reason, found.cause) == (NoSignalReason.IMPLAUSIBLE, Cause.VALUE)


def test_direct_emissions_may_be_none_at_all() -> None:
    """A method of direct emissions has no lower bound."""
    assert (
        signal_of({"value": 0, "end": ENDS}, method=parse_method("production/direct/average/own")).gco2_per_kwh == 0.0
    )


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ({"end": ENDS}, Cause.VALUE),
        ({"value": None, "end": ENDS}, Cause.VALUE),
        ({"value": -1, "end": ENDS, "missing": False}, Cause.VALUE),
        ({"value": 0, "end": ENDS, "missing": False}, Cause.VALUE),
        ({"value": 21.9}, Cause.OBSERVED_AT),
        ({"value": 21.9, "end": "2026-11-22T10:00:00"}, Cause.OBSERVED_AT),
        ({"value": 21.9, "end": ENDS}, Cause.ESTIMATED),
    ],
)
def test_a_fault_names_which_described_place_it_is_at(answer: dict[str, Any], cause: Cause) -> None:
    """Whoever wrote the description reads which of its lines to mend."""
    found = parsed(answer, estimated="missing")
    assert isinstance(found, NoSignal)
    assert found.cause is cause


def test_every_unit_of_the_settings_is_known() -> None:
    """The words the settings take are the words there is a factor for."""
    for unit in GRAMS_PER_KWH:
        assert configured(unit=unit).http_json.readings[0].unit == unit  # type: ignore[union-attr]
    with pytest.raises(ConfigurationError):
        configured(unit="g_per_mwh")


@pytest.mark.parametrize("unit", sorted(GRAMS_PER_KWH))
@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (None, NoSignalReason.NOT_A_NUMBER),
        (True, NoSignalReason.NOT_A_NUMBER),
        ("low", NoSignalReason.NOT_A_NUMBER),
        ("NaN", NoSignalReason.NOT_A_NUMBER),
        (-1, NoSignalReason.NOT_A_NUMBER),
        (1e300, NoSignalReason.NOT_A_NUMBER),
        pytest.param(10**400, NoSignalReason.NOT_A_NUMBER, id="endless"),
        ([21.9], NoSignalReason.NOT_A_NUMBER),
        (1e11, NoSignalReason.IMPLAUSIBLE),
    ],
)
def test_what_is_no_intensity_is_no_signal(unit: str, written: Any, reason: NoSignalReason) -> None:
    """Null is never 0 and a negative never wins; no grid emits more than 3000 g, so the unit must be another."""
    assert reason_of({"value": written, "end": ENDS}, unit=unit) is reason


@pytest.mark.parametrize(
    ("told", "estimated"),
    [(False, False), (True, True), (None, True), ("false", True), (0, True), (1, True), ("", True), ([], True)],
)
def test_only_a_plain_false_says_it_was_measured(told: Any, estimated: bool) -> None:
    """Where the description names a place for it, everything but false is an estimate, which never decides."""
    seen = signal_of({"value": 1, "end": ENDS, "is": {"estimated": told}}, estimated="is.estimated")
    assert seen.estimated is estimated
    assert read_at(seen, NOW).ineligible is (Ineligible.ESTIMATED if estimated else None)


def test_a_missing_word_on_estimates_is_no_signal() -> None:
    """A place that the description names and the answer lacks is a change of format."""
    assert reason_of({"value": 1, "end": ENDS}, estimated="isEstimated") is NoSignalReason.NOT_UNDERSTOOD
    assert not signal_of({"value": 1, "end": ENDS, "isEstimated": True}).estimated


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", NoSignalReason.NOT_UNDERSTOOD),
        (b"21.9", NoSignalReason.NOT_UNDERSTOOD),
        (b'"21.9"', NoSignalReason.NOT_UNDERSTOOD),
        (b"null", NoSignalReason.NOT_UNDERSTOOD),
        (b"[" * 10_000, NoSignalReason.NOT_UNDERSTOOD),
        (b"[" * 100_000, NoSignalReason.TOO_LARGE),
        (b"<!DOCTYPE html>", NoSignalReason.HTML_PAGE),
        (b"\xff\xfe", NoSignalReason.NOT_UNDERSTOOD),
        (b" " * (MAX_JSON_BYTES + 1), NoSignalReason.TOO_LARGE),
    ],
)
def test_what_is_no_answer_is_no_signal(body: bytes, reason: NoSignalReason) -> None:
    """Pages, cut answers and answers without members have their reason."""
    assert reason_of(body) is reason


# ---- the key


def configured(**members: Any) -> SignalConfiguration:
    """Return the signals of a description of FR, its key in the environment."""
    table = {"url": "https://grid.example/now", "value": "value", "observed_at": "end"} | members
    sources = {"http_json": {"zones": {"FR": table}}}
    return load_configuration(environ={"GRID_KEY": KEY}, overrides={"signals": {"sources": sources}}).signals


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("members", "url", "headers"),
    [
        ({}, "https://grid.example/now", ()),
        (
            {"token": {"env": "GRID_KEY"}, "header": "X-Api-Key"},
            "https://grid.example/now",
            (("x-api-key", KEY),),
        ),
        (
            {"token": {"env": "GRID_KEY"}, "header": "Authorization"},
            "https://grid.example/now",
            (("authorization", f"Bearer {KEY}"),),
        ),
        (
            {"token": {"env": "GRID_KEY"}, "url": "https://grid.example/now?zone=FR&apikey={token}"},
            "https://grid.example/now?zone=FR&apikey=our%2Fown%3Fkey%2B1",
            (),
        ),
    ],
    ids=["none", "header", "bearer", "url"],
)
async def test_a_key_goes_into_its_one_place_and_is_never_printed(
    members: dict[str, Any], url: str, headers: tuple[tuple[str, str], ...]
) -> None:
    """In the header, `Bearer` before it in `authorization`, or percent-encoded in the URL; in nothing that is shown."""
    signals = configured(**members)
    session = OneAnswer(Answer(status=200, body=json.dumps({"value": 21.9, "end": ENDS}).encode()))
    (source,) = sources_of(signals, ["FR"], session=session, now=lambda: NOW)
    (told,) = await source.readings()
    assert isinstance(told, GridSignal)
    (asked,) = session.asked
    assert (asked.url, asked.headers) == (url, headers)
    assert signals.http_json is not None
    for thing in (asked, signals, signals.http_json, *signals.http_json.readings, source, told):
        for text in (repr(thing), str(thing), f"{thing}"):
            assert KEY not in text
            assert "our%2Fown" not in text


def test_a_url_is_never_printed_whether_or_not_it_holds_a_key() -> None:
    """An operator may have written a key into it after all."""
    reading = described(url=Secret("https://grid.example/now?apikey=hunter2"))
    assert "hunter2" not in repr(reading) + repr(http_json.request(reading))
    assert "hunter2" not in repr(msgspec.structs.replace(reading, zone="SE_3"))
