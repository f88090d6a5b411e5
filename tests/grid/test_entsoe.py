"""ENTSO-E's actual generation per type as an intensity: what is asked, what is read, and every reason for no signal."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grid.entsoe_documents import (
    FETCHED_AT,
    FRANCE,
    GENERATION,
    SWEDEN_3,
    TimeSeries,
    acknowledgement,
    blocks,
    consumption,
    document,
    generation,
    hourly,
    parsed,
    period,
    placed_beyond_memory,
    quarterly,
    reason,
    terms,
    without_lineage,
    written,
    zipped,
)
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.factors import load_factors
from vetted_mw.grid.signal import GridSignal, Ineligible, SignalKind, read_at
from vetted_mw.grid.sources import entsoe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.grid.sources.terms import Terms

TEN, ELEVEN = "2025-10-24T10:00Z", "2025-10-24T11:00Z"
NUCLEAR = hourly("B14", TEN, 30000, 40000)


def signal(*series: TimeSeries, given_terms: Terms | None = None, fetched_at: datetime = FETCHED_AT) -> GridSignal:
    """Return the signal that a document of `series` gives."""
    found = parsed(document(*series), given_terms, fetched_at=fetched_at)
    assert isinstance(found, GridSignal)
    return found


def at(hour: int, minute: int = 0) -> datetime:
    """Return an instant of the day of these documents."""
    return datetime(2025, 10, 24, hour, minute, tzinfo=UTC)


# --- what is asked


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2025-10-24T12:57:19.123456", "202510240700", "202510241300"),
        ("2025-10-24T12:45:00", "202510240645", "202510241245"),
        ("2025-10-24T12:45:00.000001", "202510240700", "202510241300"),
        ("2025-10-24T12:44:59.999999", "202510240645", "202510241245"),
        ("2025-10-24T12:00:01", "202510240615", "202510241215"),
        ("2025-10-24T00:00:00", "202510231800", "202510240000"),
        ("2025-10-24T23:45:01", "202510241800", "202510250000"),
        ("2025-12-31T23:59:59", "202512311800", "202601010000"),
        ("2024-02-28T23:50:00", "202402281800", "202402290000"),
        ("2025-03-30T01:01:00", "202503291915", "202503300115"),
        ("2025-10-26T01:01:00", "202510251915", "202510260115"),
    ],
)
def test_six_hours_are_asked_for_up_to_the_next_quarter(now: str, start: str, end: str) -> None:
    """The end is rounded up, so that the newest interval is asked for; days of 23 or 25 local hours are like others."""
    asked = entsoe.request(
        "https://grid.example/api", terms(), datetime.fromisoformat(now).replace(tzinfo=UTC), token="key"
    )
    assert parse_qs(urlsplit(asked.url).query, strict_parsing=True) == {
        "securityToken": ["key"],
        "documentType": ["A75"],
        "processType": ["A16"],
        "in_Domain": [FRANCE],
        "periodStart": [start],
        "periodEnd": [end],
    }
    assert asked.url.startswith("https://grid.example/api?")
    assert asked.accept == "application/xml"
    assert asked.headers == ()


@settings(max_examples=200, deadline=None)
@given(st.datetimes(datetime(2015, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_end_is_the_next_quarter_at_any_instant(now: datetime) -> None:
    """Less than a quarter of an hour ahead, never behind."""
    query = parse_qs(urlsplit(entsoe.request("https://grid.example", terms(), now, token="key").url).query)
    end = datetime.strptime(query["periodEnd"][0], "%Y%m%d%H%M").replace(tzinfo=UTC)
    assert timedelta(0) <= end - now < timedelta(minutes=15)
    assert end.minute in {0, 15, 30, 45}
    assert query["periodStart"] == [f"{end - timedelta(hours=6):%Y%m%d%H%M}"]


@pytest.mark.parametrize(
    "token", ["a&documentType=A65", "a b+c", "a#b", "a%26b", "\u00e9\u4e2d", "a/b?c=d;e", "\r\nx: y"]
)
def test_a_token_cannot_change_the_question(token: str) -> None:
    """It is percent-encoded, so that the service gets it as it is and nothing else changes."""
    url = urlsplit(entsoe.request("https://grid.example/api", terms(), FETCHED_AT, token=token).url)
    query = parse_qs(url.query, strict_parsing=True)
    assert (query["securityToken"], query["documentType"], url.fragment) == ([token], ["A75"], "")
    assert len(query) == 6
    assert token not in url.geturl()
    assert url.geturl().isascii()


def test_a_request_is_never_shown() -> None:
    """Its URL holds the key, so neither the URL nor the key is in what is printed of it."""
    asked = entsoe.request("https://grid.example/api", terms(), FETCHED_AT, token="canary-0e1f")
    assert "canary-0e1f" in asked.url
    for shown in (repr(asked), str(asked), f"{asked}", f"{[asked]}"):
        assert "canary-0e1f" not in shown
        assert "grid.example" not in shown


# --- what is read


def test_a_signal_says_what_it_is_of() -> None:
    """The end of the interval is its instant, the bytes' hash its lineage, the zone's bars go with it."""
    given_terms = terms("DE_LU", "10Y1001A1001A83F", area="DE", max_age_minutes=120.0, max_proxy_share=0.45)
    data = document(
        hourly("B02", TEN, 10000, 5000, domain="10Y1001A1001A83F"),
        hourly("B14", TEN, 10000, 15000, domain="10Y1001A1001A83F"),
    )
    found = parsed(data, given_terms)
    assert isinstance(found, GridSignal)
    assert (found.source, found.zone, found.area) == ("entsoe_derived_live", "DE_LU", "DE")
    assert (found.kind, found.estimated) == (SignalKind.MEASURED, False)
    assert found.gco2_per_kwh == pytest.approx((5000 * 820 + 15000 * 12) / 20000)
    assert (found.observed_at, found.fetched_at, found.resolution_minutes) == (at(12), FETCHED_AT, 60)
    assert (found.max_age_minutes, found.max_proxy_share) == (120.0, 0.45)
    assert found.proxy_share == pytest.approx(0.25)
    assert str(found.method) == "production/lifecycle/average/ar5_v1"
    assert found.raw_ref == hashlib.sha256(data).hexdigest()
    assert found.mix == (("B02", 5000.0), ("B14", 15000.0))


@pytest.mark.parametrize(
    ("series", "ended", "mix"),
    [
        pytest.param(
            [NUCLEAR, hourly("B16", TEN, 1, 2, 3, 4)],
            at(12),
            {"B14": 40000, "B16": 2},
            id="solar runs ahead of the rest: step back",
        ),
        pytest.param(
            [NUCLEAR, quarterly("B16", TEN, 0, 4, 8, 12, 16, 20, 24)],
            at(11),
            {"B14": 30000, "B16": 6},
            id="quarters are averaged up to hours, whole ones only",
        ),
        pytest.param(
            [NUCLEAR, hourly("B04", TEN, 700, None)],
            at(11),
            {"B14": 30000, "B04": 700},
            id="a hole on a complete curve is a hole: step back",
        ),
        pytest.param(
            [NUCLEAR, generation("B04", blocks(TEN, "2025-10-24T12:00Z", {1: 700}), curve="A03")],
            at(12),
            {"B14": 40000, "B04": 700},
            id="a block lasts to its Period's end",
        ),
        pytest.param(
            [NUCLEAR, generation("B04", blocks(TEN, ELEVEN, {1: 700}), curve="A03")],
            at(11),
            {"B14": 30000, "B04": 700},
            id="and no further",
        ),
        pytest.param(
            [
                NUCLEAR,
                generation(
                    "B04", blocks(TEN, ELEVEN, {1: 700}), blocks(ELEVEN, "2025-10-24T12:00Z", {2: 1}), curve="A03"
                ),
            ],
            at(11),
            {"B14": 30000, "B04": 700},
            id="and not into the next Period, whose first block is missing",
        ),
        pytest.param(
            [NUCLEAR, hourly("B04", TEN, 700), hourly("B04", ELEVEN, 800)],
            at(12),
            {"B14": 40000, "B04": 800},
            id="two series of a type",
        ),
        pytest.param(
            [NUCLEAR, hourly("B04", TEN, 700, 800), hourly("B04", ELEVEN, 800)],
            at(11),
            {"B14": 30000, "B04": 700},
            id="two series of a type overlap: nobody knows which is right",
        ),
        pytest.param(
            [NUCLEAR, consumption("B10", TEN, 9000, 9000), consumption("B14", TEN, 1, 1)],
            at(12),
            {"B14": 40000},
            id="what is consumed is not netted",
        ),
        pytest.param(
            [NUCLEAR, hourly("B10", TEN, 5000), hourly("B25", TEN, 300)],
            at(12),
            {"B14": 40000},
            id="storage is in no sum and holds nothing back",
        ),
        pytest.param(
            [NUCLEAR, hourly("B21", TEN, 5000), hourly("B24", TEN, 300)],
            at(12),
            {"B14": 40000},
            id="links and transformers are no generation",
        ),
        pytest.param(
            [NUCLEAR, hourly("B04", TEN, -900, -900)],
            at(12),
            {"B14": 40000, "B04": 0},
            id="a plant that draws makes nothing",
        ),
        pytest.param(
            [NUCLEAR, generation("B04", period(TEN, [700]), period(ELEVEN, [800], end=TEN))],
            at(11),
            {"B14": 30000, "B04": 700},
            id="a Period that ends before it starts",
        ),
    ],
)
def test_the_latest_whole_interval_counts(series: list[TimeSeries], ended: datetime, mix: Mapping[str, float]) -> None:
    """Nothing is filled in and nothing guessed: where one type lacks a value, an earlier interval is taken."""
    found = signal(*series)
    assert found.observed_at == ended
    assert dict(found.mix) == mix
    factors = load_factors().factors
    total = sum(mix.values())
    assert found.gco2_per_kwh == pytest.approx(sum(mw * factors[code].gco2_per_kwh for code, mw in mix.items()) / total)


@pytest.mark.parametrize(
    ("fetched", "ended", "ineligible"),
    [
        (at(12, 54), at(12), None),
        (at(12, 55), at(13), None),
        (at(13, 55), at(14), None),
        (at(11), at(11), None),
        (at(10, 30), at(14), Ineligible.FUTURE_DATED),
    ],
)
def test_an_interval_that_is_not_over_is_passed_over(
    fetched: datetime, ended: datetime, ineligible: Ineligible | None
) -> None:
    """Ended more than five minutes ahead it hides no interval that is over; where none is, it is told and refused."""
    found = signal(hourly("B14", TEN, 30000, 31000, 32000, 33000), fetched_at=fetched)
    assert found.observed_at == ended
    assert read_at(found, fetched).ineligible is ineligible


def test_points_left_out_neither_lose_a_fuel_nor_three_days() -> None:
    """Where most fuels leave out points, the newest interval is still whole, with every fuel's last value in it."""
    start, end = "2025-10-21T12:00Z", "2025-10-24T12:00Z"
    steps = 3 * 24 * 4
    fuels = {"B04": 300.0, "B05": 200.0, "B06": 10.0, "B12": 900.0}
    found = signal(
        *(generation(code, blocks(start, end, {1: 1, 5: mw}, minutes=15), curve="A03") for code, mw in fuels.items()),
        generation("B19", blocks(start, end, {n: n for n in range(1, steps + 1)}, minutes=15), curve="A03"),
    )
    assert found.observed_at == datetime(2025, 10, 24, 12, tzinfo=UTC)
    assert dict(found.mix) == fuels | {"B19": float(steps)}


