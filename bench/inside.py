"""What a request costs in here alone: the gateway in one process, its upstream answering from memory, no socket.

`python -m bench.inside json 1000` prints CPU microseconds per request with a prompt of a thousand bytes, `sse 1000` per
request and frame of a stream, `open 1000` KiB of memory per open stream. `--profile` prints where the time goes.
What a server and a client of sockets cost comes on top; `python -m bench.run` measures the whole.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import pstats
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vetted_mw import Gateway, VettedProxy
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.transport import Response, UpstreamRequest

_ROUNDS = 40
_FRAMES = 200
_SHOWN_BEFORE_THE_HOLD = 6
_PAGE_KIB = 4
_CALLER: Headers = [
    (b"host", b"127.0.0.1"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"OpenAI/Python"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"authorization", b"Bearer x"),
]
_SETTINGS = """
[regions.scaleway-par-1]
base_url = "http://127.0.0.1:1/v1"
health_path = ""
limits = { max_in_flight = 100000 }
[regions.atnorth-sto-1]
base_url = "http://127.0.0.1:2/v1"
health_path = ""
"""


def main() -> None:
    """Measure what was asked for."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("what", choices=["json", "sse", "open"])
    asked.add_argument("prompt_bytes", type=int)
    asked.add_argument("--requests", type=int, default=2000, help="in all, or streams that are open at once")
    asked.add_argument("--profile", action="store_true")
    given = asked.parse_args()
    with asyncio.Runner(loop_factory=_uvloop()) as runner:
        runner.run(_measured(given.what, given.prompt_bytes, given.requests, is_profiled=given.profile))


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 (its server has it; without one the loop of the standard library is measured)
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


async def _measured(what: str, prompt_bytes: int, requests: int, *, is_profiled: bool) -> None:
    memory = Memory(stream=what != "json")
    async with gateway_over(memory) as app:
        if what == "open":
            print(f"{await kib_per_open_stream(app, memory, prompt_bytes, requests):.1f} KiB per open stream")
            return
        caller = Caller(app, prompt_bytes, stream=what == "sse")
        profile = cProfile.Profile() if is_profiled else None
        seconds = await seconds_per_request(caller, requests, profile=profile)
        frames = len(memory.parts)
        print(f"{seconds * 1e6:.1f} us per request, {seconds * 1e6 / frames:.2f} us for each of {frames} reads")
        if profile is not None:
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)


