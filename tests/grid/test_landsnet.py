"""Landsnet: Iceland's snapshot, its time without an offset, and what a frozen or empty one does."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from grid.asked import RECORDINGS, reason_of, recorded, service, signal_of, terms_for
from grid.samples import LIFECYCLE, NOW
from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import GridSignal, Ineligible, read_at
from vetted_mw.grid.sources import landsnet
from vetted_mw.signal_configuration import SignalConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterator

ICELAND = service("landsnet")
SNAPSHOT = {"hydro": 1500.0, "geothermal": 600.0, "oil": 0.0, "timestamp": "2026-11-22T10:30:07.25"}


def snapshot(**changed: Any) -> dict[str, Any]:
    """Return a snapshot with members changed; `...` takes one out."""
    return {name: value for name, value in (SNAPSHOT | changed).items() if value is not ...}


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own clock is eleven hours off UTC."""
    monkeypatch.setenv("TZ", "XXX-11")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@recorded
def test_the_recording_is_28_08_grams() -> None:
    """The recorded snapshot under our factors, calculated here once more, and of the instant it names."""
    data = (RECORDINGS / "landsnet" / "production.json").read_bytes()
    seen = signal_of(ICELAND, "IS", data)
    assert seen.gco2_per_kwh == pytest.approx((1588.2567 * 24 + 653.1291 * 38) / (1588.2567 + 653.1291))
    assert round(seen.gco2_per_kwh, 2) == 28.08
    assert seen.observed_at == datetime(2023, 12, 19, 15, 53, 23, 729935, tzinfo=UTC)


def test_a_snapshot_is_a_life_cycle_mix_of_the_whole_country() -> None:
    """The signal says whose it is, how it was made, out of what, and that no factor stands in."""
    seen = signal_of(ICELAND, "IS", SNAPSHOT)
    assert (seen.source, seen.zone, seen.area, seen.kind) == ("landsnet_live", "IS", "IS", "measured")
    assert seen.gco2_per_kwh == pytest.approx((1500 * 24 + 600 * 38) / 2100)
    assert (seen.method, seen.proxy_share, seen.resolution_minutes) == (LIFECYCLE, 0.0, None)
    assert seen.mix == (("B06", 0.0), ("B09", 600.0), ("B12", 1500.0))
    assert (seen.fetched_at, seen.max_age_minutes) == (NOW, 30.0)
    assert read_at(seen, NOW).live_eligible


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(
    ("written", "hour"),
    [("2026-11-22T10:30:07.25", 10), ("2026-11-22T10:30:07.25Z", 10), ("2026-11-22T10:30:07.25+02:00", 8)],
)
def test_a_time_without_an_offset_is_utc_wherever_we_run(written: str, hour: int) -> None:
    """Iceland is on UTC all year: this machine's own time zone plays no part, and an offset that is there holds."""
    seen = signal_of(ICELAND, "IS", snapshot(timestamp=written))
    assert seen.observed_at == datetime(2026, 11, 22, hour, 30, 7, 250_000, tzinfo=UTC)
    assert seen.observed_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("changed", "grams"),
    [
        ({"oil": ...}, (1500 * 24 + 600 * 38) / 2100),
        ({"oil": None}, (1500 * 24 + 600 * 38) / 2100),
        ({"oil": 100.0}, (1500 * 24 + 600 * 38 + 100 * 650) / 2200),
        ({"oil": -0.4}, (1500 * 24 + 600 * 38) / 2100),
        ({"oil": "100"}, (1500 * 24 + 600 * 38 + 100 * 650) / 2200),
        ({"wind": 50}, (1500 * 24 + 600 * 38 + 50 * 11) / 2150),
        ({"unknown": "ND", "comment": None, "plants": [5], "is_final": True}, (1500 * 24 + 600 * 38) / 2100),
    ],
)
def test_further_fuels_are_optional(changed: dict[str, Any], grams: float) -> None:
    """What is missing or null is left out, wind counts when it is told, a negative is 0, what is no number is passed."""
    assert signal_of(ICELAND, "IS", snapshot(**changed)).gco2_per_kwh == pytest.approx(grams)


@pytest.mark.parametrize("name", ["coal", "Oil", "diesel", "total"])
def test_a_number_under_a_name_we_do_not_know_counts_as_other(name: str) -> None:
    """It may be a fuel, which left out would make the value cleaner: it gets a stand-in's factor, and its share is told."""
    seen = signal_of(ICELAND, "IS", snapshot(**{name: 100}))
    assert seen.gco2_per_kwh == pytest.approx((1500 * 24 + 600 * 38 + 100 * 700) / 2200)
    assert seen.proxy_share == pytest.approx(100 / 2200)
    assert dict(seen.mix)["B20"] == 100.0


def test_several_names_we_do_not_know_are_summed() -> None:
    """None of them takes another's place, and a negative one lessens none."""
    seen = signal_of(ICELAND, "IS", snapshot(coal=100, gas="50", pumps=-70))
    assert dict(seen.mix)["B20"] == 150.0