def test_a_code_that_is_not_known_counts_as_other() -> None:
    """It gets the factor of Other and is a stand-in; it raises nothing and drops nothing."""
    found = signal(hourly("B14", TEN, 9000), hourly("B99", TEN, 500), hourly("A04", TEN, 500))
    assert found.gco2_per_kwh == pytest.approx((9000 * 12 + 1000 * 700) / 10000)
    assert found.proxy_share == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("zone", "other"), [("SE_3", 258.0), ("SE_4", 258.0), ("SE", 258.0), ("FI", 700.0), ("FR", 700.0)]
)
def test_swedish_other_is_its_own(zone: str, other: float) -> None:
    """In Sweden, Other is combined heat and power from biomass, in words of the factor set: 258 and still a stand-in."""
    series = (hourly("B12", TEN, 800, domain=SWEDEN_3), hourly("B20", TEN, 200, domain=SWEDEN_3))
    found = signal(*series, given_terms=terms(zone, SWEDEN_3))
    assert found.gco2_per_kwh == pytest.approx((800 * 24 + 200 * other) / 1000)
    assert found.proxy_share == pytest.approx(0.2)


@pytest.mark.parametrize("version", ["3:0", "3:1", "3:2"])
@pytest.mark.parametrize("prefix", ["", "gl"])
def test_every_version_of_the_document_is_read(version: str, prefix: str) -> None:
    """Namespaces differ, values do not."""
    data = document(NUCLEAR, namespace=GENERATION.replace("3:0", version), prefix=prefix)
    found = parsed(data)
    assert isinstance(found, GridSignal)
    assert (found.gco2_per_kwh, found.observed_at) == (12.0, at(12))


