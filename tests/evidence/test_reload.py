"""A reload changes the key or the ledger under running requests, and no receipt falls between two."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from frameworks.place import until
from receipts.keys import jwks, private_pem, signer
from support import HELLO, MODEL, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.configuration import LedgerConfiguration, SigningConfiguration
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import read_jws
from vetted_mw.receipts.ledger.reading import LedgerReader
from vetted_mw.receipts.signing import verify_jws
from vetted_mw.secret import Secret
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.configuration import Configuration

pytestmark = pytest.mark.anyio

PARIS = "scaleway-par-1"


def settings(paris: FakeUpstream, ledger: Path, *, seed: int = 0) -> Configuration:
    return replace(
        configured({PARIS: paris.base_url}),
        signing=SigningConfiguration(key=Secret(private_pem(seed))),
        ledger=LedgerConfiguration(path=str(ledger)),
    )


async def ask(gateway: Gateway, *, stream: bool = False) -> dict[str, Any]:
    body = {"model": MODEL, "messages": HELLO, "stream": stream}
    exchange = await asgi_exchange(VettedProxy(gateway), json=body)
    assert exchange.status == 200
    if not stream:
        return dict(exchange.json()["receipt"])
    lines = [line[6:] for line in exchange.body.decode().split("\n\n") if line.startswith("data: {")]
    return dict(next(frame for frame in map(json.loads, lines) if "receipt" in frame)["receipt"])


async def test_another_key_signs_from_the_reload_on_and_the_sequence_goes_on(tmp_path: Path) -> None:
    """One ledger, two keys: each receipt verifies by the key of its time, and no number is missing between them."""
    ledger = tmp_path / "receipts.sqlite3"
    async with FakeUpstream() as paris, Gateway(settings(paris, ledger)) as gateway:
        first = await ask(gateway)
        await gateway.reload(settings(paris, ledger, seed=1))
        second = await ask(gateway)
    assert second["ledger_id"] == first["ledger_id"]
    assert (first["seq"], second["seq"]) == (1, 2)
    keys = parse_jwks(json.dumps(jwks(signer(0), signer(1))).encode())
    with LedgerReader(ledger) as reader:
        kids = [verify_jws(row.text, keys).kid for row in reader.rows()]
        (head,) = reader.heads()
    assert kids == [signer(0).kid, signer(1).kid]
    assert read_jws(head.text).header["kid"] == signer(1).kid


async def test_a_stream_in_flight_is_kept_in_the_ledger_it_came_in_under(tmp_path: Path) -> None:
    """The old file is written to its last stream and closed then; the new one begins a sequence of its own."""
    old, new = tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    go_on = asyncio.Event()
    frames = chat_frames()
    async with FakeUpstream() as paris, Gateway(settings(paris, old)) as gateway:
        paris.then(FakeAnswer.stream([*frames[:2], go_on, *frames[2:]]))
        streaming = asyncio.create_task(ask(gateway, stream=True))
        await until(lambda: bool(paris.requests))
        await gateway.reload(settings(paris, new))
        later = await ask(gateway)
        go_on.set()
        earlier = await streaming
        await until(lambda: not len(gateway._former))
    assert (earlier["seq"], later["seq"]) == (1, 1)
    assert earlier["ledger_id"] != later["ledger_id"]
    for file, receipt in ((old, earlier), (new, later)):
        with LedgerReader(file) as reader:
            assert [row.query_id for row in reader.rows()] == [receipt["query_id"]]


async def test_a_reload_that_keeps_the_ledger_keeps_its_threads(tmp_path: Path) -> None:
    """However often the settings are read again, one writer serves one file; none is left after the end."""
    before = threading.active_count()
    async with FakeUpstream() as paris, Gateway(settings(paris, tmp_path / "one.sqlite3")) as gateway:
        await ask(gateway)
        held = threading.active_count()
        for seed in range(1, 6):
            await gateway.reload(settings(paris, tmp_path / "one.sqlite3", seed=seed))
        await ask(gateway)
        assert threading.active_count() == held
    assert threading.active_count() <= before + 1  # the event loop's own executor may have come


async def test_an_opened_again_gateway_is_a_ledger_of_its_own(tmp_path: Path) -> None:
    """Every start is its own sequence, so that two never share a number."""
    ledger = tmp_path / "receipts.sqlite3"
    async with FakeUpstream() as paris:
        gateway = Gateway(settings(paris, ledger))
        receipts = []
        for _start in range(2):
            async with gateway:
                receipts.append(await ask(gateway))
    assert [receipt["seq"] for receipt in receipts] == [1, 1]
    assert receipts[0]["ledger_id"] != receipts[1]["ledger_id"]


async def test_a_folder_that_is_not_there_costs_no_answer(tmp_path: Path) -> None:
    """An app starts and answers though its ledger cannot be opened, and each answer says so."""
    async with FakeUpstream() as paris, Gateway(settings(paris, tmp_path / "gone" / "x.sqlite3")) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), json={"model": MODEL, "messages": HELLO})
    assert exchange.status == 200
    assert exchange.json()["routing_trace"]["ledger"] == "unavailable"
    assert exchange.json()["receipt"]["signature"]
