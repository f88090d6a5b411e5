"""ENTSO-E's answers as archives: one file is read, within the limit of a plain answer, and a bomb is not."""

from __future__ import annotations

import hashlib
import tracemalloc
import zipfile
from datetime import UTC, datetime

import pytest

from grid.entsoe_documents import acknowledgement, document, hourly, parsed, placed_beyond_memory, reason, zipped
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.signal import GridSignal
from vetted_mw.grid.sources.request import MAX_BODY_BYTES

NUCLEAR = hourly("B14", "2025-10-24T10:00Z", 30000, 40000)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_of_one_file_is_that_file(method: int) -> None:
    """Its lineage is the bytes that came, not those within."""
    plain, packed = document(NUCLEAR), zipped(document(NUCLEAR), method=method)
    found = parsed(packed)
    assert isinstance(found, GridSignal)
    assert (found.gco2_per_kwh, found.observed_at) == (12.0, datetime(2025, 10, 24, 12, tzinfo=UTC))
    assert found.raw_ref == hashlib.sha256(packed).hexdigest() != hashlib.sha256(plain).hexdigest()
    assert reason(zipped(acknowledgement(("999", "No matching data found")))) is NoSignalReason.NO_DATA


@pytest.mark.parametrize("files", [[], [document(NUCLEAR)] * 2, [document(NUCLEAR), b""]])
def test_an_archive_of_several_files_or_none_is_not_understood(files: list[bytes]) -> None:
    """Nobody knows which of them was meant."""
    assert reason(zipped(*files)) is NoSignalReason.NOT_UNDERSTOOD


@pytest.mark.parametrize(("over", "why"), [(0, None), (1, "too_large"), (200_000, "too_large")])
def test_an_archived_answer_has_the_limit_of_a_plain_one(over: int, why: str | None) -> None:
    """A body of the limit is read, one byte more is not."""
    plain, end = document(NUCLEAR), b"</GL_MarketDocument>"
    wanted = MAX_BODY_BYTES - len(plain) + over
    padding = (b"<x>" + b" " * 4000 + b"</x>") * (wanted // 4007)
    body = plain.replace(end, padding + b" " * (wanted - len(padding)) + end)
    assert len(body) == MAX_BODY_BYTES + over
    found = parsed(zipped(body))
    assert isinstance(found, GridSignal) if why is None else isinstance(found, NoSignal) and found.reason == why


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (zipfile.ZIP_DEFLATED, NoSignalReason.TOO_LARGE),
        (zipfile.ZIP_BZIP2, NoSignalReason.NOT_UNDERSTOOD),
        (zipfile.ZIP_LZMA, NoSignalReason.NOT_UNDERSTOOD),
    ],
)
def test_a_small_archive_does_not_become_a_large_body(method: int, why: NoSignalReason) -> None:
    """A bomb of a few kilobytes takes no more memory than an answer may have, by whichever method it was packed."""
    bomb = zipped(bytes(16 * MAX_BODY_BYTES), method=method)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        found = reason(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is why
    assert peak < 4 * MAX_BODY_BYTES


def test_a_broken_archive_is_not_understood() -> None:
    """Cut at any byte; and with a wrong sum, a password, or a place in it that no memory has."""
    packed = zipped(document(NUCLEAR))
    assert {reason(packed[:length]) for length in range(2, len(packed))} == {NoSignalReason.NOT_UNDERSTOOD}
    encrypted = bytearray(packed)
    encrypted[6] |= 1
    encrypted[packed.index(b"PK\x01\x02") + 8] |= 1
    stored = zipped(document(NUCLEAR), method=zipfile.ZIP_STORED)
    for broken in (bytes(encrypted), stored.replace(b"40000", b"40001"), placed_beyond_memory()):
        assert reason(broken) is NoSignalReason.NOT_UNDERSTOOD