@pytest.mark.parametrize(
    ("start", "hours"), [("2025-03-29T23:00Z", 23), ("2025-10-25T22:00Z", 25), ("2025-10-23T22:00Z", 24)]
)
def test_clocks_that_change_change_nothing(start: str, hours: int) -> None:
    """A local day of 23 or 25 hours ends where its points end, in UTC."""
    count = 4 * hours
    end = datetime.fromisoformat(start) + timedelta(hours=hours)
    series = (quarterly("B14", start, *([30000] * count)), quarterly("B16", start, *range(count)))
    found = signal(*series, fetched_at=end)
    assert found.observed_at == end
    assert dict(found.mix) == {"B14": 30000.0, "B16": float(count - 1)}


# --- why there is none


@pytest.mark.parametrize(
    ("series", "members", "why"),
    [
        pytest.param([NUCLEAR], {"expected_types": ("B04", "B14")}, "incomplete", id="an expected type is missing"),
        pytest.param(
            [NUCLEAR, hourly("B04", "2025-10-24T12:00Z", 1)],
            {"expected_types": ("B04", "B14")},
            "incomplete",
            id="the types never meet",
        ),
        pytest.param([NUCLEAR, hourly("B04", TEN, 1, curve="A02")], {}, "incomplete", id="an unknown curve"),
        pytest.param([hourly("B14", TEN, None)], {}, "incomplete", id="no value at all"),
        pytest.param([NUCLEAR, NUCLEAR], {}, "incomplete", id="every hour twice"),
        pytest.param([NUCLEAR], {"min_total_mw": 40000.1}, "implausible", id="less than the zone always makes"),
        pytest.param(
            [NUCLEAR, hourly("B10", TEN, 1, 9000)],
            {"min_total_mw": 45000},
            "implausible",
            id="storage does not make up for it",
        ),
        pytest.param([hourly("B14", TEN, 0, 0), hourly("B16", TEN, 0, 0)], {}, "implausible", id="all zero"),
        pytest.param([hourly("B14", TEN, -5, -5)], {}, "implausible", id="all drawn"),
        pytest.param([], {}, "no_data", id="no series"),
        pytest.param([hourly("B10", TEN, 5), hourly("B25", TEN, 5)], {}, "no_data", id="storage only"),
        pytest.param([consumption("B14", TEN, 5)], {}, "no_data", id="consumption only"),
        pytest.param([hourly("B14", TEN, 5, domain=SWEDEN_3)], {}, "wrong_area", id="another area than was asked for"),
        pytest.param(
            [NUCLEAR, hourly("B04", TEN, 5, 5, domain=SWEDEN_3)], {}, "wrong_area", id="another area's series among it"
        ),
        pytest.param([NUCLEAR, hourly("B04", TEN, 5, domain_element="")], {}, "wrong_area", id="a series of nowhere"),
        pytest.param([NUCLEAR, hourly("B04", TEN, 5, 5, unit="KWT")], {}, "not_understood", id="another unit"),
        pytest.param(
            [generation("B14", blocks("2024-12-31T23:00Z", "2025-12-31T23:00Z", {1: 5}, minutes=1), curve="A03")],
            {},
            "too_large",
            id="a year in minutes",
        ),
    ],
)
def test_a_document_that_gives_no_signal(series: list[TimeSeries], members: dict[str, Any], why: str) -> None:
    """Each fault by itself, with its own reason."""
    assert reason(document(*series), terms(**members)) == why


