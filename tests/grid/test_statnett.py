"""Statnett: texts with blanks between thousands, columns by their header, and parts that must add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.asked import read, reason_of, service, signal_of
from grid.samples import LIFECYCLE, NOW
from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import GridSignal, Ineligible, read_at
from vetted_mw.grid.sources import statnett

NORDIC = service("statnett")
NBSP = "\u00a0"
PARTS = ("NuclearData", "HydroData", "ThermalData", "WindData", "NotSpecifiedData")
ENDLESS = pytest.param(10**400, id="endless")
MEASURED_AT = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)

# Country -> production, nuclear, hydro, thermal, wind, not specified; texts as the service writes them.
TABLE: dict[str, tuple[Any, ...]] = {
    "SE": (f"16{NBSP}000", f"6{NBSP}000", f"7{NBSP}000", "800", f"2{NBSP}000", "200"),
    "DK": (f"4{NBSP}000", "-", "-", f"1{NBSP}500", f"2{NBSP}500", "-"),
    "NO": (f"20{NBSP}000", "-", f"18{NBSP}500", "300", f"1{NBSP}200", "-"),
    "FI": (f"9{NBSP}000", f"4{NBSP}300", f"1{NBSP}700", f"2{NBSP}000", f"1{NBSP}000", "-"),
}
SWEDEN = (6000 * 12 + 7000 * 24 + 2000 * 11 + 1000 * 258) / 16_000
FINLAND = (4300 * 12 + 1700 * 24 + 1000 * 11 + 2000 * 700) / 9_000


def overview(table: dict[str, tuple[Any, ...]] | None = None, **changed: Any) -> dict[str, Any]:
    """Return an overview of these countries, in this order, behind a column of labels."""
    countries = TABLE if table is None else table
    names = ("ProductionData", *PARTS)
    data = {
        name: [{"value": None, "titleTranslationId": f"ProductionConsumption.{name}Desc"}]
        + [{"value": cells[number]} for cells in countries.values()]
        for number, name in enumerate(names)
    }
    return {
        "MeasuredAt": round(MEASURED_AT.timestamp() * 1000),
        "Headers": [{"value": ""}, *({"value": country} for country in countries)],
        "ConsumptionData": [],
        "NetExchangeData": [],
        **data,
        **changed,
    }


def of_sweden(**cells: Any) -> dict[str, Any]:
    """Return the overview with cells of Sweden's column changed."""
    written = dict(zip(("ProductionData", *PARTS), TABLE["SE"], strict=True)) | cells
    return overview(TABLE | {"SE": tuple(written.values())})


def test_a_countrys_column_is_a_coarse_mix() -> None:
    """Thermal and not specified are one lump with the zone's own factor for it, and count as stand-ins."""
    seen = signal_of(NORDIC, "SE_3", overview())
    assert seen.gco2_per_kwh == pytest.approx(SWEDEN)
    assert (seen.source, seen.zone, seen.area, seen.kind) == ("statnett_derived_live", "SE_3", "SE", "measured")
    assert (seen.method, seen.resolution_minutes, seen.max_age_minutes) == (LIFECYCLE, None, 15.0)
    assert seen.mix == (("B12", 7000.0), ("B14", 6000.0), ("B19", 2000.0), ("B20", 1000.0))
    assert seen.proxy_share == pytest.approx(1000 / 16_000)
    assert seen.observed_at == MEASURED_AT
    assert read_at(seen, NOW).live_eligible


def test_a_zone_without_a_factor_of_its_own_takes_the_general_one() -> None:
    """Finland's thermal lump counts as any other, 700 g, and its share of stand-ins is told."""
    seen = signal_of(NORDIC, "FI", overview())
    assert seen.gco2_per_kwh == pytest.approx(FINLAND)
    assert seen.area == "FI"
    assert seen.proxy_share == pytest.approx(2 / 9)


