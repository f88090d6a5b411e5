"""ENTSO-E's XML as values: what is carried on and how far, what is refused, and that nothing is guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.entsoe_documents import (
    ACKNOWLEDGEMENT,
    FRANCE,
    GENERATION,
    SWEDEN_3,
    Period,
    TimeSeries,
    acknowledgement,
    blocks,
    consumption,
    document,
    generation,
    hourly,
    period,
    quarterly,
    written,
)
from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.mix import Series
from vetted_mw.grid.sources.entsoe_document import Acknowledgement, GenerationDocument, read_document
from vetted_mw.grid.sources.unreadable import UnreadableError

ELEVEN = "2025-10-24T11:00Z"
TWELVE = "2025-10-24T12:00Z"


def read(*series: TimeSeries) -> GenerationDocument:
    """Return a document of `series` as it is read."""
    found = read_document(document(*series))
    assert isinstance(found, GenerationDocument)
    return found


def values(*series: TimeSeries) -> list[tuple[datetime, float]]:
    """Return instant and MW of every step that is read, in the order of time."""
    return sorted(
        (one.start + timedelta(minutes=step * one.minutes), megawatts)
        for one in read(*series).series
        for step, megawatts in one.megawatts.items()
    )


def refusal(data: bytes) -> NoSignalReason:
    """Return why `data` is refused."""
    with pytest.raises(UnreadableError) as refused:
        read_document(data)
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    return refused.value.reason


def at(hour: int, minute: int = 0) -> datetime:
    """Return an instant of the day of these documents."""
    return datetime(2025, 10, 24, hour, minute, tzinfo=UTC)


def test_a_document_is_its_types_area_and_series() -> None:
    """Type, process, the areas generated in, and every series with its start, step and values."""
    assert read(hourly("B14", ELEVEN, 40000), quarterly("B16", ELEVEN, 1, 2, 3.5, 0)) == GenerationDocument(
        document_type="A75",
        process_type="A16",
        domains=frozenset({FRANCE}),
        series=(
            Series(code="B14", start=at(11), minutes=60, megawatts={0: 40000.0}),
            Series(code="B16", start=at(11), minutes=15, megawatts={0: 1.0, 1: 2.0, 2: 3.5, 3: 0.0}),
        ),
    )


@pytest.mark.parametrize(
    ("namespace", "prefix"),
    [
        (GENERATION, ""),
        (GENERATION.replace("3:0", "3:1"), ""),
        (GENERATION.replace("3:0", "3:2"), ""),
        ("", ""),
        (GENERATION, "ns2"),
        ("urn:another", "gl"),
    ],
)
def test_the_namespace_does_not_matter(namespace: str, prefix: str) -> None:
    """3:0, 3:1, 3:2, none at all or a prefix: the same document."""
    series = (hourly("B14", ELEVEN, 40000), generation("B04", blocks(ELEVEN, TWELVE, {1: 5, 3: 7}, minutes=15)))
    assert read_document(document(*series, namespace=namespace, prefix=prefix)) == read(*series)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ({1: 33.2, 3: 30}, [33.2, 33.2, 30, 30]),
        ({1: 33.2}, [33.2] * 4),
        ({1: 1, 2: 2, 3: 3, 4: 4}, [1, 2, 3, 4]),
        ({1: 1, 4: 4}, [1, 1, 1, 4]),
        ({3: 3, 1: 1}, [1, 1, 3, 3]),
        ({1: 0}, [0] * 4),
        ({1: -0.4, 2: 0}, [-0.4, 0, 0, 0]),
        ({2: 2, 3: 3, 4: 4}, []),
        ({4: 4}, []),
        ({}, []),
    ],
)
def test_a_block_lasts_until_the_next_one(points: dict[int, float], expected: list[float]) -> None:
    """On curve A03 a point that is left out repeats the one before; without the first there is no block."""
    found = values(generation("B04", blocks(ELEVEN, TWELVE, points, minutes=15), curve="A03"))
    assert found == [(at(11, 15 * step), value) for step, value in enumerate(expected)]


def test_a_block_ends_with_its_own_period() -> None:
    """A value is never carried into the time between two Periods, nor into the next Period or TimeSeries."""
    first = blocks("2025-10-24T08:00Z", "2025-10-24T09:00Z", {1: 5}, minutes=30)
    second = blocks("2025-10-24T10:00Z", "2025-10-24T11:00Z", {2: 7}, minutes=30)  # its first block is missing
    third = blocks("2025-10-24T12:00Z", "2025-10-24T13:00Z", {1: 9}, minutes=30)
    expected = [(at(8), 5.0), (at(8, 30), 5.0), (at(12), 9.0), (at(12, 30), 9.0)]
    assert values(generation("B04", first, second, third, curve="A03")) == expected
    assert values(*(generation("B04", one, curve="A03") for one in (first, second, third))) == expected


@pytest.mark.parametrize("left_out", [{1}, {2}, {4}, {2, 3}, {1, 2, 3, 4}, set()])
def test_a_hole_of_a_complete_curve_stays_a_hole(left_out: set[int]) -> None:
    """On curve A01 a point that is left out is missing: nothing stands in for it."""
    given_values = [None if position in left_out else float(position) for position in range(1, 5)]
    expected = [(at(11, 15 * step), value) for step, value in enumerate(given_values) if value is not None]
    assert values(quarterly("B04", ELEVEN, *given_values)) == expected


def test_a_year_with_one_point_is_one_hour() -> None:
    """A Period of a year on curve A01 with a single point tells of that hour and no other."""
    year = blocks("2015-12-31T23:00Z", "2016-12-31T23:00Z", {1: 5})
    assert values(generation("B04", year)) == [(datetime(2015, 12, 31, 23, tzinfo=UTC), 5.0)]


@pytest.mark.parametrize("curve", ["A02", "A04", "A05", "", "a03", "A01A03"])
def test_a_curve_that_is_not_known_has_no_values(curve: str) -> None:
    """The type is there without a value, so that no interval is taken for whole without it."""
    found = read(hourly("B04", ELEVEN, 5, curve=curve), hourly("B14", ELEVEN, 7))
    assert [(one.code, dict(one.megawatts)) for one in found.series] == [("B04", {}), ("B14", {0: 7.0})]


@pytest.mark.parametrize(
    ("resolution", "minutes"),
    [
        ("PT15M", 15),
        ("PT30M", 30),
        ("PT60M", 60),
        ("PT1H", 60),
        ("PT1M", 1),
        ("PT24H", 1440),
        ("P1D", 1440),
        ("PT0M", None),
        ("PT0H", None),
        ("P0D", None),
        ("P2D", None),
        ("P1M", None),
        ("P1Y", None),
        ("PT1441M", None),
        ("PT25H", None),
        ("PT99999M", None),
        ("PT15S", None),
        ("PT1H30M", None),
        ("PT-15M", None),
        ("PT1.5H", None),
        ("PT15", None),
        ("15M", None),
        ("", None),
        ("pt15m", None),
    ],
)
def test_a_resolution_is_minutes_hours_or_a_day(resolution: str, minutes: int | None) -> None:
    """What is no step of at most a day leaves the type without values."""
    one = Period(start="2025-10-24T00:00Z", end="2025-10-25T00:00Z", resolution=resolution, points=(("1", "5"),))
    (found,) = read(generation("B04", one)).series
    assert (found.code, dict(found.megawatts)) == ("B04", {} if minutes is None else {0: 5.0})
    assert minutes is None or found.minutes == minutes


@pytest.mark.parametrize(
    "points",
    [
        pytest.param((("1", "5"), ("1", "5")), id="one position twice"),
        pytest.param((("1", "5"), ("1", "6")), id="one position twice, with two values"),
        pytest.param((("0", "5"),), id="position zero"),
        pytest.param((("5", "5"),), id="after the end"),
        pytest.param((("1", "5"), ("9999999", "5")), id="far after the end"),
        pytest.param((("-1", "5"),), id="before the start"),
        pytest.param((("1.0", "5"),), id="no whole position"),
        pytest.param((("\u0661", "5"),), id="another script's one"),
        pytest.param((("", "5"),), id="no position"),
        pytest.param((("1", ""),), id="no quantity"),
        pytest.param((("1", "5"), ("2", "many")), id="a word"),
        pytest.param((("1", "NaN"),), id="not a number"),
        pytest.param((("1", "INF"),), id="infinite"),
        pytest.param((("1", "1e999"),), id="beyond every number"),
        pytest.param((("1", "1e13"),), id="beyond every grid"),
        pytest.param((("1", "1,5"),), id="a comma"),
        pytest.param((("1", "0x10"),), id="hexadecimal"),
        pytest.param((("1", "1_000"),), id="an underscore"),
        pytest.param((("1", "5 000"),), id="a blank"),
    ],
)
@pytest.mark.parametrize("curve", ["A01", "A03"])
def test_a_period_with_a_point_that_cannot_be_read_has_no_values(
    points: tuple[tuple[str, str], ...], curve: str
) -> None:
    """None of its points counts, and the other Periods stay as they are."""
    broken = Period(start=ELEVEN, end=TWELVE, resolution="PT15M", points=points)
    found = read(generation("B04", period("2025-10-24T10:00Z", [3]), broken, curve=curve)).series
    assert [(one.code, dict(one.megawatts)) for one in found] == [("B04", {0: 3.0}), ("B04", {})]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (TWELVE, ELEVEN),
        (ELEVEN, ELEVEN),
        (ELEVEN, ""),
        ("", TWELVE),
        ("2025-10-24T11:00", "2025-10-24T12:00"),
        ("2025-10-24T13:00+02:00", "2025-10-24T14:00+02:00"),
        ("2025-10-24 11:00Z", "2025-10-24 12:00Z"),
        ("2025-02-30T11:00Z", TWELVE),
        ("2025-10-24T24:00Z", "2025-10-26T00:00Z"),
        ("0000-10-24T11:00Z", TWELVE),
        ("yesterday", "today"),
        ("1761303600", "1761307200"),
        ("2025-10-24", "2025-10-25"),
    ],
)
@pytest.mark.parametrize("curve", ["A01", "A03"])
def test_a_period_whose_time_cannot_be_read_has_no_values(start: str, end: str, curve: str) -> None:
    """Ended before it starts, without UTC's Z, or no instant: the type is there without a value."""
    one = Period(start=start, end=end, points=(("1", "5"),))
    assert [(one.code, dict(one.megawatts)) for one in read(generation("B04", one, curve=curve)).series] == [
        ("B04", {})
    ]


