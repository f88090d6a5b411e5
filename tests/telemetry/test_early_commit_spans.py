"""The spans of a stream that began before its content: how it ended is told all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import StatusCode

from streams.wall import Caller, role, until
from support import configured
from telemetry.spans import KNOWN, PARIS, SERVER, asked, upstream
from vetted_mw import Gateway, VettedProxy
from vetted_mw.testing import FakeAnswer, FakeUpstream

if TYPE_CHECKING:
    from telemetry.spans import Spans

pytestmark = pytest.mark.anyio

SOON = {"commit_after_seconds": 0.05}


@pytest.mark.parametrize(
    ("end", "outcome", "error", "status"),
    [
        ("cut", "upstream_cut", "upstream_stream_cut", StatusCode.ERROR),
        ("leave", "client_disconnect", None, StatusCode.UNSET),
        ("drain", "shutting_down", "shutting_down", StatusCode.ERROR),
    ],
)
async def test_a_stream_committed_early_says_how_it_ended(
    spans: Spans, end: str, outcome: str, error: str | None, status: StatusCode
) -> None:
    """Cut, left or ended by us without any content: one span each, ended once, with the stream's outcome."""
    go_on = asyncio.Event()
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.stream([role(), go_on], ending="cut" if end == "cut" else "stall"))
        async with Gateway(configured({PARIS: upstream(paris.base_url)}, limits=SOON)) as gateway:
            caller = Caller(VettedProxy(gateway), asked(stream=True))
            answering = caller.start()
            await until(lambda: caller.sent)
            if end == "cut":
                go_on.set()
            elif end == "leave":
                caller.leave()
            else:
                await gateway.drain(0)
            await answering
    assert spans.names == ["vetted.route", "vetted.attempt", f"chat {KNOWN}", SERVER]
    chat = spans.chat()
    told = dict(chat.attributes or {})
    assert (told.get("vetted.stream.outcome"), told.get("error.type")) == (outcome, error)
    assert (chat.status.status_code, told["vetted.region"], told["vetted.receipt.placement"]) == (status, PARIS, "none")
    assert "gen_ai.response.time_to_first_chunk" not in told