def test_a_high_share_of_stand_ins_never_decides() -> None:
    """Where the lump is more than a quarter of it the value is shown and does not decide."""
    lumps = overview({"FI": ("9 000", "4 300", "700", "3 000", "1 000", "-")})
    assert read_at(signal_of(NORDIC, "FI", lumps), NOW).ineligible is Ineligible.PROXY_SHARE


@settings(max_examples=100, deadline=None)
@given(st.permutations(list(TABLE)), st.sampled_from(["SE_3", "FI"]))
def test_a_country_is_found_by_its_header(countries: list[str], zone: str) -> None:
    """Whatever order the columns come in, the zone gets its own country's numbers."""
    seen = signal_of(NORDIC, zone, overview({name: TABLE[name] for name in countries}))
    assert seen.gco2_per_kwh == pytest.approx({"SE_3": SWEDEN, "FI": FINLAND}[zone])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [{"value": ""}, {"value": "DK"}],
        [{"value": "SE"}, {"value": "SE"}],
        [{"value": ""}, {"value": "SE1"}],
        [{"value": ""}, {"value": "se"}],
        ["", "SE"],
        [{"name": "SE"}],
        [None],
    ],
)
def test_a_country_that_is_missing_or_there_twice_is_another_place(headers: list[Any]) -> None:
    """No column is ever guessed."""
    assert reason_of(NORDIC, "SE_3", overview(Headers=headers)) is NoSignalReason.WRONG_AREA


@pytest.mark.parametrize("blank", [NBSP, "\u202f", "\u2009", " ", ""])
def test_thousands_are_set_apart_by_any_blank(blank: str) -> None:
    """The service writes U+00A0; its relatives mean the same."""
    written = overview({"SE": tuple(str(cell).replace(NBSP, blank) for cell in TABLE["SE"])})
    assert signal_of(NORDIC, "SE_3", written).gco2_per_kwh == pytest.approx(SWEDEN)


@settings(max_examples=100, deadline=None)
@given(st.integers(1_500, 40_000), st.integers(1_500, 40_000), st.integers(0, 900))
def test_grouped_texts_are_the_numbers_they_show(nuclear: int, wind: int, lump: int) -> None:
    """For any amounts, written with U+00A0 between thousands, the mix is those amounts."""
    texts = [f"{amount:,}".replace(",", NBSP) for amount in (nuclear + wind + lump, nuclear, wind, lump)]
    seen = signal_of(NORDIC, "SE_3", overview({"SE": (texts[0], texts[1], "-", texts[3], texts[2], "-")}))
    assert dict(seen.mix) == {"B14": nuclear, "B19": wind, "B20": lump}


def test_a_dash_stands_for_none_of_the_kind() -> None:
    """Denmark has no nuclear and no hydro: they are no part of its mix, and no hole in it."""
    seen = signal_of(NORDIC, "DK_1", overview())
    assert seen.area == "DK"
    assert seen.gco2_per_kwh == pytest.approx((1500 * 700 + 2500 * 11) / 4000)
    assert dict(seen.mix) == {"B19": 2500.0, "B20": 1500.0}


