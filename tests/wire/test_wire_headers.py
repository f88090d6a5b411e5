"""Headers, each way: what every answer of ours carries, what an upstream may not say, what an upstream gets to see."""

from __future__ import annotations

import gzip
import json
import uuid
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from support import proxied
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames
from wire.clients import COMPLETIONS, GRAVELINES, PARIS, at_the_wire, chat, error_row, raw_connection, request_head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vetted_mw.testing import RecordedRequest

pytestmark = pytest.mark.anyio

OURS = {
    "x-vetted-region",
    "x-vetted-decision-mode",
    "x-vetted-decision-reason",
    "x-vetted-receipt-id",
    "x-vetted-attempts",
    "x-vetted-overhead-ms",
}
JSON_AND_STREAM = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


def scripted(*, stream: bool, headers: Sequence[tuple[str, str]] = ()) -> FakeAnswer:
    """A good answer with further headers."""
    if stream:
        return FakeAnswer.stream(chat_frames(), headers=headers)
    return FakeAnswer.json(chat_completion(), headers=headers)


def receipt_of(text: str, *, stream: bool) -> dict[str, Any]:
    """The receipt of a JSON answer, or of the chunk of a stream that carries it."""
    if not stream:
        receipt: dict[str, Any] = json.loads(text)["receipt"]
        return receipt
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    (receipt,) = (chunk["receipt"] for chunk in chunks if "receipt" in chunk)
    return receipt


# ---- to the caller


@JSON_AND_STREAM
async def test_an_answer_carries_exactly_the_headers_of_the_contract(*, stream: bool) -> None:
    """The six `x-vetted-*` headers, on streams the two that keep proxies from buffering, and nothing that we invented."""
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}) as client:
        answer = await client.post(COMPLETIONS, json=chat(stream=stream))
    framing = {"cache-control", "x-accel-buffering", "transfer-encoding"} if stream else {"content-length"}
    names = [name for name, _ in answer.headers.multi_items()]
    assert sorted(names) == sorted({"content-type", "date"} | OURS | framing)
    if stream:
        assert answer.headers["content-type"] == "text/event-stream"
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-transform", "no")
    else:
        assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-vetted-region"] == PARIS
    assert answer.headers["x-vetted-decision-mode"] == "preferred"
    assert answer.headers["x-vetted-decision-reason"] == "preferred_available"
    assert answer.headers["x-vetted-attempts"] == "1"
    assert float(answer.headers["x-vetted-overhead-ms"]) >= 0
    assert uuid.UUID(answer.headers["x-vetted-receipt-id"]).version == 4
    assert answer.headers["x-vetted-receipt-id"] == receipt_of(answer.text, stream=stream)["query_id"]