def test_seconds_may_be_written() -> None:
    """`2025-10-24T11:00:00Z` is the same instant."""
    one = Period(start="2025-10-24T11:00:00Z", end="2025-10-24T12:00:00Z", points=(("1", "5"),))
    assert values(generation("B04", one)) == [(at(11), 5.0)]


@pytest.mark.parametrize(("minutes", "steps"), [(60, 1), (15, 7), (30, 3)])
def test_a_period_that_ends_within_a_step_has_no_such_step(minutes: int, steps: int) -> None:
    """Only whole steps are read of a Period whose length is no multiple of its resolution."""
    one = blocks(ELEVEN, "2025-10-24T12:50Z", {1: 5}, minutes=minutes)
    assert values(generation("B04", one, curve="A03")) == [
        (at(11) + timedelta(minutes=minutes * n), 5.0) for n in range(steps)
    ]


@pytest.mark.parametrize(
    ("start", "end", "steps"),
    [
        ("2025-03-29T23:00Z", "2025-03-30T22:00Z", 92),
        ("2025-10-25T22:00Z", "2025-10-26T23:00Z", 100),
        ("2025-10-23T22:00Z", "2025-10-24T22:00Z", 96),
    ],
)
@pytest.mark.parametrize("curve", ["A01", "A03"])
def test_a_local_day_of_23_or_25_hours_has_as_many_quarters(start: str, end: str, steps: int, curve: str) -> None:
    """Points are counted in UTC from the Period's start: no hour is skipped or doubled when clocks change."""
    found = values(generation("B16", blocks(start, end, {n + 1: n for n in range(steps)}, minutes=15), curve=curve))
    first = datetime.fromisoformat(start)
    assert found == [(first + timedelta(minutes=15 * n), float(n)) for n in range(steps)]
    assert written(found[-1][0] + timedelta(minutes=15)) == end


