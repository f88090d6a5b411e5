"""The door to one upstream: what leaves through it, what it ignores, and that its slots come back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from proxy.tunnels import ConnectProxy, made_certificate, tls_in_front_of
from streams.wall import LIMIT, RawUpstream, nowhere, until
from vetted_mw.configuration import Limits, Upstream
from vetted_mw.errors import ConfigurationError
from vetted_mw.proxy.connection import closed_surely
from vetted_mw.proxy.doors import DOORS
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.proxy.transport import HttpxTransport, UpstreamRequest
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.transport import Response, Transport

pytestmark = pytest.mark.anyio

JSON: Headers = [(b"content-type", b"application/json")]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each on both event loops."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


Door = HttpxTransport | OwnTransport


class Doors:
    """Makes doors of one kind.

    Args:
        made: makes the door to one upstream.
    """

    def __init__(self, made: Callable[[Upstream], Transport]) -> None:
        self._made = made

    @contextlib.asynccontextmanager
    async def __call__(self, base_url: str, *, limits: Limits | None = None, **settings: Any) -> AsyncIterator[Door]:
        """Open one, and close it."""
        transport = self._made(Upstream(region="r", base_url=base_url, limits=limits or Limits(), **settings))
        assert isinstance(transport, Door)
        try:
            yield transport
        finally:
            await transport.aclose()


@pytest.fixture(params=sorted(DOORS))
def door_to(request: pytest.FixtureRequest) -> Doors:
    """What each setting of `transport` makes."""
    return Doors(DOORS[request.param])


def _completion(body: bytes = b'{"messages":[]}') -> UpstreamRequest:
    return UpstreamRequest(method="POST", path="/chat/completions", headers=JSON, body=body)


async def _whole(transport: Door, request: UpstreamRequest) -> tuple[int, Headers, bytes]:
    response = await transport.send(request)
    try:
        return response.status, response.headers, await _body(response)
    finally:
        await response.aclose()


async def _body(response: Response) -> bytes:
    parts = []
    while part := await response.read():
        parts.append(part)
    return b"".join(parts)


async def _failed(transport: Door) -> tuple[str, bool]:
    """Send a completion that cannot succeed; returns the outcome and whether anything of it was sent."""
    with pytest.raises(AttemptFailedError) as caught:
        await _whole(transport, _completion())
    assert caught.value.__cause__ is None
    return caught.value.fault.outcome.value, caught.value.fault.sent


def _taken(transport: Door) -> list[str]:
    """Connections that are neither idle nor closed."""
    return [repr(one) for one in transport._busy]


async def _all_closed_but_idle(transport: Door, upstream: FakeUpstream) -> None:
    """Wait until the upstream sees no connection that is not an idle one of the pool."""
    await until(lambda: upstream.open_connections <= len(transport._idle))


# ---- what leaves


async def test_a_completion_leaves_with_the_headers_given_and_what_http_needs_and_nothing_else(door_to: Doors) -> None:
    """No user agent, no accept, no encoding of the library's own: the allow-list is the whole list."""
    async with FakeUpstream() as upstream, door_to(upstream.base_url) as door:
        await _whole(door, _completion())
    sent = upstream.requests[0]
    assert (sent.method, sent.path, sent.body) == ("POST", "/v1/chat/completions", b'{"messages":[]}')
    host = upstream.base_url.removeprefix("http://").removesuffix("/v1")
    assert sorted(sent.headers) == [("content-length", "15"), ("content-type", "application/json"), ("host", host)]


@pytest.mark.parametrize(
    ("base", "path", "from_origin", "expected"),
    [
        ("/v1", "/models", False, "/v1/models"),
        ("/v1", "/health", True, "/health"),
        ("", "/models", False, "/models"),
        ("/a%2Fb/v1", "/models", False, "/a%2Fb/v1/models"),
        ("/v1", "/health%20check", True, "/health%20check"),
    ],
)
async def test_a_path_is_appended_to_the_base_or_to_the_origin_with_its_own_bytes(
    door_to: Doors, base: str, path: str, from_origin: bool, expected: str
) -> None:
    """Escapes in the operator's URL stay as they were written."""
    async with FakeUpstream() as upstream, door_to(upstream.base_url.removesuffix("/v1") + base) as door:
        await _whole(door, UpstreamRequest(method="GET", path=path, headers=[], from_origin=from_origin))
    assert [(one.method, one.path, one.body, one.header("content-length")) for one in upstream.others] == [
        ("GET", expected, b"", None)
    ]


