"""Files of JSON Lines, verified."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.auditing import (
    LEDGER_ID,
    OTHER_LEDGER_ID,
    SIGNER,
    codes,
    findings_in,
    ledger,
    notes,
    payload_of,
    problems,
    signed,
)
from receipts.keys import signer
from receipts.ledgers import made_receipt
from vetted_mw.audit.verify import tracks
from vetted_mw.audit.verify.checkpoint_check import KeptApart
from vetted_mw.audit.verify.findings import Code
from vetted_mw.audit.verify.ids import Ids
from vetted_mw.audit.verify.lines import lines_of
from vetted_mw.receipts.jws import CHECKPOINT_TYPE, HEAD_TYPE, b64url, detached
from vetted_mw.receipts.sealed import seal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """Return the rows of two ledgers, as a gateway's export has them."""
    rows = ledger(tmp_path / "source.db", 5) + ledger(tmp_path / "source.db", 3, ledger_id=OTHER_LEDGER_ID)
    (tmp_path / "source.db").unlink()
    return [row.text for row in rows]


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def test_lines_as_they_were_written_pass(tmp_path: Path, texts: list[str]) -> None:
    """JWS, one a line, of two ledgers: whatever the file is called, nothing is found."""
    assert not findings_in(lines(tmp_path / "whatever.txt", texts))


@pytest.mark.parametrize("taken", range(4))
def test_a_missing_line_is_named(tmp_path: Path, texts: list[str], taken: int) -> None:
    """A line that was taken out is told by its number in its ledger."""
    del texts[taken]
    between = "before 2" if taken == 0 else f"between {taken} and {taken + 2}"
    found = problems(findings_in(lines(tmp_path / "r.jsonl", texts)))
    assert found == [(Code.GAP, f"seq {taken + 1} is missing {between}")]


def test_lines_in_another_order_and_lines_twice_are_told(tmp_path: Path, texts: list[str]) -> None:
    """Each is told with its line."""
    moved = [texts[0], texts[2], texts[1], *texts[3:], texts[0]]
    found = findings_in(lines(tmp_path / "r.jsonl", moved))
    assert [(one.code, one.place.line) for one in found] == [
        (Code.ORDER, 3),
        (Code.DUPLICATE, 9),
        (Code.DUPLICATE, None),
    ]
    assert found[2].text == "query_id is there 2 times"


def test_unsigned_lines_are_checked_as_far_as_they_go(tmp_path: Path) -> None:
    """Canonical receipts, one a line."""
    rows = ledger(tmp_path / "source.db", 3, by=None)
    path = lines(tmp_path / "r.jsonl", [row.text for row in rows])
    assert [code for code, _ in notes(findings_in(path, keys=None))] == [Code.UNSIGNED]
    path = lines(tmp_path / "r.jsonl", [rows[0].text, rows[2].text])
    assert problems(findings_in(path, keys=None)) == [(Code.GAP, "seq 2 is missing between 1 and 3")]


def test_callers_copies_are_a_collection(tmp_path: Path) -> None:
    """A client that keeps what it was given has some rows of many ledgers: no gap is a problem, a change is."""
    sealed = [seal(made_receipt(), SIGNER) for _ in range(3)]
    copies = [payload_of(one.text) | {"signature": detached(one.text), "binding_nonce": "x"} for one in sealed]
    path = lines(tmp_path / "mine.jsonl", [json.dumps(one) for one in copies])
    found = findings_in(path)
    assert not problems(found)
    assert [text for _, text in notes(found)] == [
        "3 receipts as callers hold them: a collection, in which no gap can be seen"
    ]
    copies[1]["gco2e"] = 0.004
    found = findings_in(lines(path, [json.dumps(one) for one in copies]))
    assert codes(found) == {Code.SIGNATURE, Code.FIGURE, Code.INVARIANT}
    assert {one.place.query_id for one in found if one.place.query_id} == {copies[1]["query_id"]}


def test_answers_one_a_line_are_checked_as_answers(tmp_path: Path) -> None:
    """A log of answers is a collection of callers' copies, each bound to its text or not."""
    sealed = [seal(made_receipt(), SIGNER) for _ in range(2)]
    answers = [{"choices": [], "receipt": payload_of(one.text) | {"signature": detached(one.text)}} for one in sealed]
    path = lines(tmp_path / "log", [json.dumps(one) for one in answers])
    found = findings_in(path)
    assert not problems(found)
    assert [code for code, _ in notes(found)] == [Code.BINDING, Code.BINDING, Code.SKIPPED]


def test_lines_are_known_though_the_first_is_damaged(tmp_path: Path, texts: list[str]) -> None:
    """A file of receipts stays one when its first bytes were overwritten; prose is none."""
    path = lines(tmp_path / "r", ["****" + texts[0][4:], *texts[1:]])
    assert Code.SIGNATURE in codes(findings_in(path))
    (tmp_path / "prose").write_text("Verification. Of receipts. And more.\n")
    findings_in(tmp_path / "prose", refused=["is no answer, stream, receipt, ledger or pack"])


