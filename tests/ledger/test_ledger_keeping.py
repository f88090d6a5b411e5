"""What a ledger keeps, how it numbers, and how it lives and ends."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger.keeping import NOW, entry, hold_to_its_word, ids_of, now, opened, payload_of, rows_of
from receipts.keys import signer
from vetted_mw.receipts.jws import detached, read_jws
from vetted_mw.receipts.ledger import file
from vetted_mw.receipts.ledger import sqlite as shipped
from vetted_mw.receipts.ledger import writer as writing
from vetted_mw.receipts.ledger.reading import LedgerReader
from vetted_mw.receipts.ledger.sqlite import SqliteLedger
from vetted_mw.receipts.sealed import Entry, LedgerUnavailableError, ReceiptSink

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def ours() -> list[threading.Thread]:
    kinds = ("vetted-ledger-writer", "vetted-ledger-checkpointer", "vetted-ledger-reader")
    return [thread for thread in threading.enumerate() if thread.name.startswith(kinds)]


class Gate:
    """Holds up the writer's thread where it is put."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def passed(self, *_told: Any) -> bool:
        self.reached.set()
        return self.opened.wait()


async def gone(threads: list[threading.Thread]) -> None:
    """Wait until the threads have ended; the suite's own limit is what fails a hang."""
    for thread in threads:
        await asyncio.to_thread(thread.join)


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


async def test_each_opening_is_a_ledger_of_its_own(path: Path) -> None:
    """Opened again after it was closed, a ledger numbers from one under a new name, in the same file."""
    ledger = SqliteLedger(path, now=now)
    for _ in range(3):
        await ledger.open()
        assert await ledger.is_ready()
        await ledger.keep([entry()], None)
        await ledger.aclose()
    rows = rows_of(path)
    assert [row.seq for row in rows] == [1, 1, 1]
    assert len({row.ledger_id for row in rows}) == 3
    hold_to_its_word(path)


async def test_closed_means_nothing_is_left(path: Path) -> None:
    """After closing there is no thread, no open file and no write-ahead log."""
    before = _open_files()
    async with opened(path) as ledger:
        await asyncio.gather(*(ledger.keep([entry()], None) for _ in range(50)))
        await ledger.find("unknown")
        threads = ours()
    await gone(threads)
    assert _open_files() == before
    assert sorted(one.name for one in path.parent.iterdir()) == ["ledger.db"]
    await ledger.aclose()


def _open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return set()
    names = {str(one.readlink()) for one in folder.iterdir() if one.is_symlink()}
    return {name for name in names if "ledger.db" in name}


async def test_a_closed_ledger_says_so(path: Path) -> None:
    """Before opening and after closing nothing is taken, and nothing hangs."""
    ledger = SqliteLedger(path, now=now)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="closed"):
            await ledger.keep([entry()], None)
        with pytest.raises(LedgerUnavailableError, match="closed"):
            await ledger.find("unknown")
        ledger.keep_later([entry()], None)
        assert not await ledger.is_ready()
        await ledger.open()
        await ledger.aclose()
    assert rows_of(path) == ()


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