async def test_an_answer_comes_as_it_was_sent_with_header_names_in_lower_case(door_to: Doors) -> None:
    """Repeated headers stay apart, and the body is neither decoded nor joined over."""
    answer = FakeAnswer(
        status=207, headers=[("X-Twice", "a"), ("x-twice", "B"), ("Content-Encoding", "gzip")], body=[b"not gzip"]
    )
    async with FakeUpstream().then(answer) as upstream, door_to(upstream.base_url) as door:
        status, headers, body = await _whole(door, _completion())
    assert (status, body) == (207, b"not gzip")
    assert headers == [
        (b"x-twice", b"a"),
        (b"x-twice", b"B"),
        (b"content-encoding", b"gzip"),
        (b"content-length", b"8"),
    ]


# ---- what is ignored


async def test_the_environment_is_ignored(door_to: Doors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither proxy variables nor a certificate file nor a `.netrc` of the process has a say."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password secret\n")
    async with FakeUpstream() as upstream, FakeUpstream() as trap:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, trap.base_url.removesuffix("/v1"))
            monkeypatch.setenv(name.lower(), trap.base_url.removesuffix("/v1"))
        for name, value in (("NO_PROXY", ""), ("NETRC", str(netrc)), ("SSL_CERT_FILE", str(netrc))):
            monkeypatch.setenv(name, value)
        async with door_to(upstream.base_url) as door:
            assert (await _whole(door, _completion()))[0] == 200
        assert (trap.requests, trap.others, trap.open_connections) == ([], [], 0)
    assert upstream.requests[0].header("authorization") is None


# ---- an egress proxy


async def test_an_egress_proxy_gets_the_whole_url_of_a_plain_upstream(door_to: Doors) -> None:
    """The request goes to the proxy in absolute form; the upstream's name is the proxy's to resolve."""
    async with FakeUpstream() as proxy:
        url = proxy.base_url.removesuffix("/v1")
        async with door_to("http://model.example.invalid:8000/v1", proxy=url) as door:
            assert (await _whole(door, _completion()))[0] == 200
    sent = proxy.requests[0]
    assert sent.path == "http://model.example.invalid:8000/v1/chat/completions"
    assert sent.header("host") == "model.example.invalid:8000"


async def test_an_egress_proxy_tunnels_to_a_tls_upstream_and_sees_its_address_only(
    door_to: Doors, tmp_path: Path
) -> None:
    """TLS ends at the upstream, by the authority of `ca_file`; the proxy is asked to connect once."""
    made = made_certificate(tmp_path)
    async with FakeUpstream() as upstream, tls_in_front_of(upstream.base_url, made) as secure, ConnectProxy() as proxy:
        async with door_to(secure, proxy=proxy.url, ca_file=str(made.certificate)) as door:
            for _ in range(2):
                assert (await _whole(door, _completion()))[0] == 200
        assert proxy.targets == [secure.removeprefix("https://").removesuffix("/v1")]
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_is_a_connection_that_failed(door_to: Doors, status: int) -> None:
    """Nothing was sent to the upstream, and the slot is free again."""
    async with ConnectProxy(status) as proxy, door_to("https://model.example.invalid/v1", proxy=proxy.url) as door:
        assert await _failed(door) == ("connect_error", False)
        assert _taken(door) == []


async def test_a_proxy_that_says_nothing_is_given_up_at_the_connect_limit(door_to: Doors) -> None:
    """The limit holds for the CONNECT as it does for TCP and TLS."""
    limits = Limits(connect_seconds=0.2)
    async with (
        asyncio.timeout(LIMIT),
        ConnectProxy(None) as proxy,
        door_to("https://model.example.invalid/v1", proxy=proxy.url, limits=limits) as door,
    ):
        assert await _failed(door) == ("connect_timeout", False)
        await proxy.left.wait()
        assert _taken(door) == []