def test_at_the_least_total_a_mix_is_believed() -> None:
    """The bar is what a zone makes at least, not what it must exceed."""
    assert signal(NUCLEAR, given_terms=terms(min_total_mw=40000)).gco2_per_kwh == 12.0
    assert signal(NUCLEAR, given_terms=terms(expected_types=("B14",))).gco2_per_kwh == 12.0


@pytest.mark.parametrize(
    ("document_type", "process_type"),
    [
        ("A65", "A16"),
        ("A71", "A01"),
        ("A69", "A01"),
        ("A11", ""),
        ("A75", "A01"),
        ("A75", ""),
        ("A74", "A16"),
        ("", "A16"),
        ("a75", "A16"),
        ("A75A75", "A16"),
    ],
)
def test_only_realised_generation_by_type_is_read(document_type: str, process_type: str) -> None:
    """Load, forecasts, exchange and everything else gives no live signal, whatever series it holds."""
    data = document(NUCLEAR, document_type=document_type, process_type=process_type)
    assert reason(data) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        ([("999", "No matching data found")], "no_data"),
        (
            [("999", "No matching data found for Data item Actual Generation [16.1.B&amp;C] (10YFR-RTE------C)")],
            "no_data",
        ),
        ([("999", "NO MATCHING DATA FOUND")], "no_data"),
        ([("999", "No matching data found"), ("999", "No matching data found")], "no_data"),
        ([("999", "Delivered time interval is not valid for this Data item.")], "bad_request"),
        ([("999", "Input parameter in_Domain is not valid for this area")], "bad_request"),
        ([("999", "The amount of requested data exceeds allowed limit")], "bad_request"),
        (
            [("999", "The combination of [] is not valid, please check you request against dependency tables")],
            "bad_request",
        ),
        ([("A01", "No matching data found")], "bad_request"),
        ([("", "")], "bad_request"),
        ([("999", "")], "bad_request"),
        ([("999", "No matching data found"), ("999", "Input parameter is not valid for this area")], "bad_request"),
        ([("999", "Input parameter is not valid for this area"), ("999", "No matching data found")], "bad_request"),
        ([("999", "No matching data found"), ("A01", "something else")], "bad_request"),
        ([("999", "No matching"), ("999", "data found")], "bad_request"),
        ([], "not_understood"),
    ],
)
def test_an_acknowledgement_says_no_data_or_a_bad_request(reasons: list[tuple[str, str]], why: str) -> None:
    """Only where every reason is that there is no data it is no failure; the others must not hide behind it."""
    assert reason(acknowledgement(*reasons)) == why


