"""Whatever a service sends, each of its readers gives a signal or the reason for none, and no key is ever shown."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grid.asked import KEY, OneAnswer, service, terms_for
from grid.samples import NOW
from vetted_mw import load_configuration
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.services import SERVICES
from vetted_mw.grid.signal import DECLARED, GridSignal, read_at
from vetted_mw.grid.sources import http_json
from vetted_mw.grid.sources.fetching import Answer
from vetted_mw.grid.sources.request import MAX_JSON_BYTES
from vetted_mw.grid.sources.shipped import parsers_of, sources_of
from vetted_mw.grid.sources.terms import Terms
from vetted_mw.secret import Secret
from vetted_mw.signal_configuration import JsonReading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vetted_mw.grid.sources.request import Parsed

STARTS = [int(NOW.timestamp()) // 900 * 900 + 900 * step for step in (-2, -1, 0)]
FUELS = ("nucleaire", "gaz", "charbon", "fioul", "eolien", "solaire", "bioenergies", "hydraulique_lacs")
FRANCE = dict.fromkeys((*FUELS, "hydraulique_fil_eau_eclusee"), 5_000)
CELLS = {
    "ProductionData": "16\u00a0000",
    "NuclearData": "9\u00a0000",
    "HydroData": "5\u00a0000",
    "WindData": "2\u00a0000",
}
HOUR = {"datetime": "2026-11-22T09:00:00Z", "emissionFactorType": "lifecycle", "isEstimated": False}
DOCUMENT = (
    """\
<?xml version="1.0" encoding="UTF-8"?>
<GL_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0">
<type>A75</type><process.processType>A16</process.processType>
"""
    + "".join(
        f"""<TimeSeries><inBiddingZone_Domain.mRID codingScheme="A01">10YFI-1--------U</inBiddingZone_Domain.mRID>
<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>{curve}</curveType>
<MktPSRType><psrType>{code}</psrType></MktPSRType>
<Period><timeInterval><start>2026-11-22T09:00Z</start><end>2026-11-22T10:00Z</end></timeInterval>
<resolution>PT30M</resolution>
<Point><position>1</position><quantity>2500</quantity></Point>
<Point><position>2</position><quantity>2400.5</quantity></Point>
</Period></TimeSeries>
"""
        for code, curve in (("B14", "A03"), ("B19", "A01"), ("B20", "A03"))
    )
    + "</GL_MarketDocument>\n"
)


@dataclass(frozen=True)
class Reader:
    """What reads one service's answers for one zone, and an answer it reads as a signal."""

    name: str
    zone: str
    parsers: Sequence[Callable[[bytes, datetime], Parsed]]
    valid: bytes


def reader(name: str, zone: str, valid: Any, *, figure: str = "") -> Reader:
    source = service(name, figure=figure)
    data = valid if isinstance(valid, bytes) else json.dumps(valid).encode()
    return Reader(f"{name}-{figure or zone}", zone, parsers_of(source, terms_for(source, zone)), data)


def described(name: str, valid: Any, **members: str) -> Reader:
    given_: dict[str, Any] = {
        "value": "data.-1.value",
        "observed_at": "data.-1.at",
        "estimated": "",
        "unit": "g_per_kwh",
    }
    reading = JsonReading(
        zone="FR",
        area="FR",
        url=Secret("https://grid.example"),
        method=DECLARED,
        max_age_minutes=60.0,
        **(given_ | members),
    )
    terms = Terms(source=http_json.LABEL, zone="FR", area="FR", name="FR", max_age_minutes=60.0)
    parse = partial(http_json.parse, terms=terms, reading=reading)
    return Reader(f"http_json-{name}", "FR", (parse,), json.dumps(valid).encode())


def danish(dataset: str = "CO2Emis") -> dict[str, Any]:
    records = [
        {"Minutes5UTC": "2026-11-22T10:20:00", "PriceArea": area, "CO2Emission": 97.5} for area in ("DK1", "DK2")
    ]
    return {"total": 2, "dataset": dataset, "records": records}


def finnish(number: int) -> dict[str, Any]:
    times = {"startTime": "2026-11-22T10:27:00Z", "endTime": "2026-11-22T10:30:00Z"}
    return {"datasetId": number, "value": 38.2} | times


