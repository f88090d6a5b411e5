"""A scriptable upstream on real sockets: the model's name selects the fault it plays, and it keeps a log of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from faults.playing import Asked, Ending, Gate, Script, well
from streams.wall import LIMIT, until
from vetted_mw.testing import _reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from faults.playing import Part, Play

__all__ = ["TRAP", "WELL", "Logged", "Site"]

TRAP = "trap"
"""The host redirects lead to; nobody may ever contact it."""

WELL = "well"
"""The model every region answers well."""

_HEAD = re.compile(rb"HTTP/1\.\d (\d{3})[^\r]*\r\n(?:[^\r\n]+\r\n)*\r\n")
_KEPT = 65_536


def _own_address() -> str:
    """Return a loopback address of this process's own where the system has more than one.

    A client of some other process, which still tries a port that has become ours, must not look like a leak.
    """
    address = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return "127.0.0.1"
    return address


_ADDRESS = _own_address()


@dataclass(slots=True, kw_only=True)
class Logged:
    """One request as a server's log tells it.

    Attributes:
        region: the region that was played.
        request_id: the caller's `x-request-id`.
        method: HTTP method.
        path: as on the request line.
        model: the model asked for.
        status: of the last whole head that was written; None when none was.
        ending: what became of the connection; None when the client left first.
        over: whether the answer has ended, and with it the connection where it ended too.
    """

    region: str
    request_id: str
    method: str
    path: str
    model: str
    status: int | None = None
    ending: Ending | None = None
    over: bool = False


class Site:
    """The upstreams of several regions, each on a socket of its own, and the trap beside them.

    Args:
        regions: the regions that have an upstream.
        faulty: those that play the fault; the others answer every model well.
        plays: model -> fault, by whether a stream is asked for.
        bare: what faulty regions do at once with every connection, before any request is read.
        refusing: whether faulty regions refuse connections.
        once: whether a faulty region plays each model's fault only once and is well after it.

    Attributes:
        log: the requests that were read, in order.
        contacted: where connections came, in order.
        answers: faults are only played while this is set; a flapping upstream is one whose `answers` come and go.
    """

    def __init__(
        self,
        regions: Iterable[str],
        *,
        faulty: Iterable[str],
        plays: Mapping[str, Mapping[bool, Play]],
        bare: Script | None = None,
        refusing: bool = False,
        once: bool = False,
    ) -> None:
        self.log: list[Logged] = []
        self.contacted: list[str] = []
        self.faulty = set(faulty)
        self._regions = [*regions, TRAP]
        self._plays = plays
        self._bare = bare
        self._refusing = refusing
        self._once = once
        self._played: set[tuple[str, str]] = set()
        self._gates: dict[tuple[Gate, str], asyncio.Event] = {}
        self._ports: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held = contextlib.AsyncExitStack()
        self._writers: set[asyncio.StreamWriter] = set()

    def base_url(self, region: str, *, scheme: str = "http") -> str:
        """What goes into the region's `base_url`."""
        return f"{scheme}://{_ADDRESS}:{self._ports[region]}/v1"

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._writers)

    def head_was_read(self, region: str, request_id: str) -> None:
        """Let an answer go on that waits for its head to be read."""
        self._open(Gate.HEAD, f"{region} {request_id}")

    def was_delivered(self, gate: Gate, request_id: str) -> None:
        """Let an answer go on that waits for its status, or its content, to be delivered."""
        self._open(gate, request_id)

    def of(self, request_id: str) -> list[Logged]:
        """What the logs show of one request of a caller, in order."""
        return [one for one in self.log if one.request_id == request_id]

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for region in self._regions:
            if self._refusing and region in self.faulty:
                bound = self._held.enter_context(socket.socket())
                bound.bind((_ADDRESS, 0))
                self._ports[region] = bound.getsockname()[1]
                continue
            server = await self._loop.create_server(_Connection.serving(_Region(self, region)), _ADDRESS, 0)
            self._held.push_async_callback(server.wait_closed)
            self._held.callback(server.close)
            self._ports[region] = server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
        await until(lambda: not self._writers)
        await self._held.aclose()

    def _open(self, gate: Gate, key: str) -> None:
        assert self._loop is not None, "the site is not open"
        self._loop.call_soon_threadsafe(lambda: self._gate(gate, key).set())  # the gateway may live in another thread

    def _gate(self, gate: Gate, key: str) -> asyncio.Event:
        return self._gates.setdefault((gate, key), asyncio.Event())

    def _script(self, region: str, model: str, asked: Asked) -> Script:
        if region == TRAP or region not in self.faulty or model not in self._plays:
            return well(asked)
        if self._once and (region, model) in self._played:
            return well(asked)
        self._played.add((region, model))
        return self._plays[model][asked.stream](asked)


