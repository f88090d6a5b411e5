"""A part of the wall once more with the caller on a real socket: the end it sees on the wire is as honest as the text."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from faults.course import body_of
from faults.due import Case, said, says_that_it_failed
from faults.fault import Stage
from faults.playing import Gate
from faults.policies import Policy
from faults.stage import FAULTS, TRANSPORT, gateway_over, site_of
from streams.wall import LIMIT, busy_connections, told, until
from support import served
from vetted_mw import VettedProxy
from vetted_mw.testing import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from faults.fault import Fault
    from faults.site import Site
    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio

NAMED = {
    "500",
    "429",
    "400, code as a number",
    "reset before headers",
    "reset in the middle",
    "closed in the middle",
    "malformed chunk",
    "silence in the middle",
    "content-length too short",
    "a second answer behind the first",
    "written byte by byte",
    "error event as the third event, after content",
    "proper end without a finish reason",
    "one of two choices cut",
    "`[DONE]`, then silence",
}
POLICIES = (Policy.DEFAULT, Policy.PINNED, Policy.CARBON_AWARE)
PART = [fault for fault in FAULTS if fault.name in NAMED]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wire:
    """An answer as it came over the wire.

    Attributes:
        exchange: status, headers and decoded body, complete when the framing says so.
        ended: how the connection ended: `closed` or `reset`.
    """

    exchange: Exchange
    ended: str


class _Door:
    """One server for the gateways of all cases: the request's id says whose it is."""

    def __init__(self) -> None:
        self.apps: dict[str, ASGIApp] = {}
        self.origin = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        await self.apps[dict(scope["headers"])[b"x-request-id"].decode()](scope, receive, send)

    async def close(self, gateway: Gateway) -> None:
        """Close a gateway in the loop of the server, where its first request opened it."""
        assert self._loop is not None
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(gateway.aclose(), self._loop))


@pytest.fixture(scope="module")
def door() -> Iterator[_Door]:
    made = _Door()
    with served(made, lifespan="off") as made.origin:
        yield made


@pytest.mark.parametrize("fault", PART, ids=str)
async def test_the_wire_ends_as_honestly_as_the_answer(fault: Fault, door: _Door) -> None:
    """Every answer is framed to its end, a whole one as whole and a broken one as the error it ends in; nothing is left."""
    cases = [
        Case(fault=fault, stream=stream, policy=policy, transport=TRANSPORT)
        for stream in (False, True)
        for policy in POLICIES
        if fault.due(stream=stream) is not None
    ]
    async with asyncio.timeout(3 * LIMIT):
        await asyncio.gather(*(_meet(case, door) for case in cases))


async def _meet(case: Case, door: _Door) -> None:
    async with site_of(case) as site:
        gateway, spans = gateway_over(site, case.fault, soon=2.0)
        door.apps[str(case)] = VettedProxy(gateway)
        wire = await _ask(door.origin, case, site)
        await until(lambda: not gateway.fleet.in_flight and not busy_connections(gateway))
        await door.close(gateway)
        await until(lambda: not site.open_connections)
    assert spans.open == 0
    assert set(site.contacted) <= set(case.policy.value.order)
    answer = told(wire.exchange)
    assert wire.ended == "closed"
    assert wire.exchange.complete, "the framing has an end"
    assert answer.attempts == case.attempts
    if case.is_whole:
        assert (answer.status, answer.complete, said(answer)) == (200, True, case.text)
    else:
        assert says_that_it_failed(answer)
        assert answer.status == (200 if case.due.stage is Stage.AFTER else case.refusal[0])


async def _ask(origin: str, case: Case, site: Site) -> _Wire:
    """Send the request and read until the connection ends."""
    host, _, port = origin.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(body_of(case, model=case.fault.model, vetted=case.policy.value.vetted)).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"host: {host}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-request-id: {case}",
        "connection: close",
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    got = bytearray()
    ended = "closed"
    try:
        while data := await reader.read(65536):
            got += data
            if b"data: " in got:
                site.was_delivered(Gate.CONTENT, str(case))
    except ConnectionResetError:
        ended = "reset"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return _Wire(exchange=_read(bytes(got)), ended=ended)


def _read(got: bytes) -> Exchange:
    """Read an answer strictly: it is complete only when its length or its last chunk says so, and nothing follows."""
    head, _, rest = got.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    named = dict(headers)
    if b"transfer-encoding" in named:
        body, whole = _unchunked(rest)
    else:
        body, whole = rest, len(rest) == int(named[b"content-length"])
    return Exchange(
        messages=(
            {"type": "http.response.start", "status": int(status.split(b" ")[1]), "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": not whole},
        )
    )


def _unchunked(rest: bytes) -> tuple[bytes, bool]:
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, rest == b"\r\n"
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    return body, False


def test_every_named_fault_is_one_of_the_wall() -> None:
    """A name that no fault has would leave a hole in this part of the wall."""
    assert {fault.name for fault in FAULTS} >= NAMED
