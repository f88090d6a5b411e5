"""How `vetted-mw serve` hands on the parts of a request's body: whole, in order, and not copied without need."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vetted_mw.cli.heads import BoundedHeads

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio


class _Wire:
    """A connection's transport: takes what is written, and is never full."""

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def write(self, _data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


class _Served:
    """An app behind a connection; it asks for a part of the body when the test says so."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.is_whole = False
        self._asks = asyncio.Semaphore(0)
        config = uvicorn.Config(self._app, interface="asgi3", log_config=None)
        config.load()
        self.connection = BoundedHeads(config=config, server_state=uvicorn.server.ServerState(), app_state={})
        self.connection.connection_made(cast("Any", _Wire()))

    async def asked(self) -> None:
        """Let the app ask once, and give it the time to."""
        self._asks.release()
        for _ in range(5):
            await asyncio.sleep(0)

    async def _app(self, _scope: Scope, receive: Receive, send: Send) -> None:
        while not self.is_whole:
            await self._asks.acquire()
            message = await receive()
            self.parts.append(message["body"])
            self.is_whole = not message["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def _head(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size


@given(pieces=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=12), asks=st.lists(st.booleans()))
def test_a_body_is_what_was_sent(pieces: list[bytes], asks: list[bool]) -> None:
    """However it comes in pieces, and whenever the app asks in between."""

    async def served() -> list[bytes]:
        body = b"".join(pieces)
        place = _Served()
        place.connection.data_received(_head(len(body)))
        for number, piece in enumerate(pieces):
            if asks[number : number + 1] == [True]:
                await place.asked()
            place.connection.data_received(piece)
        while not place.is_whole:
            await place.asked()
        place.connection.connection_lost(None)
        return place.parts

    parts = asyncio.run(served())
    assert b"".join(parts) == b"".join(pieces)
    assert {type(part) for part in parts} == {bytes}


async def test_a_part_that_is_taken_before_the_next_comes_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[bytes] = []
    on_body = BoundedHeads.on_body

    def heard(self: BoundedHeads, body: bytes) -> None:
        came.append(body)
        on_body(self, body)

    monkeypatch.setattr(BoundedHeads, "on_body", heard)
    place = _Served()
    place.connection.data_received(_head(200_000))
    for _ in range(4):
        place.connection.data_received(b"x" * 50_000)
        await place.asked()
    place.connection.connection_lost(None)
    assert place.is_whole
    assert [id(part) for part in place.parts] == [id(part) for part in came]


async def test_many_parts_that_wait_are_gathered_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding up bytes would copy all of them for each one that comes."""
    gathered: list[type] = []
    on_body = HttpToolsProtocol.on_body

    def heard(self: BoundedHeads, body: bytes) -> None:
        on_body(self, body)
        gathered.append(type(self.cycle.body))

    monkeypatch.setattr(HttpToolsProtocol, "on_body", heard)
    place = _Served()
    place.connection.data_received(_head(100))
    for _ in range(100):
        place.connection.data_received(b"x")
    assert gathered == [bytes] + 99 * [bytearray]
    await place.asked()
    place.connection.connection_lost(None)
    assert place.parts == [b"x" * 100]