def test_nothing_of_an_answers_text_is_kept() -> None:
    """An acknowledgement repeats the query, and a refused document may hold anything: no word of either is passed on."""
    for data in (
        acknowledgement(("999", "canary-7b2c is not valid")),
        document(hourly("canary-7b2c", TEN, 1)),
        document(hourly("B14", TEN, 1, domain="canary-7b2c")),
        document(NUCLEAR, document_type="canary-7b2c"),
        b"canary-7b2c",
    ):
        assert "canary" not in repr(parsed(data))


_PAGE = b"<html><head><title>503</title></head><body>Service Temporarily Unavailable</body></html>"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(_PAGE, "html_page", id="a page"),
        pytest.param(b"<!DOCTYPE html>\n" + _PAGE, "html_page", id="a page with its document type"),
        pytest.param(b"\xef\xbb\xbf\r\n <!doctype HTML>" + _PAGE, "html_page", id="a page after a mark and blanks"),
        pytest.param(b"<HTML><BODY>maintenance<BR>", "html_page", id="an old page"),
        pytest.param(zipped(_PAGE), "html_page", id="a page in an archive"),
        pytest.param(b"404 page not found\n", "not_understood", id="404 in words"),
        pytest.param(b'{"uuid": "1", "message": "maintenance"}', "not_understood", id="maintenance in JSON"),
        pytest.param(b"", "not_understood", id="nothing"),
        pytest.param(b"PK", "not_understood", id="two letters of an archive"),
        pytest.param(document(NUCLEAR)[:-30], "not_understood", id="cut short"),
        pytest.param(document(NUCLEAR) + document(NUCLEAR), "not_understood", id="two documents"),
        pytest.param(
            document(NUCLEAR).replace(b"GL_Market", b"Publication_Market"), "not_understood", id="another root"
        ),
        pytest.param(document(NUCLEAR, head="<!DOCTYPE GL_MarketDocument>"), "forbidden_markup", id="a document type"),
        pytest.param(
            document(NUCLEAR, head='<!DOCTYPE a [<!ENTITY b "B14">]>')
            .decode()
            .replace("UTF-8", "UTF-16")
            .encode("utf-16"),
            "forbidden_markup",
            id="entities in UTF-16",
        ),
        pytest.param(zipped(document(NUCLEAR, head="<!DOCTYPE a>")), "forbidden_markup", id="a document type, zipped"),
    ],
)
def test_what_is_no_document_says_what_it_is(data: bytes, why: str) -> None:
    """A page for people, words, JSON, broken or forbidden markup."""
    assert reason(data) == why


