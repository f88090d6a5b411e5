"""What the audit tests share: files to verify, ways to tamper with them, and what verifying found."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from receipts.keys import jwks, signer
from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.audit.verify.findings import Code, Finding, Severity
from vetted_mw.audit.verify.verifying import Verification
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import RECEIPT_TYPE, compact, read_jws

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vetted_mw.audit.verify.checkpoint_check import KeptApart
    from vetted_mw.receipts.jwks import Jwks
    from vetted_mw.receipts.sealed import Sealed
    from vetted_mw.receipts.signing import Ed25519Signer

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None and not os.environ.get("CI"), reason="openssl is not installed; CI must bring it"
)
SIGNER = signer()
KEYS = parse_jwks(msgspec.json.encode(jwks(SIGNER)))
LEDGER_ID = "3f0f6c1e-9a4b-4f6d-8c55-0d2f6a7b9e10"
OTHER_LEDGER_ID = "a1d0c9b8-1111-4222-8333-444455556666"


def ledger(path: Path, rows: int = 5, *, by: Ed25519Signer | None = SIGNER, ledger_id: str = LEDGER_ID) -> list[Sealed]:
    """Write a ledger of so many receipts, a second apart, and return them."""
    receipts = [made_receipt(issued_at=f"2026-11-22T10:32:{second:02}Z") for second in range(rows)]
    return list(write_ledger(path, receipts, by, ledger_id))


def findings_in(
    *paths: Path, keys: Jwks | None = KEYS, checkpoints: Sequence[KeptApart] = (), refused: Sequence[str] = ()
) -> list[Finding]:
    """Verify files and return what was found; nothing may be refused but what is said to be."""
    found: list[Finding] = []
    run = Verification(keys=keys, checkpoints=checkpoints, tell=found.append)
    run.verify(paths)
    assert len(run.refused) == len(refused)
    assert all(part in told for part, told in zip(refused, run.refused, strict=True)), run.refused
    return found


def problems(found: Sequence[Finding]) -> list[tuple[Code, str]]:
    """Return code and text of each problem."""
    return [(one.code, one.text) for one in found if one.severity is Severity.PROBLEM]


def notes(found: Sequence[Finding]) -> list[tuple[Code, str]]:
    """Return code and text of each note."""
    return [(one.code, one.text) for one in found if one.severity is Severity.NOTE]


def codes(found: Sequence[Finding]) -> set[Code]:
    """Return the codes of the problems."""
    return {one.code for one in found if one.severity is Severity.PROBLEM}


def payload_of(text: str) -> dict[str, Any]:
    """Return what a row says."""
    data = text.encode() if text.startswith("{") else read_jws(text).payload
    members: dict[str, Any] = msgspec.json.decode(data)
    return members


def signed(members: Mapping[str, Any], *, by: Ed25519Signer = SIGNER, typ: str = RECEIPT_TYPE) -> str:
    """Return members as a row that `by` signed."""
    return compact(canonical(members), by, typ=typ)


def edit(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    """Change a ledger file as somebody would who knows SQLite: the triggers are away meanwhile and back afterwards."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _sql in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement, values in statements:
            connection.execute(statement, values)
        for _name, sql in triggers:
            connection.execute(sql)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def delete_rows(path: Path, *seqs: int) -> None:
    """Take rows out of a ledger."""
    edit(path, *(("DELETE FROM receipts WHERE seq = ?", (seq,)) for seq in seqs))


def replace_row(path: Path, seq: int, text: str) -> None:
    """Put another text in the place of a row's own."""
    edit(path, ("UPDATE receipts SET jws = ? WHERE seq = ?", (text, seq)))


def rows_of(path: Path, table: str = "receipts") -> list[dict[str, Any]]:
    """Return the rows of a table as they stand in the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")]  # noqa: S608