READERS = [
    reader("entsoe", "FI", DOCUMENT.encode()),
    reader("landsnet", "IS", {"hydro": 1500.0, "geothermal": 600.0, "oil": 0.0, "timestamp": "2026-11-22T10:30:07"}),
    reader(
        "odre",
        "FR",
        {"results": [{"date_heure": f"2026-11-22T0{hour}:45:00+00:00", "taux_co2": 38} | FRANCE for hour in (8, 9)]},
        figure="mix",
    ),
    reader(
        "odre",
        "FR",
        {"records": [{"fields": {"date_heure": "2026-11-22T10:45:00+01:00", "taux_co2": "38"} | FRANCE}]},
        figure="taux_co2",
    ),
    reader(
        "statnett",
        "SE_3",
        {
            "MeasuredAt": int(NOW.timestamp() * 1000),
            "Headers": [{"value": ""}, {"value": "SE"}],
            **{name: [{"value": None}, {"value": cell}] for name, cell in CELLS.items()},
            **{name: [{"value": None}, {"value": "-"}] for name in ("ThermalData", "NotSpecifiedData")},
        },
    ),
    reader(
        "energy_charts",
        "DE_LU",
        {"unix_seconds": STARTS, "co2eq": [310.5, 308.0, None], "co2eq_forecast": [None, None, 290.1]},
    ),
    reader("fingrid", "FI", finnish(265), figure="consumption"),
    reader("fingrid", "FI", {"data": [finnish(266)], "pagination": {}}, figure="production"),
    reader("electricity_maps", "SE_3", {"zone": "SE-SE3", "carbonIntensity": 22} | HOUR, figure="lifecycle"),
    reader("energinet", "DK_2", danish()),
    described("text", {"data": [{"value": 21.9, "at": "2026-11-22T10:15:00+00:00"}]}),
    described("count", {"data": [{"value": "950.1", "at": 1_795_342_500_000, "est": False}]}, unit="lb_per_mwh"),
    described("flat", [0.02, 1_795_342_500, False], value="0", observed_at="1", estimated="-1", unit="t_per_mwh"),
]
ANY_READER = pytest.mark.parametrize("of", READERS, ids=lambda of: of.name)


def check(of: Reader, data: bytes, at: datetime = NOW) -> None:
    """Hold every parser of a reader to its promise."""
    for parse in of.parsers:
        found = parse(data, at)
        assert isinstance(found, (GridSignal, NoSignal))
        assert found.zone == of.zone
        if isinstance(found, NoSignal):
            assert isinstance(found.reason, NoSignalReason)
            continue
        assert math.isfinite(found.gco2_per_kwh)
        assert found.gco2_per_kwh >= 0
        assert found.observed_at.utcoffset() == timedelta(0)
        assert found.fetched_at == at
        assert found.proxy_share is None or 0 <= found.proxy_share <= 1
        assert all(math.isfinite(megawatts) and megawatts >= 0 for _code, megawatts in found.mix)
        assert read_at(found, at).age_minutes >= 0


def test_every_service_has_a_reader_here() -> None:
    """A service that is added without one would be tested by none of this."""
    assert {of.name.split("-")[0] for of in READERS} == {*SERVICES, "http_json"}


@ANY_READER
def test_the_valid_answer_is_a_signal(of: Reader) -> None:
    """What is mutated below starts as an answer that every parser of the reader reads."""
    assert [type(parse(of.valid, NOW)) for parse in of.parsers] == [GridSignal] * len(of.parsers)
    check(of, of.valid)


@pytest.mark.parametrize("of", [of for of in READERS if of.name != "entsoe-FI"], ids=lambda of: of.name)
def test_json_has_a_limit_of_its_own(of: Reader) -> None:
    """It is decoded at one go while all else waits; at the limit it is read, one byte more is not looked into."""
    whole = of.valid + b" " * (MAX_JSON_BYTES - len(of.valid))
    for parse in of.parsers:
        assert isinstance(parse(whole, NOW), GridSignal)
        over = parse(whole + b" ", NOW)
        assert isinstance(over, NoSignal)
        assert over.reason is NoSignalReason.TOO_LARGE
        page = parse(b"<html>" + whole, NOW)
        assert isinstance(page, NoSignal)
        assert page.reason is NoSignalReason.HTML_PAGE


