"""A new connection: the address looked up, tried in both families, and TLS on top."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.proxy.connection import closed_surely
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.proxy.patience import Patience
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vetted_mw.proxy.own.wire import Wire

__all__ = ["Address", "Origin", "dialed", "first_connected", "interleaved"]

_HEAD_START_SECONDS = 0.25  # RFC 8305, section 5
_LEAST_HANDSHAKE_SECONDS = 60.0

Address = tuple[socket.AddressFamily, Any]
"""A family, and what its sockets connect to."""

Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""An address as the system tells it."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where an upstream listens.

    Attributes:
        host: its name, or its address without brackets.
        port: its port.
        tls: what its certificate is verified with; None: plain.
        connect_seconds: limit over lookup, TCP and TLS.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    connect_seconds: float


async def dialed(origin: Origin, made: Callable[[], Wire], on_connected: Callable[[float], None]) -> Wire:
    """Connect anew, with the address looked up anew.

    Args:
        origin: where to.
        made: makes the connection's protocol.
        on_connected: called with the seconds that TCP took.

    Raises:
        AttemptFailedError: there is no connection, and no socket is left of the attempt.
    """
    try:
        async with Patience(origin.connect_seconds):
            return await _dialed(origin, made, on_connected)
    except ssl.SSLError:
        outcome = AttemptOutcome.TLS_ERROR
    except TimeoutError:
        outcome = AttemptOutcome.CONNECT_TIMEOUT
    except (OSError, UnicodeError):  # the latter of a name that no resolver can be asked for
        outcome = AttemptOutcome.CONNECT_ERROR
    # Outside of the handlers: what was raised can hold a name or an address.
    raise AttemptFailedError(Fault(outcome=outcome, sent=False))


async def _dialed(origin: Origin, made: Callable[[], Wire], on_connected: Callable[[float], None]) -> Wire:
    loop = asyncio.get_running_loop()
    addresses = interleaved(await _looked_up(origin.host, origin.port))
    began = time.monotonic()
    connected = await first_connected(addresses)
    on_connected(time.monotonic() - began)
    # From here on the socket is the event loop's, which closes it whatever happens. Were it closed here as well, the
    # next one could have its number while the loop still believes to know whose it is.
    try:
        if origin.tls is None:
            return (await loop.create_connection(made, sock=connected))[1]
        return await _secured(loop, connected, origin, made)
    except BaseException:
        if type(loop).__module__.startswith("uvloop"):
            connected.detach()  # older ones close what they were given and leave the number in our hands
        raise


async def _looked_up(host: str, port: int) -> Sequence[Found]:
    """Return the addresses of a name; what is one already takes none of the few threads that ask for names."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return [(family, socket.SOCK_STREAM, 0, "", (host, port))]
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _secured(
    loop: asyncio.AbstractEventLoop, connected: socket.socket, origin: Origin, made: Callable[[], Wire]
) -> Wire:
    try:
        _transport, wire = await loop.create_connection(
            made,
            sock=connected,
            ssl=origin.tls,
            server_hostname=origin.host,
            # Only a backstop: the limit over all of it is kept outside, by turns of the loop.
            ssl_handshake_timeout=max(_LEAST_HANDSHAKE_SECONDS, 2 * origin.connect_seconds),
        )
    except ConnectionResetError as error:
        if error.errno is None:  # the event loop's own: the upstream closed in the midst of the handshake
            raise ssl.SSLEOFError from None
        raise
    return wire


def interleaved(found: Iterable[Found]) -> list[Address]:
    """Return the addresses in the order in which to try them: as the system prefers them, families in turn."""
    families: dict[socket.AddressFamily, list[Address]] = {}
    for family, _type, _protocol, _name, address in found:
        families.setdefault(family, []).append((family, address))
    return [one for turn in zip_longest(*families.values()) for one in turn if one is not None]


async def first_connected(addresses: list[Address]) -> socket.socket:
    """Return a socket to the first address that takes the connection.

    Each attempt has a head start on the next one, which begins at once when it fails.

    Raises:
        OSError: none did.
    """
    if len(addresses) == 1:
        return await _connected(addresses[0])
    running: set[asyncio.Task[socket.socket]] = set()
    won: list[socket.socket] = []
    try:
        try:
            await _raced(addresses, running, won)
        finally:
            await _all_closed(running)
    except BaseException:
        for one in won:
            one.close()
        raise
    for late in won[1:]:
        late.close()
    return won[0]


async def _raced(addresses: list[Address], running: set[asyncio.Task[socket.socket]], won: list[socket.socket]) -> None:
    """Begin attempts until one has won, or, should more than one have in the same turn, until those have."""
    failed = OSError("the name has no address")
    left = iter(addresses)
    while not won:
        address = next(left, None)
        if address is not None:
            running.add(asyncio.ensure_future(_connected(address)))
        elif not running:
            raise failed
        head_start = None if address is None else _HEAD_START_SECONDS
        ended, _ = await asyncio.wait(running, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
        running -= ended
        for task in ended:
            error = task.exception()
            if error is None:
                won.append(task.result())
            elif isinstance(error, OSError):
                failed = error
            else:
                raise error


async def _connected(address: Address) -> socket.socket:
    family, where = address
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connecting, where)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _all_closed(running: set[asyncio.Task[socket.socket]]) -> None:
    """End the attempts that came too late, and close what they had reached by then."""
    if not running:
        return
    for task in running:
        task.cancel()
    try:
        await closed_surely(asyncio.wait(running))
    finally:
        for task in running:
            if not task.cancelled() and task.exception() is None:
                task.result().close()
