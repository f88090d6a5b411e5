"""What must stay unsaid: nothing a caller wrote in logs or error texts, nothing to a proxy named in the environment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_completion, chat_frames, sse
from wire.clients import (
    COMPLETIONS,
    GRAVELINES,
    PARIS,
    STOCKHOLM,
    at_the_door_of,
    at_the_wire,
    chat,
    raw_connection,
    request_head,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import httpx
    from starlette.types import Scope

    from vetted_mw.callers import Caller
    from wire.clients import RawAnswer

pytestmark = pytest.mark.anyio

CANARY = "canary"
PROMPT = [{"role": "user", "content": f"{CANARY} in the prompt"}]
LOGGERS = (
    "",
    "vetted_mw",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.asgi",
    "httpx",
    "httpcore",
    "asyncio",
)


class Heard(logging.Handler):
    """Keeps every word and every extra of every record."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        formatted = logging.Formatter().format(record)
        self.texts.append(f"{record.name} {formatted} {record.args} {sorted(map(str, record.__dict__.items()))}")


@contextlib.contextmanager
def everything_heard() -> Iterator[Heard]:
    """Listen on every logger at DEBUG, also on those that uvicorn keeps from the root.

    `uvicorn.access` is off, as in `vetted-mw serve`; a handler of ours would turn it on.
    """
    heard = Heard()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).addHandler(heard)
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        yield heard
    finally:
        for name, level in levels.items():
            logging.getLogger(name).removeHandler(heard)
            logging.getLogger(name).setLevel(level)


async def sent(
    client: httpx.AsyncClient, body: bytes, *lines: str, method: str = "POST", path: str = COMPLETIONS
) -> RawAnswer:
    """Send one request by a client that writes no log of its own."""
    async with raw_connection(client) as connection:
        head = request_head(f"content-length: {len(body)}", "connection: close", *lines, method=method, path=path)
        await connection.send(head, body)
        return await connection.answer()


def request(**members: Any) -> bytes:
    return json.dumps(chat(messages=PROMPT, **members)).encode()


def about_prompt(status: int) -> FakeAnswer:
    return FakeAnswer.json(
        {"error": {"message": f"cannot read {CANARY}", "code": CANARY, "type": CANARY}}, status=status
    )


@pytest.mark.parametrize(
    ("body", "lines", "path"),
    [
        pytest.param(b'{"model": "canary', (), COMPLETIONS, id="malformed JSON"),
        pytest.param(b'{"canary":1,"canary":2}', (), COMPLETIONS, id="a member twice"),
        pytest.param(request(vetted={"canary": 1}), (), COMPLETIONS, id="an unknown option"),
        pytest.param(request(vetted={"region": "canary"}), (), COMPLETIONS, id="an unknown region"),
        pytest.param(request(vetted={"routing": "canary"}), (), COMPLETIONS, id="an unknown routing"),
        pytest.param(request(vetted={"tier": "canary"}), (), COMPLETIONS, id="an unknown tier"),
        pytest.param(request(vetted="canary"), (), COMPLETIONS, id="options that are no object"),
        pytest.param(request(stream="canary"), (), COMPLETIONS, id="a stream that is no boolean"),
        pytest.param(request(), ("x-vetted-canary: 1",), COMPLETIONS, id="an unknown option header"),
        pytest.param(request(), ("x-vetted-region: canary",), COMPLETIONS, id="an unknown region in a header"),
        pytest.param(request(), ("x-vetted-latency-budget-ms: canary",), COMPLETIONS, id="a header of a wrong type"),
        pytest.param(request(), ("content-encoding: canary",), COMPLETIONS, id="an unknown encoding"),
        pytest.param(request(), ("content-encoding: gzip",), COMPLETIONS, id="not in its encoding"),
        pytest.param(request(), ("content-type: text/canary", "origin: https://canary"), COMPLETIONS, id="a page"),
        pytest.param(request(model="canary"), (), COMPLETIONS, id="an unknown model"),
        pytest.param(request(vetted={"region": GRAVELINES}), ("x-key: canary",), COMPLETIONS, id="a pin that fails"),
        pytest.param(b"", (), "/canary?canary=canary", id="an unknown path"),
        pytest.param(None, (), "/v1/regions/canary", id="an unknown region's page"),
        pytest.param(b"", (), "/v1/models?canary", id="a method that is not allowed"),
        pytest.param(b'{"canary', (), "/v1/vetted/explain", id="explain of malformed JSON"),
        pytest.param(request(vetted={"canary": 1}), (), "/v1/vetted/explain", id="explain of an unknown option"),
        pytest.param(b"", ("x-canary: a\0b",), "/canary", id="what is no HTTP"),
    ],
)
async def test_a_refusal_repeats_nothing_the_caller_wrote(
    body: bytes | None, lines: tuple[str, ...], path: str
) -> None:
    """Neither the error's text and headers nor any log line at DEBUG holds a word of the request."""
    table = {"base_url": "http://127.0.0.1:9/v1", "models": ["demo-8b"]}
    async with at_the_wire({PARIS: table}) as client:
        with everything_heard() as heard:
            answer = await sent(client, body or b"", *lines, method="GET" if body is None else "POST", path=path)
    assert 400 <= answer.status < 600
    assert CANARY not in f"{answer.headers} {answer.body!r}".lower()
    assert [text for text in heard.texts if CANARY in text.lower()] == []


