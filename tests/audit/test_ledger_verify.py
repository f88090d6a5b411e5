"""Ledger files that somebody changed, cut or broke, verified."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from audit.auditing import (
    KEYS,
    LEDGER_ID,
    OTHER_LEDGER_ID,
    SIGNER,
    codes,
    delete_rows,
    edit,
    findings_in,
    ledger,
    notes,
    payload_of,
    problems,
    replace_row,
    rows_of,
    signed,
)
from receipts.keys import jwks, signer
from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.audit.ledger import AuditedLedger
from vetted_mw.audit.verify.checkpoint_check import KeptApart
from vetted_mw.audit.verify.findings import Code, Finding
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import HEAD_TYPE
from vetted_mw.receipts.ledger.checkpoints import make_checkpoint
from vetted_mw.receipts.ledger.schema import APPLICATION_ID
from vetted_mw.receipts.ledger.sqlite import SqliteLedger
from vetted_mw.receipts.sealed import Entry

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def checkpoint_of(path: Path, *, by: object = SIGNER) -> KeptApart:
    """Make a checkpoint of a copy of the file, as one that was kept apart: the file itself does not hold it."""
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    made = make_checkpoint(copy, by, NOW)  # type: ignore[arg-type]
    copy.unlink()
    return KeptApart(file="checkpoint.jws", text=made.text)


def test_a_ledger_as_it_was_written_passes(tmp_path: Path) -> None:
    """Several ledgers in one file, with checkpoints made in between: nothing is found."""
    path = tmp_path / "ledger.db"
    ledger(path, 3)
    make_checkpoint(path, SIGNER, NOW)
    ledger(path, 4, ledger_id=OTHER_LEDGER_ID)
    make_checkpoint(path, SIGNER, NOW)
    ledger(path, 2)
    assert not findings_in(path, checkpoints=[checkpoint_of(path)])


@pytest.mark.anyio
async def test_a_ledger_is_verified_beside_its_live_writer(tmp_path: Path) -> None:
    """The file may be open and half in its write-ahead log."""
    path = tmp_path / "ledger.db"
    sink = SqliteLedger(path, now=lambda: NOW)
    await sink.open()
    await sink.keep([Entry(receipt=made_receipt(), caller="a") for _ in range(5)], SIGNER)
    assert not findings_in(path)
    await sink.aclose()
    assert not findings_in(path)


@pytest.mark.parametrize("seq", [1, 2, 3, 4])
def test_any_row_taken_out_is_named(tmp_path: Path, seq: int) -> None:
    """A missing row is told by its number, wherever it was."""
    path = tmp_path / "ledger.db"
    ledger(path)
    delete_rows(path, seq)
    between = "before 2" if seq == 1 else f"between {seq - 1} and {seq + 1}"
    found = findings_in(path)
    assert problems(found) == [(Code.GAP, f"seq {seq} is missing {between}")]
    assert found[0].place.ledger_id == LEDGER_ID


def test_the_newest_rows_taken_out_are_found_by_the_head(tmp_path: Path) -> None:
    """The head says how far the ledger went."""
    path = tmp_path / "ledger.db"
    ledger(path)
    delete_rows(path, 5)
    assert problems(findings_in(path)) == [(Code.HEAD, "the newest row 5 is missing: the head says seq 5")]
    delete_rows(path, 4)
    assert problems(findings_in(path)) == [(Code.HEAD, "the newest rows 4 to 5 are missing: the head says seq 5")]


def test_all_rows_taken_out_are_found_by_the_head(tmp_path: Path) -> None:
    """An emptied ledger is not an empty one."""
    path = tmp_path / "ledger.db"
    ledger(path, 2)
    delete_rows(path, 1, 2)
    assert problems(findings_in(path)) == [(Code.HEAD, "the newest rows 1 to 2 are missing: the head says seq 2")]


def test_a_head_taken_out_is_told(tmp_path: Path) -> None:
    """Rows without a head: what is missing after them cannot be known, and that is said."""
    path = tmp_path / "ledger.db"
    ledger(path)
    edit(path, ("DELETE FROM heads", ()))
    found = problems(findings_in(path))
    assert found == [(Code.HEAD, "has no head: whether its newest rows are missing cannot be known")]


def test_an_older_head_put_back_is_told(tmp_path: Path) -> None:
    """A head behind its rows is not the ledger's last word."""
    path = tmp_path / "ledger.db"
    ledger(path, 3)
    (older,) = rows_of(path, "heads")
    ledger(path, 2)
    edit(path, ("UPDATE heads SET seq = ?, jws = ?", (older["seq"], older["jws"])))
    assert problems(findings_in(path)) == [
        (Code.HEAD, "the head says seq 3, and there are rows up to seq 5: an older head was put back")
    ]


