"""RTE's eCO2mix on ODRE: rows out of order, with nulls and strings, in both shapes; the mix, and RTE's own figure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.asked import RECORDINGS, reason_of, recorded, service, signal_of
from grid.samples import LIFECYCLE, NOW
from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Ineligible, read_at
from vetted_mw.grid.sources import odre

MIX = service("odre", figure="mix")
DIRECT = service("odre", figure="taux_co2")

# What IPCC's AR5 and, for oil, the UK's POST publish, in gCO2e/kWh.
FACTORS = {
    "nucleaire": 12,
    "gaz": 490,
    "charbon": 820,
    "fioul": 650,
    "eolien": 11,
    "solaire": 48,
    "bioenergies": 230,
    "hydraulique_fil_eau_eclusee": 24,
    "hydraulique_lacs": 24,
}
MEGAWATTS = dict(zip(FACTORS, (36_000, 4_000, 20, 180, 7_000, 900, 650, 2_800, 1_100), strict=True))
EXPECTED = sum(MEGAWATTS[name] * FACTORS[name] for name in FACTORS) / sum(MEGAWATTS.values())


def row(at: str = "2026-11-22T09:45:00+00:00", **changed: Any) -> dict[str, Any]:
    """Return one row as the service writes it; `...` takes a member out."""
    written = (
        {
            "date_heure": at,
            "date": "1999-12-31",
            "heure": "23:59",
            "taux_co2": 38,
            "consommation": 60_000,
            "hydraulique": 4_800,
            "hydraulique_step_turbinage": 900,
            "pompage": -1_420,
            "stockage_batterie": "-6",
            "destockage_batterie": "2",
            "ech_physiques": -11_204,
            "eolien_terrestre": "6500",
        }
        | MEGAWATTS
        | changed
    )
    return {name: value for name, value in written.items() if value is not ...}


def flat(*rows: Any) -> dict[str, Any]:
    """Return rows in today's shape."""
    return {"total_count": len(rows), "results": list(rows)}


def nested(*rows: Any) -> dict[str, Any]:
    """Return rows in the older one."""
    return {"nhits": len(rows), "records": [{"datasetid": "eco2mix-national-tr", "fields": one} for one in rows]}


# ---- the recording


def recording() -> tuple[bytes, list[dict[str, Any]]]:
    data = (RECORDINGS / "rte" / "FR_eco2mix-national-tr_v1_search.json").read_bytes()
    return data, [record["fields"] for record in json.loads(data)["records"]]


@recorded
def test_the_recording_ends_with_21_9_grams_by_our_factors_and_12_by_rtes() -> None:
    """Of 97 rows in no order the latest, 2023-09-22 00:00Z, calculated here once more; two methods, two signals."""
    data, rows = recording()
    midnight = datetime(2023, 9, 22, tzinfo=UTC)
    assert [datetime.fromisoformat(one["date_heure"]) for one in rows] != sorted(
        datetime.fromisoformat(one["date_heure"]) for one in rows
    )
    (last,) = [one for one in rows if datetime.fromisoformat(one["date_heure"]) == midnight]
    mix, direct = signal_of(MIX, "FR", data), signal_of(DIRECT, "FR", data)
    ours = sum(last[name] * FACTORS[name] for name in FACTORS) / sum(last[name] for name in FACTORS)
    assert mix.gco2_per_kwh == pytest.approx(ours)
    assert (round(mix.gco2_per_kwh, 1), direct.gco2_per_kwh) == (21.9, 12.0)
    assert (mix.observed_at, direct.observed_at) == (midnight, midnight)
    assert mix.method != direct.method


@recorded
def test_the_recording_bears_out_how_rtes_own_figure_is_made() -> None:
    """Direct emissions over all production give `taux_co2` to rounding: why its method is production and direct."""
    _data, rows = recording()
    apart = []
    for one in rows:
        emitted = 429 * one["gaz"] + 777 * one["fioul"] + 986 * one["charbon"] + 494 * one["bioenergies"]
        made = sum(one[name] for name in ("nucleaire", "gaz", "charbon", "fioul", "eolien", "solaire", "bioenergies"))
        apart.append(emitted / (made + one["hydraulique"]) - one["taux_co2"])
    assert len(apart) == 97
    assert max(map(abs, apart)) < 0.6
    assert round(fmean(apart), 2) == 0.05


@recorded
def test_each_row_of_the_recording_alone_is_read() -> None:
    """Each row alone gives the mix calculated here and RTE's figure, whatever it holds as strings."""
    _data, rows = recording()
    for one in rows:
        ours = sum(one[name] * FACTORS[name] for name in FACTORS) / sum(one[name] for name in FACTORS)
        assert signal_of(MIX, "FR", flat(one)).gco2_per_kwh == pytest.approx(ours)
        assert signal_of(DIRECT, "FR", nested(one)).gco2_per_kwh == one["taux_co2"]


