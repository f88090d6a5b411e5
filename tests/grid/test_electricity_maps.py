"""Electricity Maps: only the zone that was asked for, never an estimate, never an hour that is not over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from grid.asked import KEY, RECORDINGS, reason_of, recorded, service, signal_of, terms_for
from grid.samples import NOW
from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Ineligible, read_at
from vetted_mw.grid.sources import electricity_maps

LIFECYCLE = service("electricity_maps", figure="lifecycle")
DIRECT = service("electricity_maps", figure="direct")


def hour(**changed: Any) -> dict[str, Any]:
    """Return one hour as the service writes it; `...` takes a member out."""
    written = {
        "zone": "SE-SE3",
        "carbonIntensity": 22,
        "datetime": "2026-11-22T09:00:00.000Z",
        "updatedAt": "2026-11-22T10:28:27.926Z",
        "createdAt": "2026-11-19T09:47:16.265Z",
        "emissionFactorType": "lifecycle",
        "isEstimated": False,
        "estimationMethod": None,
    } | changed
    return {name: value for name, value in written.items() if value is not ...}


@recorded
def test_the_recording_is_an_estimate_of_an_hour_that_has_not_begun() -> None:
    """Recorded twelve minutes before its hour's start, and estimated: it is shown as such and never decides."""
    data = (RECORDINGS / "electricitymaps" / "latest_carbon_intensity.json").read_bytes()
    elsewhere = service("electricity_maps", figure="lifecycle", areas={"SE_3": "US-CAR-DUK"})
    at = datetime(2024, 3, 6, 18, 48, 28, tzinfo=UTC)
    seen = signal_of(elsewhere, "SE_3", data, at=at)
    assert (seen.gco2_per_kwh, seen.estimated) == (216.0, True)
    assert seen.observed_at == datetime(2024, 3, 6, 20, tzinfo=UTC)
    assert not read_at(seen, at).live_eligible
    assert not read_at(seen, at + timedelta(hours=2)).live_eligible


@recorded
@pytest.mark.parametrize("name", ["latest_carbon_intensity.json", "latest_power_breakdown.json"])
def test_the_recordings_of_other_places_are_refused(name: str) -> None:
    """Neither is about Sweden."""
    data = (RECORDINGS / "electricitymaps" / name).read_bytes()
    assert reason_of(LIFECYCLE, "SE_3", data) is NoSignalReason.WRONG_AREA


@recorded
def test_the_recorded_breakdown_has_no_intensity() -> None:
    """A power breakdown of the right zone is still no intensity."""
    data = (RECORDINGS / "electricitymaps" / "latest_power_breakdown.json").read_bytes()
    assert reason_of(LIFECYCLE, "DE_LU", data) is NoSignalReason.NOT_A_NUMBER


@pytest.mark.parametrize(
    ("source", "figure", "method"),
    [
        (LIFECYCLE, "lifecycle", "consumption/lifecycle/average/electricity_maps"),
        (DIRECT, "direct", "consumption/direct/average/electricity_maps"),
    ],
)
def test_an_hour_is_of_its_end(source: Any, figure: str, method: str) -> None:
    """Consumption-based by the service's own factors; `datetime` is the hour's start."""
    seen = signal_of(source, "SE_3", hour(emissionFactorType=figure))
    assert (seen.source, seen.zone, seen.area, seen.kind) == ("electricitymaps_live", "SE_3", "SE_3", "measured")
    assert (seen.gco2_per_kwh, str(seen.method), seen.estimated) == (22.0, method, False)
    assert seen.observed_at == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert (seen.resolution_minutes, seen.max_age_minutes) == (60, 180.0)
    assert read_at(seen, NOW).live_eligible


@pytest.mark.parametrize("zone", ["SE", "DE", "FR", "se-se3", "", None, ..., 3, ["SE-SE3"]])
def test_another_zone_than_was_asked_for_is_refused(zone: Any) -> None:
    """An unknown zone is answered for the caller's own place, a number of another country."""
    assert reason_of(LIFECYCLE, "SE_3", hour(zone=zone)) is NoSignalReason.WRONG_AREA


@pytest.mark.parametrize("value", [None, ..., "", "null", True, -1, [], {}])
def test_null_is_never_zero(value: Any) -> None:
    """An intensity that is not there is no signal: as 0, or as -1, it would win every comparison."""
    assert reason_of(LIFECYCLE, "SE_3", hour(carbonIntensity=value)) is NoSignalReason.NOT_A_NUMBER


