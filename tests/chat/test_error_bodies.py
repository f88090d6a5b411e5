"""Errors in every shape that real servers use, and ours in OpenAI's envelope."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import unhurried, values
from vetted_mw.chat.response import (
    UpstreamMessage,
    error_envelope,
    error_message,
    read_error,
    retry_headers,
    upstream_message,
)
from vetted_mw.errors import (
    AnswerError,
    BodyTooLargeError,
    CallerFaultError,
    InvalidKeyError,
    NoRegionAvailableError,
    PinnedUnavailableError,
    SaturatedError,
    UpstreamTimeoutError,
)

SHAPES: dict[str, tuple[bytes, UpstreamMessage]] = {
    "OpenAI": (
        b'{"error": {"message": "Too long.", "type": "invalid_request_error", "code": "ctx", "param": "messages"}}',
        UpstreamMessage(message="Too long.", type="invalid_request_error", code="ctx", param="messages"),
    ),
    "OpenAI with nulls": (
        b'{"error": {"message": "Too long.", "type": null, "code": null, "param": null}}',
        UpstreamMessage(message="Too long."),
    ),
    "llama.cpp, integer code": (
        b'{"error": {"code": 400, "message": "the request exceeds", "type": "exceed_context_size_error", "n_ctx": 8}}',
        UpstreamMessage(message="the request exceeds", type="exceed_context_size_error", code="400"),
    ),
    "vLLM of old, the error itself": (
        b'{"object": "error", "message": "no such model", "type": "NotFoundError", "param": "model", "code": 404}',
        UpstreamMessage(message="no such model", type="NotFoundError", code="404", param="model"),
    ),
    "a bare string": (
        b'{"error": "model overloaded", "error_type": "overloaded"}',
        UpstreamMessage(message="model overloaded"),
    ),
    "detail, a string": (
        b'{"detail": "Server is pinned to x"}',
        UpstreamMessage(message="Server is pinned to x"),
    ),
    "detail, a list of FastAPI": (
        b'{"detail": [{"loc": ["body", "messages"], "msg": "Field required"}, {"loc": ["n", 0], "msg": "no integer"}]}',
        UpstreamMessage(message="messages: Field required; n.0: no integer"),
    ),
    "detail, a list of strings": (b'{"detail": ["one", "two"]}', UpstreamMessage(message="one; two")),
    "detail, an object": (
        b'{"detail": {"message": "quota", "code": "q"}}',
        UpstreamMessage(message="quota", code="q"),
    ),
    "message only": (b'{"message": "Unauthorized", "request_id": "1"}', UpstreamMessage(message="Unauthorized")),
    "message that holds the detail": (
        b'{"message": {"detail": [{"loc": ["body", "n"], "msg": "too many"}]}, "type": "invalid_request_error"}',
        UpstreamMessage(message="n: too many", type="invalid_request_error"),
    ),
    "null error beside a detail": (b'{"error": null, "detail": "why"}', UpstreamMessage(message="why")),
    "a list of errors": (
        b'[{"error": {"code": 400, "message": "bad", "status": "INVALID"}}]',
        UpstreamMessage(message="bad"),
    ),
    "a JSON string": (b'"no"', UpstreamMessage(message="no")),
    "text/plain": (b"Internal Server Error\n", UpstreamMessage(message="Internal Server Error")),
    "HTML": (
        b"<html><h1>502 Bad Gateway</h1></html>",
        UpstreamMessage(message="<html><h1>502 Bad Gateway</h1></html>"),
    ),
    "text that is not UTF-8": (b"caf\xe9", UpstreamMessage(message="caf�")),
}

WORDLESS: dict[str, tuple[bytes, UpstreamMessage]] = {
    "empty": (b"", UpstreamMessage(message="")),
    "blanks": (b" \n", UpstreamMessage(message="")),
    "empty object": (b"{}", UpstreamMessage(message="")),
    "null": (b"null", UpstreamMessage(message="")),
    "a number": (b"5", UpstreamMessage(message="")),
    "empty error": (b'{"error": {}}', UpstreamMessage(message="")),
    "null error": (b'{"error": null}', UpstreamMessage(message="")),
    "empty detail": (b'{"detail": []}', UpstreamMessage(message="")),
    "code and type without a message": (
        b'{"error": {"code": 415, "type": "unsupported", "message": ""}}',
        UpstreamMessage(message="", type="unsupported", code="415"),
    ),
    "message of another type": (b'{"error": {"message": 5, "param": "n"}}', UpstreamMessage(message="", param="n")),
    "deep and wordless": (b'{"error": ' + b"[" * 500 + b'"x"' + b"]" * 500 + b"}", UpstreamMessage(message="")),
}


@pytest.mark.parametrize(("body", "expected"), SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_of_error_is_read_into_the_same_four_members(body: bytes, expected: UpstreamMessage) -> None:
    """Message, type, code (a string) and param come out of every shape that real servers use."""
    assert upstream_message(400, body) == expected
    assert read_error(body) == expected


@pytest.mark.parametrize(("body", "expected"), WORDLESS.values(), ids=WORDLESS.keys())
def test_an_error_without_words_gets_words_that_name_its_status(body: bytes, expected: UpstreamMessage) -> None:
    """An error that says nothing still tells the caller that the server refused and with what status."""
    assert read_error(body) == expected
    found = upstream_message(422, body)
    assert "422" in found.message
    assert (found.type, found.code, found.param) == (expected.type, expected.code, expected.param)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("context_length_exceeded", "context_length_exceeded"),
        (400, "400"),
        (0, "0"),
        (None, None),
        (True, None),
        (4.5, None),
        ([400], None),
        ({}, None),
    ],
)
def test_a_code_is_a_string_or_absent(code: object, expected: str | None) -> None:
    """Integer codes become strings, since clients expect one; anything else is no code."""
    assert error_message({"message": "m", "code": code}).code == expected


@pytest.mark.parametrize("error", [None, 5, True, [], {}, [5, None], {"message": None}, {"msg": {}}])
def test_an_error_value_without_words_is_an_empty_message(error: object) -> None:
    """What says nothing is read as nothing, and never raises."""
    assert error_message(error).message == ""


@pytest.mark.parametrize(
    "body", [b"x" * 100_000, json.dumps({"error": {"message": "x" * 100_000}}).encode()], ids=["text", "JSON"]
)
def test_a_very_long_message_is_cut(body: bytes) -> None:
    """An upstream's text is bounded before it goes into an answer, and its beginning is what is kept."""
    found = upstream_message(400, body).message
    assert 0 < len(found) <= 2000
    assert set(found) == {"x"}


