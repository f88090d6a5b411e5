"""The tables of a ledger file, and how to tell one from any other file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "NotALedgerError", "create", "is_empty"]

APPLICATION_ID = 0x56454C31
"""`VEL1`, at byte 68 of the file."""
SCHEMA_VERSION = 1
"""`PRAGMA user_version` of what this software writes."""

_STATEMENTS = (
    """CREATE TABLE receipts (
        ledger_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        query_id TEXT NOT NULL UNIQUE,
        request_id TEXT,
        issued_at TEXT NOT NULL,
        caller TEXT NOT NULL,
        model TEXT NOT NULL,
        region TEXT NOT NULL,
        jws TEXT NOT NULL,
        PRIMARY KEY (ledger_id, seq)
    )""",
    "CREATE TABLE heads (ledger_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, jws TEXT NOT NULL)",
    "CREATE TABLE checkpoints (tree_size INTEGER NOT NULL, jws TEXT NOT NULL UNIQUE)",
    "CREATE INDEX receipts_issued_at ON receipts (issued_at)",
    "CREATE INDEX receipts_caller ON receipts (caller, issued_at)",
    "CREATE INDEX receipts_request_id ON receipts (request_id)",
    """CREATE TRIGGER receipts_no_update BEFORE UPDATE ON receipts
        BEGIN SELECT RAISE(ABORT, 'receipts are append-only'); END""",
    """CREATE TRIGGER receipts_no_delete BEFORE DELETE ON receipts
        BEGIN SELECT RAISE(ABORT, 'receipts are append-only'); END""",
    """CREATE TRIGGER heads_go_forward BEFORE UPDATE ON heads
        WHEN NEW.ledger_id IS NOT OLD.ledger_id OR NEW.seq < OLD.seq
        BEGIN SELECT RAISE(ABORT, 'a head only goes forward'); END""",
    """CREATE TRIGGER heads_no_delete BEFORE DELETE ON heads
        BEGIN SELECT RAISE(ABORT, 'a head only goes forward'); END""",
    """CREATE TRIGGER checkpoints_no_update BEFORE UPDATE ON checkpoints
        BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END""",
    """CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints
        BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class NotALedgerError(Exception):
    """The file is SQLite, and no ledger that this software knows; `reason` says which. Content-free."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether the database holds nothing yet; False for a ledger. Reads only.

    Raises:
        NotALedgerError: it is somebody else's (`not_a_ledger`), or of a newer version (`newer_version`).
        sqlite3.Error: it cannot be read.
    """
    application, version, objects = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),"
        " (SELECT count(*) FROM sqlite_schema)"
    ).fetchone()
    if application == 0 and version == 0 and objects == 0:
        return True
    if application != APPLICATION_ID or version < 1:
        raise NotALedgerError("not_a_ledger")
    if version > SCHEMA_VERSION:
        raise NotALedgerError("newer_version")
    return False


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty database; whoever calls holds the transaction."""
    for statement in _STATEMENTS:
        connection.execute(statement)
