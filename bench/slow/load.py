"""The load as `native/load.c` describes it, with the same words and the same line of JSON at the end."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = re.compile(rb"@(\d+) (\d+) ")
_MOST_ERRORS = 100
_SILENCE_SECONDS = 30


@dataclass
class _Run:
    """What is asked for, and what has been seen so far; times in nanoseconds."""

    port: int
    request: bytes
    connections: int
    seconds: float
    rate: float
    ramp: float
    wanted: int
    pace_ms: int
    requests: int = 0
    errors: int = 0
    error: str = ""
    chunks: int = 0
    lost: int = 0
    busy: int = 0
    most_busy: int = 0
    times: dict[str, list[int]] = field(default_factory=lambda: {"latency": [], "first": [], "one_way": [], "lag": []})


class _WrongAnswerError(Exception):
    """An answer is not as it should be."""


async def _main(run: _Run) -> float:
    began = time.monotonic()
    if run.rate:
        due = [began + number / run.rate for number in range(int(run.rate * run.seconds))]
        left = iter(due)
        await asyncio.gather(*(_open_loop(run, left) for _one in range(run.connections)))
    else:
        starts = (run.ramp * number / run.connections for number in range(run.connections))
        await asyncio.gather(*(_closed_loop(run, began, start) for start in starts))
    return time.monotonic() - began


async def _open_loop(run: _Run, left: Iterator[float]) -> None:
    """Take the next request that is due; its time counts from then, however long it waited for a connection."""
    connection = _Connection(run)
    for due in left:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await connection.ask(int(due * 1e9))
    connection.close()


async def _closed_loop(run: _Run, began: float, start: float) -> None:
    await asyncio.sleep(start)
    connection = _Connection(run)
    is_first = True
    while (is_first or time.monotonic() < began + run.seconds) and run.errors <= _MOST_ERRORS:
        is_first = False
        await connection.ask(time.monotonic_ns())
    connection.close()


class _Connection:
    """One connection, opened again when it has failed."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, due_ns: int) -> None:
        """Send the request once and check its answer."""
        run = self._run
        run.busy += 1
        run.most_busy = max(run.most_busy, run.busy)
        try:
            async with asyncio.timeout(_SILENCE_SECONDS + run.wanted * run.pace_ms / 1000):
                await self._exchange(due_ns)
            run.requests += 1
        except (OSError, EOFError, TimeoutError, ValueError, _WrongAnswerError) as error:
            run.errors += 1
            run.error = run.error or str(error).replace('"', "'") or type(error).__name__
            self.close()
        finally:
            run.busy -= 1

    def close(self) -> None:
        """Close it, if it is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    async def _exchange(self, due_ns: int) -> None:
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self._run.port, limit=1 << 20)
        reader, writer = self._open
        writer.write(self._run.request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head[8:12] != b" 200":
            raise _WrongAnswerError("a status that is not 200")
        answer = _Answer(self._run)
        if length := re.search(rb"content-length: *(\d+)", head):
            answer.take(await reader.readexactly(int(length[1])))
        else:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                answer.take((await reader.readexactly(size + 2))[:-2])
            await reader.readuntil(b"\r\n")
        answer.check(due_ns)
        if b"connection: close" in head:
            self.close()


class _Answer:
    """The body of one answer, checked as it comes."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._text = b""
        self._chunks = self._first = self._last = 0
        self._is_done = False

    def take(self, piece: bytes) -> None:
        self._first = self._first or (0 if self._run.wanted else time.monotonic_ns())
        self._text += piece
        if self._run.wanted:
            *lines, self._text = self._text.split(b"\n")
            for line in lines:
                self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        self._is_done = self._is_done or b"[DONE]" in line
        if mark := _MARK.search(line):
            self._last = time.monotonic_ns()
            self._first = self._first or self._last
            self._run.lost += int(mark[1]) != self._chunks
            self._chunks = int(mark[1]) + 1
            self._run.chunks += 1
            self._run.times["one_way"].append(self._last - int(mark[2]))

    def check(self, due_ns: int) -> None:
        run = self._run
        if not run.wanted and b'"total_tokens"' not in self._text:
            raise _WrongAnswerError("an answer without usage")
        if self._chunks != run.wanted:
            raise _WrongAnswerError("a stream with too few chunks")
        if run.wanted and not self._is_done:
            raise _WrongAnswerError("a stream without [DONE]")
        run.times["latency"].append(time.monotonic_ns() - due_ns)
        run.times["first"].append(self._first - due_ns)
        if run.wanted:
            run.times["lag"].append(self._last - self._first - (run.wanted - 1) * run.pace_ms * 1_000_000)


def _told(run: _Run, seconds: float) -> str:
    times = {}
    for name, values in run.times.items():
        ordered = sorted(values)
        at = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
        times[name] = {share: ordered[place] / 1000 for share, place in at.items()} if ordered else None
    names = ("requests", "errors", "error", "chunks", "lost")
    seen = {name: getattr(run, name) for name in names} | {"open": run.most_busy, "seconds": seconds}
    return json.dumps(seen | times)


if __name__ == "__main__":
    port, path, connections, *numbers = sys.argv[1:]
    seconds, rate, ramp, wanted, pace_ms = map(float, numbers)
    asked = _Run(
        port=int(port),
        request=Path(path).read_bytes(),
        connections=int(connections),
        seconds=seconds,
        rate=rate,
        ramp=ramp,
        wanted=int(wanted),
        pace_ms=int(pace_ms),
    )
    with suppress(KeyboardInterrupt):
        print(_told(asked, asyncio.run(_main(asked))))