async def test_a_tls_failure_behind_a_proxy_costs_no_slot(door_to: Doors, tmp_path: Path) -> None:
    """However often the handshake through the tunnel fails, the pool stays whole."""
    made = made_certificate(tmp_path)
    async with FakeUpstream() as upstream, tls_in_front_of(upstream.base_url, made) as secure, ConnectProxy() as proxy:
        async with door_to(secure, proxy=proxy.url, limits=Limits(max_in_flight=1)) as door, asyncio.timeout(LIMIT):
            for _ in range(4):
                assert await _failed(door) == ("tls_error", False)
                assert _taken(door) == []
        assert len(proxy.targets) == 4
    assert upstream.requests == []


# ---- TLS


async def test_a_private_authority_is_trusted_where_it_is_named_and_nowhere_else(
    door_to: Doors, tmp_path: Path
) -> None:
    """With `ca_file` the upstream is reached; without it the handshake fails and nothing was sent."""
    made = made_certificate(tmp_path)
    async with FakeUpstream() as upstream, tls_in_front_of(upstream.base_url, made) as secure:
        async with door_to(secure, ca_file=str(made.certificate)) as door:
            assert (await _whole(door, _completion()))[0] == 200
        async with door_to(secure) as door:
            assert await _failed(door) == ("tls_error", False)
            assert _taken(door) == []
        assert len(upstream.requests) == 1


async def test_a_certificate_of_another_name_is_refused(door_to: Doors, tmp_path: Path) -> None:
    """The authority alone is not enough: the name must be the upstream's."""
    made = made_certificate(tmp_path, name="DNS:elsewhere.example")
    async with FakeUpstream() as upstream, tls_in_front_of(upstream.base_url, made) as secure:
        async with door_to(secure, ca_file=str(made.certificate)) as door:
            assert await _failed(door) == ("tls_error", False)
        assert upstream.requests == []


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["missing", "empty", "rubbish"])
async def test_an_authority_that_cannot_be_read_is_told_by_its_key(
    door_to: Doors, content: bytes | None, tmp_path: Path
) -> None:
    """The error names `regions.CODE.ca_file`, and no path or text of the file is needed to mend it."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"regions\.r\.ca_file") as caught:
        async with door_to("https://model.example/v1", ca_file=str(path)):
            pass
    assert caught.value.remedy


# ---- connections


async def test_nothing_connects_before_the_first_request_and_idle_connections_close_with_thedoor_to(
    door_to: Doors,
) -> None:
    """A door is made without I/O, keeps its connection for the next request, and leaves none open."""
    async with FakeUpstream() as upstream:
        async with door_to(upstream.base_url) as door:
            assert upstream.open_connections == 0
            for _ in range(3):
                await _whole(door, _completion())
            assert upstream.open_connections == 1
        await until(lambda: upstream.open_connections == 0)


async def test_connections_idle_for_too_long_are_closed(door_to: Doors) -> None:
    """What a burst has left open goes with the first request after its time, and the youngest serve until then."""
    gate = asyncio.Event()
    limits = Limits(idle_connection_seconds=0.2)
    async with FakeUpstream() as upstream, door_to(upstream.base_url, limits=limits) as door, asyncio.timeout(LIMIT):
        upstream.then(*[FakeAnswer(body=[gate, b"{}"], chunked=True)] * 5)
        burst = [asyncio.ensure_future(_whole(door, _completion())) for _ in range(5)]
        await until(lambda: len(upstream.requests) == 5)
        gate.set()
        await asyncio.gather(*burst)
        assert upstream.open_connections == 5
        over = time.monotonic() + 0.3
        await until(lambda: time.monotonic() > over)
        await _whole(door, _completion())
        await until(lambda: upstream.open_connections == 1)


async def test_idle_connections_are_closed_even_when_nobody_sends_any_more(door_to: Doors) -> None:
    """A burst, and then silence without probes: after their time the sockets are given back, and none waits for the next."""
    gate = asyncio.Event()
    limits = Limits(idle_connection_seconds=0.1)
    async with FakeUpstream() as upstream, door_to(upstream.base_url, limits=limits) as door, asyncio.timeout(LIMIT):
        upstream.then(*[FakeAnswer(body=[gate, b"{}"], chunked=True)] * 5)
        burst = [asyncio.ensure_future(_whole(door, _completion())) for _ in range(5)]
        await until(lambda: len(upstream.requests) == 5)
        gate.set()
        await asyncio.gather(*burst)
        await until(lambda: upstream.open_connections == 0)
        assert not door._idle
        await _whole(door, _completion())  # and the door is as good as new, its sweep too
        await until(lambda: upstream.open_connections == 0)


async def test_a_door_that_closes_closes_what_is_in_use(door_to: Doors) -> None:
    """The gateway's end leaves no connection behind, and one given back later is not kept."""
    async with FakeUpstream() as upstream, asyncio.timeout(LIMIT):
        upstream.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        async with door_to(upstream.base_url) as door:
            response = await door.send(_completion())
            await door.aclose()
            await upstream.requests[0].left.wait()
            await response.aclose()
            assert (_taken(door), list(door._idle)) == ([], [])
        await until(lambda: upstream.open_connections == 0)


