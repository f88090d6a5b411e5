"""ENTSO-E documents as the tests need them: small, made up, and wrong in one place at a time."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vetted_mw.grid.absence import NoSignal
from vetted_mw.grid.sources import entsoe
from vetted_mw.grid.sources.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vetted_mw.grid.absence import NoSignalReason
    from vetted_mw.grid.signal import GridSignal

FRANCE = "10YFR-RTE------C"
SWEDEN_3 = "10Y1001A1001A46L"
GENERATION = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
ACKNOWLEDGEMENT = "urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0"
FETCHED_AT = datetime(2025, 10, 24, 13, 21, 7, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Period:
    """One Period as it is written; a point is its position and its quantity."""

    start: str
    end: str
    resolution: str = "PT60M"
    points: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class TimeSeries:
    """One TimeSeries as it is written; `domain_element` says whether it is generation (in) or consumption (out)."""

    code: str
    periods: tuple[Period, ...]
    curve: str = "A01"
    domain: str = FRANCE
    domain_element: str = "inBiddingZone_Domain.mRID"
    unit: str = "MAW"


def terms(zone: str = "FR", name: str = FRANCE, **members: Any) -> Terms:
    """Return the terms a document is read on; nothing is expected of it unless the test says so."""
    given: dict[str, Any] = {"source": "entsoe_derived_live", "zone": zone, "area": zone, "name": name}
    return Terms(**(given | {"max_age_minutes": 180.0} | members))


def written(instant: datetime) -> str:
    """Write an instant as ENTSO-E does."""
    return f"{instant:%Y-%m-%dT%H:%MZ}"


def period(start: str, values: Sequence[float | None], *, minutes: int = 60, end: str = "") -> Period:
    """Return a Period with one value per step; the point of a step that is None is left out."""
    last = datetime.fromisoformat(start) + timedelta(minutes=minutes * len(values))
    return Period(
        start=start,
        end=end or written(last),
        resolution=f"PT{minutes}M",
        points=tuple((str(position), str(value)) for position, value in enumerate(values, 1) if value is not None),
    )


def blocks(start: str, end: str, points: Mapping[int, float], *, minutes: int = 60) -> Period:
    """Return a Period of blocks (curve A03): position -> value, up to `end`."""
    return Period(
        start=start,
        end=end,
        resolution=f"PT{minutes}M",
        points=tuple((str(position), str(value)) for position, value in points.items()),
    )


def generation(code: str, *periods: Period, **members: Any) -> TimeSeries:
    """Return generation of one type."""
    return TimeSeries(code=code, periods=periods, **members)


def hourly(code: str, start: str, *values: float | None, **members: Any) -> TimeSeries:
    """Return generation of one type, hour by hour."""
    return generation(code, period(start, values), **members)


def quarterly(code: str, start: str, *values: float | None, **members: Any) -> TimeSeries:
    """Return generation of one type, quarter of an hour by quarter of an hour."""
    return generation(code, period(start, values, minutes=15), **members)


def consumption(code: str, start: str, *values: float | None, **members: Any) -> TimeSeries:
    """Return what plants of a type draw, hour by hour."""
    return hourly(code, start, *values, domain_element="outBiddingZone_Domain.mRID", **members)


def document(
    *series: TimeSeries,
    document_type: str = "A75",
    process_type: str = "A16",
    namespace: str = GENERATION,
    prefix: str = "",
    head: str = "",
) -> bytes:
    """Return a document.

    Args:
        series: its TimeSeries.
        document_type: A75 is generation by type.
        process_type: A16 is realised.
        namespace: of every element; empty for none.
        prefix: bound to the namespace, instead of the default.
        head: stands between the declaration and the root.
    """
    content = _element("type", document_type) + _element("process.processType", process_type)
    content += _element("createdDateTime", "2025-10-24T12:57:19Z") + "".join(map(_time_series, series))
    return _rooted("GL_MarketDocument", content, namespace, prefix=prefix, head=head).encode()


def acknowledgement(*reasons: tuple[str, str], namespace: str = ACKNOWLEDGEMENT) -> bytes:
    """Return an acknowledgement: what there is instead of a document, a reason being a code and a text."""
    told = (_element("Reason", _element("code", code) + _element("text", text)) for code, text in reasons)
    content = _element("createdDateTime", "2025-10-24T12:57:19Z") + "".join(told)
    return _rooted("Acknowledgement_MarketDocument", content, namespace).encode()


def zipped(*files: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive of `files`."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as opened:
        for number, data in enumerate(files):
            opened.writestr(zipfile.ZipInfo(f"{number}.xml"), data, compress_type=method)
    return archive.getvalue()


def placed_beyond_memory() -> bytes:
    """Return an archive whose only file is said to stand 2**63 bytes into it."""
    packed = zipped(b"<a/>", method=zipfile.ZIP_STORED)
    directory, end = packed.index(b"PK\x01\x02"), packed.index(b"PK\x05\x06")
    entry = bytearray(packed[directory:end])
    extra = (1).to_bytes(2, "little") + (8).to_bytes(2, "little") + (2**63).to_bytes(8, "little")
    entry[30:32] = len(extra).to_bytes(2, "little")
    entry[42:46] = b"\xff" * 4
    tail = bytearray(packed[end:])
    tail[12:16] = (len(entry) + len(extra)).to_bytes(4, "little")
    return packed[:directory] + bytes(entry) + extra + bytes(tail)


def parsed(
    data: bytes, given_terms: Terms | None = None, *, fetched_at: datetime = FETCHED_AT
) -> GridSignal | NoSignal:
    """Return what a body tells of France, or on other terms."""
    return entsoe.parse(data, fetched_at, terms=given_terms or terms())


def reason(data: bytes, given_terms: Terms | None = None) -> NoSignalReason:
    """Return why a body gives no signal."""
    found = parsed(data, given_terms)
    assert isinstance(found, NoSignal)
    assert found == (given_terms or terms()).no(found.reason)
    return found.reason


def without_lineage(found: GridSignal | NoSignal) -> object:
    """Return what was read, apart from the hash of the bytes it was read from."""
    if isinstance(found, NoSignal):
        return found
    return found.gco2_per_kwh, found.mix, found.observed_at, found.resolution_minutes, found.proxy_share


def _element(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"


def _rooted(name: str, content: str, namespace: str, *, prefix: str = "", head: str = "") -> str:
    if prefix:
        content = content.replace("</", "\0").replace("<", f"<{prefix}:").replace("\0", f"</{prefix}:")
        bound, name = f' xmlns:{prefix}="{namespace}"', f"{prefix}:{name}"
    else:
        bound = f' xmlns="{namespace}"' if namespace else ""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}<{name}{bound}>{content}</{name}>'


def _time_series(series: TimeSeries) -> str:
    domain = f'<{series.domain_element} codingScheme="A01">{series.domain}</{series.domain_element}>'
    return _element(
        "TimeSeries",
        _element("mRID", "1")
        + _element("businessType", "A01")
        + (domain if series.domain_element else "")
        + _element("quantity_Measure_Unit.name", series.unit)
        + _element("curveType", series.curve)
        + _element("MktPSRType", _element("psrType", series.code))
        + "".join(map(_period, series.periods)),
    )


def _period(one: Period) -> str:
    points = (
        _element("Point", _element("position", position) + _element("quantity", quantity))
        for position, quantity in one.points
    )
    interval = _element("timeInterval", _element("start", one.start) + _element("end", one.end))
    return _element("Period", interval + _element("resolution", one.resolution) + "".join(points))
