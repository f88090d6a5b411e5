"""What a refused request leaves behind: nothing that only the collector of cycles could free."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from support import HELLO, proxied, unused_port
from vetted_mw.middleware.responder import Responder
from vetted_mw.testing import asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

BODY = {"model": "m", "messages": HELLO}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param({"messages": None}, 400, id="malformed"),
        pytest.param({"vetted": {"region": "nowhere"}}, 400, id="unknown region"),
        pytest.param({}, 502, id="nobody serves"),
    ],
)
async def test_a_refusal_holds_its_request_no_longer_than_it_lasts(
    asked: dict[str, object], status: int, *, stream: bool
) -> None:
    """The error that is told of keeps no frames: those would hold the request, and a body of megabytes with it."""
    async with proxied({"scaleway-par-1": f"http://127.0.0.1:{unused_port()}/v1"}) as app:
        exchange = await asgi_exchange(app, json={**BODY, "stream": stream, **asked})
        left = [one for one in gc.get_objects() if isinstance(one, Responder)]
    assert exchange.status == status
    assert left == []