# ---- what a service may send

HARD_NUMBERS = (0, -1, 10**19, 10**400, -(10**400), 1e308, 5e-324, 253_402_300_799, 253_402_300_799_999, 1e12)
HARD_WORDS = ("", "-", "ND", "NaN", "inf", "1e999", "12\u00a0345", "9" * 400, "Infinity", "SE", "DK1", "CO2Emis")
HARD_TIMES = ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-11-22T10:30:00", "2026-W47-7", "2026-11-22")
HARD: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"value": None}, *HARD_NUMBERS, *HARD_WORDS, *HARD_TIMES)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(HARD_NUMBERS)
TEXTS = st.text(max_size=12) | st.sampled_from(HARD_WORDS) | st.sampled_from(HARD_TIMES)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
MEMBERS = ("data", "results", "records", "fields", "dataset", "zone", "value", "timestamp", "hydro", "unix_seconds")
FURTHER = ("co2eq", "co2eq_forecast", "MeasuredAt", "Headers", "datasetId", "endTime", "date_heure", "taux_co2")
WORDS = st.sampled_from((*MEMBERS, *FURTHER))
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=15,
)
PAGES = (
    b"<html>",
    b"<!DOCTYPE html>",
    b'<!DOCTYPE a [<!ENTITY b "c">]>',
    b"&b;",
    b"<?xml version='1.0' encoding='utf-7'?>",
)
MARKS = (b"PK\x03\x04", b"\xef\xbb\xbf", b"\x00", b"[" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b"]]>", b"null")
MARKUP = st.sampled_from((*PAGES, *MARKS))
ANY_BYTES = st.lists(st.binary(max_size=64) | MARKUP, max_size=4).map(b"".join)
INSTANTS = st.sampled_from([NOW, datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)])


@ANY_READER
@settings(max_examples=100, deadline=None)
@given(ANY_BYTES, INSTANTS)
@example(b"", NOW)
def test_any_bytes_are_a_signal_or_a_reason(of: Reader, data: bytes, at: datetime) -> None:
    """No bytes make a reader raise."""
    check(of, data, at)


@ANY_READER
@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_is_a_signal_or_a_reason(of: Reader, value: Any) -> None:
    """Nor does any JSON, deep or flat, whatever stands under the names a reader looks for."""
    check(of, json.dumps(value).encode())


@ANY_READER
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_to_the_bytes_of_a_valid_answer_is_a_signal_or_a_reason(of: Reader, data: st.DataObject) -> None:
    """Cut, doubled, overwritten or spliced anywhere."""
    damaged = of.valid
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(damaged))] * 2)))
        damaged = damaged[:start] + data.draw(ANY_BYTES | st.just(damaged[start:end] * 2)) + damaged[end:]
    check(of, damaged)


@ANY_READER
@settings(max_examples=250, deadline=None)
@given(st.data())
def test_any_change_to_the_values_of_a_valid_answer_is_a_signal_or_a_reason(of: Reader, data: st.DataObject) -> None:
    """One or more of its values replaced, removed or repeated, the rest as it was."""
    if of.name.startswith("entsoe"):
        check(of, _changed_xml(of.valid.decode(), data).encode())
        return
    answer = json.loads(of.valid)
    for _ in range(data.draw(st.integers(1, 3))):
        answer = _changed(answer, data)
    check(of, json.dumps(answer).encode())


def _changed(value: Any, data: st.DataObject) -> Any:
    """Return `value` with one place in it, found step by step from its root, changed."""
    if not isinstance(value, (dict, list)) or not value or data.draw(st.integers(0, 5)) == 0:
        return data.draw(LEAVES | JSON)
    if isinstance(value, list):
        place = data.draw(st.integers(0, len(value) - 1))
        changed = data.draw(st.sampled_from(["inside", "gone", "twice"]))
        inside = [_changed(value[place], data)] if changed == "inside" else [value[place]] * (2 * (changed == "twice"))
        return [*value[:place], *inside, *value[place + 1 :]]
    name = data.draw(st.sampled_from(sorted(value)))
    if data.draw(st.integers(0, 4)) == 0:
        return {other: one for other, one in value.items() if other != name}
    return value | {name: _changed(value[name], data)}


