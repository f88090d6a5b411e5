"""What is turned away, what raises, what a host or a handler adds: nothing of it is in anything that telemetry writes."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount

from evidence.memory_ledger import MemoryLedger
from streams.wall import RawUpstream
from telemetry.callers import PATH
from telemetry.canaries import Canaries
from telemetry.planted import answer, chunk, listened, request, spoken
from telemetry.sites import in_app
from telemetry.spans import GRAVELINES, PARIS
from vetted_mw import VettedProxy
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


# ---- what is turned away


DOOR: Mapping[str, Callable[[Canaries], tuple[bytes, Mapping[str, str]]]] = {
    "malformed JSON": lambda c: (f'{{"model": "{c["broken body"]}", "messages": ['.encode(), {}),
    "no JSON at all": lambda c: (c["broken body"].encode(), {}),
    "a member twice": lambda c: (f'{{"{c["twice"]}": 1, "{c["twice"]}": 2}}'.encode(), {}),
    "not UTF-8": lambda c: (b'{"model": "\xff' + c["broken body"].encode() + b'"}', {}),
    "a surrogate": lambda c: (f'{{"model": "\\ud800{c["broken body"]}", "messages": []}}'.encode(), {}),
    "messages that are none": lambda c: (json.dumps(request(c, messages=c["messages"])).encode(), {}),
    "a model that is a list": lambda c: (json.dumps(request(c, model=[c["model list"]])).encode(), {}),
    "a stream that is a text": lambda c: (json.dumps(request(c) | {"stream": c["stream text"]}).encode(), {}),
    "an unknown option": lambda c: (json.dumps(request(c, vetted={c["option"]: 1})).encode(), {}),
    "an unknown region": lambda c: (json.dumps(request(c, vetted={"region": c["region"]})).encode(), {}),
    "an unknown routing": lambda c: (json.dumps(request(c, vetted={"routing": c["routing"]})).encode(), {}),
    "a pin that fails": lambda c: (json.dumps(request(c, vetted={"region": GRAVELINES})).encode(), {}),
    "an unknown option header": lambda c: (json.dumps(request(c)).encode(), {f"x-vetted-{c['option']}": "1"}),
    "an unknown region header": lambda c: (json.dumps(request(c)).encode(), {"x-vetted-region": c["region"]}),
    "an unknown encoding": lambda c: (json.dumps(request(c)).encode(), {"content-encoding": c["coding"]}),
    "not in its encoding": lambda c: (json.dumps(request(c)).encode(), {"content-encoding": "gzip"}),
    "a page of another site": lambda c: (
        json.dumps(request(c)).encode(),
        {"origin": f"https://{c['origin']}.eu", "content-type": f"text/plain; charset={c['charset']}"},
    ),
}


@pytest.mark.parametrize("what", DOOR)
async def test_what_is_turned_away_is_not_repeated(what: str, canaries: Canaries) -> None:
    """Malformed, forbidden and impossible requests are refused without a word of theirs, in the answer too."""
    body, more = DOOR[what](canaries)
    async with FakeUpstream() as paris, listened({PARIS: paris.base_url}, canaries) as place:
        assert (await place.ask(body, **more)).status >= 400
        await place.assert_silent()


async def test_a_wrong_key_is_not_repeated(canaries: Canaries, tmp_path: Path) -> None:
    """Neither the key that was sent nor the right one is anywhere, nor the name of who has it."""
    key = tmp_path / "key"
    key.write_text(canaries["right key"], encoding="utf-8")
    callers = {canaries["caller name"]: {"key": {"file": str(key)}}}
    async with FakeUpstream() as paris, listened({PARIS: paris.base_url}, canaries, callers=callers) as place:
        assert (await place.ask(request(canaries))).status == 401
        told = await place.ask(request(canaries), authorization=f"Bearer {canaries['right key']}")
        assert told.status == 200
        await place.assert_silent()


@pytest.mark.parametrize(
    "state",
    [
        "{word}==broken",
        "UPPER{word}=1",
        "{word}=1,{word}=2",
        "vendor=a,{word}",
        ",".join(f"k{number}={{word}}" for number in range(40)),
    ],
    ids=["two signs", "capitals", "twice", "no value", "too many"],
)
async def test_a_broken_trace_state_is_dropped_without_a_word(state: str, canaries: Canaries) -> None:
    """What is no trace context is no exception to the rule: it is in no span and in no log, whoever writes it."""
    word = canaries["broken trace state"]
    async with FakeUpstream() as paris, listened({PARIS: paris.base_url}, canaries) as place:
        told = await place.ask(request(canaries), tracestate=state.replace("{word}", word))
        assert told.status == 200
        await place.assert_silent()


@pytest.mark.parametrize(
    "parent", ["{word}", "00-{word}-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-{word}-01"]
)
async def test_a_broken_trace_parent_is_dropped_without_a_word(parent: str, canaries: Canaries) -> None:
    """It continues no trace, and is in no log."""
    word = canaries["broken trace parent"]
    async with FakeUpstream() as paris, listened({PARIS: paris.base_url}, canaries) as place:
        assert (await place.ask(request(canaries), traceparent=parent.replace("{word}", word))).status == 200
        await place.assert_silent()


# ---- what is no HTTP


RAW: Mapping[str, str] = {
    "words": "{word}\r\n\r\n",
    "a reason": "HTTP/1.1 500 {word}\r\ncontent-length: 0\r\n\r\n",
    "a status that is none": "HTTP/1.1 {word}\r\n\r\n",
    "a header that is none": "HTTP/1.1 200 OK\r\n{word}\r\n\r\n",
    "a length that is none": "HTTP/1.1 200 OK\r\ncontent-length: {word}\r\n\r\n",
    "a chunk that is none": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{word}\r\n",
}


@pytest.mark.parametrize("what", RAW)
async def test_bytes_that_are_no_http_are_not_repeated(what: str, canaries: Canaries) -> None:
    """What a client library says of an answer that it cannot read quotes it; nothing of ours does."""
    written = RAW[what].replace("{word}", canaries["raw bytes"]).encode()
    async with RawUpstream(written) as paris, listened({PARIS: paris.base_url}, canaries) as place:
        assert (await place.ask(request(canaries))).status in {502, 503}
        await place.assert_silent()


async def test_what_an_egress_proxy_answers_is_not_repeated(canaries: Canaries) -> None:
    """A refused CONNECT is a failed attempt, and neither its reason nor its body is told."""
    refused = f"HTTP/1.1 407 {canaries['proxy reason']}\r\nx-proxy: {canaries['proxy header']}\r\n\r\n{canaries['proxy body']}"
    async with RawUpstream(refused.encode()) as egress:
        table = {"base_url": "https://127.0.0.1:9/v1", "proxy": egress.base_url.removesuffix("/v1")}
        async with listened({PARIS: table}, canaries) as place:
            assert (await place.ask(request(canaries))).status in {502, 503}
            await place.assert_silent()


# ---- what raises


class _RaisingModel:
    def __init__(self, words: str) -> None:
        self._words = words

    def figures(self, *_arguments: Any, **_more: Any) -> Any:
        """Fail, with words."""
        raise RuntimeError(self._words)


both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])


@both
async def test_what_an_energy_model_raises_is_not_repeated(stream: bool, canaries: Canaries) -> None:
    """The receipt is withheld, and its reason is a closed word."""
    options = {"energy_model": _RaisingModel(canaries["energy model"])}
    async with FakeUpstream() as paris, listened({PARIS: paris.base_url}, canaries, options=options) as place:
        assert (await place.ask(request(canaries, stream=stream))).status == 200
        await place.assert_silent()


class _RaisingLedger(MemoryLedger):
    async def is_ready(self) -> bool:
        """Promise everything."""
        return True


@both
@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
async def test_what_a_ledger_raises_is_not_repeated(
    policy: str, stream: bool, canaries: Canaries, tmp_path: Path
) -> None:
    """Whether the answer goes out without it or not, its words do not."""
    ledger = _RaisingLedger()
    ledger.breaks = RuntimeError(canaries["ledger"])
    kept = {"path": str(tmp_path / "receipts.sqlite3"), "policy": policy}
    async with (
        FakeUpstream() as paris,
        listened({PARIS: paris.base_url}, canaries, options={"ledger": ledger}, ledger=kept) as place,
    ):
        await place.ask(request(canaries, stream=stream))
        await place.assert_silent()


async def test_what_identify_raises_is_not_repeated(canaries: Canaries) -> None:
    """The caller gets 500 without a reason, the log the kind and the place."""

    async def identify(_scope: Scope) -> None:
        raise LookupError(canaries["identify"])

    def app(gateway: Gateway) -> ASGIApp:
        return VettedProxy(gateway, identify=identify)

    async with FakeUpstream() as paris, listened({PARIS: paris.base_url}, canaries, app=app) as place:
        assert (await place.ask(request(canaries))).status == 500
        await place.assert_silent()


async def test_the_path_of_a_mount_is_not_repeated(canaries: Canaries) -> None:
    """Of a path only what the settings name is told; what stands before it is the host's, and may be a customer's name."""

    def app(gateway: Gateway) -> ASGIApp:
        @contextlib.asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            async with gateway:
                yield

        return Starlette(routes=[Mount("/tenants/{tenant}", app=VettedProxy(gateway))], lifespan=lifespan)

    async with FakeUpstream() as paris, listened({PARIS: paris.base_url}, canaries, app=app) as place:
        told = await place.ask(request(canaries), path=f"/tenants/{canaries['tenant']}{PATH}")
        assert told.status == 200
        await place.assert_silent()


# ---- in-app mode


def _handling(canaries: Canaries, end: str) -> Callable[[Gateway], ASGIApp]:
    """Return a handler that adds words of its own to its call, and ends in one of several ways."""

    def made(gateway: Gateway) -> ASGIApp:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            if end == "raises at once":
                raise LookupError(canaries["handler exception"])
            stream = end.startswith("streams")
            called = request(canaries, stream=stream) | {
                "messages": [{"role": "user", "content": canaries["built prompt"]}]
            }
            own = {"authorization": f"Bearer {canaries['sdk key']}", "x-sdk": canaries["sdk header"]}
            answered = await gateway.http_client.post(f"http://vetted{PATH}", json=called, headers=own)
            if end == "raises later":
                raise LookupError(canaries["handler exception"])
            if end == "reports":
                scope["state"]["vetted"].record(
                    usage={"prompt_tokens": 5, "completion_tokens": 2}, model=canaries["reported model"]
                )
            if end == "calls elsewhere":
                await gateway.http_client.get(f"http://elsewhere.eu/{canaries['other url']}")
            kind = "text/event-stream" if stream else "application/json"
            headers = {"x-handler": canaries["handler header"], "content-type": kind}
            if end == "streams and raises":
                await _begun(send, answered.content, headers)
                raise LookupError(canaries["handler exception"])
            await Response(answered.content, answered.status_code, headers=headers)(scope, receive, send)

        return handler

    return made


async def _begun(send: Send, body: bytes, headers: Mapping[str, str]) -> None:
    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": listed})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


@pytest.mark.parametrize(
    "end",
    ["answers", "reports", "streams", "raises at once", "raises later", "streams and raises", "calls elsewhere"],
)
async def test_what_a_handler_builds_and_raises_is_not_repeated(end: str, canaries: Canaries) -> None:
    """Its prompts, keys and headers are in nothing of ours; its exception is its own server's to tell."""
    async with FakeUpstream() as paris:
        streamed = FakeAnswer.stream([*spoken(canaries), chunk(canaries), *chat_frames()[-2:]])
        paris.then(streamed if end.startswith("streams") else FakeAnswer.json(answer(canaries)))
        handler = in_app(_handling(canaries, end))
        async with listened({PARIS: paris.base_url}, canaries, app=handler) as place:
            told = await place.ask(request(canaries, stream=end.startswith("streams")))
            await place.assert_silent()
    assert told.status == (200 if end in {"answers", "reports", "streams", "streams and raises"} else 500)
    assert canaries.found_in(paris.requests[0].body if paris.requests else canaries["built prompt"]) >= {"built prompt"}
