"""Every row of the outcome table before commit, on real sockets: JSON and SSE, by default, pinned and carbon-aware."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import (
    FIRST,
    OUTSIDE,
    SECOND,
    Faulty,
    RawUpstream,
    busy_connections,
    content,
    gateway_over,
    nowhere,
    payload,
    role,
    scripted,
    told,
)
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames, sse

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio

Arrange = Callable[[], contextlib.AbstractAsyncContextManager[Faulty]]

ERROR = {"error": {"message": "broken", "type": "server_error", "code": None, "param": None}}
SOON = {"first_byte_seconds": 0.4, "answer_seconds": 0.4}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail before commit.

    Attributes:
        name: what it is.
        outcome: what the table calls it.
        status: the upstream's status, None where it had none to give.
        arrange: the upstream, for both kinds of request.
        json: the upstream for a JSON request, where it differs.
        sse: the upstream for a stream, where it differs.
        modes: the kinds of request it can happen to.
        limits: limits of its region that make it happen soon.
        sent: whether a request left.
    """

    name: str
    outcome: str
    status: int | None = None
    arrange: Arrange | None = None
    json: Arrange | None = None
    sse: Arrange | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    sent: bool = True

    def upstream(self, *, stream: bool) -> Arrange | None:
        """Return the upstream for one kind of request; None where the fault cannot happen."""
        return (self.sse if stream else self.json) or self.arrange


def _refusal(status: int, *headers: tuple[str, str]) -> Arrange:
    return scripted(FakeAnswer.json(ERROR, status=status, headers=headers))


def _body(answer: FakeAnswer) -> Arrange:
    return scripted(answer)


def _stream(*frames: bytes | float, ending: str = "close", headers: tuple[tuple[str, str], ...] = ()) -> Arrange:
    return scripted(FakeAnswer.stream(frames, ending=ending, headers=headers))


def _raw(*parts: bytes | float, **options: Any) -> Arrange:
    return lambda: RawUpstream(*parts, **options)


def _dripping(part: bytes) -> list[bytes | float]:
    return [0.05, part] * 400


