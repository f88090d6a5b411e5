"""Read ENTSO-E's XML: bytes in, the few values we need out. Namespaces ignored, no document type, bounded work."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from xml.parsers import expat

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.mix import Series
from vetted_mw.grid.sources.numbers import finite
from vetted_mw.grid.sources.unreadable import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Acknowledgement", "GenerationDocument", "read_document"]

_RESOLUTION = re.compile(r"P(?:T(?P<minutes>\d{1,4})M|T(?P<hours>\d{1,2})H|(?P<days>\d)D)")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?Z")
_CODE = re.compile(r"[A-Z]\d\d", re.ASCII)
_ENCODINGS = frozenset({"utf-8", "utf-16", "iso-8859-1", "us-ascii"})
_MAX_DEPTH = 32
_MAX_ELEMENTS = 200_000  # thirty times the largest real document; 5 MiB of empty ones are seconds of work
_MAX_STEPS = 200_000
_SLICE_BYTES = 65_536  # expat lets no other thread run within a tag, however long it is
_MOST_SILENT_SLICES = 2
_GENERATION, _ACKNOWLEDGEMENT = "GL_MarketDocument", "Acknowledgement_MarketDocument"
_MAX_TEXT = 4096
_DAY_MINUTES = 1440


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """An answer that says why there is no document.

    Attributes:
        reasons: each with its code, `999` for most of them, and in words, to be matched and never shown: they repeat
            the query.
    """

    reasons: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDocument:
    """A `GL_MarketDocument` as far as we read it.

    Attributes:
        document_type: `A75` for generation by type.
        process_type: `A16` for realised.
        domains: EICs of the areas whose generation it tells; empty text for a series that names no area.
        series: generation by type, points expanded; consumption is left out.
    """

    document_type: str
    process_type: str
    domains: frozenset[str]
    series: tuple[Series, ...]


def read_document(data: bytes) -> GenerationDocument | Acknowledgement:
    """Read one answer.

    Raises:
        UnreadableError: it is another document, has a document type or entities, is cut short, expands to too much, or
            holds a series that cannot be told from another (no unit we know, no generation type, both generation and
            consumption).
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.XmlDeclHandler = _declared
    parser.StartDoctypeDeclHandler = _forbid
    parser.EntityDeclHandler = _forbid
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.buffer_text = True
    try:
        _feed(parser, reader, data)
    except (expat.ExpatError, ValueError, LookupError):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD) from None
    return reader.document()


def _feed(parser: expat.XMLParserType, reader: _Reader, data: bytes) -> None:
    """Give the parser the document slice by slice; several in a row that tell nothing are one giant tag or comment."""
    view, silent = memoryview(data), 0
    for start in range(0, len(data), _SLICE_BYTES):
        told = reader.told
        parser.Parse(view[start : start + _SLICE_BYTES], False)
        silent = 0 if reader.told > told else silent + 1
        if silent > _MOST_SILENT_SLICES:
            raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    parser.Parse(b"", True)


def _declared(_version: str, encoding: str | None, _standalone: int) -> None:
    """Let no service choose a codec of Python's: expat knows what XML is written in by itself."""
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)


def _forbid(*_declaration: object) -> None:
    raise UnreadableError(NoSignalReason.FORBIDDEN_MARKUP)


@dataclass(slots=True)
class _Period:
    start: str = ""
    end: str = ""
    resolution: str = ""
    points: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _TimeSeries:
    curve: str = ""
    code: str = ""
    unit: str = ""
    domain: str | None = None
    is_consumption: bool = False
    periods: list[_Period] = field(default_factory=list)