@pytest.mark.parametrize("name", ["NuclearData", "WindData"])
def test_a_dash_where_the_zone_always_makes_some_is_incomplete(name: str) -> None:
    """Sweden without nuclear or wind is a hole in the data."""
    assert reason_of(NORDIC, "SE_3", of_sweden(**{name: "-"})) is NoSignalReason.INCOMPLETE


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"HydroData": "-"}, NoSignalReason.INCOMPLETE),
        ({"HydroData": "0"}, NoSignalReason.INCOMPLETE),
        ({"HydroData": "3 700"}, NoSignalReason.INCOMPLETE),
        ({"ProductionData": "20 001"}, NoSignalReason.INCOMPLETE),
        ({"HydroData": "70 000"}, NoSignalReason.IMPLAUSIBLE),
        ({"ProductionData": "15 200"}, NoSignalReason.IMPLAUSIBLE),
        ({"ProductionData": "-16 000"}, NoSignalReason.IMPLAUSIBLE),
        ({"ProductionData": "1 600"}, NoSignalReason.IMPLAUSIBLE),
        ({"ProductionData": "-"}, NoSignalReason.IMPLAUSIBLE),
        (dict.fromkeys(("ProductionData", *PARTS), "0"), NoSignalReason.IMPLAUSIBLE),
        (
            {
                "ProductionData": "2 900",
                "NuclearData": "1 900",
                "HydroData": "0",
                "WindData": "1 000",
                "ThermalData": "-",
                "NotSpecifiedData": "-",
            },
            NoSignalReason.IMPLAUSIBLE,
        ),
    ],
)
def test_parts_that_do_not_add_up_are_no_signal(changed: dict[str, Any], reason: NoSignalReason) -> None:
    """Far less than the stated production and fuels have vanished; far more, or too little in all, is not believed."""
    assert reason_of(NORDIC, "SE_3", of_sweden(**changed)) is reason


@pytest.mark.parametrize("stated", ["15 240", "15 500", "16 000"])
def test_parts_may_be_a_little_more_than_the_stated_production(stated: str) -> None:
    """The service says itself that its figures are not exact; up to a twentieth more is believed as it is."""
    seen = signal_of(NORDIC, "SE_3", of_sweden(ProductionData=stated))
    assert seen.gco2_per_kwh == pytest.approx(SWEDEN)
    assert seen.proxy_share == pytest.approx(1000 / 16_000)


@pytest.mark.parametrize("stated", [16_001, 17_000, 20_000])
def test_what_the_parts_fall_short_of_is_of_no_known_fuel(stated: int) -> None:
    """The rest of the stated production counts as other, a stand-in, whose share is told."""
    seen = signal_of(NORDIC, "SE_3", of_sweden(ProductionData=str(stated)))
    missing = stated - 16_000
    assert seen.gco2_per_kwh == pytest.approx((SWEDEN * 16_000 + missing * 258) / stated)
    assert seen.proxy_share == pytest.approx((1000 + missing) / stated)
    assert sum(dict(seen.mix).values()) == pytest.approx(stated)


@pytest.mark.parametrize("value", ["-", "0", "-5"])
@pytest.mark.parametrize("name", ["ThermalData", "NotSpecifiedData"])
@pytest.mark.parametrize("zone", ["SE_3", "FI"])
def test_a_lump_that_vanishes_leaves_the_value_as_it_was(name: str, zone: str, value: str) -> None:
    """With the stated production unchanged it is still of no known fuel, and its share is still told."""
    cells = ("12 000", "5 000", "4 000", "1 500", "1 000", "500")
    number = ("ProductionData", *PARTS).index(name)
    gone = (*cells[:number], value, *cells[number + 1 :])
    whole = signal_of(NORDIC, zone, overview({"SE": cells, "FI": cells}))
    seen = signal_of(NORDIC, zone, overview({"SE": gone, "FI": gone}))
    assert seen.gco2_per_kwh == pytest.approx(whole.gco2_per_kwh)
    assert seen.proxy_share == pytest.approx(whole.proxy_share)
    assert dict(seen.mix) == pytest.approx(dict(whole.mix))


PARTS_OF_IT = st.lists(st.integers(0, 8_000), min_size=5, max_size=5)


@settings(max_examples=200, deadline=None)
@given(PARTS_OF_IT, st.sampled_from(range(5)))
def test_no_lost_part_of_any_mix_makes_it_cleaner(parts: list[int], lost: int) -> None:
    """For any mix and any of its fuels: without it the value is the same or higher, or there is none."""
    cells = [str(sum(parts)), *map(str, parts)]
    without = [*cells[: lost + 1], "0", *cells[lost + 2 :]]
    (whole,) = read(NORDIC, "DK_1", overview({"DK": tuple(cells)}))
    (seen,) = read(NORDIC, "DK_1", overview({"DK": tuple(without)}))
    if isinstance(seen, GridSignal):
        assert isinstance(whole, GridSignal)
        assert seen.gco2_per_kwh >= whole.gco2_per_kwh * (1 - 1e-9)
        assert sum(dict(seen.mix).values()) == pytest.approx(sum(parts))


