"""What the ledger tests share: entries, an opened ledger, and what a file must be like whatever happened to it."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from receipts.ledgers import made_receipt
from vetted_mw.receipts.jws import read_jws
from vetted_mw.receipts.ledger.reading import LedgerReader
from vetted_mw.receipts.ledger.sqlite import SqliteLedger
from vetted_mw.receipts.sealed import Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from vetted_mw.receipts.ledger.reading import LedgerRow
    from vetted_mw.receipts.receipt import Receipt

NOW = datetime(2026, 11, 22, 10, 31, 9, tzinfo=UTC)


def now() -> datetime:
    return NOW


@cache
def _ordinary() -> Receipt:
    return made_receipt()


def entry(caller: str = "", **changes: Any) -> Entry:
    """Return an entry with an id of its own; made fast, by replacing fields of one receipt."""
    fresh = {"query_id": str(uuid.uuid4())} | changes
    return Entry(receipt=msgspec.structs.replace(_ordinary(), **fresh), caller=caller)


@asynccontextmanager
async def opened(path: Path, **changes: Any) -> AsyncIterator[SqliteLedger]:
    """Open a ledger, and close it whatever happens."""
    ledger = SqliteLedger(path, **({"now": now} | changes))
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.aclose()


def rows_of(path: Path) -> Sequence[LedgerRow]:
    with LedgerReader(path) as reader:
        return tuple(reader.rows())


def payload_of(text: str) -> dict[str, Any]:
    """Return what a row or a head says, signed or not."""
    written = text.encode() if text.startswith("{") else read_jws(text).payload
    told: dict[str, Any] = msgspec.json.decode(written)
    return told


def ids_of(path: Path) -> set[str]:
    return {row.query_id for row in rows_of(path)}


def hold_to_its_word(path: Path) -> None:
    """Assert what holds of every ledger file: sound, gapless, its columns and its heads true."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with LedgerReader(path) as reader:
        rows = sorted(reader.rows(), key=lambda row: (row.ledger_id, row.seq))
        heads = {head.ledger_id: head for head in reader.heads()}
    newest = {}
    for ledger_id, theirs in groupby(rows, key=lambda row: row.ledger_id):
        listed = list(theirs)
        assert [row.seq for row in listed] == list(range(1, len(listed) + 1))
        newest[ledger_id] = listed[-1]
    assert {name: row.seq for name, row in newest.items()} == {name: head.seq for name, head in heads.items()}
    for name, row in newest.items():
        told = payload_of(heads[name].text)
        assert (told["ledger_id"], told["seq"], told["head_version"]) == (name, row.seq, "1")
        assert told["row_digest"] == f"sha-256:{hashlib.sha256(row.text.encode()).hexdigest()}"
    for row in rows:
        told = payload_of(row.text)
        assert [told[name] for name in ("ledger_id", "seq", "query_id", "issued_at", "model", "region")] == [
            row.ledger_id,
            row.seq,
            row.query_id,
            row.issued_at,
            row.model,
            row.region,
        ]
        assert told.get("request_id") == row.request_id
