"""An upstream's 4xx about the caller's own request: the caller's answer, at once, in our envelope."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import FIRST, SECOND, busy_connections, gateway_over, payload, told
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.testing import Exchange

pytestmark = pytest.mark.anyio

OPENAI = {
    "error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found", "param": "model"}
}


async def _refused(
    answer: FakeAnswer, *, stream: bool = False, auth: str = "region", headers: Sequence[tuple[str, str]] = ()
) -> tuple[Exchange, FakeUpstream, FakeUpstream]:
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(answer)
        tables = {code: {"base_url": one.base_url, "auth": auth} for code, one in ((FIRST, first), (SECOND, second))}
        async with gateway_over(tables) as (app, gateway):
            exchange = await asgi_exchange(app, json=payload(stream=stream), headers=headers)
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
            state = gateway.fleet.state(FIRST)
            assert state is not None
            assert not state.saturated
    return exchange, first, second


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 413, 415, 418, 422, 451, 499])
async def test_a_caller_error_is_the_callers_answer_and_no_other_region_hears_of_it(status: int, stream: bool) -> None:
    """Any 4xx that is not ours keeps its status and its words, is the only attempt, and is no failover."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        # Twice: a stream's 400 and 422 are asked once more, without our option.
        first.then(*[FakeAnswer.json(OPENAI, status=status)] * 2)
        async with gateway_over({FIRST: first, SECOND: second}) as (app, gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=stream)))
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
        assert second.requests == []
    assert (answer.status, answer.errors) == (status, [OPENAI["error"]])
    assert answer.attempts == [(FIRST, "caller_error", status)]
    assert (answer.trace["region"], answer.headers["x-vetted-region"]) == (FIRST, FIRST)
    assert answer.receipt is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            FakeAnswer.json(
                {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}}, status=400
            ),
            {"message": "too long", "type": "exceed_context_size_error", "code": "400", "param": None},
        ),
        (
            FakeAnswer.json({"error": "just words"}, status=404),
            {"message": "just words", "type": "upstream_error", "code": "upstream_error", "param": None},
        ),
        (
            FakeAnswer.json({"detail": "Server is pinned to x"}, status=400),
            {"message": "Server is pinned to x", "type": "upstream_error", "code": "upstream_error", "param": None},
        ),
        (
            FakeAnswer.json({"detail": [{"loc": ["body"], "msg": "Field required"}, {"msg": "too short"}]}, status=422),
            {"message": "Field required; too short", "type": "upstream_error", "code": "upstream_error", "param": None},
        ),
        (
            FakeAnswer.json({"message": "not allowed here"}, status=405),
            {"message": "not allowed here", "type": "upstream_error", "code": "upstream_error", "param": None},
        ),
        (
            FakeAnswer(status=404, headers=[("content-type", "text/plain")], body=[b"404 page not found\n"]),
            {"message": "404 page not found", "type": "upstream_error", "code": "upstream_error", "param": None},
        ),
    ],
    ids=["llama.cpp", "a string", "detail", "list of details", "message", "plain text"],
)
async def test_error_bodies_of_every_shape_become_one_envelope(answer: FakeAnswer, error: dict[str, Any]) -> None:
    """Whatever an upstream calls its error, the caller reads message, type, code (a string) and param."""
    exchange, _first, _second = await _refused(answer)
    assert exchange.json()["error"] == error
    assert exchange.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "answer",
    [
        FakeAnswer(status=404),
        FakeAnswer(status=404, body=[b"\xff\xfe"], headers=[("content-encoding", "br")]),
        FakeAnswer(status=404, body=[b"half"], headers=[("content-length", "99")], ending="cut"),
        FakeAnswer.json({"error": {}}, status=404),
        FakeAnswer.json(["?"], status=404),
    ],
    ids=["empty", "unreadable", "cut", "no message", "array"],
)
async def test_an_error_without_words_still_says_something(answer: FakeAnswer) -> None:
    """A body that tells nothing costs neither the status nor a message that tells the caller where it stands."""
    exchange, _first, second = await _refused(answer)
    assert exchange.status == 404
    assert exchange.json()["error"]["message"]
    assert second.requests == []


async def test_an_error_whose_words_do_not_come_is_told_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status says enough: a body that stalls is waited for a little, and costs no attempt elsewhere."""
    monkeypatch.setattr("vetted_mw.proxy.attempt._ERROR_SECONDS", 0.1)
    stalling = FakeAnswer(status=404, body=[b'{"error":'], chunked=True, ending="stall")
    exchange, first, second = await _refused(stalling)
    assert (exchange.status, len(first.requests), second.requests) == (404, 1, [])
    assert exchange.json()["error"]["message"]


@pytest.mark.parametrize("status", [401, 403])
async def test_with_the_callers_own_key_a_refused_key_is_the_callers_fault(status: int) -> None:
    """Under `passthrough` a 401 or 403 goes to the caller; with our key it is ours, and fails over."""
    refused = FakeAnswer.json(OPENAI, status=status)
    key = [("Authorization", "Bearer sk-callers-own")]
    passed, first, second = await _refused(refused, auth="passthrough", headers=key)
    assert passed.status == status
    assert (first.requests[0].header("authorization"), second.requests) == ("Bearer sk-callers-own", [])
    ours, first, second = await _refused(refused, headers=key)
    assert (ours.status, len(second.requests)) == (200, 1)
    assert first.requests[0].header("authorization") is None


async def test_an_upstreams_words_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An error may quote the prompt, so it reaches the caller and no log."""
    caplog.set_level(logging.DEBUG, logger="vetted_mw")
    exchange, _first, _second = await _refused(
        FakeAnswer.json({"error": {"message": "you said: my secret"}}, status=400)
    )
    assert exchange.json()["error"]["message"] == "you said: my secret"
    assert "secret" not in caplog.text