def test_consumption_is_left_out() -> None:
    """What a plant draws is neither generation nor does its area count."""
    series = hourly("B14", ELEVEN, 40000)
    drawn = consumption("B10", ELEVEN, 900, domain=SWEDEN_3)
    assert read(series, drawn) == read(drawn, series) == read(series)
    assert read(drawn).series == ()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", [b"inBiddingZone_Domain.mRID", b"outBiddingZone_Domain.mRID"])
def test_a_series_of_both_generation_and_consumption_refuses_the_document(name: bytes, first: bool) -> None:
    """Left out it would take its fuel from the mix, and counted it may be what plants draw."""
    one = hourly("B04", ELEVEN, 5) if name.startswith(b"out") else consumption("B04", ELEVEN, 5)
    data, other = document(hourly("B14", ELEVEN, 7), one), b"<" + name + b">" + FRANCE.encode() + b"</" + name + b">"
    place = data.rindex(b"<mRID>" if first else b"<quantity_Measure_Unit")
    assert isinstance(read_document(data), GenerationDocument)
    assert refusal(data[:place] + other + data[place:]) is NoSignalReason.NOT_UNDERSTOOD
    empty = b"<" + name + b"/>"
    assert refusal(data[:place] + empty + data[place:]) is NoSignalReason.NOT_UNDERSTOOD