def test_the_newest_rows_removed_with_their_head_are_found_by_a_checkpoint_alone(tmp_path: Path) -> None:
    """What verify cannot know by the file itself, a checkpoint that was kept elsewhere shows."""
    path = tmp_path / "ledger.db"
    ledger(path, 3)
    (older,) = rows_of(path, "heads")
    ledger(path, 2)
    apart = checkpoint_of(path)
    delete_rows(path, 4, 5)
    edit(path, ("UPDATE heads SET seq = ?, jws = ?", (older["seq"], older["jws"])))
    assert not findings_in(path)
    ((code, text),) = problems(findings_in(path, checkpoints=[apart]))
    assert code is Code.CHECKPOINT
    assert "is of 5 rows, and 3 are left: 2 are missing" in text


def test_a_whole_ledger_removed_is_found_by_a_checkpoint(tmp_path: Path) -> None:
    """When no row of a checkpoint's ledgers is left, it is of another file, or they are gone: that is a problem."""
    path = tmp_path / "ledger.db"
    ledger(path, 3)
    apart = checkpoint_of(path)
    edit(path, ("DELETE FROM receipts", ()), ("DELETE FROM heads", ()))
    ledger(path, 2, ledger_id=OTHER_LEDGER_ID)
    ((code, text),) = problems(findings_in(path, checkpoints=[apart]))
    assert code is Code.CHECKPOINT
    assert "no row of its ledgers" in text


def test_a_row_rewritten_with_the_key_is_found_by_a_checkpoint(tmp_path: Path) -> None:
    """A thief of the key can write a consistent past; a checkpoint from before does not fit it."""
    path = tmp_path / "ledger.db"
    ledger(path, 3)
    make_checkpoint(path, SIGNER, NOW)
    apart = checkpoint_of(path)
    second = rows_of(path)[1]
    replace_row(path, 2, signed(payload_of(second["jws"]) | {"software": "vetted-mw/9.9.9"}))
    found = findings_in(path, checkpoints=[apart])
    assert [code for code, _ in problems(found)] == [Code.CHECKPOINT, Code.CHECKPOINT]
    assert {one.place.file for one in found} == {str(path), "checkpoint.jws"}
    assert all("does not fit" in text for _, text in problems(found))


def test_a_checkpoint_is_compared_with_its_own_ledger_among_several(tmp_path: Path) -> None:
    """Given many files, a checkpoint speaks of the one its ledgers are in."""
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    ledger(one, 3)
    ledger(other, 4, ledger_id=OTHER_LEDGER_ID)
    apart = checkpoint_of(one)
    assert not findings_in(tmp_path, checkpoints=[apart])
    assert not findings_in(other, one, checkpoints=[apart])


def test_a_checkpoint_of_another_key_or_filed_wrongly_is_told(tmp_path: Path) -> None:
    """Checkpoints are signed like receipts, and their column says what they say."""
    path = tmp_path / "ledger.db"
    ledger(path, 3)
    assert codes(findings_in(path, checkpoints=[checkpoint_of(path, by=signer(9))])) == {Code.UNKNOWN_KEY}
    assert codes(findings_in(path, checkpoints=[checkpoint_of(path, by=None)])) == {Code.UNSIGNED}
    make_checkpoint(path, SIGNER, NOW)
    edit(path, ("UPDATE checkpoints SET tree_size = 2", ()))
    assert codes(findings_in(path)) == {Code.COLUMNS}
    edit(path, ("UPDATE checkpoints SET jws = ?", (signed({"a": 1}, typ="vetted-checkpoint+jws"),)))
    assert codes(findings_in(path)) == {Code.CHECKPOINT}


def test_rows_in_another_order_are_told(tmp_path: Path) -> None:
    """The order in the file is the order of commits: a row moved behind a later one is seen."""
    path = tmp_path / "ledger.db"
    ledger(path)
    edit(path, ("UPDATE receipts SET rowid = 100 WHERE seq = 2", ()))
    found = findings_in(path)
    assert problems(found) == [(Code.ORDER, "seq 2 stands after seq 5: rows were put in another order")]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("query_id", "93ab9591-8d48-4a25-8bcd-e2da95265ff0"),
        ("request_id", "93ab9591-8d48-4a25-8bcd-e2da95265ff0"),
        ("issued_at", "2026-11-22T10:33:00.000Z"),
        ("model", "another"),
        ("region", "hetzner-hel-1"),
    ],
)
def test_a_column_that_is_not_what_the_receipt_says_is_told(tmp_path: Path, column: str, value: str) -> None:
    """Columns are for looking things up, and may not say anything of their own."""
    path = tmp_path / "ledger.db"
    ledger(path)
    edit(path, (f"UPDATE receipts SET {column} = ? WHERE seq = 3", (value,)))  # noqa: S608
    found = findings_in(path)
    assert codes(found) == {Code.COLUMNS}
    assert column in found[0].text


