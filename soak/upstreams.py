"""Three regions in one process, fast and faulty as planned: `python -m soak.upstreams SEED PORT PORT PORT`.

`GET /seen` at any of them returns how often each region got each request: `{region: {number: times}}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from collections import Counter
from typing import TYPE_CHECKING

import uvloop

from soak.plan import MODEL, REGIONS, Fault, fault_of, number_of, words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Region", "reset"]

_RESET_EVERY = 100
_CHUNK = {"object": "chat.completion.chunk", "created": 1, "model": MODEL}
_PLAIN = {
    Fault.ERROR_500: b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\ncontent-type: text/plain\r\n\r\noops",
    Fault.ERROR_503: b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
    Fault.SATURATED: b"HTTP/1.1 429 Full\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}",
    Fault.CALLER_ERROR: b'HTTP/1.1 400 Bad\r\ncontent-length: 29\r\n\r\n{"error":{"message":"not so"}}',
    Fault.HTML: b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>",
}


class Region:
    """One region's server.

    Attributes:
        seen: how often each request arrived whole.
    """

    def __init__(self, name: str, seed: int, all_regions: Mapping[str, Region]) -> None:
        self.name = name
        self.seen: Counter[int] = Counter()
        self._seed = seed
        self._all = all_regions
        self._accepted = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it; one in a hundred is reset as it is accepted."""
        self._accepted += 1
        if self._accepted % _RESET_EVERY == 0:
            reset(writer)
            return
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    told = {name: region.seen for name, region in self._all.items()} if b"/seen " in head else {}
                    writer.write(_json_answer(json.dumps(told).encode()))
                    continue
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                number = number_of(body)
                self.seen[number] += 1
                if not await self._answer(number, body, reader, writer):
                    break
        writer.close()

    async def _answer(
        self, number: int, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer as planned; returns whether the connection may serve once more."""
        fault = fault_of(self._seed, number, self.name)
        if fault in _PLAIN:
            writer.write(_PLAIN[fault])
            return True
        if fault is Fault.RESET_BEFORE:
            reset(writer)
            return False
        if fault is Fault.STALL_BEFORE:
            await reader.read(1)  # until the gateway gives up
            return False
        asked = json.loads(body)
        words = words_of(number, self.name)
        if asked["stream"]:
            parts = _frames(number, words, usage="stream_options" in asked, fault=fault)
        else:
            parts = _pieces(_whole(number, words, share=0.6 if fault is Fault.ENDS_EARLY else 1.0))
        return await self._send(parts, number, fault, reader, writer)

    async def _send(
        self, parts: list[bytes], number: int, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        dice = random.Random(f"{self._seed}/{number}/{self.name}/pace")  # noqa: S311
        within = {Fault.RESET_WITHIN, Fault.CUT_WITHIN, Fault.STALL_WITHIN}
        last = dice.randrange(1, len(parts)) if fault in within else len(parts)
        pauses = dice.random() * 0.02 if fault is Fault.SLOW else 0.0
        for part in parts[:last]:
            writer.write(part)
            if pauses:
                await writer.drain()
                await asyncio.sleep(pauses)
        await writer.drain()
        if fault is Fault.RESET_WITHIN:
            reset(writer)
        elif fault is Fault.STALL_WITHIN:
            await reader.read(1)
        return fault in {Fault.WELL, Fault.SLOW, Fault.ERROR_EVENT, Fault.ENDS_EARLY}


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a TCP reset."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _json_answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _usage(words: list[str]) -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": len(words), "total_tokens": 9 + len(words)}


def _whole(number: int, words: list[str], *, share: float) -> bytes:
    message = {"role": "assistant", "content": "".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    told = {"id": f"soak-{number}", "object": "chat.completion", "created": 1, "model": MODEL}
    whole = json.dumps({**told, "choices": [choice], "usage": _usage(words)}).encode()
    return _json_answer(whole[: int(len(whole) * share)])  # HTTP calls it whole in any case


def _pieces(answer: bytes) -> list[bytes]:
    size = max(1, len(answer) // 8)
    return [answer[start : start + size] for start in range(0, len(answer), size)]


def _frames(number: int, words: list[str], *, usage: bool, fault: Fault) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": word}, None) for word in words]
    deltas.append(({}, "stop"))
    told: list[dict[str, object]] = [
        {"id": f"soak-{number}", **_CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    if usage:
        told.append({"id": f"soak-{number}", **_CHUNK, "choices": [], "usage": _usage(words)})
    if fault is Fault.ERROR_EVENT:
        told[number % len(words) + 1] = {"error": {"message": "the engine broke", "code": 500}}
    if fault is Fault.ENDS_EARLY:
        del told[len(told) * 2 // 3 :]
    frames = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in told]
    if fault not in {Fault.NO_DONE, Fault.ENDS_EARLY}:
        frames.append(b"data: [DONE]\n\n")
    chunks = [b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames]
    return [head, *chunks, b"0\r\n\r\n"]


async def _main(seed: int, ports: list[int]) -> None:
    regions: dict[str, Region] = {}
    async with contextlib.AsyncExitStack() as stack:
        for name, port in zip(REGIONS, ports, strict=True):
            regions[name] = region = Region(name, seed, regions)
            server = await asyncio.start_server(region.serve, "127.0.0.1", port, backlog=2048)
            await stack.enter_async_context(server)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_main(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