XML_WORDS = ("PT1M", "PT0M", "P1D", "P9D", "PT9999M", "P1Y", "A01", "A03", "A02", "B10", "B99", "X1", "-900", "1e12")
XML_PARTS = ("1</quantity><quantity>2", "</TimeSeries><TimeSeries>", "<Reason><code>999</code></Reason>")
XML_TIMES = ("0001-01-01T00:00Z", "9999-12-31T23:59Z", "2026-11-22T09:45Z", "2026-11-22T08:00Z", "999999", "\u0661")
XML_HARD = (*HARD_WORDS, *XML_WORDS, *XML_PARTS, *XML_TIMES)
XML_TEXTS = st.sampled_from(XML_HARD) | st.text(max_size=12).map(
    lambda text: "".join(char for char in text if char.isprintable() and char not in "<&")
)


def _changed_xml(document: str, data: st.DataObject) -> str:
    """Return the document with the text of a few of its elements changed, whole lines gone or repeated."""
    for _ in range(data.draw(st.integers(1, 4))):
        parts = document.split(">")
        place = data.draw(st.integers(0, len(parts) - 1))
        _text, mark, tag = parts[place].partition("<")
        parts[place] = data.draw(XML_TEXTS) + mark + tag
        lines = ">".join(parts).splitlines(keepends=True)
        number = data.draw(st.integers(0, len(lines) - 1))
        lines[number] *= data.draw(st.sampled_from([1, 1, 1, 0, 2]))
        document = "".join(lines)
    return document


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    st.integers(0, 2),
)
def test_any_archive_is_a_signal_or_a_reason(method: int, overwritten: list[tuple[int, int]], files: int) -> None:
    """Whatever compression, with bytes of it overwritten, with no file or with two."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for number in range(files):
            archive.writestr(f"{number}.xml", DOCUMENT)
    data = bytearray(packed.getvalue())
    for place, byte in overwritten:
        data[place % len(data)] = byte
    check(READERS[0], bytes(data))


@ANY_READER
def test_each_value_of_a_valid_answer_may_be_anything(of: Reader) -> None:
    """Every place in turn, lists and objects too, holds each value that readers trip over: none, odd, endless, late."""
    if of.name.startswith("entsoe"):
        parts = of.valid.decode().split(">")
        texts = [(place, part[part.index("<") :]) for place, part in enumerate(parts) if "<" in part]
        changed = (
            ">".join([*parts[:place], value + tag, *parts[place + 1 :]]) for place, tag in texts for value in XML_HARD
        )
    else:
        changed = (json.dumps(one) for value in HARD for one in _each_place_as(value, json.loads(of.valid)))
    for text in changed:
        check(of, text.encode())


def _each_place_as(value: Any, answer: Any) -> Iterator[Any]:
    """Return the answer once for each place in it, with `value` at that place."""
    yield value
    places: list[tuple[Any, Any]] = []
    if isinstance(answer, dict):
        places = list(answer.items())
    elif isinstance(answer, list):
        places = list(enumerate(answer))
    for place, inner in places:
        for changed in _each_place_as(value, inner):
            copied = answer.copy()
            copied[place] = changed
            yield copied


# ---- no key is shown


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "zone", "place"),
    [
        ("entsoe", "FR", lambda asked: asked.url),
        ("fingrid", "FI", lambda asked: dict(asked.headers)["x-api-key"]),
        ("electricity_maps", "IS", lambda asked: dict(asked.headers)["auth-token"]),
    ],
)
async def test_a_key_goes_out_in_its_place_and_is_shown_nowhere(name: str, zone: str, place: Any) -> None:
    """The request holds it; the printed request, service, configuration, source, signals and reasons do not."""
    signals = load_configuration(
        environ={"GRID_KEY": KEY}, overrides={"signals": {"sources": {name: {"token": {"env": "GRID_KEY"}}}}}
    ).signals
    for answer in (Answer(status=200, body=KEY.encode()), Answer(status=401, body=KEY.encode())):
        session = OneAnswer(answer)
        (source,) = sources_of(signals, [zone], session=session, now=lambda: NOW)
        told = await source.readings()
        (asked,) = session.asked
        assert KEY in place(asked)
        for thing in (asked, signals, signals.services, *signals.services, source, told):
            assert KEY not in repr(thing)
            assert KEY not in str(thing)