def test_a_series_without_an_area_is_of_no_known_area() -> None:
    """It is not passed over, which would take a fuel out of the mix unseen: the empty area stands among the areas."""
    nowhere = hourly("B04", ELEVEN, 5, domain_element="")
    assert read(hourly("B14", ELEVEN, 7), nowhere).domains == {FRANCE, ""}


def test_a_series_without_a_period_is_a_type_without_values() -> None:
    """The type belongs to the mix though nothing is known of it."""
    assert [(one.code, dict(one.megawatts)) for one in read(generation("B04")).series] == [("B04", {})]


@pytest.mark.parametrize(
    "series",
    [
        pytest.param(hourly("B14", ELEVEN, 1, unit="KWH"), id="another unit"),
        pytest.param(hourly("B14", ELEVEN, 1, unit=""), id="no unit"),
        pytest.param(hourly("", ELEVEN, 1), id="no type"),
        pytest.param(hourly("b14", ELEVEN, 1), id="no code"),
        pytest.param(hourly("B14 and a story", ELEVEN, 1), id="prose for a code"),
        pytest.param(hourly("B1\u0664", ELEVEN, 1), id="another script's digit"),
    ],
)
def test_a_series_that_cannot_be_told_refuses_the_document(series: TimeSeries) -> None:
    """Its energy would be left out, or counted a thousandfold."""
    assert refusal(document(hourly("B04", ELEVEN, 1), series)) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize(
    "markup",
    [
        "<!DOCTYPE GL_MarketDocument>\n",
        '<!DOCTYPE GL_MarketDocument SYSTEM "http://127.0.0.1:1/none.dtd">\n',
        '<!DOCTYPE GL_MarketDocument PUBLIC "-//none//EN" "none.dtd">\n',
        '<!DOCTYPE GL_MarketDocument [<!ENTITY fuel "B14">]>\n',
        '<!DOCTYPE GL_MarketDocument [<!ENTITY fuel SYSTEM "file:///etc/hostname">]>\n',
        '<!DOCTYPE GL_MarketDocument [<!ENTITY % more SYSTEM "file:///etc/hostname"> %more;]>\n',
        '<!DOCTYPE GL_MarketDocument [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]>\n',
        "<!-- first a word -->\n<!DOCTYPE GL_MarketDocument>\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom"])
def test_a_document_type_is_refused_in_every_encoding(markup: str, encoding: str) -> None:
    """No document type and no entity is read, however the bytes are written."""
    plain = document(hourly("B14", ELEVEN, 1), head=markup).decode()
    assert refusal(_encoded(plain, encoding)) is NoSignalReason.FORBIDDEN_MARKUP


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "latin-1", "ascii"])
def test_a_document_is_the_same_in_every_encoding_xml_knows(encoding: str) -> None:
    """UTF-8 with and without a mark, UTF-16, Latin-1 and ASCII."""
    series = hourly("B14", ELEVEN, 40000)
    assert read_document(_encoded(document(series).decode(), encoding)) == read(series)


@pytest.mark.parametrize(
    "encoding", ["unicode_escape", "utf-7", "cp1252", "idna", "rot13", "zlib", "undefined", "none", "x" * 3000]
)
def test_a_service_chooses_no_other_codec(encoding: str) -> None:
    """Python knows a hundred more, some of which run code or warn; none is opened for an answer."""
    data = document(hourly("B14", ELEVEN, 1)).replace(b'encoding="UTF-8"', f'encoding="{encoding}"'.encode())
    assert refusal(data) is NoSignalReason.NOT_UNDERSTOOD