async def test_a_lookup_that_hangs_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup has a limit, after which it says so."""
    release = threading.Event()
    monkeypatch.setattr(shipped, "_found", lambda *_told: release.wait())
    monkeypatch.setattr(shipped, "LIMIT_SECONDS", 0.05)
    async with opened(path) as ledger:
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            await ledger.find("unknown")
        release.set()


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


def test_a_ledger_outlives_the_loop_that_forgot_it(path: Path) -> None:
    """An event loop that ends without closing loses nothing; the next one goes on under a new name."""
    ledger = SqliteLedger(path, now=now)

    async def first() -> None:
        await ledger.open()
        ledger.keep_later([entry()], None)
        waiting = asyncio.ensure_future(ledger.keep([entry()], None))
        await asyncio.sleep(0)
        del waiting

    async def second() -> None:
        await ledger.open()
        await ledger.keep([entry()], None)
        await ledger.aclose()
        await gone(ours())

    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(first())
    loop.run_until_complete(forgotten)
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    loop.close()
    asyncio.run(second())
    assert len(rows_of(path)) == 3
    hold_to_its_word(path)


def test_a_forgotten_ledger_lets_its_threads_go(path: Path) -> None:
    """A ledger that nobody holds any more writes what it has and ends its threads."""

    async def forget() -> None:
        ledger = SqliteLedger(path, now=now)
        await ledger.open()
        ledger.keep_later([entry()], None)

    asyncio.run(forget())
    gc.collect()
    asyncio.run(gone(ours()))
    assert len(rows_of(path)) == 1


def test_an_answer_for_a_closed_loop_harms_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer never calls into a loop that has been closed since, and goes on for the others."""
    release = threading.Event()
    original = writing.Writer._told
    monkeypatch.setattr(writing.Writer, "_told", lambda self, jobs: (release.wait(), original(self, jobs))[1])
    ledger = SqliteLedger(path, now=now)

    async def leave() -> None:
        await ledger.open()
        task = asyncio.ensure_future(ledger.keep([entry()], None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    release.set()

    async def come() -> None:
        await ledger.keep([entry()], None)
        await ledger.aclose()

    asyncio.run(come())
    assert len(rows_of(path)) == 2


async def test_a_sink_is_what_it_is(path: Path) -> None:
    """The shipped ledger is a `ReceiptSink`, as the type checker sees it."""
    sink: ReceiptSink = SqliteLedger(path, now=lambda: NOW)
    await sink.open()
    await sink.aclose()


async def test_a_wait_has_a_limit_and_what_was_not_begun_is_withdrawn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the writer hangs, a wait ends after its limit; what the writer had not begun is never written."""
    gate = Gate()
    append = file.LedgerFile.append

    def hanging(self: Any, rows: Any, head: str) -> None:
        gate.passed()
        append(self, rows, head)

    async with opened(path) as ledger:
        assert await ledger.is_ready()
        monkeypatch.setattr(file.LedgerFile, "append", hanging)
        monkeypatch.setattr(shipped, "LIMIT_SECONDS", 0.1)
        first, second = entry(), entry()
        hangs = asyncio.ensure_future(ledger.keep([first], None))
        await asyncio.to_thread(gate.reached.wait)
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            await ledger.keep([second], None)
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            await hangs
        monkeypatch.setattr(shipped, "LIMIT_SECONDS", 10.0)
        gate.opened.set()
        await ledger.keep([entry()], None)
    assert first.receipt.query_id in ids_of(path)
    assert second.receipt.query_id not in ids_of(path)
    hold_to_its_word(path)


async def test_a_writer_that_hangs_is_not_ready_and_takes_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a write has taken longer than anyone waits, calls fail at once and the ledger is not ready."""
    gate = Gate()
    ticks = [0.0]

    def hanging(_self: Any) -> None:
        gate.passed()

    async with opened(path, monotonic=lambda: ticks[0]) as ledger:
        await ledger.keep([entry()], None)
        monkeypatch.setattr(file.LedgerFile, "append", lambda self, _rows, _head: hanging(self))
        ledger.keep_later([entry()], None)
        await asyncio.to_thread(gate.reached.wait)
        ticks[0] = 11.0
        assert not await ledger.is_ready()
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            await ledger.keep([entry()], None)
        gate.opened.set()


async def test_a_queue_that_only_grows_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound the queue takes no more: a disk that hangs does not fill the memory."""
    gate = Gate()
    monkeypatch.setattr(writing, "_MOST_QUEUED", 3)
    original = writing.Writer._told
    async with opened(path) as ledger:
        assert await ledger.is_ready()
        monkeypatch.setattr(writing.Writer, "_told", lambda self, jobs: (gate.passed(), original(self, jobs))[1])
        ledger.keep_later([entry()], None)
        await asyncio.to_thread(gate.reached.wait)
        for _ in range(5):
            ledger.keep_later([entry()], None)
        with pytest.raises(LedgerUnavailableError, match="overloaded"):
            await ledger.keep([entry()], None)
        gate.opened.set()
    assert len(rows_of(path)) == 4


async def test_closing_has_a_limit(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that hangs does not keep the process from ending: closing gives up, and says so."""
    gate = Gate()
    monkeypatch.setattr(file.LedgerFile, "append", gate.passed)
    monkeypatch.setattr(shipped, "LIMIT_SECONDS", 0.05)
    ledger = SqliteLedger(path, now=now)
    await ledger.open()
    ledger.keep_later([entry()], None)
    await asyncio.to_thread(gate.reached.wait)
    threads = ours()
    await ledger.aclose()
    assert "the ledger was not closed in time" in caplog.text
    gate.opened.set()
    await gone(threads)


async def test_the_loop_is_woken_once_for_a_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait for one commit, the writer calls into their loop once."""
    loop = asyncio.get_running_loop()
    woken: list[str] = []
    original = loop.call_soon_threadsafe

    def counting(callback: Any, *told: Any, **named: Any) -> Any:
        if getattr(callback, "__name__", "") == "_settle_all":
            woken.append("woken")
        return original(callback, *told, **named)

    async with opened(path) as ledger:
        await ledger.keep([entry()], None)
        gate = Gate()
        told = writing.Writer._told
        monkeypatch.setattr(writing.Writer, "_told", lambda self, jobs: (gate.passed(), told(self, jobs))[1])
        ledger.keep_later([entry()], None)
        await asyncio.to_thread(gate.reached.wait)
        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        waiting = [asyncio.ensure_future(ledger.keep([entry()], None)) for _ in range(30)]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(*waiting)
        monkeypatch.undo()
    assert len(woken) == 1


async def test_two_ledgers_of_one_process_share_a_file(path: Path) -> None:
    """As during a reload: the old one ends while the new one begins, and neither disturbs the other."""
    async with opened(path) as first:
        async with opened(path) as second:
            await asyncio.gather(
                *(ledger.keep([entry()], None) for _ in range(100) for ledger in (first, second)),
            )
            await first.aclose()
            await second.keep([entry()], None)
        assert len(rows_of(path)) == 201
    hold_to_its_word(path)
