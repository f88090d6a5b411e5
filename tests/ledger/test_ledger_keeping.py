"""What a ledger keeps, and how it numbers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from ledger.keeping import entry, hold_to_its_word, ids_of, opened, payload_of, rows_of
from receipts.keys import signer
from vetted_mw.receipts.jws import detached, read_jws
from vetted_mw.receipts.ledger.reading import LedgerReader
from vetted_mw.receipts.sealed import Entry, LedgerUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_what_is_returned_is_what_is_in_the_file(path: Path) -> None:
    """A kept receipt comes back numbered and signed, and the file holds that very text."""
    key = signer()
    async with opened(path) as ledger:
        (first,) = await ledger.keep([entry("alice")], key)
        (second,) = await ledger.keep([entry("bob", request_id="another")], key)
        (row, beside) = rows_of(path)
    assert (first.text, second.text) == (row.text, beside.text)
    assert first.signature == detached(row.text)
    assert (first.receipt.seq, second.receipt.seq) == (1, 2)
    assert first.receipt.ledger_id == second.receipt.ledger_id == row.ledger_id
    assert [(one.caller, one.request_id) for one in (row, beside)] == [("alice", None), ("bob", "another")]
    assert read_jws(row.text).header["typ"] == "vetted-receipt+jws"
    hold_to_its_word(path)


async def test_a_head_is_signed_and_says_when(path: Path) -> None:
    """The head carries the instant of its commit, and the signature of the key of its newest row."""
    async with opened(path) as ledger:
        await ledger.keep([entry()], signer())
    with LedgerReader(path) as reader:
        (head,) = reader.heads()
    assert read_jws(head.text).header["typ"] == "vetted-head+jws"
    assert payload_of(head.text)["at"] == "2026-11-22T10:31:09.000Z"


async def test_without_a_key_the_file_holds_canonical_json(path: Path) -> None:
    """Without a key rows and heads are plain canonical JSON, and nothing looks signed."""
    async with opened(path) as ledger:
        (kept,) = await ledger.keep([entry()], None)
    assert kept.signature is None
    assert kept.text.startswith('{"accelerator_wh":')
    hold_to_its_word(path)


async def test_entries_of_one_call_are_numbered_in_order(path: Path) -> None:
    """What is kept together has consecutive numbers, in the order given."""
    entries = [entry(model=f"m{index}") for index in range(5)]
    async with opened(path) as ledger:
        kept = await ledger.keep(entries, None)
    assert [(one.receipt.seq, one.receipt.model) for one in kept] == [(n, f"m{n - 1}") for n in range(1, 6)]


async def test_nothing_to_keep_is_nothing(path: Path) -> None:
    """No entries make no row and no commit."""
    async with opened(path) as ledger:
        assert await ledger.keep([], None) == ()
    assert rows_of(path) == ()


async def test_many_at_once_share_commits_and_lose_nothing(path: Path) -> None:
    """Five hundred waiting at once are all kept, each told its own number."""
    entries = [entry() for _ in range(500)]
    async with opened(path) as ledger:
        kept = await asyncio.gather(*(ledger.keep([one], None) for one in entries))
    assert sorted(int(str(one[0].receipt.seq)) for one in kept) == list(range(1, 501))
    assert [one[0].receipt.query_id for one in kept] == [one.receipt.query_id for one in entries]
    hold_to_its_word(path)


async def test_one_call_with_more_than_a_statement_takes_is_one_commit(path: Path) -> None:
    """A job of more rows than one statement takes is kept whole, or not at all."""
    entries = [entry() for _ in range(1100)]
    twice = [*(entry() for _ in range(600)), entries[0]]
    async with opened(path) as ledger:
        kept = await ledger.keep(entries, None)
        with pytest.raises(LedgerUnavailableError, match="duplicate"):
            await ledger.keep(twice, None)
        await ledger.keep([entry()], None)
    assert [one.receipt.seq for one in kept] == list(range(1, 1101))
    assert len(rows_of(path)) == 1101
    hold_to_its_word(path)


async def test_a_duplicate_fails_alone(path: Path) -> None:
    """An id that is there already fails its own call; those in the same batch are kept, and no number is lost."""
    again = entry()
    async with opened(path) as ledger:
        await ledger.keep([again], None)
        results = await asyncio.gather(
            *(ledger.keep([one], None) for one in [entry(), again, entry()]), return_exceptions=True
        )
        assert await ledger.is_ready()
    assert [getattr(one, "reason", None) for one in results] == [None, "duplicate", None]
    assert len(rows_of(path)) == 3
    hold_to_its_word(path)


class BrokenSigner:
    kid, alg = "k", "Ed25519"

    def sign(self, data: bytes) -> bytes:
        raise RuntimeError("holds a secret")


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        (entry(), BrokenSigner()),
        (entry("half a pair: \ud800"), None),
        (entry(model="half a pair: \ud800"), None),
        (entry(gco2e=float("nan")), None),
    ],
    ids=["signer", "caller", "model", "number"],
)
async def test_what_cannot_be_sealed_fails_alone(
    path: Path, bad: Entry, key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A receipt that has no canonical form, or a key that fails, fails its own call and is told of without its text."""
    async with opened(path) as ledger:
        results = await asyncio.gather(
            ledger.keep([entry()], None), ledger.keep([bad], key), ledger.keep([entry()], None), return_exceptions=True
        )
    assert [getattr(one, "reason", None) for one in results] == [None, "unsealable", None]
    assert "holds a secret" not in caplog.text
    assert "half a pair" not in caplog.text
    hold_to_its_word(path)


