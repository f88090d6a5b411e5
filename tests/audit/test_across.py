"""Several sources in one run: what callers and packs hold has to be in the ledgers given beside it."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from audit.auditing import (
    LEDGER_ID,
    OTHER_LEDGER_ID,
    SIGNER,
    codes,
    delete_rows,
    findings_in,
    ledger,
    notes,
    payload_of,
    problems,
    replace_row,
    signed,
)
from receipts.keys import jwks
from receipts.ledgers import made_receipt
from vetted_mw.audit.ledger import AuditedLedger
from vetted_mw.audit.pack.packing import write_pack
from vetted_mw.audit.verify import across
from vetted_mw.audit.verify.findings import Code
from vetted_mw.receipts.jws import detached
from vetted_mw.receipts.sealed import seal

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = ("2026-11-22T00:00:00.000Z", "2026-11-23T00:00:00.000Z")
LATER = ("2026-11-22T10:32:03.000Z", "2026-11-23T00:00:00.000Z")


def copy_at(path: Path, text: str) -> Path:
    """Write the copy that a caller has of a row."""
    copy = payload_of(text) | ({} if text.startswith("{") else {"signature": detached(text)})
    path.write_text(json.dumps({"receipt": copy}))
    return path


def pack_at(path: Path, source: Path, period: tuple[str, str] = WHOLE) -> Path:
    """Export a period of a ledger."""
    data = io.BytesIO()
    with AuditedLedger(source) as rows:
        keys = json.dumps(jwks(SIGNER)).encode()
        write_pack(rows, data, since=period[0], until=period[1], jwks=keys, software="test")
    path.write_bytes(data.getvalue())
    return path


@pytest.mark.parametrize("by", [SIGNER, None])
def test_a_copy_that_is_in_its_ledger_and_pack_passes(tmp_path: Path, by: Any) -> None:
    """Signed or not, beside a ledger, a pack, both, in one folder and in any order: nothing is found."""
    rows = ledger(tmp_path / "l.db", by=by)
    answer = copy_at(tmp_path / "a.json", rows[2].text)
    pack = pack_at(tmp_path / "p.zip", tmp_path / "l.db")
    (tmp_path / "rows.jsonl").write_text("".join(f"{row.text}\n" for row in rows))
    for paths in ([answer, pack], [tmp_path / "l.db", answer], [tmp_path]):
        found = findings_in(*paths) if by is not None else findings_in(*paths, keys=None)
        assert codes(found) <= {Code.KEYS, Code.UNSIGNED}
        assert Code.MISSING_ROW not in codes(found)
        assert Code.MISSING_ROW not in {code for code, _ in notes(found)}


def test_a_copy_whose_row_was_taken_out_is_told(tmp_path: Path) -> None:
    """It proves that the ledger is not whole, also where its newest rows went together with their head."""
    rows = ledger(tmp_path / "l.db")
    answer = copy_at(tmp_path / "a.json", rows[1].text)
    delete_rows(tmp_path / "l.db", 2)
    found = findings_in(answer, tmp_path / "l.db")
    (text,) = [text for code, text in problems(found) if code is Code.MISSING_ROW]
    assert text.startswith(f"seq 2 of ledger {LEDGER_ID} is not in ")
    assert "l.db, which holds that ledger: the row was taken out there" in text
    shorter = tmp_path / "shorter"
    ledger(shorter, 3)
    newest = copy_at(tmp_path / "n.json", rows[4].text)
    assert codes(findings_in(newest, shorter)) == {Code.MISSING_ROW}


def test_a_row_that_was_exchanged_is_told_by_the_copy(tmp_path: Path) -> None:
    """Whoever has the key can rewrite a row, and not what the caller holds."""
    rows = ledger(tmp_path / "l.db")
    answer = copy_at(tmp_path / "a.json", rows[1].text)
    other = signed(payload_of(rows[1].text) | {"model": "another"})
    replace_row(tmp_path / "l.db", 2, other)
    texts = [text for code, text in problems(findings_in(answer, tmp_path / "l.db")) if code is Code.MISSING_ROW]
    assert len(texts) == 1
    assert "holds another receipt under this id" in texts[0]
    pack = pack_at(tmp_path / "p.zip", tmp_path / "l.db")
    assert Code.MISSING_ROW in codes(findings_in(answer, pack))


def test_a_pack_lacks_only_what_is_of_its_period(tmp_path: Path) -> None:
    """A receipt of another time is no loss, and is said to have been compared with nothing."""
    rows = ledger(tmp_path / "l.db")
    early = copy_at(tmp_path / "early.json", rows[0].text)
    late = copy_at(tmp_path / "late.json", rows[3].text)
    pack = pack_at(tmp_path / "p.zip", tmp_path / "l.db", LATER)
    found = findings_in(early, late, pack)
    assert not problems(found)
    ((code, text),) = notes(found)
    assert (code, "1 receipt from elsewhere of ledgers, or of times" in text) == (Code.MISSING_ROW, True)
    delete_rows(tmp_path / "l.db", 4)
    pack = pack_at(tmp_path / "q.zip", tmp_path / "l.db", LATER)
    assert Code.MISSING_ROW in codes(findings_in(early, late, pack))


def test_a_pack_is_held_against_the_ledger_it_was_made_of(tmp_path: Path) -> None:
    """What an auditor was given in October has to be in the ledger in December."""
    ledger(tmp_path / "l.db")
    pack = pack_at(tmp_path / "p.zip", tmp_path / "l.db")
    assert not findings_in(pack, tmp_path / "l.db")
    ledger(tmp_path / "other.db", ledger_id=OTHER_LEDGER_ID)
    found = findings_in(pack, tmp_path / "other.db")
    assert not problems(found)
    assert [code for code, _ in notes(found)] == [Code.MISSING_ROW]
    ledger(tmp_path / "again.db")
    found = findings_in(pack, tmp_path / "again.db")
    assert [code for code, _ in problems(found)] == [Code.MISSING_ROW] * 5


def test_copies_are_looked_up_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions wait on disk; none of them is left out at the end of a part."""
    monkeypatch.setattr(across, "_BATCH", 2)
    rows = ledger(tmp_path / "l.db")
    (tmp_path / "rows.jsonl").write_text("".join(f"{row.text}\n" for row in rows))
    delete_rows(tmp_path / "l.db", 1, 4, 5)
    found = findings_in(tmp_path / "rows.jsonl", tmp_path / "l.db")
    assert [one.place.seq for one in found if one.code is Code.MISSING_ROW] == [1, 4, 5]