def test_one_line_alone_says_nothing_of_others(tmp_path: Path, texts: list[str]) -> None:
    """A single JWS is a receipt, not a ledger with gaps."""
    found = findings_in(lines(tmp_path / "one", texts[2:3]))
    assert not problems(found)
    assert notes(found) == [(Code.SKIPPED, "is one receipt alone: nothing can be said of the others of its ledger")]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\xff\xfe\x00", Code.UNREADABLE),
        (b"garbage", Code.SIGNATURE),
        (b"{", Code.CANONICAL),
        (b'{"a":NaN}', Code.CANONICAL),
        (b'{"a":1,"a":2}', Code.CANONICAL),
        (b'{"signature":"x","signature":"y"}', Code.CANONICAL),
        (b"{}", Code.FIELDS),
        (b"[" * 5_000 + b"]" * 5_000, Code.SIGNATURE),
        (b'{"query_id":1,"receipt_version":"1","signature":"a..b"}', Code.SIGNATURE),
        (b'{"query_id":1e999,"receipt_version":"1","signature":"a..b"}', Code.CANONICAL),
        (b'{"query_id":9007199254740993,"receipt_version":"1","signature":"a..b"}', Code.CANONICAL),
        (b'{"query_id":1,"receipt_version":"1","signature":"a.b"}', Code.SIGNATURE),
        (b"x" * 3_000_000, Code.TOO_LARGE),
    ],
)
def test_a_line_that_is_no_receipt_is_told_and_the_rest_is_checked(
    tmp_path: Path, texts: list[str], line: bytes, code: Code
) -> None:
    """Not UTF-8, no JSON, a member twice, NaN, a line of megabytes: one finding more, and nothing else is lost."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n".join([texts[0].encode(), line, *(text.encode() for text in texts[1:])]))
    found = findings_in(path)
    assert code in codes(found)
    assert {one.place.line for one in found if one.code is not Code.SKIPPED} <= {2, None}
    assert Code.GAP not in codes(found)


def test_a_last_line_that_was_cut_is_told(tmp_path: Path, texts: list[str]) -> None:
    """A file that ends in the middle of a line."""
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join([*texts[:-1], texts[-1][:500]]))
    assert Code.SIGNATURE in codes(findings_in(path))


def test_a_checkpoint_fits_the_lines_or_not(tmp_path: Path, texts: list[str]) -> None:
    """Lines in the ledger's order can be held against its checkpoint."""
    from vetted_mw.receipts.ledger.merkle import MerkleTree

    tree = MerkleTree()
    for text in texts[:4]:
        tree.add(text.encode())
    word = {
        "at": "2026-11-23T00:00:00.000Z",
        "checkpoint_version": "1",
        "heads": {LEDGER_ID: 4},
        "root": f"sha-256:{tree.root().hex()}",
        "tree_size": 4,
    }
    text = signed(word, typ=CHECKPOINT_TYPE)
    assert not findings_in(lines(tmp_path / "r.jsonl", texts), checkpoints=[KeptApart(file="c", text=text)])
    path = lines(tmp_path / "r.jsonl", [texts[1], texts[0], *texts[2:]])
    found = findings_in(path, checkpoints=[KeptApart(file="c", text=text)])
    assert codes(found) == {Code.ORDER, Code.CHECKPOINT}
    beside = lines(tmp_path / "r.jsonl", [*texts, text])
    assert [note for _, note in notes(findings_in(beside))] == [
        "1 line with a head or checkpoint: give checkpoints with --checkpoint"
    ]


@pytest.mark.parametrize("typ", ["vetted-receipu+jws", "JWT", HEAD_TYPE, CHECKPOINT_TYPE])
def test_a_receipt_whose_header_says_something_else_is_not_passed_over(
    typ: str, tmp_path: Path, texts: list[str]
) -> None:
    """A receipt is not hidden by calling it something else: what no key signed as that does not count as that."""
    _header, payload, signature = texts[1].split(".")
    header = b64url(f'{{"alg":"Ed25519","kid":"{SIGNER.kid}","typ":"{typ}"}}'.encode())
    found = findings_in(lines(tmp_path / "r.jws", [f"{header}.{payload}.{signature}"]))
    assert Code.SIGNATURE in codes(found)


def test_heads_and_checkpoints_among_lines_are_held_to_the_keys(tmp_path: Path, texts: list[str]) -> None:
    """A head beside receipts is opened as in a ledger: one that another key signed is told."""
    word = {"at": "2026-11-23T00:00:00.000Z", "head_version": "1", "ledger_id": LEDGER_ID, "row_digest": "", "seq": 4}
    good, foreign = signed(word, typ=HEAD_TYPE), signed(word, by=signer(9), typ=HEAD_TYPE)
    assert codes(findings_in(lines(tmp_path / "r.jsonl", [*texts, good]))) == set()
    assert codes(findings_in(lines(tmp_path / "r.jsonl", [*texts, foreign]))) == {Code.UNKNOWN_KEY}