async def test_an_idle_connection_that_the_upstream_closed_costs_no_attempt(door_to: Doors) -> None:
    """A server that restarted between two requests is simply connected to again."""
    async with FakeUpstream() as upstream, door_to(upstream.base_url) as door:
        await _whole(door, _completion())
        await upstream.stop()
        await upstream.start()
        assert (await _whole(door, _completion()))[0] == 200


async def test_leftovers_of_one_answer_never_become_the_next_one(door_to: Doors) -> None:
    """Bytes beyond `content-length` are not read as the answer to somebody else's request."""
    poisoned = FakeAnswer(headers=[("content-length", "2")], body=[b'{}{"stolen": true}'])
    async with FakeUpstream().then(poisoned) as upstream, door_to(upstream.base_url) as door:
        assert (await _whole(door, _completion()))[2] == b"{}"
        body = b""
        with contextlib.suppress(AttemptFailedError):
            body = (await _whole(door, _completion()))[2]
        assert b"stolen" not in body


async def test_as_many_completions_as_the_cap_run_at_once_and_a_probe_beside_them(door_to: Doors) -> None:
    """The pool is no second queue: nobody who holds a lease waits for a slot, nor does a probe."""
    gate = asyncio.Event()
    cap = 3
    async with FakeUpstream() as upstream, door_to(upstream.base_url, limits=Limits(max_in_flight=cap)) as door:
        upstream.then(*[FakeAnswer(body=[gate, b"{}"], chunked=True)] * cap)
        async with asyncio.timeout(LIMIT):
            waiting = [asyncio.ensure_future(_whole(door, _completion())) for _ in range(cap)]
            await until(lambda: len(upstream.requests) == cap)
            probe = UpstreamRequest(method="GET", path="/health", headers=[], from_origin=True)
            assert (await _whole(door, probe))[0] == 200
            gate.set()
            assert [body for _status, _headers, body in await asyncio.gather(*waiting)] == [b"{}"] * cap


async def test_doors_have_pools_of_their_own(door_to: Doors) -> None:
    """A region whose connections all hang takes nothing from another one's."""
    small = Limits(max_in_flight=1)
    async with (
        RawUpstream(ending="stall") as hanging,
        FakeUpstream() as well,
        door_to(hanging.base_url, limits=small) as first,
        door_to(well.base_url, limits=small) as second,
    ):
        stuck = [asyncio.ensure_future(_whole(first, _completion())) for _ in range(2)]
        await until(lambda: len(hanging.requests) == 2)
        async with asyncio.timeout(LIMIT):
            assert (await _whole(second, _completion()))[0] == 200
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert (_taken(first), _taken(second)) == ([], [])


async def test_a_reader_that_stops_reading_stops_the_upstream(door_to: Doors) -> None:
    """A caller that does not read makes the upstream wait; nothing piles up in between but what the sockets hold."""
    part, pieces = b"x" * 65536, 600
    total = len(part) * pieces
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total
    async with RawUpstream(head, *[part] * pieces) as upstream, door_to(upstream.base_url) as door:
        response = await door.send(_completion())
        read = len(await response.read())
        for _ in range(20 * pieces):  # turns in which the upstream could have written all of it several times over
            await asyncio.sleep(0)
        assert upstream.written < total
        async with asyncio.timeout(LIMIT):
            read += len(await _body(response))
        await response.aclose()
    assert read == total