class _Region:
    def __init__(self, site: Site, region: str) -> None:
        self._site = site
        self._region = region

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        site = self._site
        site.contacted.append(self._region)
        site._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                if site._bare is not None and self._region in site.faulty:
                    await self._play(site._bare, None, reader, writer)
                    return
                while await self._serve_one(reader, writer):
                    continue
        finally:
            site._writers.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        logged, members = await _read_request(self._region, reader)
        self._site.log.append(logged)
        asked = Asked(
            region=self._region,
            stream=bool(members.get("stream")),
            members=members,
            trap=self._site.base_url(TRAP),
        )
        script = self._site._script(self._region, logged.model, asked)
        try:
            await self._play(script, logged, reader, writer)
            logged.ending = script.ending
        finally:
            if logged.ending is not Ending.KEEP:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            logged.over = True
        return script.ending is Ending.KEEP

    async def _play(
        self, script: Script, logged: Logged | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        playing = asyncio.ensure_future(self._write(script.parts, logged, writer))
        watching = asyncio.ensure_future(_left(writer) if logged is not None else _read_up(reader))
        try:
            await asyncio.wait({playing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                raise ConnectionResetError  # the client left first
            playing.result()
            if script.ending is Ending.SILENCE:
                await watching
            elif script.ending is Ending.RESET:
                _reset(writer)
        finally:
            playing.cancel()
            watching.cancel()
            await asyncio.gather(playing, watching, return_exceptions=True)

    async def _write(self, parts: Iterable[Part], logged: Logged | None, writer: asyncio.StreamWriter) -> None:
        written = bytearray()
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                written += part[: _KEPT - len(written)]
                if logged is not None:
                    logged.status = _status_in(bytes(written))
                await writer.drain()
            elif isinstance(part, Gate):
                assert logged is not None, "a bare connection has no request to wait for"
                name = f"{self._region} {logged.request_id}" if part is Gate.HEAD else logged.request_id
                await asyncio.wait_for(self._site._gate(part, name).wait(), LIMIT)
            else:
                await asyncio.sleep(part)


async def _read_request(region: str, reader: asyncio.StreamReader) -> tuple[Logged, dict[str, Any]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _version = lines[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    members: dict[str, Any] = json.loads(body) if body else {}
    request_id = headers.get("x-request-id", "")
    return (
        Logged(region=region, request_id=request_id, method=method, path=path, model=members.get("model", "")),
        members,
    )


class _Connection(asyncio.StreamReaderProtocol):
    """Tells when the client is gone, though bytes of a next request may be unread."""

    def __init__(self, region: _Region) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(asyncio.StreamReader(loop=loop), region.serve, loop=loop)
        self.gone = asyncio.Event()

    @classmethod
    def serving(cls, region: _Region) -> Callable[[], _Connection]:
        """What makes one for each connection to a region."""
        return lambda: cls(region)

    def eof_received(self) -> bool:
        """The client has closed."""
        self.gone.set()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, however."""
        self.gone.set()
        super().connection_lost(exc)


async def _left(writer: asyncio.StreamWriter) -> None:
    """Return when the client is gone."""
    connection = writer.transport.get_protocol()
    assert isinstance(connection, _Connection)
    await connection.gone.wait()


async def _read_up(reader: asyncio.StreamReader) -> None:
    while await reader.read(_KEPT):
        continue


def _status_in(written: bytes) -> int | None:
    """Return the status of the answer in what was written; an interim one is none."""
    status = None
    while (head := _HEAD.match(written)) is not None and (status is None or status < 200):
        status = int(head[1])
        written = written[head.end() :]
    return status if status is None or status == 101 or status >= 200 else None
