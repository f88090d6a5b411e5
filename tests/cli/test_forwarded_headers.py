"""What a local reverse proxy says of its caller reaches the app as it does under uvicorn alone."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from vetted_mw.cli.forwarded import ForwardedApp, ServerConfig

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio

HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"x"]),
        st.sampled_from(
            [b"https", b"http", b"wss", b"", b"203.0.113.7", b"203.0.113.7:5, 127.0.0.1", b"[2001:db8::1]"]
        ),
    ),
    max_size=4,
)
CLIENTS = st.sampled_from([None, ("127.0.0.1", 5), ("::1", 5), ("198.51.100.1", 5)])


class _Seen:
    """An app that keeps what it was handed."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        self.scopes.append(copy.deepcopy(scope))


async def _never() -> Any:
    raise AssertionError


async def _nobody(_message: Any) -> None:
    raise AssertionError


@given(HEADERS, CLIENTS, st.sampled_from(["http", "websocket"]))
def test_the_app_sees_what_it_sees_under_uvicorn_alone(headers: Any, client: Any, kind: str) -> None:
    """Whoever is in front, and whatever it says, scheme and client are those of uvicorn's own reading."""
    seen, scope = _Seen(), {"type": kind, "scheme": "http", "client": client, "headers": headers}
    reading = ProxyHeadersMiddleware(cast("Any", seen), trusted_hosts="127.0.0.1,::1")

    async def both() -> None:
        for app in (reading, ForwardedApp(reading)):
            await cast("Any", app)(copy.deepcopy(scope), _never, _nobody)

    asyncio.run(both())
    theirs, ours = seen.scopes
    assert ours == theirs


async def test_the_lifespan_has_no_headers() -> None:
    seen = _Seen()
    await ForwardedApp(ProxyHeadersMiddleware(cast("Any", seen)))({"type": "lifespan"}, _never, _nobody)
    assert seen.scopes == [{"type": "lifespan"}]


@pytest.mark.parametrize("is_behind", [True, False])
async def test_a_server_reads_them_from_whom_it_was_told_to(is_behind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`FORWARDED_ALLOW_IPS` names who is in front, as uvicorn's users know it."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "198.51.100.1" if is_behind else "127.0.0.1")
    seen = _Seen()
    config = ServerConfig(seen, interface="asgi3", log_config=None)
    config.load()
    said = [(b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "scheme": "http", "client": ("198.51.100.1", 5), "headers": said}
    await config.loaded_app(scope, _never, _nobody)
    (at_app,) = seen.scopes
    assert (at_app["scheme"], at_app["client"][0]) == (
        ("https", "203.0.113.7") if is_behind else ("http", "198.51.100.1")
    )


async def test_a_server_that_is_told_to_read_none_reads_none() -> None:
    seen = _Seen()
    config = ServerConfig(seen, interface="asgi3", proxy_headers=False, log_config=None)
    config.load()
    assert config.loaded_app is seen
