"""Readings from a file that is watched: `signals.toml`, one `[[reading]]` per value."""

from __future__ import annotations

import hashlib
import logging
import stat
import sys
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vetted_mw.errors import VettedError
from vetted_mw.grid.signal import GridSignal, SignalKind, parse_method
from vetted_mw.grid.units import is_plausible
from vetted_mw.instants import parse_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vetted_mw.signal_configuration import FileSource

__all__ = ["FileSignals", "ReadingsFileError", "parse_readings", "read_file"]

_LOG = logging.getLogger("vetted_mw")
_POLL_SECONDS = 1.0
_MAX_FILE_BYTES = 1_048_576
_REQUIRED = ("zone", "gco2_per_kwh", "kind", "observed_at")
_OPTIONAL = ("source", "method")
_KINDS = {"measured": SignalKind.MEASURED, "forecast": SignalKind.FORECAST}


class ReadingsFileError(VettedError):
    """The file cannot be used as it stands; its text names the reading and the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """Why the file is of no use, and in which state it was so; None when it could not even be looked at."""

    seen: tuple[int, int, int] | None
    reason: str


class FileSignals:
    """A `SignalSource` on one file.

    The file is looked at every second and read when it has changed. A file that cannot be used, or is gone, is said so
    once in the log; the readings of before stay on the board and age. A reading taken out of the file is gone at once.
    One dated ahead is of the file as long as it stands there: it counts as got at each look, until its time has come.
    """

    name = "file"
    refresh_seconds = _POLL_SECONDS
    is_complete = True
    is_local = True

    def __init__(self, source: FileSource, *, now: Callable[[], datetime]) -> None:
        self._source = source
        self._now = now
        self._seen: tuple[int, int, int] | None = None
        self._refusal: _Refusal | None = None
        self._readings: tuple[GridSignal, ...] = ()

    async def readings(self) -> Sequence[GridSignal]:
        """Return the file's readings; a local read with a limit, so it is made where it stands.

        Raises:
            OSError: the file is gone or cannot be read.
            ReadingsFileError: it cannot be used as it stands; said of the same file again without reading it again.
        """
        try:
            status = self._source.path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                self._readings = self._read(seen)
                self._seen = seen
        except OSError as error:
            self._refuse(None, f"it cannot be read ({type(error).__name__}).")
            raise
        except ReadingsFileError as error:
            self._refuse(seen, str(error))
            raise
        self._refusal = None
        now = self._now()
        self._readings = tuple(replace(one, fetched_at=now) if _is_ahead(one) else one for one in self._readings)
        return self._readings

    def _read(self, seen: tuple[int, int, int]) -> tuple[GridSignal, ...]:
        if self._refusal is not None and self._refusal.seen == seen:
            raise ReadingsFileError(self._refusal.reason)
        data = read_file(self._source.path)
        return parse_readings(data, self._now(), max_age_minutes=self._source.max_age_minutes)

    def _refuse(self, seen: tuple[int, int, int] | None, reason: str) -> None:
        """Say once per state of the file why it is of no use."""
        if self._refusal is None or self._refusal.seen != seen:
            extra = {"path": str(self._source.path), "reason": reason}
            _LOG.warning("the signals file cannot be used; earlier readings stay and age", extra=extra)
        self._refusal = _Refusal(seen=seen, reason=reason)


def _is_ahead(signal: GridSignal) -> bool:
    """Whether a measured value was got before its time: by a clock that was behind, of ours or of who wrote it."""
    return signal.kind is SignalKind.MEASURED and signal.observed_at > signal.fetched_at


def read_file(path: Path) -> bytes:
    """Return what a signals file holds. What could block, a pipe or a device, is not even opened.

    Raises:
        OSError: it is not there or cannot be read.
        ReadingsFileError: it is no regular file, or too large.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ReadingsFileError("it is no regular file. Name a file that is one.")
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ReadingsFileError("it is larger than 1 MiB, which no list of readings is. Keep one reading per zone.")
    return data


def parse_readings(data: bytes, fetched_at: datetime, *, max_age_minutes: float) -> tuple[GridSignal, ...]:
    """Read `signals.toml`; it is taken as a whole or not at all.

    Raises:
        ReadingsFileError: it is not TOML, or a reading is not one.
    """
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        raise ReadingsFileError("it is not TOML in UTF-8. Write it anew, whole.") from None
    unknown = set(table) - {"reading"}
    rows = table.get("reading", [])
    if unknown or not isinstance(rows, list):
        raise ReadingsFileError("only [[reading]] tables belong in it.")
    digest = hashlib.sha256(data).hexdigest()
    return tuple(
        _signal(_Row(number, row), fetched_at, max_age_minutes=max_age_minutes, digest=digest)
        for number, row in enumerate(rows, start=1)
    )


class _Row:
    """One reading as it stands in the file, with its place for messages."""

    def __init__(self, number: int, row: Any) -> None:
        self._place = f"reading {number}"
        if not isinstance(row, dict):
            raise self.error("is not a table")
        self._row: dict[str, Any] = row
        for key in row:
            if key not in (*_REQUIRED, *_OPTIONAL):
                raise self.error(f"has an unknown key {key!r}; known: {', '.join((*_REQUIRED, *_OPTIONAL))}")
        for key in _REQUIRED:
            if key not in row:
                raise self.error(f"lacks {key}")

    def error(self, what: str) -> ReadingsFileError:
        return ReadingsFileError(f"{self._place} {what}.")

    def text(self, key: str, default: str = "") -> str:
        value = self._row.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.error(f"needs {key} as a string that is not empty")
        return value

    def intensity(self) -> float:
        value = self._row["gco2_per_kwh"]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
            raise self.error("needs gco2_per_kwh as a number, 0 or above")
        return float(value)

    def instant(self) -> datetime:
        value = self._row["observed_at"]
        try:
            if isinstance(value, datetime) and value.tzinfo is not None:
                return value.astimezone(UTC)
            return parse_rfc3339(value)
        except (ValueError, TypeError, OverflowError):
            raise self.error("needs observed_at with an offset, for example 2026-11-22T09:45:00Z") from None


def _signal(row: _Row, fetched_at: datetime, *, max_age_minutes: float, digest: str) -> GridSignal:
    kind = _KINDS.get(row.text("kind"))
    if kind is None:
        raise row.error("needs kind 'measured' or 'forecast'")
    try:
        method = parse_method(row.text("method", "declared"))
    except ValueError as error:
        raise row.error(f"has a method that is none: {error}") from None
    zone, value = row.text("zone"), row.intensity()
    if not is_plausible(value, method.basis):
        raise row.error("has a gco2_per_kwh that no grid can have by that method: it is in grams per kWh")
    return GridSignal(
        source=row.text("source", "file"),
        zone=zone,
        area=zone,
        kind=kind,
        gco2_per_kwh=value,
        observed_at=row.instant(),
        fetched_at=fetched_at,
        max_age_minutes=max_age_minutes,
        method=method,
        raw_ref=digest,
    )
