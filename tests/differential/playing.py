"""Send exchanges through a transport and write down everything that comes of each."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from differential.exchange import Moment
from differential.upstream import Upstream
from streams.wall import LIMIT, until
from vetted_mw.configuration import Limits
from vetted_mw.configuration import Upstream as Address
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.proxy.transport import HttpxTransport, UpstreamRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from differential.exchange import Exchange
    from differential.upstream import Heard
    from vetted_mw.proxy.outcome import Fault
    from vetted_mw.proxy.transport import Response, Transport

__all__ = ["CLIENTS", "Got", "Outcome", "Played", "played"]

CLIENTS: Mapping[str, Callable[[Address], Transport]] = {"httpx": HttpxTransport, "own": OwnTransport}
_LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
_AT_A_TIME = 40
_SHOWN = 60
_TURNS = 8
"""Turns of the event loop in which a client sees what has come over an idle connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What came of one request.

    Attributes:
        status: of the head, where one came.
        headers: of the head, in order.
        body: what was read of the body.
        fault: (outcome, whether sent, status) of what it failed with; None: it is whole.
    """

    status: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    fault: tuple[str, bool, int | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an exchange.

    Attributes:
        got: for the first request.
        then: for the second one, which the upstream answers well unless the exchange says otherwise.
        connections: how many the upstream saw; one means that the second request went over the first one's.
        requests: by which connection each request came to it.
    """

    got: Got
    then: Got
    connections: int
    requests: tuple[int, ...]

    def __str__(self) -> str:
        got, then = self.got, self.then
        body = got.body if len(got.body) <= _SHOWN else b"%b ... (%d bytes)" % (got.body[:_SHOWN], len(got.body))
        first = f"{got.status} {list(got.headers)} {body!r} {got.fault or 'whole'}"
        return f"{first}; then {then.status} {then.fault or 'whole'}; connections {self.requests}"


_HANGS = Outcome(got=Got(fault=("has no end", True, None)), then=Got(), connections=0, requests=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """All exchanges over one client.

    Attributes:
        outcomes: by name.
        tasks: those that were left at the end.
        open_connections: what was left open at the upstream once every transport was closed.
        complaints: what was told to the event loop's exception handler.
    """

    outcomes: Mapping[str, Outcome]
    tasks: tuple[str, ...]
    open_connections: int
    complaints: tuple[str, ...]


@functools.cache
def played(exchanges: tuple[Exchange, ...], client: str, loop: str) -> Played:
    """Play all exchanges over one client on one kind of event loop, once."""
    with asyncio.Runner(loop_factory=_LOOPS[loop]) as runner:
        return runner.run(_all(exchanges, CLIENTS[client]))


async def _all(exchanges: Sequence[Exchange], client: Callable[[Address], Transport]) -> Played:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(str(context)))
    turns = asyncio.Semaphore(_AT_A_TIME)

    async def one(number: int, exchange: Exchange) -> Outcome:
        base_url, heard = upstream.base_url(number, exchange.scheme), upstream.heard[exchange.name]
        async with turns:
            try:
                async with asyncio.timeout(3 * LIMIT):
                    return await _play(exchange, base_url, heard, client)
            except TimeoutError:
                return _HANGS

    async with Upstream(exchanges) as upstream:
        before = asyncio.all_tasks()
        outcomes = await asyncio.gather(*(one(number, exchange) for number, exchange in enumerate(exchanges)))
        await until(lambda: not upstream.open_connections)
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        return Played(
            outcomes={exchange.name: outcome for exchange, outcome in zip(exchanges, outcomes, strict=True)},
            tasks=tuple(repr(task) for task in left),
            open_connections=upstream.open_connections,
            complaints=tuple(complaints),
        )


async def _play(exchange: Exchange, base_url: str, heard: Heard, client: Callable[[Address], Transport]) -> Outcome:
    limits = Limits(first_byte_seconds=exchange.gives_up_after)
    transport = client(Address(region="r", base_url=base_url, limits=limits))
    try:
        got = await _send(transport, _request(exchange, exchange.upload), heard)
        if heard.requests:
            await heard.over.wait()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        then = await _send(transport, _request(exchange, 16), heard)
    finally:
        await transport.aclose()
    return Outcome(got=got, then=then, connections=heard.connections, requests=tuple(heard.requests))


async def _send(transport: Transport, request: UpstreamRequest, heard: Heard) -> Got:
    """Send a request, read its answer to the end, and close it; the upstream is told how far we are."""
    response: Response | None = None
    body = b""
    try:
        response = await transport.send(request)
        heard.moments[Moment.HEAD].set()
        while data := await response.read():
            heard.moments[Moment.BODY].set()
            body += data
    except AttemptFailedError as error:
        return _got(response, body, error.fault)
    else:
        return _got(response, body, None)
    finally:
        if response is not None:
            await response.aclose()
        for moment in Moment:
            heard.moments[moment].set()


def _request(exchange: Exchange, upload: int) -> UpstreamRequest:
    method, body = ("GET", b"") if exchange.is_probe else ("POST", b"x" * upload)
    return UpstreamRequest(
        method=method, path="/chat/completions", headers=[(b"content-type", b"application/json")], body=body
    )


def _got(response: Response | None, body: bytes, fault: Fault | None) -> Got:
    return Got(
        status=None if response is None else response.status,
        headers=() if response is None else tuple(response.headers),
        body=body,
        fault=None if fault is None else (fault.outcome.value, fault.sent, fault.status),
    )