def test_a_very_long_code_is_cut() -> None:
    """A code is bounded too."""
    code = error_message({"message": "m", "code": "c" * 100_000}).code
    assert code is not None
    assert len(code) <= 200


@unhurried
@given(body=st.binary(max_size=60) | values.map(str.encode) | values.map(lambda text: f'{{"error": {text}}}'.encode()))
def test_any_error_body_becomes_an_envelope_a_client_can_read(body: bytes) -> None:
    """Whatever bytes an upstream errs with, the caller gets OpenAI's envelope with a message and a string code."""
    found = upstream_message(418, body)
    error = CallerFaultError(
        found.message,
        status=418,
        type=found.type or "upstream_error",
        code=found.code or "upstream_error",
        param=found.param,
    )
    inner = json.loads(error_envelope(error))["error"]
    assert inner["message"]
    assert isinstance(inner["message"], str)
    assert isinstance(inner["code"], str)
    assert isinstance(inner["type"], str)
    assert inner["param"] is None or isinstance(inner["param"], str)


# ---- our own envelope


def test_the_envelope_is_openais_with_exactly_its_four_members() -> None:
    """An error of ours is `{"error": {message, type, code, param}}` and nothing beside it."""
    told = json.loads(error_envelope(BodyTooLargeError("Send a shorter request.")))
    assert told == {
        "error": {
            "message": "Send a shorter request.",
            "type": "validation_error",
            "code": "body_too_large",
            "param": None,
        }
    }


def test_the_trace_stands_beside_the_error_when_a_decision_was_made() -> None:
    """`routing_trace` is a sibling of `error`, byte for byte as it was encoded."""
    trace = b'{"region": null, "decision_mode":"unavailable"}'
    body = error_envelope(PinnedUnavailableError("The pinned region cannot serve."), trace=trace)
    assert trace in body
    told = json.loads(body)
    assert list(told) == ["error", "routing_trace"]
    assert told["error"]["param"] == "vetted.region"


def test_further_members_stand_beside_the_error() -> None:
    """Receipt and trace of a broken stream stand beside its error."""
    told: dict[str, Any] = json.loads(
        error_envelope(UpstreamTimeoutError("Again."), extra={"receipt": b"null", "routing_trace": b"{}"})
    )
    assert list(told) == ["error", "receipt", "routing_trace"]
    assert told["receipt"] is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PinnedUnavailableError("m"), {b"x-should-retry": b"false"}),
        (PinnedUnavailableError("m", retry_after=7), {b"x-should-retry": b"false", b"retry-after": b"7"}),
        (SaturatedError("m", retry_after=1.2), {b"retry-after": b"2"}),
        (SaturatedError("m", retry_after=0.0), {b"retry-after": b"1"}),
        (NoRegionAvailableError("m"), {}),
        (InvalidKeyError("m"), {b"www-authenticate": b"Bearer"}),
    ],
)
def test_headers_tell_whether_and_when_to_try_again(error: AnswerError, expected: dict[bytes, bytes]) -> None:
    """A pin's 503 forbids retries, a known wait is told in whole seconds and never too short, a 401 names its scheme."""
    assert dict(retry_headers(error)) == expected
