"""A connection that is reset as it is accepted: on uvloop the socket is gone before anyone has looked at it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, NoReturn

import httpx
import pytest
import uvloop

from vetted_mw.configuration import Upstream
from vetted_mw.proxy.doors import DOORS
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.transport import HttpxTransport, UpstreamRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUEST = UpstreamRequest(method="POST", path="/chat/completions", headers=[], body=b"{}")
AT_ONCE = struct.pack("ii", 1, 0)


def failing_with(error: Exception) -> Callable[..., NoReturn]:
    async def handle_async_request(self: object, request: httpx.Request) -> NoReturn:
        raise error

    return handle_async_request  # type: ignore[return-value]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [AttributeError("no getpeername"), RuntimeError("the handler is closed")])
async def test_what_a_vanished_socket_raises_is_a_failed_connection(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the upstream's fault, with nothing sent, and not an error of ours."""
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", failing_with(error))
    transport = HttpxTransport(Upstream(region="scaleway-par-1", base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(AttemptFailedError) as raised:
        await transport.send(REQUEST)
    assert (raised.value.fault.outcome, raised.value.fault.sent) == ("connect_error", False)


@contextlib.contextmanager
def resetting_server() -> Iterator[int]:
    """Reset every connection as it is accepted, in a thread of its own; yields the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:

        def reset_each() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                    connection.close()

        thread = threading.Thread(target=reset_each, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("kind", sorted(DOORS))
def test_resets_at_accept_are_failed_attempts_on_the_loop_of_serve(kind: str) -> None:
    """On uvloop, the loop `vetted-mw serve` runs on, each of a thousand of them is told as an attempt that failed."""

    async def outcomes(port: int) -> set[str]:
        transport = DOORS[kind](Upstream(region="scaleway-par-1", base_url=f"http://127.0.0.1:{port}/v1"))
        seen = set()

        async def send() -> None:
            with pytest.raises(AttemptFailedError) as raised:
                await transport.send(REQUEST)
            seen.add(str(raised.value.fault.outcome))

        for _ in range(100):
            await asyncio.gather(*(send() for _ in range(10)))
        await transport.aclose()
        return seen

    with resetting_server() as port:
        assert uvloop.run(outcomes(port)) <= {"connect_error", "upstream_cut"}
