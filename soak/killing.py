"""Two workers on one ledger, killed by SIGKILL under load, again and again: is any receipt lost that a caller holds?

    python -m soak.killing --rounds 20

Every second round kills one worker first, which its parent starts anew, and then all of them. At the end every receipt
that arrived is verified and looked up, the auditor's `verify` must find nothing, and rows are taken out of copies of
the file one by one: it must name each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from soak.processes import unused_port
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import reattached
from vetted_mw.receipts.ledger.reading import LedgerReader
from vetted_mw.receipts.signing import verify_jws
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

__all__ = ["Judged", "killed_rounds", "main"]

_REGION = "scaleway-par-1"
_CALLERS = 12
_START_SECONDS = 60.0
_LISTENING_TURN = 0.05


@dataclass(slots=True)
class Judged:
    """What came of it.

    Attributes:
        rounds: how often everything was killed.
        held: receipts that arrived at a caller whole, by `query_id`.
        rows: rows of the ledger at the end.
        ledgers: ledger ids in it.
        lost: those held that the ledger does not have, or has otherwise.
        unverified: those held whose signature does not verify.
        verify: exit code and output of the auditor's command on the whole ledger.
        unnamed: rows taken out of a copy that the command did not name.
        taken_out: how many were tried.
    """

    rounds: int = 0
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: int = 0
    ledgers: int = 0
    lost: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    verify: tuple[int, str] = (0, "")
    unnamed: list[str] = field(default_factory=list)
    taken_out: int = 0

    @property
    def is_well(self) -> bool:
        """Whether every promise was kept."""
        return bool(self.held) and not (self.lost or self.unverified or self.unnamed or self.verify[0])


async def killed_rounds(folder: Path, *, rounds: int, seed: int, durability: str = "normal") -> Judged:
    """Kill a gateway of two workers so many times under load, all on one ledger in `folder`, and judge what is left."""
    dice = random.Random(seed)  # noqa: S311 (a repeatable plan)
    judged = Judged()
    _vetted(["keys", "new", "--out", str(folder / "key.pem")])
    port = unused_port()
    async with FakeUpstream(text="A few words, not many.") as upstream:
        _write_settings(folder, upstream.base_url, port, durability)
        for number in range(rounds):
            async with _serving(folder, port) as parent:
                await _load_until_killed(parent, port, judged, one_first=number % 2 == 1, dice=dice)
            judged.rounds += 1
    _judge(folder, judged)
    _take_rows_out(folder, judged, dice)
    return judged


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and print what came of it; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--durability", choices=["normal", "full"], default="normal")
    arguments = parser.parse_args(argv)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of every connection that a killed gateway leaves
    with tempfile.TemporaryDirectory() as folder:
        judged = asyncio.run(
            killed_rounds(Path(folder), rounds=arguments.rounds, seed=arguments.seed, durability=arguments.durability)
        )
    print(f"killed {judged.rounds} times; {len(judged.held)} receipts held by callers;", end=" ")
    print(f"{judged.rows} rows of {judged.ledgers} ledgers")
    print(f"held and not in the ledger: {len(judged.lost)}; signature not verified: {len(judged.unverified)}")
    print(f"verify: exit {judged.verify[0]}: {judged.verify[1].strip().splitlines()[-1:]}")
    print(f"rows taken out of copies: {judged.taken_out}, not named by verify: {len(judged.unnamed)}")
    print("every promise kept" if judged.is_well else f"BROKEN: {judged.verify[1]} {judged.lost} {judged.unnamed}")
    return 0 if judged.is_well else 1


def _write_settings(folder: Path, base_url: str, port: int, durability: str) -> None:
    (folder / "vetted.toml").write_text(
        f'default_order = ["{_REGION}"]\n'
        f"[server]\nport = {port}\nworkers = 2\n"
        f'[signing]\nkey = {{ file = "key.pem" }}\n'
        f'[ledger]\npath = "receipts.sqlite3"\ndurability = "{durability}"\n'
        f'[regions.{_REGION}]\nbase_url = "{base_url}"\nhealth_path = ""\n',
        encoding="utf-8",
    )


@contextlib.asynccontextmanager
async def _serving(folder: Path, port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Serve in a process group of its own, so that all of it can be killed at one blow."""
    with (folder / "serve.log").open("ab") as log:
        parent = subprocess.Popen(  # noqa: ASYNC220, S603 (our own command)
            [sys.executable, "-m", "vetted_mw", "serve", "--config", str(folder / "vetted.toml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _answers(port):
                if parent.poll() is not None:
                    raise RuntimeError((folder / "serve.log").read_text(encoding="utf-8"))
                await asyncio.sleep(_LISTENING_TURN)
        yield parent
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


async def _answers(port: int) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


async def _load_until_killed(
    parent: subprocess.Popen[bytes], port: int, judged: Judged, *, one_first: bool, dice: random.Random
) -> None:
    """Ask without pause from many callers, kill at an instant nobody chose, and wait until every caller has seen it."""
    enough = len(judged.held) + 50
    stopping = asyncio.Event()
    callers = [asyncio.create_task(_ask_on(port, judged, stopping, stream=bool(n % 2))) for n in range(_CALLERS)]
    async with asyncio.timeout(_START_SECONDS):
        while len(judged.held) < enough:  # noqa: ASYNC110 (the load itself is what is waited for)
            await asyncio.sleep(0.01)
    await asyncio.sleep(dice.random() * 0.5)
    if one_first:
        workers = list(_children(parent.pid))
        os.kill(dice.choice(workers), signal.SIGKILL)
        await asyncio.sleep(0.5 + dice.random())
    stopping.set()
    os.killpg(parent.pid, signal.SIGKILL)
    await asyncio.gather(*callers)


def _children(parent: int) -> Iterator[int]:
    """Yield the workers of a server: its child processes that serve, not the helper that watches shared memory."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split():
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            yield int(pid)


async def _ask_on(port: int, judged: Judged, stopping: asyncio.Event, *, stream: bool) -> None:
    """Ask until the server is gone for good, and note every receipt that arrived whole."""
    body = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with httpx.AsyncClient(trust_env=False, timeout=_START_SECONDS) as client:
        while True:
            try:
                async with client.stream("POST", url, json=body) as answer:
                    async for line in answer.aiter_lines():
                        _note(line, judged)
            except httpx.TransportError:
                if stopping.is_set():
                    return
                await asyncio.sleep(0.01)


def _note(line: str, judged: Judged) -> None:
    if '"receipt":' not in line:
        return
    try:
        receipt = json.loads(line.removeprefix("data: "))["receipt"]
    except ValueError:
        return  # cut within the line: nobody holds this one
    if receipt is not None:
        judged.held[receipt["query_id"]] = receipt


def _judge(folder: Path, judged: Judged) -> None:
    ledger = folder / "receipts.sqlite3"
    shown = _vetted(["keys", "show", str(folder / "key.pem"), "--json"])
    (folder / "jwks.json").write_text(shown.stdout, encoding="utf-8")
    keys = parse_jwks(shown.stdout.encode())
    with LedgerReader(ledger) as reader:
        for query_id, receipt in judged.held.items():
            payload = {name: value for name, value in receipt.items() if name not in {"signature", "binding_nonce"}}
            text = reattached(receipt["signature"], payload)
            row = reader.find(query_id)
            if row is None or row.text != text:
                judged.lost.append(query_id)
            if json.loads(verify_jws(text, keys).payload) != payload:
                judged.unverified.append(query_id)
        rows = [(row.ledger_id, row.seq) for row in reader.rows()]
    judged.rows, judged.ledgers = len(rows), len({ledger_id for ledger_id, _seq in rows})
    judged.verify = _verified(ledger, folder)


def _take_rows_out(folder: Path, judged: Judged, dice: random.Random) -> None:
    """Take one row out of a copy of the ledger: the first, the newest, and some between, of some of its ledgers."""
    whole, copy = folder / "whole.sqlite3", folder / "copy.sqlite3"
    with contextlib.closing(sqlite3.connect(folder / "receipts.sqlite3")) as source:
        with contextlib.closing(sqlite3.connect(whole)) as target:
            source.backup(target)
        last = dict(source.execute("SELECT ledger_id, max(seq) FROM receipts GROUP BY ledger_id"))
    for ledger_id in dice.sample(sorted(last), k=min(3, len(last))):
        for seq in {1, last[ledger_id], dice.randint(1, last[ledger_id])}:
            shutil.copy(whole, copy)
            with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
                for (trigger,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'trigger'"
                ).fetchall():
                    connection.execute(f'DROP TRIGGER "{trigger}"')
                connection.execute("DELETE FROM receipts WHERE ledger_id = ? AND seq = ?", (ledger_id, seq))
            code, told = _verified(copy, folder)
            judged.taken_out += 1
            if code != 1 or not any(ledger_id in line and str(seq) in line for line in told.splitlines()):
                judged.unnamed.append(f"{ledger_id} {seq}: {told}")


def _verified(ledger: Path, folder: Path) -> tuple[int, str]:
    done = _vetted(["receipts", "verify", str(ledger), "--jwks", str(folder / "jwks.json")], check=False)
    return done.returncode, done.stdout + done.stderr


def _vetted(arguments: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (our own command)
        [sys.executable, "-m", "vetted_mw", *arguments], check=check, capture_output=True, text=True
    )


if __name__ == "__main__":
    sys.exit(main())