@pytest.mark.parametrize("minus", ["-", "\u2212"])
def test_a_plant_that_draws_counts_as_nothing(minus: str) -> None:
    """A small negative, whichever minus it is written with, is 0 in both sums."""
    seen = signal_of(NORDIC, "SE_3", of_sweden(WindData=f"{minus}3", ProductionData="14 000"))
    assert dict(seen.mix)["B19"] == 0.0
    assert seen.gco2_per_kwh == pytest.approx((6000 * 12 + 7000 * 24 + 1000 * 258) / 14_000)


@pytest.mark.parametrize("value", ["ND", "", "--", "12,5", "1.2.3", None, True, [], {}, "NaN", "1e400"])
@pytest.mark.parametrize("name", ["ProductionData", "HydroData", "NotSpecifiedData"])
def test_a_cell_that_is_neither_a_number_nor_a_dash_is_no_signal(name: str, value: Any) -> None:
    """What cannot be read is not nothing."""
    assert reason_of(NORDIC, "SE_3", of_sweden(**{name: value})) is NoSignalReason.NOT_A_NUMBER


@pytest.mark.parametrize("name", PARTS)
def test_a_table_that_is_missing_or_too_short_is_no_signal(name: str) -> None:
    """A fuel's table without this country's cell, or no table, is a change of format."""
    assert reason_of(NORDIC, "FI", overview() | {name: None}) is NoSignalReason.NOT_UNDERSTOOD
    assert reason_of(NORDIC, "FI", overview() | {name: [{"value": "-"}] * 3}) is NoSignalReason.NOT_A_NUMBER


@pytest.mark.parametrize(
    ("milliseconds", "instant"),
    [(1_795_343_467_250, NOW + timedelta(milliseconds=250)), (0, datetime(1970, 1, 1, tzinfo=UTC))],
)
def test_the_time_is_in_milliseconds(milliseconds: int, instant: datetime) -> None:
    """Unix milliseconds in UTC, fractions of a second kept."""
    seen = signal_of(NORDIC, "SE_3", overview(MeasuredAt=milliseconds))
    assert seen.observed_at == instant
    assert seen.observed_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("value", [None, "1795343407250", True, [], 10**18, -(10**18), ENDLESS, "2026-11-22T10:30:00Z"])
def test_a_time_that_is_none_is_no_signal(value: Any) -> None:
    """Its age would not be known."""
    assert reason_of(NORDIC, "SE_3", overview(MeasuredAt=value)) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize(("minutes", "ineligible"), [(15, None), (15.1, Ineligible.STALE), (-5.1, "future_dated")])
def test_a_value_is_fresh_for_a_quarter_of_an_hour(minutes: float, ineligible: str | None) -> None:
    """The service measures every minute, so a quarter of an hour without news is stale."""
    seen = signal_of(NORDIC, "SE_3", overview())
    assert read_at(seen, MEASURED_AT + timedelta(minutes=minutes)).ineligible == ineligible


@pytest.mark.parametrize(
    ("body", "reason"), [(b"[]", "not_understood"), (b"<html>", "html_page"), (b"{}", "not_understood")]
)
def test_what_is_no_overview_is_no_signal(body: bytes, reason: str) -> None:
    """Another document, or a page, has its reason."""
    assert reason_of(NORDIC, "SE_3", body) == reason


def test_the_request_is_one_plain_get() -> None:
    """One answer tells every country; no key."""
    asked = statnett.request("https://driftsdata.statnett.no")
    assert asked.url == "https://driftsdata.statnett.no/restapi/ProductionConsumption/GetLatestDetailedOverview"
    assert asked.headers == ()