def _later(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


WHOLE = chat_completion()
FAULTS = [
    # saturated
    Fault(name="429", outcome="saturated", status=429, arrange=_refusal(429)),
    Fault(name="429 with seconds", outcome="saturated", status=429, arrange=_refusal(429, ("Retry-After", "7"))),
    Fault(name="429 with a date", outcome="saturated", status=429, arrange=_refusal(429, ("Retry-After", _later(90)))),
    Fault(name="429 with nonsense", outcome="saturated", status=429, arrange=_refusal(429, ("Retry-After", "soon"))),
    Fault(name="529", outcome="saturated", status=529, arrange=_refusal(529)),
    Fault(name="503 with seconds", outcome="saturated", status=503, arrange=_refusal(503, ("Retry-After", "2"))),
    # upstream_error
    Fault(name="503", outcome="upstream_error", status=503, arrange=_refusal(503)),
    Fault(name="500", outcome="upstream_error", status=500, arrange=_refusal(500)),
    Fault(name="502", outcome="upstream_error", status=502, arrange=_refusal(502)),
    Fault(name="408", outcome="upstream_error", status=408, arrange=_refusal(408)),
    Fault(name="401 of our key", outcome="upstream_error", status=401, arrange=_refusal(401)),
    Fault(name="403 of our key", outcome="upstream_error", status=403, arrange=_refusal(403)),
    Fault(name="error object with 200", outcome="upstream_error", status=200, json=_body(FakeAnswer.json(ERROR))),
    Fault(name="error event first", outcome="upstream_error", status=200, sse=_stream(sse(ERROR))),
    Fault(name="error event second", outcome="upstream_error", status=200, sse=_stream(role(), sse(ERROR))),
    Fault(
        name="error event third",
        outcome="upstream_error",
        status=200,
        sse=_stream(role(), content(""), b"event: error\n" + sse({"message": "broken"})),
    ),
    # nothing was sent
    Fault(name="refused", outcome="connect_error", arrange=nowhere, sent=False),
    Fault(
        name="plain text on the TLS port",
        outcome="tls_error",
        arrange=_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n", reads=False, scheme="https"),
        sent=False,
    ),
    Fault(
        name="silent TLS handshake",
        outcome="connect_timeout",
        arrange=_raw(ending="stall", reads=False, scheme="https"),
        limits={"connect_seconds": 0.3},
        sent=False,
    ),
    # limits
    Fault(
        name="no answer at all",
        outcome="answer_timeout",
        json=_raw(ending="stall"),
        limits=SOON,
    ),
    Fault(name="no stream at all", outcome="first_byte_timeout", sse=_raw(ending="stall"), limits=SOON),
    Fault(
        name="dripping headers",
        outcome="answer_timeout",
        json=_raw(HEAD, *_dripping(b"x-drip: 1\r\n")),
        limits=SOON,
    ),
    Fault(
        name="dripping headers of a stream",
        outcome="first_byte_timeout",
        sse=_raw(HEAD, *_dripping(b"x-drip: 1\r\n")),
        limits=SOON,
    ),
    Fault(
        name="slow JSON",
        outcome="answer_timeout",
        status=200,
        json=_body(FakeAnswer(body=[WHOLE[:20], 60.0, WHOLE[20:]])),
        limits=SOON,
    ),
    Fault(
        name="stall before the first content",
        outcome="first_byte_timeout",
        status=200,
        sse=_stream(role(), content(""), ending="stall"),
        limits=SOON,
    ),
    Fault(
        name="comments only",
        outcome="first_byte_timeout",
        status=200,
        sse=_stream(role(), *_dripping(b": ping\n\n")),
        limits=SOON,
    ),
    # cut
    Fault(name="reset before headers", outcome="upstream_cut", arrange=_raw(ending="reset")),
    Fault(name="closed before headers", outcome="upstream_cut", arrange=_raw()),
    Fault(name="no HTTP at all", outcome="upstream_cut", arrange=_raw(b"220 smtp.example ESMTP\r\n")),
    Fault(
        name="endless headers", outcome="upstream_cut", arrange=_raw(HEAD, *[b"x-more: " + b"y" * 1000 + b"\r\n"] * 300)
    ),
    Fault(
        name="reset in the middle",
        outcome="upstream_cut",
        status=200,
        json=_raw(HEAD + b"content-length: %d\r\n\r\n" % len(WHOLE), WHOLE[:20], 0.2, ending="reset"),
        sse=_stream(role(), 0.2, ending="reset"),
    ),
    Fault(
        name="content-length too long",
        outcome="upstream_cut",
        status=200,
        json=_body(FakeAnswer(headers=[("content-length", str(len(WHOLE) + 10))], body=[WHOLE], ending="cut")),
        sse=_body(
            FakeAnswer(
                headers=[("content-type", "text/event-stream"), ("content-length", "9999")], body=[role()], ending="cut"
            )
        ),
    ),
    Fault(
        name="malformed chunk",
        outcome="upstream_cut",
        status=200,
        json=_raw(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"zz\r\n{}\r\n"),
        sse=_raw(SSE_HEAD, b"zz\r\n" + role()),
    ),
    Fault(name="stream without a frame", outcome="upstream_cut", status=200, sse=_stream()),
    Fault(name="[DONE] alone", outcome="upstream_cut", status=200, sse=_stream(b"data: [DONE]\n\n")),
    Fault(name="end after the role", outcome="upstream_cut", status=200, sse=_stream(role())),
    # no answer of the right kind
    Fault(
        name="HTML page",
        outcome="invalid_response",
        status=200,
        arrange=_body(FakeAnswer(headers=[("content-type", "text/html")], body=[b"<html>Sign in</html>"])),
    ),
    Fault(name="JSON for a stream", outcome="invalid_response", status=200, sse=_body(FakeAnswer.json(WHOLE))),
    Fault(name="a stream for JSON", outcome="invalid_response", status=200, json=_stream(*chat_frames())),
    Fault(name="JSON array", outcome="invalid_response", status=200, json=_body(FakeAnswer.json([1]))),
    Fault(name="no choices", outcome="invalid_response", status=200, json=_body(FakeAnswer.json({"ok": True}))),
    Fault(name="204", outcome="invalid_response", status=204, arrange=_raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
    Fault(
        name="content-length too short",
        outcome="invalid_response",
        status=200,
        json=_body(FakeAnswer(headers=[("content-length", "20")], body=[WHOLE])),
    ),
    *[
        Fault(
            name=f"redirect {status}",
            outcome="invalid_response",
            status=status,
            arrange=_refusal(status, ("Location", "http://127.0.0.1:1/v1/chat/completions")),
        )
        for status in (300, 301, 302, 303, 304, 307, 308)
    ],
    Fault(
        name="over the size limit",
        outcome="invalid_response",
        status=200,
        json=_body(FakeAnswer.json(chat_completion(text="x" * 3000))),
        sse=_stream(role(), content("x" * 3000), ending="stall"),
        limits={"max_response_bytes": 2048, "max_frame_bytes": 2048},
    ),
    Fault(
        name="frame without an end",
        outcome="invalid_response",
        status=200,
        sse=_stream(b"data: " + b"x" * 3000, ending="stall"),
        limits={"max_frame_bytes": 2048},
    ),
    Fault(name="frame that is no JSON", outcome="invalid_response", status=200, sse=_stream(b"data: <html>\n\n")),
    Fault(name="frame cut short", outcome="invalid_response", status=200, sse=_stream(b'data: {"id": 5, "cho\n\n')),
    Fault(
        name="frame that is no UTF-8",
        outcome="invalid_response",
        status=200,
        sse=_stream(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'),
    ),
    Fault(
        name="encoding nobody asked for",
        outcome="invalid_response",
        status=200,
        json=_body(FakeAnswer.json(WHOLE, headers=[("content-encoding", "br")])),
        sse=_stream(*chat_frames(), headers=(("content-encoding", "br"),)),
    ),
    Fault(
        name="gzip that is none",
        outcome="invalid_response",
        status=200,
        json=_body(FakeAnswer.json(WHOLE, headers=[("content-encoding", "gzip")])),
        sse=_stream(*chat_frames(), headers=(("content-encoding", "gzip"),)),
    ),
    Fault(
        name="gzip cut short",
        outcome="invalid_response",
        status=200,
        json=_body(FakeAnswer.json(gzip.compress(WHOLE)[:-6], headers=[("content-encoding", "gzip")])),
    ),
]


HAPPENING = [
    (fault, stream) for fault in FAULTS for stream in (False, True) if fault.upstream(stream=stream) is not None
]


def _named(fault: Fault, *values: Any, stream: bool) -> Any:
    words = [fault.name, "sse" if stream else "json", *map(str, values)]
    return pytest.param(fault, stream, *values, id="-".join(words).replace(" ", "_"))


CASES = [_named(fault, stream=stream) for fault, stream in HAPPENING]
ROUTED = [
    _named(fault, routing, stream=stream)
    for fault, stream in HAPPENING
    for routing in ("default", "carbon_aware")
    if routing == "default" or not fault.limits  # what waits for a limit waits once: the way is the same
]


@contextlib.asynccontextmanager
async def _failing(fault: Fault, *, stream: bool) -> Any:
    arrange = fault.upstream(stream=stream)
    assert arrange is not None
    async with arrange() as first, FakeUpstream(text="from the second") as second, FakeUpstream() as outside:
        tables: dict[str, Any] = {
            FIRST: {"base_url": first.base_url, "limits": dict(fault.limits)},
            SECOND: second,
            OUTSIDE: outside,
        }
        async with gateway_over(tables) as (app, gateway):
            yield app, gateway, first, second, outside


@pytest.mark.parametrize(("fault", "stream", "routing"), ROUTED)
async def test_before_commit_the_next_region_of_the_policy_serves_and_the_trace_tells_what_the_logs_show(
    fault: Fault, stream: bool, routing: str
) -> None:
    """A fault before commit costs the caller nothing: the next region serves, and trace, headers and logs agree."""
    async with _failing(fault, stream=stream) as (app, gateway, first, second, outside):
        answer = told(await asgi_exchange(app, json=payload(stream=stream, vetted={"routing": routing})))
        assert (answer.status, answer.complete, answer.errors) == (200, True, [])
        assert answer.text.replace(" ", "") == "fromthesecond"
        assert answer.attempts == [(FIRST, fault.outcome, fault.status), (SECOND, "success", 200)]
        assert (answer.trace["region"], answer.headers["x-vetted-region"]) == (SECOND, SECOND)
        assert (answer.trace["decision_mode"], answer.trace["decision_reason"]) == ("failover", "attempt_failed")
        assert len(first.requests) == int(fault.sent)
        assert (len(second.requests), len(outside.requests)) == (1, 0)
        assert answer.headers["x-vetted-attempts"] == str(int(fault.sent) + 1)
        assert answer.receipt is not None
        assert answer.receipt["region"] == SECOND
        assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])


@pytest.mark.parametrize(("fault", "stream"), CASES)
async def test_a_pin_never_leaks(fault: Fault, stream: bool) -> None:
    """Whatever breaks at a pinned region: 503, one attempt told, and no other region hears of the request."""
    async with _failing(fault, stream=stream) as (app, gateway, first, second, outside):
        answer = told(await asgi_exchange(app, json=payload(stream=stream, vetted={"region": FIRST})))
        assert answer.status == 503
        assert [(error["type"], error["code"], error["param"]) for error in answer.errors] == [
            ("region_unavailable", "service_unavailable", "vetted.region")
        ]
        assert answer.headers["x-should-retry"] == "false"
        assert answer.attempts == [(FIRST, fault.outcome, fault.status)]
        assert (answer.trace["region"], answer.receipt, answer.complete) == (None, None, False)
        assert len(first.requests) == int(fault.sent)
        assert (len(second.requests), len(outside.requests)) == (0, 0)
        assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_a_redirect_is_never_followed(stream: bool) -> None:
    """The host a redirect names gets nothing, not even a connection."""
    async with FakeUpstream() as first, FakeUpstream() as target:
        location = f"{target.base_url}/chat/completions"
        first.then(FakeAnswer.json({}, status=307, headers=[("Location", location)]))
        async with gateway_over({FIRST: first}) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=stream)))
        assert (answer.status, answer.errors[0]["code"]) == (502, "upstream_invalid_response")
        assert (target.requests, target.others, target.open_connections) == ([], [], 0)


@pytest.mark.parametrize(
    ("fault", "status", "type_", "code"),
    [
        (_refusal(500), 502, "inference_error", "upstream_error"),
        (nowhere, 502, "inference_error", "upstream_error"),
        (_raw(ending="stall"), 504, "inference_error", "upstream_timeout"),
        (_body(FakeAnswer.json([])), 502, "inference_error", "upstream_invalid_response"),
        (_refusal(429), 429, "rate_limit_error", "all_regions_saturated"),
    ],
    ids=["upstream_error", "connect_error", "answer_timeout", "invalid_response", "saturated"],
)
async def test_when_every_attempt_fails_the_caller_is_told_how(
    fault: Arrange, status: int, type_: str, code: str
) -> None:
    """With no region left the answer is an error of ours whose status and code follow from the attempts."""
    async with fault() as first:
        table = {"base_url": first.base_url, "limits": SOON}
        async with gateway_over({FIRST: table}) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload()))
    assert (answer.status, answer.errors[0]["type"], answer.errors[0]["code"]) == (status, type_, code)
    assert (answer.trace["decision_mode"], answer.trace["region"]) == ("unavailable", None)