class _Reader:
    """Collects values by the names of the element and the one it stands in; every other element is passed over."""

    def __init__(self) -> None:
        self.told = 0  # how often the parser had anything to say
        self._root = ""
        self._path: list[str] = []
        self._elements = 0
        self._text: list[str] = []
        self._length = 0
        self._heads: dict[str, str] = {}
        self._series: list[_TimeSeries] = []
        self._point: dict[str, str] = {}
        self._reasons: list[dict[str, str]] = []

    def start(self, name: str, _attributes: Mapping[str, str]) -> None:
        self.told += 1
        name = name.rpartition(":")[2]
        self._root = self._root or name
        if len(self._path) >= _MAX_DEPTH or self._root not in {_GENERATION, _ACKNOWLEDGEMENT}:
            raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise UnreadableError(NoSignalReason.TOO_LARGE)
        self._path.append(name)
        self._text, self._length = [], 0
        match self._path[1:]:
            case ["TimeSeries"]:
                self._series.append(_TimeSeries())
            case ["TimeSeries", "Period"]:
                self._series[-1].periods.append(_Period())
            case ["TimeSeries", "Period", "Point"]:
                self._point = {}
            case ["Reason"]:
                self._reasons.append({})

    def text(self, text: str) -> None:
        self.told += 1
        self._length += len(text)
        if self._length > _MAX_TEXT:
            raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
        self._text.append(text)

    def end(self, _name: str) -> None:
        self.told += 1
        path, text = self._path[1:], "".join(self._text).strip()
        self._text, self._length = [], 0
        match path:
            case ["type" | "process.processType" as name]:
                self._heads[name] = text
            case ["Reason", "code" | "text" as name]:
                self._reasons[-1][name] = text
            case ["TimeSeries", *inner] if inner:
                self._of_series(self._series[-1], inner, text)
        self._path.pop()

    def _of_series(self, series: _TimeSeries, path: list[str], text: str) -> None:  # noqa: C901 (one case per element)
        match path:
            case ["curveType"]:
                series.curve = text
            case ["quantity_Measure_Unit.name"]:
                series.unit = text
            case ["MktPSRType", "psrType"]:
                series.code = text
            case ["inBiddingZone_Domain.mRID"]:
                series.domain = text
            case ["outBiddingZone_Domain.mRID"]:
                series.is_consumption = True
            case ["Period", "resolution"]:
                series.periods[-1].resolution = text
            case ["Period", "timeInterval", "start"]:
                series.periods[-1].start = text
            case ["Period", "timeInterval", "end"]:
                series.periods[-1].end = text
            case ["Period", "Point", "position" | "quantity" as name]:
                self._point[name] = text
            case ["Period", "Point"]:
                series.periods[-1].points.append((self._point.get("position", ""), self._point.get("quantity", "")))

    def document(self) -> GenerationDocument | Acknowledgement:
        if self._reasons:
            return Acknowledgement(
                reasons=tuple((reason.get("code", ""), reason.get("text", "")) for reason in self._reasons)
            )
        is_unclear = any(one.is_consumption and one.domain is not None for one in self._series)
        if self._root != _GENERATION or is_unclear:
            raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
        generation = [one for one in self._series if not one.is_consumption]
        budget = _Budget()
        return GenerationDocument(
            document_type=self._heads.get("type", ""),
            process_type=self._heads.get("process.processType", ""),
            domains=frozenset(one.domain or "" for one in generation),
            series=tuple(series for one in generation for series in _expanded(one, budget)),
        )


class _Budget:
    """How many steps a document may still expand to: a year in minutes is a few hundred bytes of XML."""

    def __init__(self) -> None:
        self._left = _MAX_STEPS

    def take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise UnreadableError(NoSignalReason.TOO_LARGE)


def _expanded(series: _TimeSeries, budget: _Budget) -> list[Series]:
    """Expand each Period by itself: a value never reaches beyond its own Period's end.

    A Period that cannot be read leaves the type without values there, so that no interval of it is complete.
    """
    if series.unit != "MAW" or not _CODE.fullmatch(series.code):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    return [_period(series, period, budget) for period in series.periods] or [_nothing(series.code)]


def _nothing(code: str) -> Series:
    return Series(code=code, start=datetime(1970, 1, 1, tzinfo=UTC), minutes=1, megawatts={})


def _period(series: _TimeSeries, period: _Period, budget: _Budget) -> Series:
    minutes = _minutes(period.resolution)
    start, end = _instant(period.start), _instant(period.end)
    if minutes is None or start is None or end is None or not start < end:
        return _nothing(series.code)
    steps = (end - start) // timedelta(minutes=minutes)
    points = _points(period, steps)
    if points is None or series.curve not in {"A01", "A03"}:
        return _nothing(series.code)
    if series.curve == "A03":
        budget.take(steps)
        points = _carried(points, steps)
    else:
        budget.take(len(points))
    return Series(code=series.code, start=start, minutes=minutes, megawatts=points)


def _points(period: _Period, steps: int) -> dict[int, float] | None:
    """Return step -> MW; None when a point cannot be read, stands outside the Period, or twice."""
    found: dict[int, float] = {}
    for position, quantity in period.points:
        value = finite(quantity)
        if not position.isascii() or not position.isdigit() or len(position) > 6 or value is None:  # noqa: PLR2004
            return None
        step = int(position) - 1
        if not 0 <= step < steps or step in found:
            return None
        found[step] = value
    return found


def _carried(points: Mapping[int, float], steps: int) -> dict[int, float]:
    """Repeat each value until the next one (curve A03: variable-sized blocks); without the first there is no block."""
    if 0 not in points:
        return {}
    found: dict[int, float] = {}
    value = points[0]
    for step in range(steps):
        value = points.get(step, value)
        found[step] = value
    return found


def _minutes(resolution: str) -> int | None:
    match = _RESOLUTION.fullmatch(resolution)
    if match is None:
        return None
    amount = int(match["minutes"] or 0) + 60 * int(match["hours"] or 0) + _DAY_MINUTES * int(match["days"] or 0)
    return amount if 0 < amount <= _DAY_MINUTES else None


def _instant(text: str) -> datetime | None:
    if not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
