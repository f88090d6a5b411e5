"""Reading a ledger file: in order, in one view, and with a word where it cannot be read."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ledger.keeping import rows_of
from receipts.keys import signer
from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.receipts.ledger.reading import LedgerReader, LedgerUnreadableError
from vetted_mw.receipts.ledger.schema import APPLICATION_ID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIDNIGHT = "2026-11-22T00:00:00Z"
INSTANTS = [
    "2026-11-21T23:59:59.999Z",
    "2026-11-22T00:00:00.000Z",
    "2026-11-22T00:00:00.500Z",
    "2026-11-23T00:00:00.000Z",
]


def reason_for(path: Path) -> str:
    with pytest.raises(LedgerUnreadableError) as caught:
        read_all(path)
    return caught.value.reason


def read_all(path: Path) -> None:
    with LedgerReader(path) as reader:
        tuple(reader.rows())
        reader.heads()
        reader.checkpoints()


def test_rows_come_in_the_order_of_their_commits(path: Path) -> None:
    """Whatever the instants and the ledgers, rows come as they were committed."""
    first = write_ledger(path, [made_receipt() for _ in range(3)], signer(), ledger_id="zz")
    second = write_ledger(path, [made_receipt(issued_at="2020-01-01T00:00:00.000Z")], signer(), ledger_id="aa")
    third = write_ledger(path, [made_receipt()], signer(), ledger_id="zz")
    assert [row.text for row in rows_of(path)] == [one.text for one in (*first, *second, *third)]
    with LedgerReader(path) as reader:
        assert [(head.ledger_id, head.seq) for head in reader.heads()] == [("aa", 1), ("zz", 4)]
        assert reader.checkpoints() == ()


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, INSTANTS),
        (MIDNIGHT, None, INSTANTS[1:]),
        (None, MIDNIGHT, INSTANTS[:1]),
        (MIDNIGHT, "2026-11-23T00:00:00Z", INSTANTS[1:3]),
        ("2026-11-22T01:00:00+01:00", "2026-11-22T00:00:00.500Z", INSTANTS[1:2]),
        ("2027-01-01T00:00:00Z", None, []),
    ],
)
def test_a_period_is_half_open(path: Path, since: str | None, until: str | None, expected: list[str]) -> None:
    """Bounds are instants, however they are written: the first is in, the last is out."""
    write_ledger(path, [made_receipt(issued_at=instant) for instant in INSTANTS])
    with LedgerReader(path) as reader:
        assert [row.issued_at for row in reader.rows(since, until)] == expected


def test_a_bound_that_is_no_instant_is_refused(path: Path) -> None:
    """A bound without an offset could mean anything, and is refused."""
    write_ledger(path, [made_receipt()])
    with LedgerReader(path) as reader, pytest.raises(ValueError, match="offset"):
        next(reader.rows(since="2026-11-22T00:00:00"))


def test_a_row_is_found_by_its_id(path: Path) -> None:
    """One id is one row; an unknown one is None."""
    receipt = made_receipt()
    (kept,) = write_ledger(path, [receipt], caller="alice")
    with LedgerReader(path) as reader:
        row = reader.find(receipt.query_id)
        assert reader.find("unknown") is None
    assert row is not None
    assert (row.text, row.caller, row.request_id) == (kept.text, "alice", None)


def test_a_reader_sees_one_moment(path: Path) -> None:
    """What is written while a reader is open is not in its rows and not in its heads: they belong together."""
    write_ledger(path, [made_receipt()], ledger_id="a")
    with LedgerReader(path) as reader:
        write_ledger(path, [made_receipt()], ledger_id="a")
        assert (len(tuple(reader.rows())), reader.heads()[0].seq) == (1, 1)
    with LedgerReader(path) as reader:
        assert (len(tuple(reader.rows())), reader.heads()[0].seq) == (2, 2)


def test_a_log_no_process_has_open_is_read(path: Path, tmp_path: Path) -> None:
    """A copy taken from a process that was killed, rows still in its log, is read whole."""
    write_ledger(path, [made_receipt()])
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("INSERT INTO checkpoints VALUES (1, 'in the log alone')")
        copy = tmp_path / "copy" / "ledger.db"
        copy.parent.mkdir()
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    with LedgerReader(copy) as reader:
        assert [one.text for one in reader.checkpoints()] == ["in the log alone"]


def _missing(_path: Path) -> None:
    return


def _folder(path: Path) -> None:
    path.mkdir()


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_bytes(b"no database\n" * 1000)


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE receipts (id)")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE receipts (id)")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 9")


def _truncated(path: Path) -> None:
    write_ledger(path, [made_receipt() for _ in range(20)])
    os.truncate(path, path.stat().st_size // 2)


def _broken_page(path: Path) -> None:
    write_ledger(path, [made_receipt() for _ in range(20)])
    written = bytearray(path.read_bytes())
    for page in range(2 * 4096, len(written), 4096):
        written[page : page + 64] = b"\xa5" * 64
    path.write_bytes(written)


def _odd(statement: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write_ledger(path, [made_receipt()])
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DROP TRIGGER receipts_no_update")
            connection.execute("DROP TRIGGER heads_go_forward")
            connection.execute(statement)

    return make


@pytest.mark.parametrize(
    ("made", "reasons"),
    [
        (_missing, {"missing"}),
        (_folder, {"missing"}),
        (_empty, {"not_a_ledger"}),
        (_text, {"not_a_ledger"}),
        (_foreign, {"not_a_ledger"}),
        (_newer, {"newer_version"}),
        (_truncated, {"corrupt"}),
        (_broken_page, {"corrupt"}),
        (_odd("UPDATE receipts SET jws = x'ff'"), {"corrupt"}),
        (_odd("UPDATE receipts SET jws = CAST(x'ff' AS TEXT)"), {"corrupt", "failed"}),
        (_odd("UPDATE heads SET jws = x'ff'"), {"corrupt"}),
        (_odd("INSERT INTO checkpoints VALUES (1, x'ff')"), {"corrupt"}),
    ],
    ids=["missing", "folder", "empty", "text", "foreign", "newer", "truncated", "page", "blob", "utf8", "head", "root"],
)
def test_what_cannot_be_read_is_said_in_a_word(path: Path, made: Callable[[Path], None], reasons: set[str]) -> None:
    """Every kind of broken or foreign file is one error with a word, whatever part of it is asked for."""
    made(path)
    assert reason_for(path) in reasons


def test_a_reader_that_is_not_open_says_so(path: Path) -> None:
    """Outside `with` nothing is read."""
    write_ledger(path, [made_receipt()])
    reader = LedgerReader(path)
    reader.__exit__(None, None, None)
    with pytest.raises(LedgerUnreadableError, match="closed"):
        reader.heads()
