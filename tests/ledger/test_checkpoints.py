"""Checkpoints: what they say, what they find, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from ledger.keeping import payload_of, rows_of
from receipts.keys import signer
from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.receipts.jws import read_jws
from vetted_mw.receipts.ledger.checkpoints import (
    Checkpoint,
    MalformedCheckpointError,
    checkpoint_matches,
    make_checkpoint,
    read_checkpoint,
)
from vetted_mw.receipts.ledger.reading import LedgerReader, LedgerUnreadableError
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 12, 31, 23, 59, 59, 123000, tzinfo=UTC)
ROOT = f"sha-256:{'0' * 64}"


def filled(path: Path, rows: int = 5) -> Path:
    write_ledger(path, [made_receipt() for _ in range(rows)], signer(), ledger_id="a")
    return path


def test_a_checkpoint_says_what_the_file_holds(path: Path) -> None:
    """Signed, with the root over the rows' texts, their number and every head, and stored in the file."""
    filled(path, rows=2)
    made = make_checkpoint(path, signer(), NOW)
    leaves = [hashlib.sha256(b"\0" + row.text.encode()).digest() for row in rows_of(path)]
    root = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).hexdigest()
    assert (made.tree_size, made.root) == (2, f"sha-256:{root}")
    assert read_jws(made.text).header["typ"] == "vetted-checkpoint+jws"
    assert payload_of(made.text) == {
        "at": "2026-12-31T23:59:59.123Z",
        "checkpoint_version": "1",
        "heads": {"a": 2},
        "root": made.root,
        "tree_size": 2,
    }
    with LedgerReader(path) as reader:
        assert [(one.tree_size, one.text) for one in reader.checkpoints()] == [(2, made.text)]
    assert read_checkpoint(made.text) == made


def test_without_a_key_it_is_canonical_json(path: Path) -> None:
    """Without a key the checkpoint is plain JSON, and reads the same."""
    made = make_checkpoint(filled(path), None, NOW)
    assert made.text.startswith('{"at":')
    assert read_checkpoint(made.text) == made


def test_of_an_empty_ledger_it_is_the_hash_of_nothing(path: Path) -> None:
    """A ledger without rows has a checkpoint too."""
    write_ledger(path, [])
    made = make_checkpoint(path, None, NOW)
    assert (made.tree_size, made.root) == (0, f"sha-256:{hashlib.sha256().hexdigest()}")
    assert checkpoint_matches([], made)


def test_it_holds_for_the_rows_it_was_made_of_and_those_after(path: Path) -> None:
    """Rows that came later do not matter; each row it was made of does."""
    made = make_checkpoint(filled(path), signer(), NOW)
    filled(path, rows=3)
    rows = rows_of(path)
    assert checkpoint_matches(rows, made)
    assert checkpoint_matches(iter(rows), made)
    for at in range(5):
        assert not checkpoint_matches([*rows[:at], *rows[at + 1 :]], made)
        assert not checkpoint_matches([*rows[:at], rows[-1], *rows[at + 1 :]], made)
    assert not checkpoint_matches([rows[1], rows[0], *rows[2:]], made)
    assert not checkpoint_matches(rows[:4], made)


def test_made_again_of_the_same_rows_it_is_the_same(path: Path) -> None:
    """A second checkpoint of the same rows is the first one, with its instant."""
    made = make_checkpoint(filled(path), signer(), NOW)
    assert make_checkpoint(path, None, datetime(2027, 1, 1, tzinfo=UTC)) == made


def test_changed_rows_contradict_it(path: Path) -> None:
    """A checkpoint is not made over rows that an earlier one of the same size contradicts."""
    make_checkpoint(filled(path), signer(), NOW)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER receipts_no_update")
        connection.execute("UPDATE receipts SET jws = 'x' WHERE seq = 3")
    with pytest.raises(LedgerUnavailableError, match="contradicted"):
        make_checkpoint(path, signer(), NOW)


def test_a_file_that_cannot_be_read_has_none(path: Path) -> None:
    """No file, no checkpoint, and no file made either."""
    with pytest.raises(LedgerUnreadableError, match="missing"):
        make_checkpoint(path, None, NOW)
    assert not path.exists()


def test_a_file_that_cannot_be_written_has_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the file, making one fails with a word and can be done again."""
    monkeypatch.setattr("vetted_mw.receipts.ledger.file.BUSY_SECONDS", 0.05)
    filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError, match="locked"):
            make_checkpoint(path, None, NOW)
    assert make_checkpoint(path, None, NOW).tree_size == 5


def text_with(**changes: Any) -> str:
    told = {"at": "x", "checkpoint_version": "1", "heads": {}, "root": ROOT, "tree_size": 1} | changes
    return json.dumps({name: value for name, value in told.items() if value is not None})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "a.b.c",
        "{}",
        "[]",
        text_with(tree_size=-1),
        text_with(tree_size="1"),
        text_with(root="sha-256:00"),
        text_with(root=f"{ROOT}0"),
        text_with(checkpoint_version="2"),
        text_with(heads={"a": "1"}),
        text_with(heads=None),
        text_with(more=1),
        '{"at":"\ud800"}',
        "[" * 100_000,
        '{"at":' * 100_000,
    ],
    ids=range(16),
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """Anything but a checkpoint of ours is refused, never a traceback."""
    with pytest.raises(MalformedCheckpointError):
        read_checkpoint(text)


def test_the_least_one_is_read() -> None:
    """What the refusals vary is itself a checkpoint."""
    assert read_checkpoint(text_with()) == Checkpoint(tree_size=1, root=ROOT, text=text_with())