def test_a_row_under_another_number_is_told(tmp_path: Path) -> None:
    """Closing a gap by renumbering shows: the receipts themselves say their numbers."""
    path = tmp_path / "ledger.db"
    ledger(path)
    delete_rows(path, 2)
    edit(path, *(("UPDATE receipts SET seq = ? WHERE seq = ?", (seq - 1, seq)) for seq in (3, 4, 5)))
    found = findings_in(path)
    assert Code.COLUMNS in codes(found)
    assert Code.HEAD in codes(found)


def test_a_row_of_another_ledger_is_told(tmp_path: Path) -> None:
    """A hole filled with a true receipt of another ledger is still a hole."""
    path = tmp_path / "ledger.db"
    ledger(path)
    ledger(path, 1, ledger_id=OTHER_LEDGER_ID)
    stranger = next(row for row in rows_of(path) if row["ledger_id"] == OTHER_LEDGER_ID)
    replace_row(path, 2, stranger["jws"])
    found = findings_in(path)
    assert Code.COLUMNS in codes(found)


def test_a_row_whose_text_is_none_is_told(tmp_path: Path) -> None:
    """A text that is no receipt, or no text at all, is a finding; the rest is checked."""
    path = tmp_path / "ledger.db"
    ledger(path)
    replace_row(path, 2, "x.y.z")
    assert codes(findings_in(path)) == {Code.SIGNATURE}
    edit(path, ("UPDATE receipts SET jws = ? WHERE seq = 3", (b"\xff\x00",)))
    found = findings_in(path)
    assert codes(found) == {Code.SIGNATURE, Code.UNREADABLE}
    assert any("what is not told here was not checked" in text for _, text in problems(found))


def test_the_head_of_another_text_is_told(tmp_path: Path) -> None:
    """The newest row exchanged by one that is signed as well does not fit the head."""
    path = tmp_path / "ledger.db"
    ledger(path)
    newest = rows_of(path)[-1]
    replace_row(path, 5, signed(payload_of(newest["jws"]) | {"issuer": "Someone Else"}))
    assert problems(findings_in(path)) == [(Code.HEAD, "the row with seq 5 is not the one the head was written for")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x", Code.SIGNATURE),
        (signed({"seq": 5}, typ=HEAD_TYPE), Code.HEAD),
        (signed({"seq": 5}), Code.SIGNATURE),
        (canonical({"seq": 5}).decode(), Code.UNSIGNED),
    ],
)
def test_a_head_that_is_none_is_told(tmp_path: Path, text: str, code: Code) -> None:
    """A head that cannot be read, is signed as something else, or not at all."""
    path = tmp_path / "ledger.db"
    ledger(path)
    edit(path, ("UPDATE heads SET jws = ?", (text,)))
    assert code in codes(findings_in(path))


def test_the_columns_of_a_head_are_what_it_says(tmp_path: Path) -> None:
    """A head filed under another number or ledger is told."""
    path = tmp_path / "ledger.db"
    ledger(path)
    edit(path, ("UPDATE heads SET seq = 4", ()))
    assert problems(findings_in(path)) == [(Code.COLUMNS, "the columns of the head are not what the head says")]


