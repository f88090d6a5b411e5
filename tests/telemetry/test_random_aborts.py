"""A thousand callers leave at random instants, over real sockets: every span ends once, below the right parent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from starlette.responses import Response, StreamingResponse

from streams.wall import Caller, content, finish, role
from support import configured
from telemetry.callers import SocketCaller
from telemetry.instrumentations import traced_asgi, traced_httpx
from telemetry.sites import forward, in_app, sdk, site
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, upstream
from telemetry.trees import complaints
from vetted_mw import Gateway
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from telemetry.otlp import ReceivedSpan
    from telemetry.sites import Sdk, Site
    from vetted_mw.testing import RecordedRequest

pytestmark = pytest.mark.anyio

ABORTS = 350
"""In each of the three modes."""

AT_ONCE = 25
CANCELS = 250
"""In each of them, by the server."""

SEED = 20_261_129
LONGEST = 0.3
SHORT = 0.08
_SPEAKS, _IS_CUT = 1, 2  # seeds that tell the upstream to say something


def _slow_stream() -> FakeAnswer:
    words = [part for number in range(6) for part in (content(f"word {number} "), 0.004)]
    return FakeAnswer.stream([role(), 0.004, *words, finish(), 0.004, *chat_frames()[-2:]])


def _cut_stream() -> FakeAnswer:
    return FakeAnswer.stream([role(), content("word"), 0.004], ending="cut")


def _slow_answer() -> FakeAnswer:
    whole = chat_completion()
    headers = (("content-type", "application/json"), ("content-length", str(len(whole))))
    return FakeAnswer(headers=headers, body=(whole[:20], 0.01, whole[20:]), delay=0.01)


_BROKEN = FakeAnswer.json({"error": {"message": "broken"}}, status=500)
_ANSWERS: dict[bool, list[Callable[[], FakeAnswer]]] = {
    False: [_slow_answer, _slow_answer, lambda: FakeAnswer(delay=600.0)],
    True: [
        _slow_stream,
        _slow_stream,
        lambda: FakeAnswer.stream([role()], ending="stall"),
        _cut_stream,
    ],
}


class _Moody(FakeUpstream):
    """Answers slowly, in part, or not at all, as the dice fall; the one that also fails makes requests fail over."""

    def __init__(self, dice: random.Random, *, fails: bool) -> None:
        super().__init__()
        self._dice = dice
        self._fails = fails

    def _unscripted(self, request: RecordedRequest) -> FakeAnswer:
        if self._fails and self._dice.random() < 0.35:
            return _BROKEN
        asked = request.json()
        if "seed" in asked:
            return _slow_stream() if asked["seed"] == _SPEAKS else _cut_stream()
        return self._dice.choice(_ANSWERS[bool(asked.get("stream"))])()


def _handling(gateway: Gateway) -> ASGIApp:
    """Return a handler that calls as it was called and relays what comes."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive()).get("more_body", False):
            body += message["body"]
        body += message["body"]
        call = gateway.http_client.build_request("POST", "http://vetted/v1/chat/completions", content=body)
        answer = await gateway.http_client.send(call, stream=True)
        kind = answer.headers["content-type"]
        try:
            if kind.startswith("text/event-stream"):
                await StreamingResponse(_relayed(answer), media_type=kind)(scope, receive, send)
            else:
                await Response(await answer.aread(), answer.status_code, media_type=kind)(scope, receive, send)
        finally:
            await answer.aclose()

    return handler


async def _relayed(answer: Any) -> AsyncIterator[bytes]:
    async for part in answer.aiter_bytes():
        yield part


async def _leaves_at_random(place: Site, dice: random.Random) -> None:
    """Send a request and go away, wherever it may stand; one in five waits for a word first, on however slow a machine."""
    caller = SocketCaller(place.port)
    if dice.random() < 0.2:
        await caller.send(asked(stream=True, seed=dice.choice((_SPEAKS, _IS_CUT))))
        data = b""
        while b"word" not in data and (part := await caller.read_part()):
            data += part
        await asyncio.sleep(dice.random() * SHORT)
        caller.leave(dice.choice(("close", "reset")))
        return
    withheld = 5 if dice.random() < 0.1 else 0
    headers = [("traceparent", f"00-{dice.getrandbits(128):032x}-{'c' * 16}-01")] if dice.random() < 0.3 else []
    await caller.send(asked(stream=dice.random() < 0.6), headers=headers, withheld=withheld)
    await asyncio.sleep(dice.random() * LONGEST)
    caller.leave(dice.choice(("close", "reset")))


def _bare(app: ASGIApp, _sdk: Sdk) -> ASGIApp:
    return app