# ---- synthetic rows


@pytest.mark.parametrize("shape", [flat, nested])
def test_both_shapes_give_the_mix(shape: Any) -> None:
    """Our factors over what is made, storage and sums left out; the instant is the row's own."""
    seen = signal_of(MIX, "FR", shape(row()))
    assert seen.gco2_per_kwh == pytest.approx(EXPECTED)
    assert (seen.source, seen.zone, seen.area, seen.kind) == ("rte_mix_derived_live", "FR", "FR", "measured")
    assert (seen.method, seen.proxy_share, seen.resolution_minutes) == (LIFECYCLE, 0.0, 15)
    assert seen.observed_at == datetime(2026, 11, 22, 9, 45, tzinfo=UTC)
    assert dict(seen.mix).keys() == {"B01", "B04", "B05", "B06", "B11", "B12", "B14", "B16", "B19"}
    assert sum(dict(seen.mix).values()) == sum(MEGAWATTS.values())
    assert read_at(seen, NOW).live_eligible


@pytest.mark.parametrize("shape", [flat, nested])
def test_rtes_own_figure_is_another_signal(shape: Any) -> None:
    """Direct, by RTE's factors, under its own label: it never competes with the mix."""
    seen = signal_of(DIRECT, "FR", shape(row()))
    assert (seen.source, seen.gco2_per_kwh) == ("rte_eco2mix_direct", 38.0)
    assert str(seen.method) == "production/direct/average/rte"
    assert (seen.proxy_share, seen.mix, seen.resolution_minutes) == (None, (), 15)
    assert seen.observed_at == datetime(2026, 11, 22, 9, 45, tzinfo=UTC)


QUARTERS = [f"2026-11-22T{hour:02}:{minute:02}:00+00:00" for hour in (7, 8, 9) for minute in (0, 15, 30, 45)]


@settings(max_examples=60, deadline=None)
@given(st.permutations(QUARTERS), st.sampled_from([flat, nested]))
def test_the_latest_row_counts_in_any_order(times: list[str], shape: Any) -> None:
    """For every order of the rows, by both figures, the value is the latest quarter's."""
    rows = [row(at, gaz=QUARTERS.index(at) * 1000, taux_co2=10 + QUARTERS.index(at)) for at in times]
    mix, direct = signal_of(MIX, "FR", shape(*rows)), signal_of(DIRECT, "FR", shape(*rows))
    assert mix.observed_at == direct.observed_at == datetime(2026, 11, 22, 9, 45, tzinfo=UTC)
    assert (dict(mix.mix)["B04"], direct.gco2_per_kwh) == (11_000.0, 21.0)


@pytest.mark.parametrize("shape", [flat, nested])
def test_a_row_of_a_time_to_come_is_passed_over(shape: Any) -> None:
    """More than five minutes ahead it hides no older row; where all are, it is told and refused."""
    ahead = row("2026-11-22T10:45:00+00:00", gaz=0, taux_co2=5)
    for source in (MIX, DIRECT):
        seen = signal_of(source, "FR", shape(ahead, row()))
        assert seen.observed_at == datetime(2026, 11, 22, 9, 45, tzinfo=UTC)
        assert read_at(seen, NOW).live_eligible
        alone = signal_of(source, "FR", shape(ahead))
        assert read_at(alone, NOW).ineligible is Ineligible.FUTURE_DATED
        just = signal_of(source, "FR", shape(row("2026-11-22T10:36:07+00:00"), row()))
        assert just.observed_at == NOW + timedelta(minutes=5)


@pytest.mark.parametrize("value", [..., None, "ND", "", "-", True, [], {}])
@pytest.mark.parametrize("name", sorted(FACTORS))
def test_a_row_that_lacks_a_fuel_is_passed_over_for_an_older_whole_one(name: str, value: Any) -> None:
    """Rows for the rest of today are there with nulls; a mix with a hole is never summed, alone it is incomplete."""
    holed, whole = row("2026-11-22T10:00:00+00:00", **{name: value}), row()
    seen = signal_of(MIX, "FR", flat(holed, whole))
    assert seen.observed_at.hour == 9
    assert seen.gco2_per_kwh == pytest.approx(EXPECTED)
    assert reason_of(MIX, "FR", flat(holed)) is NoSignalReason.INCOMPLETE


def test_numbers_may_be_strings() -> None:
    """`"489"` and `"0"` are numbers all the same."""
    written = row(**{name: str(value) for name, value in MEGAWATTS.items()}, taux_co2="38")
    assert signal_of(MIX, "FR", flat(written)).gco2_per_kwh == pytest.approx(EXPECTED)
    assert signal_of(DIRECT, "FR", flat(written)).gco2_per_kwh == 38.0


