"""Many large or sprawling bodies at once, in a gateway with a process of its own: memory grows with the bytes alone."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import pytest

from support import HELLO
from vetted_mw.testing import chat_completion
from wire.alone import gateway_alone, peak_mib
from wire.clients import COMPLETIONS, chat, error_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="asks POSIX for the peak of memory"),
]

MIB = 1_048_576
LIMIT = 60.0
TOGETHER = 20
SIZE = 4 * MIB


class _Sink:
    """An upstream that reads requests and throws them away, and answers when all of them have come.

    Attributes:
        all_came: set when `TOGETHER` requests are whole.
    """

    def __init__(self) -> None:
        self.all_came = asyncio.Event()
        self._came = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            left = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            while left > 0:
                left -= len(await reader.read(min(left, 65_536)))
            self._came += 1
            if self._came == TOGETHER:
                self.all_came.set()
            await self.all_came.wait()
            body = chat_completion()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
            writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def _sink() -> AsyncIterator[tuple[_Sink, str]]:
    sink = _Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    async with server:
        yield sink, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_twenty_large_prompts_at_once_take_a_few_times_their_size() -> None:
    """While twenty prompts of 4 MiB wait for their answers, the process is less than five times that larger."""
    body = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * (SIZE - 100) + b'"}]}'
    async with _sink() as (sink, base_url), gateway_alone(base_url=base_url, max_body_bytes=SIZE) as client:
        await client.get("/healthz")
        before = await peak_mib(client)
        async with asyncio.timeout(LIMIT):
            answers = await asyncio.gather(*(client.post(COMPLETIONS, content=body) for _ in range(TOGETHER)))
            grown = await peak_mib(client) - before
        assert sink.all_came.is_set()
    assert {answer.status_code for answer in answers} == {200}
    assert grown < 5 * TOGETHER * SIZE / MIB


def _padded(begin: bytes, part: bytes, end: bytes) -> bytes:
    return begin + part * ((SIZE - len(begin) - len(end)) // len(part)) + end


SPRAWLING = {
    "model of lists": _padded(b'{"messages":[],"model":[', b"[],", b"[]]}"),
    "a name without end": _padded(b'{"model":1,"messages":[],"', b"a", b'":1}'),
    "a name of escapes": _padded(b'{"model":1,"messages":[],"', b"\\n", b'":1}'),
    "nearly vetted": _padded(b'{"model":1,"messages":[],"', b"vet", b'":1}'),
    "many members": b'{"model":1,"messages":[],' + b",".join(b'"%x":0' % number for number in range(300_000)) + b"}",
    "options of lists": _padded(b'{"model":1,"messages":[],"vetted":{"region":[', b"[],", b"[]]}}"),
    "extra_body of objects": _padded(b'{"model":1,"messages":[],"extra_body":{"a":[', b"{},", b"{}]}}"),
    "digits": _padded(b'{"model":1,"messages":[],"n":', b"9", b"}"),
    "deep": _padded(b'{"model":1,"messages":', b"[", b"}"),
}


async def test_sprawling_bodies_are_refused_without_being_made_into_objects() -> None:
    """Bodies of 4 MiB made of a million values, or of one name, are a 400 each and take no more than other bodies."""
    async with gateway_alone(base_url="http://127.0.0.1:9/v1", max_body_bytes=SIZE, drained=True) as client:
        assert (await client.post(COMPLETIONS, json=chat(messages=HELLO))).status_code == 503
        before = await peak_mib(client)
        async with asyncio.timeout(LIMIT):
            answers = await asyncio.gather(*(client.post(COMPLETIONS, content=body) for body in SPRAWLING.values()))
        grown = await peak_mib(client) - before
        after = await client.post(COMPLETIONS, json=chat(messages=HELLO))
    assert {error_row(answer)[:2] for answer in answers} == {(400, "validation_error")}
    assert grown < 5 * len(SPRAWLING) * SIZE / MIB
    assert after.status_code == 503