async def test_texts_come_out_as_they_went_in(path: Path) -> None:
    """Quotes, control characters, NUL and characters beyond the BMP stand in the columns as in the receipt."""
    odd = "a\0b\"c'd\\e\u2028\U0001f600"
    async with opened(path) as ledger:
        await ledger.keep([entry(odd, model=odd)], None)
    (row,) = rows_of(path)
    assert (row.caller, row.model) == (odd, odd)
    hold_to_its_word(path)


async def test_what_nobody_waits_for_is_kept(path: Path) -> None:
    """`keep_later` returns at once, and closing the ledger writes it."""
    one = entry("alice")
    async with opened(path) as ledger:
        ledger.keep_later([one], signer())
    assert ids_of(path) == {one.receipt.query_id}


async def test_a_cancelled_wait_loses_nothing(path: Path) -> None:
    """Whoever stops waiting takes nothing back: the entry is in the file, and the ledger goes on."""
    entries = [entry() for _ in range(20)]
    async with opened(path) as ledger:
        waiting = [asyncio.ensure_future(ledger.keep([one], None)) for one in entries]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await ledger.keep([entry()], None)
    assert {type(one) for one in results} == {asyncio.CancelledError}
    assert {one.receipt.query_id for one in entries} < ids_of(path)
    hold_to_its_word(path)


async def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    """The file and what stands beside it can be read and written by nobody else, whatever the umask."""
    before = os.umask(0)
    try:
        async with opened(path) as ledger:
            await ledger.keep([entry()], None)
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


async def test_a_symbolic_link_leads_to_the_file(tmp_path: Path) -> None:
    """A link to a file that does not exist yet is followed, and the file made for its owner alone."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "ledger.db"
    link.symlink_to(tmp_path / "real" / "file.db")
    async with opened(link) as ledger:
        await ledger.keep([entry()], None)
        (found,) = rows_of(link)
    assert found.seq == 1
    assert stat.S_IMODE((tmp_path / "real" / "file.db").stat().st_mode) == 0o600
    hold_to_its_word(link)


async def test_find_returns_text_and_owner(path: Path) -> None:
    """A receipt is found by its id with whose it is; an unknown id is None."""
    one = entry("alice")
    async with opened(path) as ledger:
        (kept,) = await ledger.keep([one], signer())
        found = await ledger.find(one.receipt.query_id)
        assert await ledger.find("unknown") is None
    assert found is not None
    assert (found.text, found.caller) == (kept.text, "alice")


async def test_append_only_is_held_by_the_file(path: Path) -> None:
    """No statement changes or removes a row, a head or a checkpoint, short of taking the triggers away."""
    async with opened(path) as ledger:
        await ledger.keep([entry(), entry()], None)
    statements = [
        "UPDATE receipts SET jws = 'x'",
        "DELETE FROM receipts",
        "DELETE FROM heads",
        "UPDATE heads SET seq = seq - 1",
        "UPDATE heads SET ledger_id = 'other'",
        "DELETE FROM checkpoints",
        "UPDATE checkpoints SET jws = 'x'",
    ]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO checkpoints VALUES (1, 'x')")
        for statement in statements:
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)
    hold_to_its_word(path)