def test_a_copy_without_a_place_is_a_note_beside_a_ledger(tmp_path: Path) -> None:
    """A receipt that was kept nowhere is one of those that fail_open lost, or of a gateway without a ledger."""
    ledger(tmp_path / "l.db")
    lost = copy_at(tmp_path / "a.json", seal(made_receipt(), SIGNER).text)
    ((code, text),) = notes(findings_in(lost, tmp_path / "l.db"))
    assert (code, text.startswith("1 receipt without a ledger_id")) == (Code.NOT_KEPT, True)
    assert not findings_in(lost)
    assert not findings_in(lost, lost)


def test_sources_that_cannot_be_read_are_told_once(tmp_path: Path) -> None:
    """Comparing stays quiet where checking has said it already."""
    rows = ledger(tmp_path / "l.db")
    answer = copy_at(tmp_path / "a.json", rows[0].text)
    (tmp_path / "bad.db").write_bytes(b"SQLite format 3\0" + b"x" * 200)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("manifest.json", "{}")
    found = findings_in(answer, tmp_path / "bad.db", tmp_path / "bad.zip")
    assert [code for code, _ in problems(found)] == [Code.UNREADABLE, Code.MANIFEST]


def test_ids_that_are_none_are_left_to_the_other_checks(tmp_path: Path) -> None:
    """A receipt whose id is no text cannot be looked up; that it is none is told by its fields."""
    rows = ledger(tmp_path / "l.db")
    broken = payload_of(rows[0].text) | {"query_id": 5}
    lines = f"{signed(broken)}\n{rows[0].text}\n"
    (tmp_path / "rows.jsonl").write_text(lines)
    assert codes(findings_in(tmp_path / "rows.jsonl", tmp_path / "l.db")) == {Code.FIELDS, Code.DUPLICATE}
