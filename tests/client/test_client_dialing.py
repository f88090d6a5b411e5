"""New connections: lookup, both families, staggered attempts, and nothing left of those that lost."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from client.peers import OK, Peer, Peers, completion, door, fault_of, whole
from streams.wall import LIMIT, nowhere, until
from vetted_mw.configuration import Limits
from vetted_mw.proxy.own import dialing

if TYPE_CHECKING:
    from collections.abc import Callable

    from vetted_mw.proxy.own.dialing import Address

pytestmark = pytest.mark.anyio

V4, V6 = socket.AF_INET, socket.AF_INET6


async def well(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.request()
        await peer.say(OK)


def found(*addresses: tuple[socket.AddressFamily, str]) -> list[tuple[Any, ...]]:
    """What the system says of a name."""
    return [(family, socket.SOCK_STREAM, 6, "", (address, 1)) for family, address in addresses]


def test_the_families_take_turns_in_the_systems_order() -> None:
    """So one broken family costs one head start and not one per address."""
    six = found((V6, "::1"), (V6, "::2"), (V6, "::3"), (V4, "1"), (V4, "2"))
    assert [address[0] for _family, address in dialing.interleaved(six)] == ["::1", "1", "::2", "2", "::3"]
    four = found((V4, "1"), (V6, "::1"))
    assert [address[0] for _family, address in dialing.interleaved(four)] == ["1", "::1"]
    assert dialing.interleaved([]) == []


# ---- attempts


class Attempts:
    """Stands in for connecting: each address does as told.

    Args:
        does: host -> an error, or the number of attempts that must have begun until it connects, or None for never.
    """

    def __init__(self, does: dict[str, OSError | int | None]) -> None:
        self.begun: list[str] = []
        self.closed: list[str] = []
        self._does = does

    async def __call__(self, address: Address) -> socket.socket:
        host = address[1][0]
        self.begun.append(host)
        does = self._does[host]
        try:
            if isinstance(does, OSError):
                raise does
            while does is None or len(self.begun) < does:  # noqa: ASYNC110 (several conditions, none with an event)
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.closed.append(host)
            raise
        return _Named(host, self.closed)


class _Named(socket.socket):
    """A socket that tells when it is closed."""

    def __init__(self, name: str, closed: list[str]) -> None:
        super().__init__()
        self.name = name
        self._told = closed

    def close(self) -> None:
        super().close()
        self._told.append(self.name)


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")

RACES: dict[str, tuple[dict[str, OSError | int | None], str, list[str]]] = {
    "the first answers": ({"a": 0, "b": 0}, "a", ["a"]),
    "the first is refused": ({"a": REFUSED, "b": 0, "c": 0}, "b", ["a", "b"]),
    "all but the last are refused": ({"a": REFUSED, "b": REFUSED, "c": 0}, "c", ["a", "b", "c"]),
    "the first is silent": ({"a": None, "b": 0, "c": 0}, "b", ["a", "b"]),
    "the first is slow": ({"a": 3, "b": None, "c": None}, "a", ["a", "b", "c"]),
    "the first is silent and the next refused": ({"a": None, "b": REFUSED, "c": 0}, "c", ["a", "b", "c"]),
}


@pytest.mark.parametrize(("does", "winner", "begun"), RACES.values(), ids=RACES)
async def test_the_first_that_connects_is_taken_and_the_others_are_closed(
    does: dict[str, OSError | int | None], winner: str, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a head start on the next; one that fails gives way at once; those that came too late leave nothing."""
    attempts = Attempts(does)
    monkeypatch.setattr(dialing, "_connected", attempts)
    monkeypatch.setattr(dialing, "_HEAD_START_SECONDS", 0.01)
    before = asyncio.all_tasks()
    async with asyncio.timeout(LIMIT):
        won = await dialing.first_connected([(V4, (host, 1)) for host in does])
    assert isinstance(won, _Named)
    assert (won.name, attempts.begun) == (winner, begun)
    assert sorted(attempts.closed) == [host for host in begun if host != winner and not isinstance(does[host], OSError)]
    assert asyncio.all_tasks() == before
    won.close()