# ---- cancelled


@pytest.mark.parametrize("again", [None, 0, 1, 2, 3, 4], ids=lambda again: f"again_after_{again}")
async def test_a_cancel_at_any_moment_and_a_second_one_leak_no_slot(door_to: Doors, again: int | None) -> None:
    """Cancelled at every step of connecting, sending and reading, and again while cleaning up: the pool stays whole."""
    reached: set[str] = set()
    async with FakeUpstream() as upstream, door_to(upstream.base_url, limits=Limits(max_in_flight=2)) as door:
        for steps in range(2000):
            upstream.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
            task = asyncio.ensure_future(_read_until_cancelled(door, reached))
            await _cancelled_after(task, steps, again)
            assert _taken(door) == []
            await _all_closed_but_idle(door, upstream)
            upstream._script.clear()
            if steps >= 60 and len(reached) == 2:  # on a busy machine the sockets take more turns of the loop
                break
    assert reached == {"head", "part"}


async def _read_until_cancelled(door: Door, reached: set[str]) -> None:
    response = await door.send(_completion())
    try:
        reached.add("head")
        while await response.read():
            reached.add("part")
    finally:
        await response.aclose()


async def _cancelled_after(task: asyncio.Task[None], steps: int, again: int | None) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    if again is not None:
        for _ in range(again):
            await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("behind_proxy", [False, True], ids=["direct", "behind a proxy"])
async def test_a_cancel_during_the_tls_handshake_closes_the_socket(door_to: Doors, behind_proxy: bool) -> None:
    """The upstream sees the connection close, and its slot is free."""
    async with RawUpstream(ending="stall", reads=False, scheme="https") as silent, ConnectProxy() as proxy:
        settings: dict[str, Any] = {"proxy": proxy.url} if behind_proxy else {}
        async with door_to(silent.base_url, **settings) as door, asyncio.timeout(LIMIT):
            task = asyncio.ensure_future(_whole(door, _completion()))
            await silent.heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await silent.left.wait()
            assert _taken(door) == []


async def test_a_tls_handshake_that_is_given_up_closes_the_socket(door_to: Doors) -> None:
    """So does the connect limit when it ends a handshake."""
    limits = Limits(connect_seconds=0.3)
    async with (
        asyncio.timeout(LIMIT),
        RawUpstream(ending="stall", reads=False, scheme="https") as silent,
        door_to(silent.base_url, limits=limits) as door,
    ):
        assert await _failed(door) == ("connect_timeout", False)
        await silent.left.wait()
        assert _taken(door) == []


async def test_a_refused_connection_and_a_reset_one_are_told_apart(door_to: Doors) -> None:
    """Whether anything was sent decides what a failure may have cost."""
    async with nowhere() as none, door_to(none.base_url) as door:
        assert await _failed(door) == ("connect_error", False)
    async with RawUpstream(ending="reset") as resetting, door_to(resetting.base_url) as door:
        assert await _failed(door) == ("upstream_cut", True)


async def test_a_request_body_that_nobody_reads_is_given_up(door_to: Doors) -> None:
    """An upstream that takes the connection and not the request ends at the first-byte limit."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        async with door_to(url, limits=Limits(first_byte_seconds=0.3)) as door, asyncio.timeout(LIMIT):
            with pytest.raises(AttemptFailedError) as caught:
                await _whole(door, _completion(b"x" * 64_000_000))
            assert (caught.value.fault.outcome.value, caught.value.fault.sent) == ("first_byte_timeout", True)
            assert _taken(door) == []


# ---- closing for sure


async def test_what_must_be_closed_is_closed_before_a_cancel_goes_on() -> None:
    """`closed_surely` swallows every cancel until the closing has ended, and then is cancelled itself."""
    go_on, closed = asyncio.Event(), asyncio.Event()

    async def closing() -> None:
        await go_on.wait()
        closed.set()

    task = asyncio.ensure_future(closed_surely(closing()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


async def test_a_failure_while_closing_is_not_hidden() -> None:
    """What the closing raises is raised."""

    async def closing() -> None:
        await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        await closed_surely(closing())