# --- whatever comes


_DOCUMENTS = (
    document(NUCLEAR, quarterly("B16", TEN, *range(8)), consumption("B10", TEN, 5, 5)),
    document(
        hourly("B14", TEN, 40000, 41000),
        generation("B04", blocks(TEN, "2025-10-24T12:00Z", {1: 5, 6: -2}, minutes=15), curve="A03"),
        prefix="gl",
    ),
    acknowledgement(("999", "No matching data found")),
    document(NUCLEAR).decode().replace("UTF-8", "UTF-16").encode("utf-16"),
    zipped(document(NUCLEAR)),
    zipped(document(NUCLEAR), method=zipfile.ZIP_LZMA),
    zipped(document(NUCLEAR), method=zipfile.ZIP_BZIP2),
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """Draw a document that was cut, doubled, mixed with another, or written over in places."""
    data = draw(st.sampled_from(_DOCUMENTS))
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(data)))
        last = draw(st.integers(first, min(len(data), first + draw(st.sampled_from((1, 8, 200, 5000))))))
        other = draw(st.sampled_from(_DOCUMENTS))
        begin = draw(st.integers(0, len(other)))
        put = draw(
            st.binary(max_size=8)
            | st.sampled_from((b"", data[first:last] * 2, other[begin : begin + 120], b"\xff" * 8, b"9" * 400, b"<a>"))
        )
        data = data[:first] + put + data[last:]
    return data


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(max_size=100).map(str.encode)
    | st.binary(max_size=200).map(lambda data: b"PK\x03\x04" + data)
    | _mutated()
)
@example(b"")
@example(b'<?xml version="1.0" encoding="unicode_escape"?><a/>')
@example(placed_beyond_memory())
def test_parse_answers_whatever_comes(data: bytes) -> None:
    """Any bytes, and any mutation of an answer, give a signal or a reason; nothing is ever raised."""
    found = parsed(data)
    if isinstance(found, NoSignal):
        assert found == terms().no(found.reason)
        return
    counted = load_factors().factors.values()
    least, most = min(one.gco2_per_kwh for one in counted), max(one.gco2_per_kwh for one in counted)
    assert least <= found.gco2_per_kwh * (1 + 1e-9)
    assert found.gco2_per_kwh <= most * (1 + 1e-9)
    assert 0 <= (found.proxy_share or 0.0) <= 1 + 1e-9
    assert all(megawatts >= 0 for _, megawatts in found.mix)
    assert found.raw_ref == hashlib.sha256(data).hexdigest()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.none() | st.integers(-500, 50_000), min_size=1, max_size=12),
    st.lists(st.none() | st.integers(0, 50_000), min_size=12, max_size=12),
    st.integers(1, 11),
    st.booleans(),
)
def test_a_series_may_come_in_two_at_any_point(
    megawatts: list[int | None], others: list[int | None], cut: int, within_one: bool
) -> None:
    """Cut at a boundary into two Periods or two TimeSeries, a complete curve tells the same."""
    start = at(0)
    middle = written(start + timedelta(minutes=15 * min(cut, len(megawatts))))
    first, second = period(written(start), megawatts[:cut], minutes=15), period(middle, megawatts[cut:], minutes=15)
    other = quarterly("B14", written(start), *others)
    whole = parsed(document(quarterly("B04", written(start), *megawatts), other))
    parts = [generation("B04", first, second)] if within_one else [generation("B04", first), generation("B04", second)]
    halves = parsed(document(*parts, other))
    assert without_lineage(halves) == without_lineage(whole)