async def test_where_none_connects_the_last_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a name without any address is a failure too."""
    monkeypatch.setattr(dialing, "_connected", Attempts({"a": REFUSED, "b": REFUSED}))
    with pytest.raises(ConnectionRefusedError):
        await dialing.first_connected([(V4, ("a", 1)), (V4, ("b", 1))])
    with pytest.raises(OSError, match="no address"):
        await dialing.first_connected([])


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancel_in_the_midst_of_the_attempts_closes_them_all(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task and no socket is left, at whichever moment it comes."""
    attempts = Attempts({"a": None, "b": None, "c": None})
    monkeypatch.setattr(dialing, "_connected", attempts)
    monkeypatch.setattr(dialing, "_HEAD_START_SECONDS", 0.0)
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(dialing.first_connected([(V4, (host, 1)) for host in "abc"]))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(attempts.closed) == sorted(attempts.begun)
    assert asyncio.all_tasks() == before


# ---- on sockets


def has_six() -> bool:
    """Whether the machine has an IPv6 loopback."""
    try:
        with socket.create_server(("::1", 0), family=V6):
            return True
    except OSError:
        return False


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let a name lead to addresses; returns what was looked up."""
    asked: list[str] = []

    def lead(*addresses: tuple[socket.AddressFamily, str]) -> list[str]:
        async def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
            asked.append(host)
            return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in addresses]

        monkeypatch.setattr(dialing, "_looked_up", getaddrinfo)
        return asked

    return lead


async def test_a_name_is_looked_up_for_every_new_connection_and_only_for_those(names: Callable[..., list[str]]) -> None:
    """An upstream that moves is found again, and a request over an idle connection asks nobody."""
    asked = names((V4, "127.0.0.1"))
    async with Peers(well) as peers, door(f"http://model.example:{peers.port}/v1") as client:
        for _ in range(3):
            await whole(client)
        assert asked == ["model.example"]
        client._idle[-1].abort()
        await whole(client)
        assert asked == ["model.example"] * 2
        assert b"\r\nhost: model.example:%d\r\n" % peers.port in peers.seen[0]


async def test_an_upstream_that_moved_is_found_again(names: Callable[..., list[str]]) -> None:
    """The next connection goes where the name leads then."""
    names((V4, "127.0.0.2"))
    async with Peers(well, host="127.0.0.2") as peers, door(f"http://model.example:{peers.port}/v1") as client:
        await whole(client)
        client._idle[-1].abort()
        names((V4, "127.0.0.1"))
        assert (await fault_of(client))[0] == "connect_error"
        names((V4, "127.0.0.1"), (V4, "127.0.0.2"))
        assert await whole(client) == (200, b"{}")


async def test_a_family_in_which_nobody_listens_costs_nothing(names: Callable[..., list[str]]) -> None:
    """A name with an address that refuses is reached over its other one."""
    names((V6, "::1"), (V4, "127.0.0.1"))
    async with Peers(well) as peers, door(f"http://model.example:{peers.port}/v1") as client:
        assert await whole(client) == (200, b"{}")


@pytest.mark.skipif(not has_six(), reason="no IPv6 loopback")
async def test_an_address_of_six_is_reached_as_it_is_written() -> None:
    """With brackets in the URL and in `host`, and without them to the socket."""
    async with Peers(well, host="::1") as peers, door(peers.base_url) as client:
        assert await whole(client) == (200, b"{}")
        assert b"\r\nhost: [::1]:%d\r\n" % peers.port in peers.seen[0]


async def test_a_name_that_leads_nowhere_is_a_failed_connection() -> None:
    """By the real resolver: nothing was sent."""
    async with door("http://model.example.invalid:8000/v1") as client, asyncio.timeout(LIMIT):
        assert await fault_of(client) == ("connect_error", False, None)


async def test_a_name_that_no_resolver_can_be_asked_for_is_a_failed_connection() -> None:
    """It is the setting's fault, and not an error of ours in every request."""
    async with door(f"http://{'a' * 64}.example:9/v1") as client:
        assert await fault_of(client) == ("connect_error", False, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The few threads that wait for resolvers may all hang in another region's name."""

    async def hung(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("asked")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hung, raising=False)
    (found,) = await dialing._looked_up(host, 443)
    assert (found[0], found[4]) == (V6 if ":" in host else V4, (host, 443))


async def test_a_lookup_that_hangs_is_given_up_at_the_connect_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one limit is over lookup, TCP and TLS."""

    async def hangs(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(dialing, "_looked_up", hangs)
    async with door("http://model.example/v1", limits=Limits(connect_seconds=0.1)) as client, asyncio.timeout(LIMIT):
        assert await fault_of(client) == ("connect_timeout", False, None)


async def test_a_connect_tells_how_long_tcp_took_and_an_idle_connection_nothing() -> None:
    """It is a sample of the network's latency, so neither the lookup nor TLS is in it."""
    took: list[float] = []
    async with Peers(well) as peers, door(peers.base_url) as client:
        for _ in range(3):
            await whole(client, completion(on_connected=took.append))
    assert len(took) == 1
    assert took[0] >= 0


async def test_where_nobody_listens_nothing_was_sent() -> None:
    """The request's own note of it is not called."""
    sent: list[str] = []
    async with nowhere() as none, door(none.base_url) as client:
        assert await fault_of(client, completion(on_sent=lambda: sent.append("sent"))) == ("connect_error", False, None)
    assert sent == []


async def test_a_peer_that_speaks_before_it_is_asked_is_not_asked() -> None:
    """What it says cannot be an answer, and it is none to trust."""

    async def speaks(peer: Peer) -> None:
        await peer.say(b"220 mail.example ESMTP\r\n")
        await peer.until_left()

    async with Peers(speaks) as peers, door(peers.base_url) as client:
        outcome, _sent, status = await fault_of(client)
        assert (outcome, status) in {("connect_error", None), ("upstream_cut", None)}


NAME = contextvars.ContextVar("name", default="nobody's")


async def test_a_connection_belongs_to_no_request(
    names: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It outlives the one it was made for, whose context, with all that hangs on it, is not kept with it."""
    names((V4, "127.0.0.1"))
    seen: list[str] = []
    NAME.set("the first caller's")
    async with Peers(well) as peers, door(f"http://model.example:{peers.port}/v1") as client:
        looked_up = dialing._looked_up

        async def noted(*args: Any, **options: Any) -> Any:
            seen.append(NAME.get())
            return await looked_up(*args, **options)

        monkeypatch.setattr(dialing, "_looked_up", noted)
        await whole(client)
    assert seen == ["nobody's"]


# ---- closing


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_client_that_closes_ends_what_is_being_connected(scheme: str) -> None:
    """Whoever waited for it is told that there is no connection, and no socket is left."""

    async def silent(peer: Peer) -> None:
        await peer.until_left()

    async with Peers(silent) as peers, asyncio.timeout(LIMIT):
        async with door(f"{scheme}://127.0.0.1:{peers.port}/v1") as client:
            asking = asyncio.ensure_future(fault_of(client))
            await (until(lambda: peers.open == 1) if scheme == "https" else asyncio.sleep(0))
            await client.aclose()
            assert await asking == ("connect_error", False, None)
            assert await fault_of(client) == ("connect_error", False, None)
        await until(lambda: peers.open == 0)


async def test_a_client_that_closes_ends_what_is_in_use_and_may_be_closed_again() -> None:
    """A reader is told of the cut; closing what was closed does nothing."""

    async def stalls(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}")
        await peer.until_left()

    async with Peers(stalls) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        response = await client.send(completion())
        assert await response.read() == b"{}"
        reading = asyncio.ensure_future(response.read())
        await asyncio.sleep(0)
        await client.aclose()
        await client.aclose()
        error = (await asyncio.gather(reading, return_exceptions=True))[0]
        assert str(error) == "upstream_cut"
        await response.aclose()
        await response.aclose()
        await until(lambda: peers.open == 0)


async def test_nothing_is_left_of_a_client() -> None:
    """No task, no socket, no timer's callback that fails, and nobody to complain in the collector."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    before = asyncio.all_tasks()
    async with Peers(well) as peers:
        before_connections = asyncio.all_tasks()
        async with door(peers.base_url) as client:
            await asyncio.gather(*(whole(client) for _ in range(5)))
            wires = list(client._idle)
        assert [wire.is_lost for wire in wires] == [True] * 5
        await until(lambda: asyncio.all_tasks() == before_connections)
    await until(lambda: asyncio.all_tasks() == before)
    del client, wires
    gc.collect()
    assert complaints == []