@JSON_AND_STREAM
async def test_after_a_failover_the_headers_say_what_really_served(*, stream: bool) -> None:
    """Region, mode, reason and number of requests are those of the answer, not of the first intention."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(FakeAnswer.json({}, status=500))
        async with at_the_wire({PARIS: first.base_url, GRAVELINES: second.base_url}) as client:
            answer = await client.post(COMPLETIONS, json=chat(stream=stream))
    assert answer.headers["x-vetted-region"] == GRAVELINES
    assert answer.headers["x-vetted-decision-mode"] == "failover"
    assert answer.headers["x-vetted-decision-reason"] == "attempt_failed"
    assert answer.headers["x-vetted-attempts"] == "2"


@JSON_AND_STREAM
async def test_an_answer_without_receipt_says_so_and_claims_no_receipt_id(*, stream: bool) -> None:
    """Where the receipt is withheld the completion goes out with `receipt: null` and the reason in the trace."""
    strict = {"missing_usage": "null"}
    async with FakeUpstream(usage=None) as paris, at_the_wire({PARIS: paris.base_url}, receipts=strict) as client:
        answer = await client.post(COMPLETIONS, json=chat(stream=stream))
    assert answer.status_code == 200
    assert '"receipt":null,"routing_trace":{' in answer.text
    assert '"receipt_error":"usage_missing"' in answer.text
    if not stream:  # a stream's headers are gone before anyone knows
        assert "x-vetted-receipt-id" not in answer.headers


SPOOFED = (
    ("x-vetted-region", "spoofed"),
    ("X-Vetted-Receipt-Id", "spoofed"),
    ("x-vetted-anything", "spoofed"),
    ("set-cookie", "session=spoofed"),
    ("Set-Cookie", "other=spoofed"),
    ("server", "spoofed/1.0"),
    ("alt-svc", 'h3="spoofed:443"'),
    ("connection", "X-Private, keep-alive"),
    ("Connection", "x-second"),
    ("x-private", "spoofed"),
    ("x-second", "spoofed"),
    ("keep-alive", "timeout=5, spoofed"),
    ("proxy-authenticate", "Basic spoofed"),
    ("proxy-connection", "spoofed"),
    ("trailer", "spoofed"),
    ("upgrade", "spoofed"),
    ("te", "spoofed"),
)
PASSED = (
    ("x-request-id", "req_1"),
    ("openai-processing-ms", "5"),
    ("x-ratelimit-remaining-requests", "7"),
    ("x-two", "a"),
    ("x-two", "b"),
)


@JSON_AND_STREAM
async def test_an_upstream_can_neither_spoof_us_nor_reach_the_callers_cookies(*, stream: bool) -> None:
    """Hop-by-hop headers, those `Connection` names, cookies, `server` and `x-vetted-*` stay behind; all others pass."""
    async with FakeUpstream() as paris:
        paris.then(scripted(stream=stream, headers=(*SPOOFED, *PASSED, ("cache-control", "max-age=60"))))
        async with at_the_wire({PARIS: paris.base_url}) as client:
            answer = await client.post(COMPLETIONS, json=chat(stream=stream))
    told = answer.headers.multi_items()
    assert not [pair for pair in told if "spoofed" in pair[1]]
    assert {name for name, _ in told}.isdisjoint(
        {"set-cookie", "server", "alt-svc", "connection", "upgrade", "trailer"}
    )
    assert [pair for pair in told if pair in PASSED] == list(PASSED)
    assert answer.headers.get_list("cache-control") == ["no-transform" if stream else "max-age=60"]
    assert answer.headers["x-vetted-region"] == PARIS
    assert len(answer.headers.get_list("date")) == 1


@pytest.mark.parametrize("value", ["a\x01b", "a\x7fb", "\x1b[31m"])
@JSON_AND_STREAM
async def test_a_header_that_no_server_could_send_does_not_cost_the_answer(value: str, *, stream: bool) -> None:
    """An upstream's header with control characters is left out; the completion that was paid for goes out."""
    async with FakeUpstream() as paris:
        paris.then(scripted(stream=stream, headers=(("x-odd", value), ("x-good", "yes"))))
        async with at_the_wire({PARIS: paris.base_url}) as client:
            answer = await client.post(COMPLETIONS, json=chat(stream=stream))
    assert answer.status_code == 200
    assert "x-odd" not in answer.headers
    assert answer.headers["x-good"] == "yes"
    assert "routing_trace" in answer.text


# ---- what an upstream encoded although it was asked not to


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", deflated)]
)
@JSON_AND_STREAM
async def test_an_encoded_answer_is_decoded(encoding: str, pack: Callable[[bytes], bytes], *, stream: bool) -> None:
    """gzip and deflate from an upstream reach the caller plain, without `content-encoding`, receipt and trace in them."""
    plain = b"".join(chat_frames()) if stream else chat_completion()
    kind = "text/event-stream" if stream else "application/json"
    headers = (("content-type", kind), ("content-encoding", encoding))
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        paris.then(FakeAnswer(headers=headers, body=(pack(plain),)))
        exchange = await asgi_exchange(app, json=chat(stream=stream))
    assert exchange.status == 200
    assert "content-encoding" not in exchange.headers
    assert b"Hel" in exchange.body
    assert b'"routing_trace":' in exchange.body


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", gzip.compress(b" " * 4_000_000), id="a bomb"),
        pytest.param("gzip", gzip.compress(chat_completion())[:-9], id="cut"),
        pytest.param("gzip", chat_completion(), id="not encoded"),
        pytest.param("br", chat_completion(), id="an encoding we do not undo"),
        pytest.param("", b" " * 70_000 + chat_completion(), id="plainly too large"),
    ],
)
async def test_an_answer_that_cannot_be_decoded_within_the_limit_is_no_answer(encoding: str, body: bytes) -> None:
    """What decodes to more than `max_response_bytes`, or not at all, is an invalid response, not a broken completion."""
    headers = (("content-type", "application/json"), *((("content-encoding", encoding),) if encoding else ()))
    limits = {"max_response_bytes": 65_536}
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, limits=limits) as client:
        paris.then(FakeAnswer(headers=headers, body=(body,)))
        answer = await client.post(COMPLETIONS, json=chat())
    assert error_row(answer) == (502, "inference_error", "upstream_invalid_response", None)
    assert answer.json()["routing_trace"]["attempts"][0]["outcome"] == "invalid_response"


