"""Requests that mean harm in their head or by their mass: a clear 4xx, no upstream, memory bounded, the next one served."""

from __future__ import annotations

import asyncio
import gzip
import sys
from typing import TYPE_CHECKING

import pytest

from support import HELLO, proxied
from vetted_mw.testing import FakeUpstream, asgi_exchange
from wire.alone import gateway_alone, peak_mib
from wire.clients import (
    COMPLETIONS,
    PARIS,
    STOCKHOLM,
    at_the_wire,
    chat,
    error_row,
    raw_connection,
    request_head,
)

if TYPE_CHECKING:
    import httpx

    from wire.conftest import Gate

pytestmark = pytest.mark.anyio

BODY = b'{"model":"m","messages":[]}'
MIB = 1_048_576
HIDDEN = request_head(f"content-length: {len(BODY)}") + BODY


# ---- heads no server should take


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("x-vetted-region: a\rb", id="a bare CR in a value"),
        pytest.param("x-vetted-region: a\nb: c", id="a bare LF in a value"),
        pytest.param("x-vetted-region: a\r\n b", id="a folded line"),
        pytest.param("x-vetted-region: a\0b", id="a NUL in a value"),
        pytest.param("x-vetted-region : scaleway-par-1", id="a blank before the colon"),
        pytest.param("x-vetted\rregion: a", id="a CR in a name"),
        pytest.param("no colon at all", id="no header"),
        pytest.param(f"content-length: {len(BODY)}\r\ncontent-length: 5", id="two lengths"),
        pytest.param("content-length: -1", id="a negative length"),
        pytest.param("content-length: 0x1b", id="a length in hex"),
        pytest.param("content-length: 4\r\ntransfer-encoding: chunked", id="length and chunks"),
        pytest.param("transfer-encoding: chunked\r\ncontent-length: 4", id="chunks and length"),
    ],
)
async def test_a_head_that_two_servers_could_read_differently_goes_nowhere(gate: Gate, head: str) -> None:
    """Header injection and request smuggling end in a 400 and a closed connection; what was hidden behind is not run."""
    async with raw_connection(gate.client) as connection:
        await connection.send(request_head(head) + b"0\r\n\r\n" + HIDDEN)
        answer = await connection.answer()
        await connection.rest()
    assert answer.status == 400
    assert gate.upstream.requests == []


@pytest.mark.parametrize(
    "encoding", ["chunked, identity", "xchunked", "identity, chunked, chunked", "chunked\r\ntransfer-encoding: x"]
)
async def test_a_body_framed_in_an_unclear_way_is_never_two_requests(gate: Gate, encoding: str) -> None:
    """Whatever a server makes of odd transfer encodings, the request hidden in the body reaches no upstream."""
    async with raw_connection(gate.client) as connection:
        await connection.send(request_head(f"transfer-encoding: {encoding}") + b"0\r\n\r\n" + HIDDEN)
        answer = await connection.answer()
    assert 400 <= answer.status < 500
    assert gate.upstream.requests == []


async def test_a_broken_chunk_ends_the_request(gate: Gate) -> None:
    """A chunk whose size is no number ends the connection; half a body is never taken for a whole one."""
    async with raw_connection(gate.client) as connection:
        await connection.send(request_head("transfer-encoding: chunked"), b"1b\r\n" + BODY + b"\r\nzz\r\n")
        await connection.rest()
    assert gate.upstream.requests == []


# ---- options in headers


@pytest.mark.parametrize(
    ("headers", "code", "param"),
    [
        pytest.param([("x-vetted-regoin", PARIS)], "invalid_option", "x-vetted-*", id="misspelt"),
        pytest.param([("x-vetted-", PARIS)], "invalid_option", "x-vetted-*", id="no name"),
        pytest.param([("x-vetted-tier", "auto")], "invalid_option", "x-vetted-*", id="an option without a header"),
        pytest.param([("x-vetted-decision-mode", "live")], "invalid_option", "x-vetted-*", id="a header of answers"),
        pytest.param(
            [("x-vetted-region", PARIS), ("x-vetted-region", STOCKHOLM)],
            "invalid_option",
            "x-vetted-region",
            id="repeated",
        ),
        pytest.param(
            [("x-vetted-region", PARIS), ("X-Vetted-Region", PARIS)],
            "invalid_option",
            "x-vetted-region",
            id="repeated with the same value",
        ),
        pytest.param([("x-vetted-region", "")], "invalid_option", "x-vetted-region", id="empty"),
        pytest.param([("x-vetted-region", f"{PARIS},{STOCKHOLM}")], "invalid_region", "vetted.region", id="a list"),
        pytest.param([("x-vetted-region", "pärs")], "invalid_region", "vetted.region", id="no ASCII"),
        pytest.param(
            [("x-vetted-region", PARIS), ("x-vetted-secondary-region", "moon")],
            "invalid_region",
            "vetted.secondary_region",
            id="unknown secondary",
        ),
        pytest.param([("x-vetted-routing", "carbon-aware")], "invalid_option", "x-vetted-routing", id="routing"),
        *(
            pytest.param(
                [("x-vetted-latency-budget-ms", value)],
                "invalid_option",
                "x-vetted-latency-budget-ms",
                id=f"latency {value[:6]}",
            )
            for value in ("0", "-1", "1.5", "1e3", "0x10", "", "٣", "9" * 4000)
        ),
        pytest.param(
            [("x-vetted-region", PARIS), ("x-vetted-routing", "carbon_aware")],
            "conflicting_options",
            "vetted.routing",
            id="pin and carbon-aware",
        ),
    ],
)
async def test_an_option_header_that_is_wrong_is_named_and_never_ignored(
    gate: Gate, headers: list[tuple[str, str]], code: str, param: str
) -> None:
    """Unknown, misspelt, repeated and impossible `x-vetted-*` headers are a 400 each."""
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    answer = await gate.client.post(COMPLETIONS, json=chat(), headers=encoded)
    assert error_row(answer) == (400, "validation_error", code, param)
    assert gate.upstream.requests == []


