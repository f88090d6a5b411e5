"""One kind of request, sent so often for so long, and what it cost the process that answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.demo.model_server import DEMO_MODEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Load", "Round", "process", "request_of", "round_of"]

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """One kind of request.

    Attributes:
        name: for the table.
        prompt_bytes: size of the prompt.
        stream: whether a stream is asked for.
        concurrency: connections, one request at a time on each.
        vetted: the request's options.
    """

    name: str
    prompt_bytes: int
    stream: bool = False
    concurrency: int = 16
    vetted: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the request body."""
        message = {"role": "user", "content": "word " * (self.prompt_bytes // 5)}
        vetted = {"vetted": self.vetted} if self.vetted else {}
        return json.dumps({"model": DEMO_MODEL, "messages": [message], "stream": self.stream, **vetted}).encode()


@dataclass
class Round:
    """What one round measured."""

    latencies: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    bytes_read: int = 0


async def round_of(load: Load, seconds: float, port: int, gateway: int) -> Round:
    """Send `load` to `port` for so many seconds; `gateway` is the process whose CPU counts."""
    seen = Round()
    before = _cpu_seconds(gateway)
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_connection(load, port, until, seen) for _ in range(load.concurrency)))
    seen.cpu_seconds = _cpu_seconds(gateway) - before
    return seen


async def _connection(load: Load, port: int, until: float, seen: Round) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = request_of(load, port)
    while (start := time.perf_counter()) < until:
        writer.write(request)
        seen.bytes_read += await _answer(reader)
        seen.latencies.append(time.perf_counter() - start)
    writer.close()


def request_of(load: Load, port: int) -> bytes:
    """Return the whole request as bytes."""
    body = load.body()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(f"the server answered {head[:40]!r}")
    if b"transfer-encoding: chunked" not in head:
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return len(await reader.readexactly(length))
    total = 0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        total += len(await reader.readexactly(size + 2))
    await reader.readuntil(b"\r\n")
    return total


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@asynccontextmanager
async def process(port: int, *arguments: str) -> AsyncIterator[int]:
    """Start a Python process and wait until it listens on `port`."""
    started = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL)  # noqa: ASYNC220, S603
    try:
        async with asyncio.timeout(60):
            while started.poll() is None and not await _listens(port):  # noqa: ASYNC110 (a port tells by no event)
                await asyncio.sleep(0.05)
        yield started.pid
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(timeout=30)


async def _listens(port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
