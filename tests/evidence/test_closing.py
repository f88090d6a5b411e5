"""Closing under running requests: what they used is in the ledger before it closes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support import HELLO, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.configuration import LedgerConfiguration
from vetted_mw.receipts.ledger.reading import LedgerReader
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

JSON = (("content-type", "application/json"), ("content-length", "500"))


async def test_requests_that_nobody_drained_are_rows(tmp_path: Path) -> None:
    """The doors close first, the requests that this cuts short write their rows, and the ledger closes last."""
    ledger = tmp_path / "receipts.sqlite3"
    cuts = [
        (False, FakeAnswer(delay=60)),
        (False, FakeAnswer(headers=JSON, body=(b'{"choices":[',), ending="stall")),
        (True, FakeAnswer(delay=60)),
        (True, FakeAnswer.stream(chat_frames()[:1], ending="stall")),
        (True, FakeAnswer.stream(chat_frames()[:2], ending="stall")),
    ]
    async with FakeUpstream() as paris:
        configuration = configured({"scaleway-par-1": paris.base_url})
        gateway = Gateway(replace(configuration, ledger=LedgerConfiguration(path=str(ledger))))
        running = []
        async with gateway:
            for stream, cut in cuts:
                before = len(paris.requests)
                paris.then(cut)
                body = {"model": "mistral-medium-3", "messages": HELLO, "stream": stream}
                running.append(asyncio.create_task(asgi_exchange(VettedProxy(gateway), json=body)))
                while len(paris.requests) == before:  # noqa: ASYNC110 (a fake that tells nobody)
                    await asyncio.sleep(0.005)
        assert gateway.in_flight == 0
        await asyncio.gather(*running)
    with LedgerReader(ledger) as reader:
        rows = list(reader.rows())
        (head,) = reader.heads()
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert head.seq == len(cuts)