def _encoded(plain: str, encoding: str) -> bytes:
    name = {"utf-8-sig": "utf-8", "utf-16-le-bom": "utf-16", "latin-1": "iso-8859-1", "ascii": "us-ascii"}.get(
        encoding, encoding
    )
    plain = plain.replace('encoding="UTF-8"', f'encoding="{name}"')
    return b"\xff\xfe" + plain.encode("utf-16-le") if encoding == "utf-16-le-bom" else plain.encode(encoding)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"404 page not found",
        b'{"error": "maintenance"}',
        b"\x00" * 64,
        b"\xff\xfe",
        b"<a>",
        b"<a/><b/>",
        b"<GL_MarketDocument>&nbsp;</GL_MarketDocument>",
        b"<GL_MarketDocument><type>A75</type>",
        b"<x:GL_MarketDocument/><",
        b"<a \xff/>",
    ],
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    """Nothing, words, JSON, zeros, and XML that is not well formed."""
    assert refusal(data) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize(
    "root",
    ["Publication_MarketDocument", "GL_MarketDocument_", "gl_marketdocument", "Unavailability_MarketDocument", "a"],
)
@pytest.mark.parametrize("prefix", ["", "gl"])
def test_another_root_is_another_document(root: str, prefix: str) -> None:
    """Whatever stands in it: prices, outages and what is yet to be invented have series and points as well."""
    data = document(hourly("B14", ELEVEN, 1), prefix=prefix).replace(b"GL_MarketDocument", root.encode())
    assert refusal(data) is NoSignalReason.NOT_UNDERSTOOD
    answer = acknowledgement(("999", "No matching data found"))
    assert refusal(answer.replace(b"Acknowledgement_MarketDocument", root.encode())) is NoSignalReason.NOT_UNDERSTOOD


def test_an_acknowledgement_without_a_reason_is_no_document() -> None:
    """Its root says that there is none, though series stand in it."""
    data = document(hourly("B14", ELEVEN, 1)).replace(b"GL_MarketDocument", b"Acknowledgement_MarketDocument")
    assert refusal(data) is NoSignalReason.NOT_UNDERSTOOD
    assert refusal(acknowledgement()) is NoSignalReason.NOT_UNDERSTOOD


def test_a_document_that_is_cut_short_is_refused() -> None:
    """At whichever byte it ends before its end."""
    data = document(hourly("B14", ELEVEN, 40000))
    assert {refusal(data[:length]) for length in range(len(data))} == {NoSignalReason.NOT_UNDERSTOOD}


@pytest.mark.parametrize(
    "reasons",
    [
        (("999", "No matching data found"),),
        (("999", "No matching data found"), ("A01", "something else")),
        (("", ""),),
        (("999", "x &lt; y &amp; z"),),
    ],
)
@pytest.mark.parametrize("version", ["7:0", "8:0", "8:1"])
def test_an_acknowledgement_is_its_reasons(reasons: tuple[tuple[str, str], ...], version: str) -> None:
    """Each reason with its code and its text, in whatever version."""
    expected = tuple((code, text.replace("&lt;", "<").replace("&amp;", "&")) for code, text in reasons)
    data = acknowledgement(*reasons, namespace=ACKNOWLEDGEMENT.replace("7:0", version))
    assert read_document(data) == Acknowledgement(reasons=expected)


def test_a_reason_within_a_series_is_no_acknowledgement() -> None:
    """A remark on one series leaves the document a document."""
    data = document(hourly("B14", ELEVEN, 1)).replace(
        b"</TimeSeries>", b"<Reason><code>A95</code><text>remark</text></Reason></TimeSeries>"
    )
    assert read_document(data) == read(hourly("B14", ELEVEN, 1))


def test_elements_that_are_not_known_are_passed_over() -> None:
    """New elements, comments and marked sections change no value."""
    data = document(hourly("B14", ELEVEN, 40000))
    data = data.replace(b"<type>", b"<new><type>A65</type><TimeSeries/></new><type>")
    data = data.replace(b"<quantity>", b"<quality>A04</quality><quantity><!-- MW -->")
    data = data.replace(b"<position>1", b"<position><![CDATA[1]]>").replace(b">B14<", b">\n B&#49;4 <")
    assert read_document(data) == read(hourly("B14", ELEVEN, 40000))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"<a>" * 5000, id="deep"),
        pytest.param(b"<a>" * 40 + b"</a>" * 40, id="deep and well formed"),
        pytest.param(document(hourly("B14", ELEVEN, 1)).replace(b"A75", b"A" * 5000), id="a long value"),
        pytest.param(
            document(hourly("B14", ELEVEN, 1)).replace(b"<quantity>1", b"<quantity>1" + b"0" * 9000), id="a long number"
        ),
    ],
)
def test_what_is_deep_or_long_beyond_measure_is_refused(data: bytes) -> None:
    """No nesting beyond the schema's, and no value that is cut instead of read."""
    assert refusal(data) is NoSignalReason.NOT_UNDERSTOOD