async def seconds_per_request(caller: Caller, requests: int, *, profile: cProfile.Profile | None = None) -> float:
    """Return the CPU seconds of one request: of many short rounds the fourth best, since others use the machine too."""
    each = max(1, requests // _ROUNDS)
    for _ in range(each):
        await asyncio.create_task(caller.ask())
    gc.collect()
    gc.freeze()
    rounds = []
    if profile is not None:
        profile.enable()
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(each):
            await asyncio.create_task(caller.ask())
        rounds.append((time.process_time() - began) / each)
    if profile is not None:
        profile.disable()
    return sorted(rounds)[3]


async def kib_per_open_stream(app: VettedProxy, memory: Memory, prompt_bytes: int, streams: int) -> float:
    """Return by how much the process grows for each stream that has begun and waits for its next frame."""
    for count in (streams // 10, streams):
        memory.hold()
        before = _resident_kib()
        # Each with a prompt of its own: what is shared would cost nothing.
        callers = (Caller(app, prompt_bytes, stream=True) for _ in range(count))
        open_ones = [asyncio.create_task(caller.ask(again=False)) for caller in callers]
        while memory.held < count:  # noqa: ASYNC110 (a turn of the loop, at most a few)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # until each is watched for a caller who leaves
        grown = (_resident_kib() - before) / count
        memory.let_go()
        await asyncio.gather(*open_ones)
    return grown


def _resident_kib() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KIB


@asynccontextmanager
async def gateway_over(memory: Memory) -> AsyncIterator[VettedProxy]:
    """Open a gateway of two regions whose upstreams answer from memory."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "vetted.toml"
        settings.write_text(_SETTINGS)
        gateway = Gateway(load_configuration(settings), transport=memory.door, background=False)
        async with gateway:
            yield VettedProxy(gateway)


class Caller:
    """Asks one question again and again, as a server's connection would bring it."""

    def __init__(self, app: VettedProxy, prompt_bytes: int, *, stream: bool) -> None:
        self._app = app
        message = {"role": "user", "content": "word " * (prompt_bytes // 5)}
        self._body = json.dumps({"model": "m", "messages": [message], "stream": stream}).encode()
        self._headers = [*_CALLER, (b"content-length", b"%d" % len(self._body))]

    async def ask(self, *, again: bool = True) -> int:
        """Ask once and return the bytes of the answer.

        Args:
            again: whether the question is kept for another time.

        Raises:
            RuntimeError: it was refused.
        """
        bodies = [self._body]
        answered = 0
        if not again:
            self._body = b""

        async def receive() -> dict[str, Any]:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            await asyncio.get_running_loop().create_future()  # a caller who stays
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            nonlocal answered
            answered += len(message.get("body", b""))
            if message.get("status", 200) != 200:  # noqa: PLR2004
                told = "the request was refused, so nothing was measured"
                raise RuntimeError(told)

        await self._app(self._scope(), receive, send)
        return answered

    def _scope(self) -> dict[str, Any]:
        path = "/v1/chat/completions"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 1),
            "client": ("127.0.0.1", 2),
            "scheme": "http",
            "method": "POST",
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": self._headers,
            "state": {},
        }


class Memory:
    """An upstream without a socket: a JSON answer in one read, or a stream of one frame per read.

    Attributes:
        parts: what one answer reads.
        held: streams that wait until they are let go.
    """

    def __init__(self, *, stream: bool) -> None:
        self.parts = _frames() if stream else [_answer()]
        self.kind = b"text/event-stream" if stream else b"application/json"
        self.held = 0
        self._going = asyncio.Event()
        self._going.set()

    def door(self, _upstream: Upstream) -> Memory:
        """Be the transport of every upstream."""
        return self

    async def send(self, request: UpstreamRequest) -> Response:
        """Answer after one turn of the loop, as the quickest server would."""
        request.on_sent()
        await asyncio.sleep(0)
        return _FromMemory(self)

    async def aclose(self) -> None:
        """Close nothing."""

    def hold(self) -> None:
        """Let streams wait once they have begun."""
        self.held = 0
        self._going.clear()

    def let_go(self) -> None:
        """Let them go on."""
        self._going.set()

    async def turn(self, number: int) -> None:
        """Wait for the read of that number."""
        if number == _SHOWN_BEFORE_THE_HOLD and not self._going.is_set():
            self.held += 1
            await self._going.wait()
        elif number:
            await asyncio.sleep(0)


class _FromMemory:
    """One answer."""

    __slots__ = ("_memory", "_number", "headers", "status")

    def __init__(self, memory: Memory) -> None:
        self.status = 200
        self.headers: Headers = [(b"content-type", memory.kind), (b"server", b"x"), (b"date", b"x")]
        self._memory = memory
        self._number = 0

    async def read(self) -> bytes:
        number, parts = self._number, self._memory.parts
        if number == len(parts):
            return b""
        self._number += 1
        await self._memory.turn(number)
        return parts[number]

    async def chunks(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    async def aclose(self) -> None:
        return None


def _answer() -> bytes:
    message = {"role": "assistant", "content": "word " * 60}
    usage = {"prompt_tokens": 200, "completion_tokens": 60, "total_tokens": 260}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    told = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    return json.dumps({**told, "usage": usage}).encode()


def _frames() -> list[bytes]:
    usage = {"prompt_tokens": 200, "completion_tokens": _FRAMES, "total_tokens": 200 + _FRAMES}
    return [
        _frame([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
        *(
            _frame([{"index": 0, "delta": {"content": f"word{number} "}, "finish_reason": None}])
            for number in range(_FRAMES)
        ),
        _frame([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        _frame([], usage=usage),
        b"data: [DONE]\n\n",
    ]


def _frame(choices: list[dict[str, object]], **more: object) -> bytes:
    told = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + json.dumps({**told, **more}).encode() + b"\n\n"


if __name__ == "__main__":
    main()