@pytest.mark.parametrize("value", [0, 0.0, 0.022, "0"])
def test_only_direct_emissions_may_be_none(value: Any) -> None:
    """Over a plant's life cycle every kilowatt-hour emits something, so a zero stands for no value."""
    assert reason_of(LIFECYCLE, "SE_3", hour(carbonIntensity=value)) is NoSignalReason.IMPLAUSIBLE
    direct = signal_of(DIRECT, "SE_3", hour(carbonIntensity=value, emissionFactorType="direct"))
    assert direct.gco2_per_kwh == float(value)


@pytest.mark.parametrize("told", [True, None, ..., "false", "no", 0, 1, []])
def test_what_is_not_said_to_be_measured_is_an_estimate(told: Any) -> None:
    """Only a plain false is a no; an estimate never decides."""
    seen = signal_of(LIFECYCLE, "SE_3", hour(isEstimated=told))
    assert seen.estimated
    assert read_at(seen, NOW).ineligible is Ineligible.ESTIMATED


@pytest.mark.parametrize(
    ("start", "ineligible"),
    [
        ("2026-11-22T11:00:00.000Z", Ineligible.FUTURE_DATED),
        ("2026-11-22T10:00:00.000Z", Ineligible.FUTURE_DATED),
        ("2026-11-22T09:36:00.000Z", None),
        ("2026-11-22T09:00:00.000Z", None),
        ("2026-11-22T06:32:00.000Z", None),
        ("2026-11-22T06:31:00.000Z", Ineligible.STALE),
    ],
)
def test_an_hour_that_is_not_over_never_decides(start: str, ineligible: Ineligible | None) -> None:
    """An hour start later than now, or an hour that still runs, is dated ahead; three hours after its end it is stale."""
    seen = signal_of(LIFECYCLE, "SE_3", hour(datetime=start))
    assert read_at(seen, NOW).ineligible is ineligible


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"datetime": None}, NoSignalReason.NOT_UNDERSTOOD),
        ({"datetime": ...}, NoSignalReason.NOT_UNDERSTOOD),
        ({"datetime": "9999-12-31T23:30:00Z"}, NoSignalReason.NOT_UNDERSTOOD),
        ({"datetime": "2026-11-22T09:00:00"}, NoSignalReason.NO_OFFSET),
        ({"emissionFactorType": "direct"}, NoSignalReason.NOT_UNDERSTOOD),
        ({"emissionFactorType": None}, NoSignalReason.NOT_UNDERSTOOD),
        ({"emissionFactorType": ["lifecycle"]}, NoSignalReason.NOT_UNDERSTOOD),
        ({"emissionFactorType": {}}, NoSignalReason.NOT_UNDERSTOOD),
        ({"carbonIntensity": 3001}, NoSignalReason.IMPLAUSIBLE),
    ],
)
def test_what_is_not_the_asked_for_figure_of_a_known_time_is_no_signal(
    changed: dict[str, Any], reason: NoSignalReason
) -> None:
    """No time, no offset, or another factor type than was asked for."""
    assert reason_of(LIFECYCLE, "SE_3", hour(**changed)) is reason


def test_an_answer_that_does_not_name_its_factor_type_is_the_one_asked_for() -> None:
    """The request names it, and older answers leave it out."""
    seen = signal_of(DIRECT, "SE_3", hour(emissionFactorType=...))
    assert seen.method.basis == "direct"


@pytest.mark.parametrize(
    ("body", "reason"), [(b"null", "not_understood"), (b"<html>", "html_page"), (b"", "not_understood")]
)
def test_what_is_no_answer_is_no_signal(body: bytes, reason: str) -> None:
    """Another document, or a page, has its reason."""
    assert reason_of(LIFECYCLE, "SE_3", body) == reason


@pytest.mark.parametrize("figure", ["lifecycle", "direct"])
@pytest.mark.parametrize(("zone", "name"), [("SE_3", "SE-SE3"), ("DE_LU", "DE"), ("IS", "IS"), ("FR", "FR")])
def test_the_request_turns_estimates_and_guesses_of_our_place_off(figure: str, zone: str, name: str) -> None:
    """Both switches are set, the zone is named, and the key stands in a header only."""
    source = service("electricity_maps", figure=figure)
    asked = electricity_maps.request("https://api.electricitymaps.com", terms_for(source, zone), figure=figure, key=KEY)
    parts = urlsplit(asked.url)
    assert parts.path == "/v3/carbon-intensity/latest"
    assert parse_qs(parts.query) == {
        "zone": [name],
        "emissionFactorType": [figure],
        "disableEstimations": ["true"],
        "shouldUseFallbackCallerLookup": ["false"],
    }
    assert asked.headers == (("auth-token", KEY),)
    assert KEY not in asked.url
    assert KEY not in repr(asked)
