"""ENTSO-E's Transparency Platform: actual generation per type (A75), as an intensity under our factors.

Production-based: imports and exports are not in it. The key stands in the URL, so a URL is never shown anywhere.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.factors import load_factors
from vetted_mw.grid.mix import latest_complete
from vetted_mw.grid.sources.entsoe_document import Acknowledgement, read_document
from vetted_mw.grid.sources.request import MAX_BODY_BYTES, Request
from vetted_mw.grid.sources.unreadable import UnreadableError, horizon, looks_like_html

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.mix import Interval
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.sources.terms import Terms

__all__ = ["parse", "request"]

_HOURS = 6
_QUARTER = timedelta(minutes=15)
_NO_DATA = "no matching data"
_INFLATED_PIECEMEAL = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # zipfile inflates the others at one go
_NO_ARCHIVE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError, OverflowError)


def request(base_url: str, terms: Terms, now: datetime, *, token: str) -> Request:
    """Return the GET for the last hours up to the next quarter of an hour; rounding down alone would add to the age."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = day + -((day - now) // _QUARTER) * _QUARTER
    query = {
        "securityToken": token,
        "documentType": "A75",
        "processType": "A16",
        "in_Domain": terms.name,
        "periodStart": f"{end - timedelta(hours=_HOURS):%Y%m%d%H%M}",
        "periodEnd": f"{end:%Y%m%d%H%M}",
    }
    return Request(url=f"{base_url}?{urlencode(query)}", accept="application/xml")


def parse(data: bytes, fetched_at: datetime, *, terms: Terms) -> GridSignal | NoSignal:
    """Return the intensity of the latest interval for which every type has a value, or why there is none."""
    try:
        interval = _interval(_unzipped(data) if data.startswith(b"PK") else data, terms, horizon(fetched_at))
    except UnreadableError as error:
        return terms.no(error.reason)
    return terms.signal_of_mix(
        interval.mix, data, observed_at=interval.end, fetched_at=fetched_at, resolution_minutes=interval.minutes
    )


def _interval(data: bytes, terms: Terms, before: datetime) -> Interval:
    if looks_like_html(data):
        raise UnreadableError(NoSignalReason.HTML_PAGE)
    document = read_document(data)
    if isinstance(document, Acknowledgement):
        raise UnreadableError(NoSignalReason.NO_DATA if _is_no_data(document) else NoSignalReason.BAD_REQUEST)
    if (document.document_type, document.process_type) != ("A75", "A16"):
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
    if document.domains - {terms.name}:
        raise UnreadableError(NoSignalReason.WRONG_AREA)
    factors = load_factors()
    counted = [series for series in document.series if factors.counts(series.code)]
    interval = latest_complete(counted, expected=terms.expected_types, before=before)
    if interval is None:
        raise UnreadableError(NoSignalReason.INCOMPLETE if counted else NoSignalReason.NO_DATA)
    return interval


def _is_no_data(answer: Acknowledgement) -> bool:
    # All of them: of several reasons the one that says there is no data must not hide another.
    return all(code == "999" and _NO_DATA in text.lower() for code, text in answer.reasons)


def _unzipped(data: bytes) -> bytes:
    """Return the one file of an archive, never inflating more than we read of a plain answer."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (entry,) = archive.infolist()
            if entry.compress_type not in _INFLATED_PIECEMEAL:
                raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD)
            with archive.open(entry) as member:
                plain = member.read(MAX_BODY_BYTES + 1)
    except _NO_ARCHIVE:
        raise UnreadableError(NoSignalReason.NOT_UNDERSTOOD) from None
    if len(plain) > MAX_BODY_BYTES:
        raise UnreadableError(NoSignalReason.TOO_LARGE)
    return plain
