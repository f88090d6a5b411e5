"""Cancels at random instants, also twice, over plain and TLS upstreams: afterwards nothing is held and nothing complains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proxy.tunnels import made_certificate, tls_in_front_of
from streams.wall import (
    FIRST,
    LIMIT,
    Caller,
    busy_connections,
    content,
    gateway_over,
    payload,
    role,
    told,
    until,
)
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vetted_mw import Gateway, VettedProxy
    from vetted_mw.testing import RecordedRequest

pytestmark = pytest.mark.anyio

CANCELS = 300
AT_ONCE = 25
SEED = 20_261_129


def _slow_stream() -> FakeAnswer:
    return FakeAnswer.stream([role(), 0.001, content(), 0.001, content("lo"), *chat_frames()[3:]])


def _slow_answer() -> FakeAnswer:
    whole = chat_completion()
    return FakeAnswer(
        headers=(("content-type", "application/json"), ("content-length", str(len(whole)))),
        body=(whole[:20], 0.001, whole[20:]),
    )


ANSWERS: dict[bool, list[Callable[[], FakeAnswer]]] = {
    False: [_slow_answer, lambda: FakeAnswer(delay=600.0), lambda: FakeAnswer.json({"error": "x"}, status=400)],
    True: [_slow_stream, lambda: FakeAnswer.stream([role()], ending="stall"), _slow_stream],
}


class _Moody(FakeUpstream):
    """Answers slowly, in part, not at all or with a refusal, as the dice fall; the model `well` as it should."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice

    def _unscripted(self, request: RecordedRequest) -> FakeAnswer:
        asked = request.json()
        if asked["model"] == "well":
            return super()._unscripted(request)
        return self._dice.choice(ANSWERS[bool(asked.get("stream"))])()


class _Storm:
    """Sends requests and cancels each, once or more often, wherever it may stand."""

    def __init__(self, app: VettedProxy, dice: random.Random) -> None:
        self._app = app
        self._dice = dice

    async def run(self, number: int) -> None:
        for _ in range(number // AT_ONCE):
            await asyncio.gather(*(self._one() for _ in range(AT_ONCE)))

    async def _one(self) -> None:
        dice = self._dice
        stream = dice.random() < 0.5
        caller = Caller(self._app, payload(stream=stream))
        answering = caller.start()
        await self._some_time()
        if dice.random() < 0.3:
            caller.leave()
            await self._some_steps()
        for _ in range(dice.choice((1, 2, 3))):
            answering.cancel()
            await self._some_steps()
        with contextlib.suppress(asyncio.CancelledError):
            await answering

    async def _some_time(self) -> None:
        if self._dice.random() < 0.5:
            await self._some_steps()
        else:
            await asyncio.sleep(self._dice.random() * 0.02)

    async def _some_steps(self) -> None:
        for _ in range(self._dice.randrange(12)):
            await asyncio.sleep(0)


def _open_files() -> int:
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextlib.asynccontextmanager
async def _gateway(
    upstream: FakeUpstream, kind: str, folder: Path, **limits: Any
) -> AsyncIterator[tuple[Any, Gateway]]:
    limits = {"max_in_flight": AT_ONCE, "idle_connection_seconds": 600} | limits
    async with contextlib.AsyncExitStack() as held:
        table: dict[str, Any] = {"base_url": upstream.base_url, "limits": limits}
        if kind == "tls":
            made = made_certificate(folder)
            table["base_url"] = await held.enter_async_context(tls_in_front_of(upstream.base_url, made))
            table["ca_file"] = str(made.certificate)
        yield await held.enter_async_context(gateway_over({FIRST: table}))


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_a_storm_of_cancels_leaves_nothing_behind(kind: str, tmp_path: Path) -> None:
    """No busy connection, no lease, no task, no descriptor, no complaint of the event loop; then a request is served."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    dice = random.Random(SEED)  # noqa: S311 (dice, not keys)
    async with asyncio.timeout(LIMIT * 4), _Moody(dice) as upstream:
        before = asyncio.all_tasks()
        files = _open_files()
        async with _gateway(upstream, kind, tmp_path) as (app, gateway):
            await _Storm(app, dice).run(CANCELS)
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
            assert told(await asgi_exchange(app, json=payload() | {"model": "well"})).complete
        await until(lambda: not upstream.open_connections)
        await until(lambda: not (asyncio.all_tasks() - before))
        await until(lambda: _open_files() <= files)
    assert complaints == []