def test_a_query_id_that_is_there_twice_is_told(tmp_path: Path) -> None:
    """One request has one receipt; the rows themselves are asked, not the index that should forbid it."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("CREATE TABLE receipts (query_id TEXT)")
        connection.executemany("INSERT INTO receipts VALUES (?)", [("a",), ("b",), ("a",), ("c",), ("a",), ("c",)])
        connection.commit()
    with AuditedLedger(path) as reader:
        assert list(reader.twice()) == [("a", 3), ("c", 2)]


def test_a_table_with_more_columns_is_no_ledger(tmp_path: Path) -> None:
    """Where the tables are not those the gateway makes, no word of the file counts."""
    path = tmp_path / "ledger.db"
    ledger(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE receipts ADD COLUMN note TEXT")
    ((code, text),) = problems(findings_in(path))
    assert code is Code.UNREADABLE
    assert text.startswith("receipts: these tables are not a ledger's")


def test_triggers_taken_away_are_told(tmp_path: Path) -> None:
    """A file whose rows may be changed is not as the gateway made it."""
    path = tmp_path / "ledger.db"
    ledger(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER receipts_no_delete")
    ((code, text),) = problems(findings_in(path))
    assert code is Code.SCHEMA
    assert "trigger receipts_no_delete" in text


def test_a_view_in_the_place_of_the_table_is_not_read(tmp_path: Path) -> None:
    """A file that computes its rows as it is read could go on for ever."""
    path = tmp_path / "ledger.db"
    ledger(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE receipts RENAME TO hidden")
        connection.execute(
            "CREATE VIEW receipts AS WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless)"
            " SELECT n AS seq FROM endless"
        )
        connection.commit()
    assert Code.UNREADABLE in codes(findings_in(path))


def test_rows_of_requests_without_an_answer_are_a_note(tmp_path: Path) -> None:
    """Abandoned attempts refer to a request; one whose answer has no receipt is told, and is no problem."""
    path = tmp_path / "ledger.db"
    answer = made_receipt()
    write_ledger(
        path,
        [
            made_receipt(request_id=answer.query_id, completion_status="abandoned"),
            answer,
            made_receipt(request_id="93ab9591-8d48-4a25-8bcd-e2da95265ff0", completion_status="abandoned"),
        ],
        SIGNER,
    )
    found = findings_in(path)
    assert not problems(found)
    ((code, text),) = notes(found)
    assert code is Code.REFERENCE
    assert text.startswith("1 receipt of requests whose answer has no receipt here")


def test_a_sum_without_its_parts_is_told(tmp_path: Path) -> None:
    """A receipt of several calls has them as rows; sums are made of those, so a missing one would be left out."""
    path = tmp_path / "ledger.db"
    whole = made_receipt(calls=2)
    parts = [made_receipt(request_id=whole.query_id) for _ in range(2)]
    write_ledger(path, [*parts, whole], SIGNER)
    assert not findings_in(path)
    short = tmp_path / "short.db"
    write_ledger(short, [parts[0], whole], SIGNER)
    assert problems(findings_in(short)) == [(Code.PARTS, "is the sum of 2 calls, and 1 of them are in the ledger")]


def test_signed_rows_without_a_key_are_one_problem_with_its_remedy(tmp_path: Path) -> None:
    """Without keys nothing can be said of who issued a receipt, and how to get them is told once."""
    path = tmp_path / "ledger.db"
    ledger(path)
    ((code, text),) = problems(findings_in(path, keys=None))
    assert code is Code.NO_KEY
    assert text.startswith(f"5 receipts signed with key {SIGNER.kid}, and no key is at hand")
    assert "--jwks" in text
    assert "--config" in text


def test_an_unsigned_ledger_passes_with_a_note(tmp_path: Path) -> None:
    """Without a key the gaps, heads and figures are checked all the same."""
    path = tmp_path / "ledger.db"
    ledger(path, by=None)
    assert [code for code, _ in notes(findings_in(path, keys=None))] == [Code.UNSIGNED]
    assert codes(findings_in(path)) == {Code.UNSIGNED}
    delete_rows(path, 3)
    assert problems(findings_in(path, keys=None)) == [(Code.GAP, "seq 3 is missing between 2 and 4")]


def test_a_newer_or_foreign_database_is_told(tmp_path: Path) -> None:
    """A file of another program, or of a version to come, is told for what it is."""
    newer = tmp_path / "newer.db"
    ledger(newer)
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 2")
    assert "newer version" in findings_in(newer)[0].text
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.commit()
    assert "no ledger" in findings_in(foreign)[0].text


def damaged(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("page", range(2, 12))
def test_a_corrupt_page_is_told(tmp_path: Path, page: int) -> None:
    """Bytes overwritten anywhere in the file are found, and nothing fails."""
    path = tmp_path / "ledger.db"
    ledger(path, 30)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    damaged(path, (page - 1) * size + 4, b"\xa5" * (size - 8))
    assert codes(findings_in(path))


@pytest.mark.parametrize("kept", [20, 100, 5_000, 20_000])
def test_a_truncated_ledger_is_told(tmp_path: Path, kept: int) -> None:
    """A file cut anywhere is a finding, never a failure."""
    path = tmp_path / "ledger.db"
    ledger(path, 30)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.truncate(kept)
    assert codes(findings_in(path)) == {Code.UNREADABLE}


def test_findings_say_where(tmp_path: Path) -> None:
    """Each finding names file, ledger and number, and nothing in it can steer a terminal."""
    path = tmp_path / "ledger.db"
    ledger(path)
    row = rows_of(path)[2]
    edit(path, ("UPDATE receipts SET model = ? WHERE seq = 3", ("\x1b[2Jevil",)))
    (finding,) = findings_in(path)
    assert (finding.place.file, finding.place.ledger_id, finding.place.seq) == (str(path), LEDGER_ID, 3)
    assert finding.place.query_id == row["query_id"]
    replace_row(path, 3, signed(payload_of(row["jws"]) | {"model": "\x1b[2Jevil\n" * 50}))
    found: list[Finding] = findings_in(path)
    assert all(str(one.place).isprintable() and one.text.isprintable() for one in found)


def test_a_ledger_without_a_row_says_so(tmp_path: Path) -> None:
    """Whoever checks by exit code alone should see that there was nothing to check."""
    path = tmp_path / "l.db"
    ledger(path, 2)
    edit(path, ("DELETE FROM receipts", ()), ("DELETE FROM heads", ()))
    found = findings_in(path, refused=["holds no receipt: copied while in use, without its -wal file?"])
    assert not problems(found)
    assert notes(found) == [(Code.SKIPPED, "holds no receipt: none was kept, or all were taken out")]


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """A file that was verified can be removed at once, wherever the reading ended."""
    path = tmp_path / "ledger.db"
    ledger(path)
    replace_row(path, 2, "garbage")
    findings_in(path, keys=KEYS)
    path.unlink()
    assert not path.exists()


def test_heads_and_checkpoints_of_a_key_out_of_its_time_are_told(tmp_path: Path) -> None:
    """A key that was retired signs no head any more."""
    path = tmp_path / "ledger.db"
    ledger(path, 2)
    document = jwks(SIGNER)
    document["keys"][0]["not_after"] = "2026-11-22T10:31:00Z"
    found = findings_in(path, keys=parse_jwks(msgspec.json.encode(document)))
    assert [code for code, _ in problems(found)] == [Code.KEY_PERIOD] * 3


def test_text_that_looks_like_no_jws_without_keys_is_told(tmp_path: Path) -> None:
    """Also where no signature can be checked, its form is."""
    path = tmp_path / "ledger.db"
    ledger(path, 2)
    replace_row(path, 1, "a.b")
    assert Code.SIGNATURE in codes(findings_in(path, keys=None))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe would wait for ever, and what is not there is not there."""
    import os

    os.mkfifo(tmp_path / "pipe")
    findings_in(tmp_path / "pipe", tmp_path / "missing", refused=["is no regular file", "No such file or directory"])
    assert not findings_in(tmp_path, refused=["holds no receipt"])