# ---- to the upstream

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LISTED = (
    ("accept", "text/event-stream"),
    ("user-agent", "their-client/1"),
    ("x-request-id", "req-7"),
    ("idempotency-key", "once"),
    ("openai-organization", "org"),
    ("openai-beta", "assistants=v2"),
)
UNLISTED = (
    ("authorization", "Bearer canary"),
    ("cookie", "canary=1"),
    ("x-api-key", "canary"),
    ("api-key", "canary"),
    ("x-forwarded-for", "canary"),
    ("forwarded", "for=canary"),
    ("referer", "canary"),
    ("accept-language", "canary"),
    ("accept-encoding", "gzip, canary"),
    ("x-stainless-lang", "canary"),
    ("x-openai-client", "canary"),
    ("baggage", "user=canary"),
    ("te", "canary"),
    ("proxy-authorization", "Basic canary"),
    ("x-tenant", "canary"),
    ("content-type", "application/json; charset=utf-8"),
)


async def seen_upstream(
    table: dict[str, Any], sent: Sequence[tuple[str, str]], *, stream: bool = False, **settings: Any
) -> RecordedRequest:
    """Send a completion with these headers, byte by byte as they stand, and return what the upstream got."""
    body = json.dumps(chat(stream=stream)).encode()
    lines = [f"{name}: {value}" for name, value in (*sent, ("connection", "close"))]
    async with (
        FakeUpstream() as paris,
        at_the_wire({PARIS: {"base_url": paris.base_url} | table}, **settings) as client,
        raw_connection(client) as connection,
    ):
        await connection.send(request_head(f"content-length: {len(body)}", *lines), body)
        assert (await connection.answer()).status == 200
    (request,) = paris.requests
    return request


@JSON_AND_STREAM
async def test_an_upstream_sees_the_allow_list_and_our_key_and_nothing_else(tmp_path: Path, *, stream: bool) -> None:
    """Listed headers leave as they came, the region's key is set, `identity` is asked for; no other header leaves."""
    (tmp_path / "key").write_text("key-of-the-region")
    table = {"api_key": {"file": str(tmp_path / "key")}}
    request = await seen_upstream(table, [*LISTED, *UNLISTED], stream=stream)
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    headers = {name: value for name, value in request.headers if name not in {"host", "content-length"}}
    assert headers == {
        **dict(LISTED),
        "content-type": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer key-of-the-region",
    }
    assert len({name for name, _ in request.headers}) == len(request.headers)
    assert "canary" not in str(request.headers)


async def test_a_bare_request_gains_no_header_that_would_name_us() -> None:
    """Without the caller's own there is no `user-agent` and no `accept` of an HTTP library of ours."""
    request = await seen_upstream({}, [])
    assert {name for name, _ in request.headers} == {"host", "content-length", "content-type", "accept-encoding"}


async def test_a_header_the_operator_lists_leaves_too() -> None:
    """`forward_headers` widens the list by just those names."""
    request = await seen_upstream({}, [("X-Tenant", "acme"), ("x-other", "canary")], forward_headers=["x-tenant"])
    assert request.header("x-tenant") == "acme"
    assert request.header("x-other") is None


@pytest.mark.parametrize("propagate", ["traceparent", "off"])
async def test_the_callers_trace_goes_on_unless_it_is_turned_off(propagate: str) -> None:
    """Trace context passes the gateway by the operator's leave; baggage never does."""
    sent = [("traceparent", TRACEPARENT), ("tracestate", "vendor=1"), ("baggage", "user=canary")]
    request = await seen_upstream({}, sent, telemetry={"propagate": propagate})
    parent = request.header("traceparent")
    if propagate == "off":
        assert parent is request.header("tracestate") is None
    else:
        assert parent is not None
        assert parent.split("-")[1] == TRACEPARENT.split("-")[1]
    assert request.header("baggage") is None


@pytest.mark.parametrize(("auth", "expected"), [("passthrough", "Bearer mine"), ("none", None), ("region", None)])
async def test_the_callers_key_leaves_only_where_it_is_passed_through(auth: str, expected: str | None) -> None:
    """`Authorization` of the caller goes to a region with `auth = "passthrough"` and to no other."""
    request = await seen_upstream({"auth": auth}, [("authorization", "Bearer mine")])
    assert request.header("authorization") == expected


async def test_values_leave_as_their_own_bytes_in_their_own_order() -> None:
    """What leaves is the caller's members without `vetted`, each value byte for byte."""
    body = (
        b' { "messages" : [ {"role":"user", "content":"\\u00e9\\n" } ] ,\n"model":"m","vetted":{"boundary":"narrow"},'
        b'"temperature": 1.0e0, "n":1,"x": { "deep" :[1 , 2.50 ] } } '
    )
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}) as client:
        await client.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert paris.requests[0].body == (
        b'{"messages":[ {"role":"user", "content":"\\u00e9\\n" } ],"model":"m",'
        b'"temperature":1.0e0,"n":1,"x":{ "deep" :[1 , 2.50 ] }}'
    )
