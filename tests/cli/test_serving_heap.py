"""The collector of a process that serves leaves its modules alone, and finds nothing after a request."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support import HELLO, proxied
from vetted_mw.middleware.forward import ForwardResponder
from vetted_mw.proxy.streamed import StreamedAnswer
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

LIMIT = 5.0
BODY: dict[str, Any] = {"model": "m", "messages": HELLO}
FIRST = chat_frames()[:2]

_SPARED = """
import gc
from vetted_mw.cli.heap import spare_collector

class Loop:
    def __init__(self):
        self.itself = self

def made():
    return sum(type(one) is Loop for one in gc.get_objects())

Loop()
kept = Loop()
before = gc.get_threshold()
spare_collector()
assert gc.get_freeze_count() > 1000, "what was there is looked at again"
assert gc.isenabled()
assert gc.get_threshold()[0] > before[0]
assert gc.get_threshold()[1:] == before[1:]
frozen = gc.get_freeze_count()
for _ in range(20_000):
    Loop()
assert made() < 5_000, "new garbage is kept"
gc.collect()
assert made() == 0
assert gc.get_freeze_count() == frozen
"""


def test_what_is_new_is_collected_and_what_was_there_is_left_alone() -> None:
    """In a process of its own: the heap of this one is the tests'."""
    subprocess.run([sys.executable, "-W", "error", "-c", _SPARED], check=True, timeout=60)


_CREATED = """
import gc
from vetted_mw.cli.serve import create_app
app = create_app(host="127.0.0.1", is_open=False)
assert gc.get_freeze_count() > 1000, "create_app did not spare the collector"
gateways = [one for one in gc.get_objects() if type(one).__name__ == "Gateway"]
assert len(gateways) == 1, "what a reload replaces is kept"
"""


def test_a_worker_spares_it_before_it_has_a_gateway(tmp_path: Path) -> None:
    """Modules are left alone, and nothing that an operator can replace."""
    environ = os.environ | {"VETTED_REGIONS__SCALEWAY_PAR_1__BASE_URL": "http://127.0.0.1:9/v1"}
    subprocess.run([sys.executable, "-c", _CREATED], check=True, timeout=60, cwd=tmp_path, env=environ)


# ---- what makes that safe


class _Leaving:
    """A caller that leaves: before anything came, or once something has."""

    def __init__(self, app: ASGIApp, *, at_once: bool) -> None:
        self._app = app
        self._came = asyncio.Event()
        if at_once:
            self._came.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = [await receive()]

        async def receive_and_leave() -> Message:
            if asked:
                return asked.pop()
            await self._came.wait()
            return {"type": "http.disconnect"}

        async def take(message: Message) -> None:
            await send(message)
            if message.get("body"):
                self._came.set()

        await self._app(scope, receive_and_leave, take)


def _kept() -> int:
    return sum(isinstance(one, ForwardResponder | StreamedAnswer) for one in gc.get_objects())


STREAM = BODY | {"stream": True}
ENDS: dict[str, tuple[dict[str, Any], FakeAnswer | None, bool | None]] = {
    "served": (BODY, None, None),
    "a stream": (STREAM, None, None),
    "refused": ({"model": "m"}, None, None),
    "out of policy": (BODY | {"vetted": {"region": "nowhere"}}, None, None),
    "failed": (BODY, FakeAnswer(status=500), None),
    "cut": (STREAM, FakeAnswer.stream(FIRST, ending="cut"), None),
    "reset": (STREAM, FakeAnswer.stream(FIRST, ending="reset"), None),
    "left": (BODY, FakeAnswer.stream([], ending="stall"), True),
    "left before a stream": (STREAM, FakeAnswer.stream([], ending="stall"), True),
    "left in a stream": (STREAM, FakeAnswer.stream(FIRST, ending="stall"), False),
}


@pytest.mark.parametrize(("body", "answer", "leaves_at_once"), ENDS.values(), ids=ENDS.keys())
async def test_a_request_leaves_nothing_to_collect(
    body: dict[str, Any], answer: FakeAnswer | None, leaves_at_once: bool | None
) -> None:
    """However it ends: what it held, its prompt above all, is free at once and waits for no collector."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        if answer is not None:
            paris.then(answer)
        gc.collect()
        gc.disable()
        try:
            asked = app if leaves_at_once is None else _Leaving(app, at_once=leaves_at_once)
            async with asyncio.timeout(LIMIT):
                await asyncio.create_task(_ask(asked, body))
                while _kept():  # noqa: ASYNC110 (the last of its tasks ends a turn or two later)
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()


async def _ask(app: ASGIApp, body: dict[str, Any]) -> None:
    await asgi_exchange(app, json=body)