def test_a_file_in_a_folder_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody named it, but it may be what is missing."""
    from vetted_mw.audit.verify import verifying

    def denied(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(verifying, "kind_of", denied)
    (tmp_path / "x").touch()
    assert problems(findings_in(tmp_path)) == [(Code.UNREADABLE, "cannot be read (Permission denied)")]


def test_a_checkpoint_that_says_too_little_is_told(tmp_path: Path) -> None:
    """One that was kept apart and holds no checkpoint is a finding of its own."""
    path = tmp_path / "ledger.db"
    ledger(path, 2)
    apart = KeptApart(file="c", text=signed({"tree_size": 2}, typ="vetted-checkpoint+jws"))
    found = findings_in(path, checkpoints=[apart])
    assert [(one.code, one.place.file) for one in found] == [(Code.CHECKPOINT, "c")]


def test_duplicates_that_the_rows_hold_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database counts twice is a problem."""
    path = tmp_path / "ledger.db"
    ledger(path, 2)
    monkeypatch.setattr(AuditedLedger, "twice", lambda _self: iter([("a", 2)]))
    assert problems(findings_in(path)) == [(Code.DUPLICATE, "query_id is there 2 times")]


def test_folders_in_folders_are_looked_through_and_links_are_not_followed(tmp_path: Path) -> None:
    """However deep a ledger lies it is found, and a link to a folder above leads nowhere."""
    deep = tmp_path.joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    ledger(deep / "ledger.db")
    delete_rows(deep / "ledger.db", 2)
    (deep / "up").symlink_to(tmp_path)
    assert [code for code, _ in problems(findings_in(tmp_path))] == [Code.GAP]