def test_a_few_bytes_expand_to_no_more_than_a_bound() -> None:
    """A year in minutes on curve A03 is refused, in one Period or spread over many; a year in hours is read."""
    year = blocks("2024-12-31T23:00Z", "2025-12-31T23:00Z", {1: 5}, minutes=1)
    assert refusal(document(generation("B14", year, curve="A03"))) is NoSignalReason.TOO_LARGE
    month = blocks("2025-09-30T22:00Z", "2025-10-31T23:00Z", {1: 5}, minutes=1)
    assert refusal(document(generation("B14", *[month] * 5, curve="A03"))) is NoSignalReason.TOO_LARGE
    backwards = blocks("2025-12-31T23:00Z", "2023-12-31T23:00Z", {}, minutes=1)  # must not make room for the others
    assert refusal(document(generation("B14", backwards, year, curve="A03"))) is NoSignalReason.TOO_LARGE
    hours = blocks("2024-12-31T23:00Z", "2025-12-31T23:00Z", {1: 5})
    assert len(values(generation("B14", hours, curve="A03"))) == 8760


@pytest.mark.parametrize("element", [b"<Period/>", b"<Point/>", b"<a/>"])
def test_elements_without_end_are_refused(element: bytes) -> None:
    """Elements that hold nothing are cheap to send, so there are no more of them than any document needs."""
    data = document(hourly("B14", ELEVEN, 1))
    assert refusal(data.replace(b"</Period>", b"</Period>" + element * 200_000)) is NoSignalReason.TOO_LARGE
    assert isinstance(read_document(data.replace(b"</Period>", b"</Period>" + element * 2_000)), GenerationDocument)


SLICE = 65_536


@pytest.mark.parametrize(
    ("head", "unit", "tail"),
    [
        (b"<", b"a", b"/>"),
        (b"<a b='", b"x", b"'/>"),
        (b"<a b='", b"&amp;", b"'/>"),
        (b"<!--", b"x", b"-->"),
        (b"<?a ", b"x", b"?>"),
        (b"", b"<!---->", b""),
    ],
    ids=["name", "attribute", "references", "comment", "instruction", "comments"],
)
def test_one_giant_piece_of_markup_is_refused(head: bytes, unit: bytes, tail: bytes) -> None:
    """While expat is within it nothing else runs, so that no more of it is taken than a few slices; a small one is read."""
    series = hourly("B14", ELEVEN, 40000)
    for size, is_read in ((SLICE, True), (4 * SLICE, False), (64 * SLICE, False)):
        piece = head + unit * (size // len(unit)) + tail
        data = document(series).replace(b"</GL_MarketDocument>", piece + b"</GL_MarketDocument>")
        if is_read:
            assert read_document(data) == read(series)
        else:
            assert refusal(data) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("shift", [0, 1, 2, 3, 17])
def test_where_a_document_is_sliced_does_not_show(shift: int, encoding: str) -> None:
    """Elements, names, values and characters of several bytes are cut anywhere and read whole."""
    count = 3000
    start = at(0)
    filler = "<!--" + "\u00e9" * shift + "-->"
    plain = document(quarterly("B14", written(start), *range(40_000, 40_000 + count)), head=filler).decode()
    data = _encoded(plain, encoding)
    assert len(data) > 3 * SLICE
    found = read_document(data)
    assert isinstance(found, GenerationDocument)
    assert dict(found.series[0].megawatts) == {step: 40_000.0 + step for step in range(count)}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(-1000, 60_000), min_size=1, max_size=24), st.data(), st.sampled_from((15, 30, 60)))
def test_blocks_tell_what_they_shorten(megawatts: list[float], data: st.DataObject, minutes: int) -> None:
    """Leaving out points that repeat the one before (A03) gives the values of all points (A01)."""
    repeated = [value for value in megawatts for _ in range(data.draw(st.integers(1, 4)))]
    start = at(0)
    end = written(start + timedelta(minutes=minutes * len(repeated)))
    short = {
        position: value
        for position, value in enumerate(repeated, 1)
        if position == 1 or value != repeated[position - 2]
    }
    whole = generation("B04", period(written(start), repeated, minutes=minutes))
    shortened = generation("B04", blocks(written(start), end, short, minutes=minutes), curve="A03")
    assert read(shortened) == read(whole)