@pytest.mark.parametrize(
    ("member", "header", "name"),
    [
        ({"region": PARIS}, {"x-vetted-region": STOCKHOLM}, "region"),
        (
            {"region": PARIS, "secondary_region": STOCKHOLM},
            {"x-vetted-secondary-region": "ovh-gra-1"},
            "secondary_region",
        ),
        ({"routing": "default"}, {"x-vetted-routing": "carbon_aware"}, "routing"),
        ({"latency_budget_ms": 100}, {"x-vetted-latency-budget-ms": "101"}, "latency_budget_ms"),
    ],
)
async def test_a_body_and_a_header_that_disagree_are_a_400(
    gate: Gate, member: dict[str, object], header: dict[str, str], name: str
) -> None:
    """Neither of two contradicting options wins; the caller is told which one it is."""
    answer = await gate.client.post(COMPLETIONS, json=chat(vetted=member), headers=header)
    assert error_row(answer) == (400, "validation_error", "conflicting_options", f"vetted.{name}")
    assert gate.upstream.requests == []


async def test_a_body_and_a_header_that_agree_are_one_option() -> None:
    """Each part of the options may come by body or header, or by both when they say the same."""
    async with FakeUpstream() as paris, FakeUpstream() as stockholm:
        upstreams = {PARIS: paris.base_url, STOCKHOLM: stockholm.base_url}
        async with proxied(upstreams) as app:
            both = await asgi_exchange(
                app, json=chat(vetted={"region": STOCKHOLM}), headers=[("X-Vetted-Region", STOCKHOLM)]
            )
            split = await asgi_exchange(
                app,
                json=chat(vetted={"region": STOCKHOLM}),
                headers=[("x-vetted-secondary-region", PARIS), ("x-vetted-latency-budget-ms", "1000")],
            )
    for exchange in (both, split):
        assert exchange.json()["routing_trace"]["decision_reason"] == "pinned_region_available"
    assert (len(paris.requests), len(stockholm.requests)) == (0, 2)
    assert not [name for request in stockholm.requests for name, _ in request.headers if name.startswith("x-vetted-")]


async def test_an_upstreams_address_never_comes_from_a_request() -> None:
    """Absolute request targets, host headers, forwarding headers and query strings choose no upstream."""
    async with FakeUpstream() as paris, FakeUpstream() as elsewhere, at_the_wire({PARIS: paris.base_url}) as client:
        target = f"{elsewhere.base_url}/chat/completions"
        body = b'{"model":"m","messages":[],"base_url":"%s"}' % elsewhere.base_url.encode()
        async with raw_connection(client) as connection:
            head = request_head(
                f"content-length: {len(body)}",
                f"x-forwarded-host: {elsewhere.base_url}",
                path=f"{COMPLETIONS}?u={target}",
            )
            await connection.send(head.replace(b"host: gateway", b"host: " + elsewhere.base_url[7:-3].encode()), body)
            answer = await connection.answer()
    assert answer.status == 200
    assert [request.path for request in paris.requests] == ["/v1/chat/completions"]
    assert elsewhere.requests == elsewhere.others == []


# ---- mass


async def flood(client: httpx.AsyncClient, head: bytes, part: bytes, *, times: int) -> int:
    """Send a request whose body is `part` again and again, its answer notwithstanding; returns the answer's status."""
    async with raw_connection(client) as connection:
        await connection.send(head, *[part] * min(times, 18))
        answer = await connection.answer()
        await connection.send_until_refused(part, times=times - 18)
        return answer.status


@pytest.mark.skipif(sys.platform == "win32", reason="asks POSIX for the peak of memory")
async def test_twenty_oversized_uploads_at_once_do_not_grow_the_process() -> None:
    """Twenty callers that send 24 times the limit, and twenty more whose bodies decode to a hundred times, all at once."""
    plain = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    bomb = gzip.compress(b" " * (100 * MIB))
    packed = request_head("content-encoding: gzip", f"content-length: {len(bomb)}")
    async with gateway_alone(base_url="http://127.0.0.1:9/v1", max_body_bytes=MIB, drained=True) as client:
        assert (await client.post(COMPLETIONS, json={"model": "m", "messages": HELLO})).status_code == 503
        before = await peak_mib(client)
        async with asyncio.timeout(60):
            statuses = await asyncio.gather(
                *(flood(client, request_head("transfer-encoding: chunked"), plain, times=384) for _ in range(10)),
                *(flood(client, request_head("content-length: 25165824"), b" " * 65_536, times=384) for _ in range(10)),
                *(flood(client, packed, bomb, times=1) for _ in range(20)),
            )
        grown = await peak_mib(client) - before
        after = await client.post(COMPLETIONS, json={"model": "m", "messages": HELLO})
    assert set(statuses) == {413}
    assert after.status_code == 503  # its one region is drained: the gateway itself is well
    assert grown < 150  # of 480 MiB sent and 2000 MiB packed