@pytest.mark.parametrize("value", [..., None, 0, 0.0, "0", -600.0])
@pytest.mark.parametrize("name", ["hydro", "geothermal"])
def test_without_what_iceland_always_makes_a_snapshot_is_incomplete(name: str, value: Any) -> None:
    """Missing, null, zero or drawn: its own fuels never stop, so the data has lost them."""
    plenty = {"hydro": 2000.0, "geothermal": 2000.0} | {name: value}
    assert reason_of(ICELAND, "IS", snapshot(**plenty)) is NoSignalReason.INCOMPLETE


def test_what_a_snapshot_must_hold_is_the_operators_word() -> None:
    """An empty list turns the check off, a fuel more makes it stricter."""
    data = b'{"hydro": 2000, "timestamp": "2026-11-22T10:30:07"}'
    for expected, reason in ((), None), (("B12",), None), (("B12", "B06"), NoSignalReason.INCOMPLETE):
        on = terms_for(ICELAND, "IS", SignalConfiguration(expected_types={"IS": expected}))
        found = landsnet.parse(data, NOW, terms=on)
        assert found == on.no(reason) if reason else isinstance(found, GridSignal)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"hydro": 0, "geothermal": 0.0, "oil": 0}, NoSignalReason.INCOMPLETE),
        ({"hydro": ..., "geothermal": ..., "oil": ...}, NoSignalReason.INCOMPLETE),
        ({"hydro": 399.9, "geothermal": 600.0}, NoSignalReason.IMPLAUSIBLE),
    ],
)
def test_a_snapshot_of_nothing_or_of_too_little_is_no_signal(changed: dict[str, Any], reason: NoSignalReason) -> None:
    """All zero, empty, or below what Iceland always makes: fuels have vanished from the data."""
    assert reason_of(ICELAND, "IS", snapshot(**changed)) is reason


@pytest.mark.parametrize("value", [1e300, 10**13, -1e300])
def test_an_unknown_number_beyond_every_grid_is_no_signal(value: float) -> None:
    """It cannot be counted, and to leave it out would be to guess."""
    assert reason_of(ICELAND, "IS", snapshot(coal=value)) is NoSignalReason.NOT_A_NUMBER


@pytest.mark.parametrize("value", ["ND", "", "-", True, False, [], {}, [600.0], 1e300, "1 500"])
def test_a_fuel_that_is_no_number_is_no_signal(value: Any) -> None:
    """A fuel that is there and cannot be read is not counted as nothing."""
    assert reason_of(ICELAND, "IS", snapshot(geothermal=value)) is NoSignalReason.NOT_A_NUMBER


@pytest.mark.parametrize("value", [..., None, "", "now", 1_795_343_407, True, [], "2026-13-01T00:00:00", "0000-01-01"])
def test_a_snapshot_without_a_time_is_no_signal(value: Any) -> None:
    """Its age would not be known."""
    assert reason_of(ICELAND, "IS", snapshot(timestamp=value)) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize(
    ("minutes", "ineligible"), [(0, None), (30, None), (30.1, Ineligible.STALE), (6000, Ineligible.STALE)]
)
def test_a_frozen_feed_ages(minutes: float, ineligible: Ineligible | None) -> None:
    """The same snapshot fetched again later is not any younger, and stale after half an hour."""
    later = NOW + timedelta(minutes=minutes)
    frozen = signal_of(ICELAND, "IS", snapshot(timestamp="2026-11-22T10:31:07"), at=later)
    assert frozen.fetched_at == later
    seen = read_at(frozen, later)
    assert seen.age_minutes == pytest.approx(minutes)
    assert seen.ineligible is ineligible


def test_a_snapshot_dated_ahead_never_decides() -> None:
    """More than five minutes ahead of the clock is refused when it is read."""
    ahead = signal_of(ICELAND, "IS", snapshot(timestamp="2026-11-22T10:36:08"))
    assert read_at(ahead, NOW).ineligible is Ineligible.FUTURE_DATED


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", NoSignalReason.NOT_UNDERSTOOD),
        (b"[]", NoSignalReason.NOT_UNDERSTOOD),
        (b'{"hydro":15', NoSignalReason.NOT_UNDERSTOOD),
        (b"\n <!DOCTYPE HTML><title>Maintenance", NoSignalReason.HTML_PAGE),
    ],
)
def test_what_is_no_snapshot_is_no_signal(body: bytes, reason: NoSignalReason) -> None:
    """A cut answer, another kind of JSON and a page for people each have their reason."""
    assert reason_of(ICELAND, "IS", body) is reason


def test_the_request_is_one_plain_get() -> None:
    """No key, no parameter."""
    asked = landsnet.request("https://amper.landsnet.is")
    assert (asked.url, asked.headers) == ("https://amper.landsnet.is/generation/api/Values", ())