async def test_a_wrong_key_is_repeated_nowhere(tmp_path: Path) -> None:
    """A key that does not open is in no log and in no answer."""
    (tmp_path / "key").write_text("right")
    callers = {"team-a": {"key": {"file": str(tmp_path / "key")}}}
    async with at_the_wire({PARIS: "http://127.0.0.1:9/v1"}, callers=callers) as client:
        with everything_heard() as heard:
            answer = await sent(client, request(), "authorization: Bearer canary")
    assert answer.status == 401
    assert CANARY not in f"{answer.headers} {answer.body!r}".lower()
    assert [text for text in heard.texts if CANARY in text.lower()] == []


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    "scripted",
    [
        pytest.param(None, id="served"),
        pytest.param(FakeAnswer.json(chat_completion(text=CANARY, receipt=CANARY, routing_trace=CANARY)), id="ours"),
        pytest.param(FakeAnswer.stream([sse({"error": {"message": CANARY}})]), id="an error event"),
        pytest.param(FakeAnswer.stream([*chat_frames(words=[CANARY])[:2], b"data: {canary\n\n"]), id="broken frame"),
        pytest.param(FakeAnswer.stream(chat_frames(words=[CANARY])[:2], ending="cut"), id="cut"),
        pytest.param(FakeAnswer.json(f"<html>{CANARY}".encode()), id="a page"),
        pytest.param(about_prompt(400), id="400"),
        pytest.param(about_prompt(401), id="401"),
        pytest.param(about_prompt(500), id="500"),
        pytest.param(FakeAnswer(body=(CANARY.encode(),), headers=(("content-encoding", "br"),)), id="encoding"),
    ],
)
async def test_no_log_line_holds_a_prompt_a_key_or_an_answer(
    scripted: FakeAnswer | None, tmp_path: Path, *, stream: bool
) -> None:
    """Whatever an upstream does with a request, logs at DEBUG hold neither what was asked nor what was answered."""
    (tmp_path / "key").write_text("canary-key")
    async with FakeUpstream(text=CANARY) as paris:
        if scripted is not None:
            paris.then(scripted, scripted)
        table = {"base_url": paris.base_url, "api_key": {"file": str(tmp_path / "key")}}
        async with at_the_wire({PARIS: table}) as client:
            with everything_heard() as heard:
                lines = ("authorization: Bearer canary", "user-agent: canary", "x-request-id: canary")
                await sent(client, request(stream=stream, user=CANARY), *lines, path=f"{COMPLETIONS}?key=canary")
    assert paris.requests

    assert [text for text in heard.texts if CANARY in text.lower()] == []


async def test_a_fault_of_ours_is_logged_by_its_kind_and_place_only() -> None:
    """The log says which exception came from where; its text, which may be the caller's, is in no line."""

    async def identify(_scope: Scope) -> Caller | None:
        raise LookupError(CANARY)

    async with at_the_wire({PARIS: "http://127.0.0.1:9/v1"}, identify=identify) as client:
        with everything_heard() as heard:
            await sent(client, request())
            await sent(client, request(), path="/v1/vetted/explain")
    faults = [text for text in heard.texts if "failed inside the gateway" in text and text.startswith("vetted_mw")]
    assert len(faults) >= 2
    assert all("LookupError" in text and "test_wire_silence.py:" in text for text in faults)
    assert [text for text in heard.texts if CANARY in text] == []


async def test_a_model_that_fails_to_make_a_receipt_is_logged_by_its_kind_only() -> None:
    """An energy model's exception costs the receipt and nothing else, and its words stay unsaid."""

    class Failing:
        def figures(self, *_arguments: Any, **_more: Any) -> Any:
            raise RuntimeError(CANARY)

    async with FakeUpstream() as paris:
        gateway = Gateway(configured({PARIS: paris.base_url}), energy_model=Failing())  # type: ignore[arg-type]
        async with at_the_door_of(VettedProxy(gateway)) as client:
            with everything_heard() as heard:
                answer = await sent(client, request())
    assert answer.status == 200
    assert answer.json()["receipt"] is None
    assert answer.json()["routing_trace"]["receipt_error"] == "engine_failed"
    assert [text for text in heard.texts if CANARY in text] == []


# ---- the environment


@pytest.fixture
async def listener(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[bytes]]:
    """A socket named in every proxy variable there is; gives what it received."""
    received: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.lower(), address)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield received


async def test_a_proxy_named_in_the_environment_receives_nothing(
    listener: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Completions, probes and model lists go straight to the upstream; no proxy and no `.netrc` of the environment is used."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login canary password canary\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with FakeUpstream(model="demo-8b") as paris:
        table = {"base_url": paris.base_url, "health_path": "/health", "models": "discover"}
        async with at_the_wire({PARIS: table, STOCKHOLM: "https://127.0.0.1:9/v1"}) as client:
            async with asyncio.timeout(20):
                while {one.path for one in paris.others} != {"/health", "/v1/models"}:  # noqa: ASYNC110 (told by no event)
                    await asyncio.sleep(0.005)
            whole = await sent(client, request())
            streamed = await sent(client, request(stream=True))
            over_tls = await sent(client, request(vetted={"region": STOCKHOLM}))
    assert (whole.status, streamed.status, over_tls.status) == (200, 200, 503)
    assert len(paris.requests) == 2
    assert not [one for one in (*paris.requests, *paris.others) if one.header("authorization") is not None]
    assert listener == []


async def test_a_proxy_named_in_the_settings_is_used_for_its_region(listener: list[bytes]) -> None:
    """An egress proxy is the operator's explicit setting, per region."""
    async with FakeUpstream() as proxy, FakeUpstream() as paris:
        table = {"base_url": paris.base_url, "proxy": proxy.base_url.removesuffix("/v1")}
        async with at_the_wire({PARIS: table}) as client:
            answer = await sent(client, request())
    assert answer.status == 200
    assert [one.path for one in proxy.requests] == [f"{paris.base_url}/chat/completions"]
    assert paris.requests == []
    assert listener == []