@pytest.mark.parametrize("value", [0, 0.0, "0", None, "ND", ..., False, -5, "-5"])
def test_a_placeholder_is_never_rtes_figure(value: Any) -> None:
    """`taux_co2` of 0 has been seen where there was no value: an older row's counts, and without one there is none."""
    blank = row("2026-11-22T10:00:00+00:00", taux_co2=value)
    seen = signal_of(DIRECT, "FR", flat(blank, row()))
    assert (seen.gco2_per_kwh, seen.observed_at.hour) == (38.0, 9)
    assert reason_of(DIRECT, "FR", flat(blank)) is NoSignalReason.NO_DATA


def test_what_pumping_draws_and_gives_is_left_out() -> None:
    """Storage does not move the mix, and a plant that draws more than it makes makes nothing."""
    stored = row(pompage=-9_000, hydraulique_step_turbinage=9_000, stockage_batterie="-500", destockage_batterie=700)
    assert signal_of(MIX, "FR", flat(stored)).gco2_per_kwh == pytest.approx(EXPECTED)
    without = (EXPECTED * sum(MEGAWATTS.values()) - 180 * 650) / (sum(MEGAWATTS.values()) - 180)
    assert signal_of(MIX, "FR", flat(row(fioul=-3))).gco2_per_kwh == pytest.approx(without)


@pytest.mark.parametrize("megawatts", [0, 2_000])
def test_a_mix_of_too_little_is_not_believed(megawatts: int) -> None:
    """France always makes more than 20 GW."""
    vanished = row() | dict.fromkeys(FACTORS, megawatts)
    assert reason_of(MIX, "FR", flat(vanished)) is NoSignalReason.IMPLAUSIBLE


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (None, NoSignalReason.NOT_UNDERSTOOD),
        (..., NoSignalReason.NOT_UNDERSTOOD),
        ("", NoSignalReason.NOT_UNDERSTOOD),
        (1_795_340_700, NoSignalReason.NOT_UNDERSTOOD),
        ("2026-11-22T09:45:00", NoSignalReason.NO_OFFSET),
        ("2026-11-22", NoSignalReason.NO_OFFSET),
    ],
)
@pytest.mark.parametrize("source", [MIX, DIRECT], ids=["mix", "taux_co2"])
def test_date_and_hour_are_never_used(source: Any, at: Any, reason: NoSignalReason) -> None:
    """They are local and ambiguous in October: without an offset in `date_heure` the age is not known."""
    written = row() | {"date": "2026-11-22", "heure": "10:45", "date_heure": at}
    assert reason_of(source, "FR", flat({name: value for name, value in written.items() if value is not ...})) is reason


@pytest.mark.parametrize(
    ("at", "utc"),
    [
        ("2026-10-25T02:30:00+02:00", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("2026-10-25T02:30:00+01:00", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        ("2026-03-29T03:00:00+02:00", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        ("2026-10-25T00:30:00Z", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_the_hour_that_comes_twice_is_told_by_its_offset(at: str, utc: datetime) -> None:
    """02:30 in Paris is two instants on the last Sunday of October."""
    seen = signal_of(MIX, "FR", flat(row(at)))
    assert seen.observed_at == utc
    assert seen.observed_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("source", [MIX, DIRECT], ids=["mix", "taux_co2"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (flat(), NoSignalReason.NO_DATA),
        (nested(), NoSignalReason.NO_DATA),
        ({}, NoSignalReason.NOT_UNDERSTOOD),
        ({"results": None}, NoSignalReason.NOT_UNDERSTOOD),
        ({"results": {}}, NoSignalReason.NOT_UNDERSTOOD),
        (flat(row(), None), NoSignalReason.NOT_UNDERSTOOD),
        ({"records": [{"fields": None}]}, NoSignalReason.NOT_UNDERSTOOD),
        ({"records": [7]}, NoSignalReason.NOT_UNDERSTOOD),
        ({"error_code": "ODSQLError", "message": "no such field"}, NoSignalReason.NOT_UNDERSTOOD),
        (b"<html>", NoSignalReason.HTML_PAGE),
    ],
)
def test_what_is_neither_shape_is_no_signal(source: Any, answer: Any, reason: NoSignalReason) -> None:
    """No rows is no data; a message, a page or rows that are none are not understood."""
    assert reason_of(source, "FR", answer) is reason


def test_the_request_asks_for_the_latest_filled_rows_in_utc() -> None:
    """Newest first, those with a figure, no key, and percent-encoded."""
    asked = odre.request("https://odre.opendatasoft.com")
    parts = urlsplit(asked.url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.path == "/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"
    assert (query["where"], query["order_by"], query["timezone"]) == ("taux_co2 is not null", "date_heure desc", "UTC")
    assert 1 <= int(query["limit"]) <= 100
    assert " " not in asked.url
    assert asked.headers == ()