def _hurried() -> float:
    """Return the time of a clock that runs fast: what a breaker remembers is over before it refuses everyone."""
    return time.monotonic() * 1000


@pytest.mark.parametrize("mode", ["forward", "in_app", "instrumented"])
async def test_callers_that_leave_at_random_leave_no_span_behind(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """As many ends as starts, none twice, no orphan, no context detached elsewhere; each is counted and logged once."""
    caplog.set_level(logging.INFO, "vetted_mw")
    dice = random.Random(SEED)  # noqa: S311 (dice, not keys)
    app = in_app(_handling) if mode == "in_app" else forward
    async with _Moody(dice, fails=True) as paris, _Moody(dice, fails=False) as gravelines:
        limits = {"max_in_flight": 2 * AT_ONCE}
        urls = {
            PARIS: dict(upstream(paris.base_url, limits=limits)),
            GRAVELINES: dict(upstream(gravelines.base_url, limits=limits)),
        }
        outside = traced_asgi if mode == "instrumented" else _bare
        async with site(urls, app=app, outside=outside, options={"monotonic": _hurried}) as place:
            place.remote.append("c" * 16)
            with traced_httpx(place.sdk) if mode == "instrumented" else contextlib.nullcontext():
                for _ in range(ABORTS // AT_ONCE):
                    await asyncio.gather(*(_leaves_at_random(place, dice) for _ in range(AT_ONCE)))
                await place.settle()
            await place.tree()
            spans = place.sdk.receiver.spans
            assert [value for _of, value in place.sdk.metric("vetted.inflight")] == [0, 0]
            assert sum(value for _of, value in place.sdk.metric("vetted.requests")) == place.asked
            assert caplog.messages.count("a chat completion ended") == place.asked
    kinds = Counter(span.name for span in spans)
    assert kinds["POST /v1/chat/completions"] == place.asked > ABORTS // 4
    assert kinds["vetted.route"] == kinds[f"chat {KNOWN}"] > ABORTS // 10
    _assert_all_kinds(spans)


@pytest.mark.parametrize("mode", ["forward", "in_app"])
async def test_requests_that_a_server_cancels_leave_no_span_behind(mode: str) -> None:
    """Servers that cancel a request whose caller left, wherever it stands and more than once, find the same in the end."""
    dice = random.Random(SEED)  # noqa: S311 (dice, not keys)
    app = forward if mode == "forward" else in_app(_handling)
    with sdk() as telemetry:
        async with _Moody(dice, fails=True) as paris, _Moody(dice, fails=False) as gravelines:
            configuration = configured({PARIS: paris.base_url, GRAVELINES: gravelines.base_url})
            providers = {"tracer_provider": telemetry.tracers, "meter_provider": telemetry.meters}
            options: dict[str, Any] = {"monotonic": _hurried, **providers}
            async with Gateway(configuration, **options) as gateway:
                for _ in range(CANCELS // AT_ONCE):
                    served = app(gateway)
                    await asyncio.gather(*(_is_cancelled_at_random(served, dice) for _ in range(AT_ONCE)))
                assert [value for _of, value in telemetry.metric("vetted.inflight")] == [0, 0]
        await asyncio.to_thread(telemetry.tracers.force_flush)
        spans = telemetry.receiver.spans
        assert sum(value for _of, value in telemetry.metric("vetted.requests")) == CANCELS
        assert complaints(spans, telemetry.counted) == []
    assert telemetry.warnings == []
    assert Counter(span.kind for span in spans)["SERVER"] == CANCELS
    assert not trace.get_current_span().get_span_context().is_valid


async def _is_cancelled_at_random(app: ASGIApp, dice: random.Random) -> None:
    """Send a request and cancel it, up to three times."""
    answering = Caller(app, asked(stream=dice.random() < 0.6)).start()
    await asyncio.sleep(dice.random() * SHORT)
    for _ in range(dice.randrange(1, 4)):
        answering.cancel()
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
    with contextlib.suppress(asyncio.CancelledError):
        await answering


def _assert_all_kinds(spans: list[ReceivedSpan]) -> None:
    """See that the dice fell as they should: callers left everywhere, and requests failed over below them."""
    attempts = [span for span in spans if span.name == "vetted.attempt"]
    told = {span.attributes.get("vetted.stream.outcome") for span in spans}
    by_parent = Counter(span.parent_id for span in attempts)
    assert {"client_disconnect", "upstream_cut"} <= told
    assert {span.status for span in attempts} == {"UNSET", "ERROR"}
    assert max(by_parent.values()) == 2
    assert {"", "c" * 16} <= {span.parent_id for span in spans}
