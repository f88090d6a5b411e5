"""The demo's model servers: they speak OpenAI's wire format and count what they say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from vetted_mw.demo.model_server import DEMO_MODEL, ModelServers
from vetted_mw.routing.regions import load_catalogue
from vetted_mw.testing import Exchange, asgi_exchange

pytestmark = pytest.mark.anyio

PARIS, ICELAND = load_catalogue()["scaleway-par-1"], load_catalogue()["atnorth-isl-1"]
SERVERS = ModelServers({8080: PARIS, 8081: ICELAND}, word_seconds=0)
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where does this run?"}]
WORDS_IN = 6


async def ask(**members: Any) -> Exchange:
    return await asgi_exchange(SERVERS, json={"model": DEMO_MODEL, "messages": MESSAGES} | members)


async def chunks(**members: Any) -> list[dict[str, Any]]:
    """Return a stream's chunks, one per message of its body; it must end with `[DONE]`."""
    exchange = await ask(stream=True, **members)
    assert exchange.headers["content-type"] == "text/event-stream"
    *frames, last = [message["body"] for message in exchange.messages if message["type"] == "http.response.body"]
    assert last == b"data: [DONE]\n\n"
    assert exchange.complete
    return [msgspec.json.decode(frame.removeprefix(b"data: ").removesuffix(b"\n\n")) for frame in frames]


async def test_a_completion_says_where_it_was_made_and_counts_its_words() -> None:
    """Tokens are words, and every count is a real one."""
    told = (await ask()).json()
    text = told["choices"][0]["message"]["content"]
    assert "Paris" in text
    assert "scaleway-par-1" in text
    assert f"{WORDS_IN} words" in text
    assert told["usage"]["prompt_tokens"] == WORDS_IN
    assert told["usage"]["completion_tokens"] == len(text.split())
    assert told["usage"]["total_tokens"] == WORDS_IN + len(text.split())
    assert (told["object"], told["model"], told["choices"][0]["finish_reason"]) == (
        "chat.completion",
        DEMO_MODEL,
        "stop",
    )


async def test_each_port_is_a_region_of_its_own() -> None:
    """Which region answers is told by the port it listens on."""
    exchange = await asgi_exchange(
        SERVERS, json={"model": "x", "messages": MESSAGES}, scope={"server": ("127.0.0.1", 8081)}
    )
    assert "Iceland" in exchange.json()["choices"][0]["message"]["content"]


async def test_each_answer_has_an_id_of_its_own() -> None:
    """Clients tell answers apart by their ids; the chunks of one share theirs."""
    first, second = (await ask()).json(), (await ask()).json()
    assert first["id"] != second["id"]
    assert len({chunk["id"] for chunk in await chunks()}) == 1


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_cuts_the_answer_and_is_told(limit: str) -> None:
    """No more words than asked for, `length` as the reason, and the usage counts what was said."""
    told = (await ask(**{limit: 3})).json()
    assert len(told["choices"][0]["message"]["content"].split()) == 3
    assert told["choices"][0]["finish_reason"] == "length"
    assert told["usage"]["completion_tokens"] == 3


async def test_a_limit_the_answer_just_fits_cuts_nothing() -> None:
    """An answer that ends where the limit stands ended by itself."""
    whole = (await ask()).json()["usage"]["completion_tokens"]
    assert (await ask(max_tokens=whole)).json()["choices"][0]["finish_reason"] == "stop"
    assert (await ask(max_tokens=whole - 1)).json()["choices"][0]["finish_reason"] == "length"


async def test_several_choices_are_each_counted() -> None:
    """`n` answers cost n times the words of one."""
    one, three = (await ask()).json(), (await ask(n=3)).json()
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]
    assert three["usage"]["prompt_tokens"] == WORDS_IN


async def test_a_stream_is_a_role_then_word_by_word_then_a_reason() -> None:
    """One chunk per word, as a real server sends one per token; joined they are the whole answer."""
    whole = (await ask()).json()["choices"][0]["message"]["content"]
    first, *words, last = await chunks()
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    said = [chunk["choices"][0]["delta"]["content"] for chunk in words]
    assert "".join(said) == whole
    assert [len(word.split()) for word in said] == [1] * len(whole.split())
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert {chunk["object"] for chunk in (first, *words, last)} == {"chat.completion.chunk"}


@pytest.mark.parametrize("options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}])
async def test_a_stream_counts_only_when_asked_to(options: dict[str, Any]) -> None:
    """Without `include_usage` no chunk carries usage, as with OpenAI."""
    assert [chunk for chunk in await chunks(**options) if "usage" in chunk] == []


async def test_a_streams_usage_is_the_last_chunk_and_equals_the_whole_answers() -> None:
    """With `include_usage` a chunk without choices ends the stream, with the counts of the whole answer."""
    *_, last = await chunks(stream_options={"include_usage": True}, n=2, max_tokens=5)
    assert last["choices"] == []
    assert last["usage"] == (await ask(n=2, max_tokens=5)).json()["usage"]


async def test_several_streamed_choices_each_have_their_words_and_reason() -> None:
    """Every choice of a stream is complete in itself."""
    told = await chunks(n=2, max_tokens=4)
    for number in (0, 1):
        own = [choice for chunk in told for choice in chunk["choices"] if choice["index"] == number]
        assert len("".join(choice["delta"].get("content", "") for choice in own).split()) == 4
        assert [choice["finish_reason"] for choice in own if choice["finish_reason"]] == ["length"]


async def test_text_parts_of_a_message_are_counted_like_its_text() -> None:
    """A message's content may be a list of parts; images and nothing at all have no words."""
    parts = [{"type": "text", "text": "two words"}, {"type": "image_url", "image_url": {}}, "odd"]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    assert (await ask(messages=messages)).json()["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'"text"',
        b"{}",
        b'{"messages": "hi"}',
        b'{"messages": ["hi"]}',
        b'{"messages": [], "max_tokens": 0}',
        b'{"messages": [], "max_tokens": -1}',
        b'{"messages": [], "max_tokens": "many"}',
        b'{"messages": [], "max_completion_tokens": 1.5}',
        b'{"messages": [], "n": 0}',
        b'{"messages": [], "n": true}',
        b'{"messages": [], "n": 1000000000}',
    ],
)
async def test_what_is_no_request_is_a_400_that_says_why(body: bytes) -> None:
    """A bad body is the caller's fault, in OpenAI's envelope, never a crash or an endless answer."""
    exchange = await asgi_exchange(SERVERS, body=body)
    assert exchange.status == 400
    assert exchange.json()["error"]["type"] == "invalid_request_error"
    assert exchange.json()["error"]["message"]


async def test_a_body_may_come_in_parts() -> None:
    """A server hands a body over as it arrives."""
    body = msgspec.json.encode({"messages": MESSAGES})
    assert (await asgi_exchange(SERVERS, body=[body[:7], b"", body[7:]])).status == 200


async def test_health_and_models_answer_and_nothing_else_does() -> None:
    """What probes ask is there."""
    assert (await asgi_exchange(SERVERS, method="GET", path="/health")).status == 200
    models = (await asgi_exchange(SERVERS, method="GET", path="/v1/models")).json()
    assert [model["id"] for model in models["data"]] == [DEMO_MODEL]
    assert (await asgi_exchange(SERVERS, method="GET", path="/v1/other")).status == 404
    assert (await asgi_exchange(SERVERS, method="GET")).status == 404