def test_sums_and_orphans_are_told(tmp_path: Path) -> None:
    """What refers to a request that is not there is a note; a sum without its parts a problem."""
    whole = made_receipt(calls=3)
    others = [made_receipt(request_id=whole.query_id), made_receipt(request_id=made_receipt().query_id)]
    path = lines(tmp_path / "r.jsonl", [seal(one, SIGNER).text for one in (whole, *others)])
    found = findings_in(path)
    assert problems(found) == [(Code.PARTS, "is the sum of 3 calls, and 1 of them are here")]
    assert [code for code, _ in notes(found)] == [Code.REFERENCE]


def test_ledgers_beyond_count_are_told_once(tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by what is followed, and it is said where that ends."""
    monkeypatch.setattr(tracks, "_MOST_LEDGERS", 1)
    assert codes(findings_in(lines(tmp_path / "r.jsonl", texts))) == {Code.TOO_LARGE}


def test_gaps_that_were_given_up_are_told(tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gap is named, also those that are told before the end."""
    from vetted_mw.audit.verify import series

    monkeypatch.setattr(series, "_MOST_HOLES", 1)
    found = problems(findings_in(lines(tmp_path / "r.jsonl", [texts[1], texts[3], texts[4]])))
    assert sorted(text for code, text in found if code is Code.GAP) == [
        "seq 1 is missing before 2",
        "seq 3 is missing between 2 and 4",
    ]


@given(st.binary(max_size=200), st.integers(min_value=1, max_value=20))
def test_any_bytes_are_split_as_lines(data: bytes, most: int) -> None:
    """Lines come with their numbers, without their ends; longer ones as such, and none is lost."""
    found = dict(lines_of(io.BytesIO(data), most=most))
    for number, line in enumerate(data.split(b"\n"), start=1):
        if found.get(number, b"") is None:
            assert len(line) > most
        elif number in found:
            assert found[number] == line.strip()
        else:
            assert not line.strip()


@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 12), st.integers(1, 3)), max_size=40))
def test_ids_on_disk_are_as_in_memory(rows: list[tuple[int, int | None, int]]) -> None:
    """What the database says of duplicates, orphans and sums is what counting would."""
    with Ids() as ids:
        for query, request, calls in rows:
            ids.meet({"query_id": str(query), "request_id": request and str(request), "calls": calls}, key=str(request))
        ids.finish()
        present = {str(query) for query, _, _ in rows}
        times = {one: sum(str(query) == one for query, _, _ in rows) for one in present}
        orphans = [str(request) for _, request, _ in rows if request and str(request) not in present]
        assert dict(ids.twice()) == {one: count for one, count in times.items() if count > 1}
        assert ids.orphans()[0] == len(orphans)
        assert sorted(ids.unanswered()) == sorted(set(orphans))
        parts = {one: sum(str(request or "") == one for _, request, _ in rows) for one in present}
        wanted = sorted((str(query), calls, parts[str(query)]) for query, _, calls in rows if calls > 1)
        assert sorted(ids.incomplete()) == [one for one in wanted if one[2] < one[1]]


def test_receipts_without_a_ledger_have_no_gaps(tmp_path: Path) -> None:
    """A gateway without a ledger numbers nothing; each receipt is checked by itself."""
    path = lines(tmp_path / "r.jsonl", [seal(made_receipt(), SIGNER).text for _ in range(3)])
    assert not findings_in(path)


def test_very_many_ids_are_written_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in memory is bounded."""
    from vetted_mw.audit.verify import ids as module

    monkeypatch.setattr(module, "_BATCH", 2)
    with Ids() as ids:
        for number in range(5):
            ids.meet({"query_id": str(number // 2)})
        ids.meet({"query_id": 5})
        ids.finish()
        assert list(ids.twice()) == [("0", 2), ("1", 2)]


def test_a_number_below_one_is_no_part_of_a_ledger(tmp_path: Path, texts: list[str]) -> None:
    """It is told as what it is, neither as late nor as a duplicate."""
    odd = signed(payload_of(texts[0]) | {"seq": 0, "query_id": "93ab9591-8d48-4a25-8bcd-e2da95265ff0"})
    found = findings_in(lines(tmp_path / "r.jsonl", [*texts, odd]))
    assert [(one.code, one.text) for one in found] == [(Code.INVARIANT, "seq is 0, and is at least 1 by its meaning")]
    assert str(found[0].place).endswith("r.jsonl, line 9, ledger " + LEDGER_ID + ", seq 0")


def test_json_that_only_mentions_a_signature_is_no_copy(tmp_path: Path, texts: list[str]) -> None:
    """A line counts as a caller's copy when it is a receipt with a signature beside its fields."""
    found = findings_in(lines(tmp_path / "r.jsonl", [*texts, '{"a":{"signature":"x"}}']))
    assert codes(found) == {Code.UNSIGNED, Code.FIELDS}
