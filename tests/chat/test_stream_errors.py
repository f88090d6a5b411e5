"""Errors in a stream: an upstream's error events, our own error frame, and telling chat chunks from other data."""

from __future__ import annotations

import json

import pytest

from chat.streams import DONE, FINISH, HEAD, MEMBERS, ROLE, USAGE, delta, events, frame, opened, played
from vetted_mw.chat.response import UpstreamMessage
from vetted_mw.chat.sse import error_frame, is_chat_chunk
from vetted_mw.errors import AnswerError, UpstreamCutError, UpstreamFailedError, UpstreamTimeoutError

CONTENT = delta(content="Hello")

ERRORS: dict[str, tuple[bytes, UpstreamMessage]] = {
    "an error member": (
        frame({"error": {"message": "out of memory", "type": "server_error", "code": 500}}),
        UpstreamMessage(message="out of memory", type="server_error", code="500"),
    ),
    "an error member, a string": (frame({"error": "overloaded"}), UpstreamMessage(message="overloaded")),
    "an error member beside choices": (
        frame({**HEAD, "choices": [{"index": 0, "delta": {"content": "x"}}], "error": {"message": "late"}}),
        UpstreamMessage(message="late"),
    ),
    "an empty error member": (frame({"error": {}}), UpstreamMessage(message="")),
    "an error member beside an odd one": (frame({"id": 5, "error": {"message": "m"}}), UpstreamMessage(message="m")),
    "the object is the error": (
        frame({"object": "error", "message": "no such model", "type": "NotFoundError", "param": None, "code": 404}),
        UpstreamMessage(message="no such model", type="NotFoundError", code="404"),
    ),
    "an error event": (
        b"event: error\n" + frame({"error": {"message": "m", "code": "c"}}),
        UpstreamMessage(message="m", code="c"),
    ),
    "an error event that is the error": (
        b"event: error\n" + frame({"message": "m", "type": "t"}),
        UpstreamMessage(message="m", type="t"),
    ),
    "an error event in plain text": (b"event: error\ndata: it broke\n\n", UpstreamMessage(message="it broke")),
    "an error event, CRLF": (b"event:error\r\ndata:it broke\r\n\r\n", UpstreamMessage(message="it broke")),
}


@pytest.mark.parametrize(("event", "expected"), ERRORS.values(), ids=ERRORS.keys())
@pytest.mark.parametrize("before", [[], [ROLE], [ROLE, CONTENT]], ids=["first", "second", "third"])
def test_an_error_event_is_noticed_wherever_it_comes(
    event: bytes, expected: UpstreamMessage, before: list[bytes]
) -> None:
    """An upstream's error event is kept from the caller and told apart from an answer, as 1st, 2nd or 3rd event."""
    stream = opened()
    out = b"".join(stream.feed(part) for part in [*before, event])
    assert stream.error == expected
    assert stream.committed is (CONTENT in before)
    assert out == (ROLE + CONTENT if stream.committed else b"")


@pytest.mark.parametrize(
    "late", [CONTENT, FINISH, DONE, frame({"error": {"message": "another"}}), b"data: no JSON\n\n"]
)
def test_nothing_after_an_error_is_read(late: bytes) -> None:
    """An error is the end of what is taken from an upstream, whatever follows, in the same read or a later one."""
    error = frame({"error": {"message": "first"}})
    for parts in ([CONTENT, error, late], [CONTENT + error + late]):
        stream = opened()
        out = played(parts, stream)
        assert out == CONTENT
        assert stream.error == UpstreamMessage(message="first")
        assert (stream.finished, stream.done) == (False, False)
        assert stream.feed(late) == stream.ended_by_upstream() == b""


def test_an_error_as_the_last_bytes_without_a_blank_line_is_noticed() -> None:
    """An upstream that errs and closes at once has still erred."""
    stream = opened()
    assert played([CONTENT, frame({"error": {"message": "gone"}})[:-2]], stream) == CONTENT
    assert stream.error == UpstreamMessage(message="gone")


def test_a_null_error_is_none() -> None:
    """Servers that send `error: null` on every chunk are answering."""
    harmless = frame({**HEAD, "error": None, "choices": [{"index": 0, "delta": {"content": "x"}}]})
    stream = opened()
    assert stream.feed(harmless) == harmless
    assert stream.error is None


# ---- our own error frame


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamFailedError("The region reported an error."), "upstream_error"),
        (UpstreamCutError("The region's stream was cut."), "upstream_stream_cut"),
        (UpstreamTimeoutError("The region's stream stopped."), "upstream_timeout"),
    ],
)
def test_a_broken_stream_ends_with_one_error_and_no_choices(error: AnswerError, code: str) -> None:
    """The last frame of a broken stream is one event with error, receipt and trace, and no `choices` beside them."""
    (event,) = events(error_frame(error, members=MEMBERS))
    assert event.name == ""
    told = event.json()
    assert list(told) == ["error", "receipt", "routing_trace"]
    assert told["error"] == {"message": error.message, "type": "inference_error", "code": code, "param": None}
    assert {name: told[name] for name in MEMBERS} == {name: json.loads(value) for name, value in MEMBERS.items()}


def test_an_in_app_call_gets_the_bare_error() -> None:
    """Without members the error stands alone."""
    (event,) = events(error_frame(UpstreamCutError("Cut."), members={}))
    assert list(event.json()) == ["error"]


# ---- telling chat chunks from other data


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (CONTENT, True),
        (ROLE, True),
        (FINISH, True),
        (frame({**HEAD, "choices": [], "usage": USAGE}), True),
        (frame({"choices": []}), True),
        (CONTENT.replace(b"\n", b"\r\n"), True),
        (CONTENT.replace(b"\n", b"\r"), True),
        (b"\xef\xbb\xbf" + CONTENT, True),
        (b": note\nid: 1\n" + CONTENT, True),
        (b'data: {"choices":\ndata: []}\n\n', True),
        (b'data: {"choices": []}', True),
        (frame({"id": 5, "created": "now", "choices": [{"index": "0"}, 5]}), True),
        (frame({"choices": None}), False),
        (frame({"choices": {}}), False),
        (frame({"choices": "x"}), False),
        (frame({"error": {"message": "m"}}), False),
        (frame({"type": "message_start", "message": {"choices": []}}), False),
        (frame({}), False),
        (frame([]), False),
        (frame("choices"), False),
        (frame(None), False),
        (b"data: tick\n\n", False),
        (DONE, False),
        (b'data: {"id": 5, "choices": [}\n\n', False),
        (b'data: {"id": 5, "choices": [], "x": "\xff"}\n\n', False),
        pytest.param(b'data: {"choices": ' + b"[" * 100_000 + b"\n\n", False, id="deep"),
        pytest.param(b'data: {"id": 5, "choices": ' + b"[" * 100_000 + b"\n\n", False, id="deep after an odd member"),
        (b": ping\n\n", None),
        (b"event: ping\n\n", None),
        (b"id: 1\n\n", None),
        (b"data:\n\n", None),
        (b"data: \n\n", None),
        (b"data\n\n", None),
        (b"\n\n", None),
        (b"", None),
    ],
)
def test_a_frame_is_a_chat_chunk_by_its_data(data: bytes, verdict: bool | None) -> None:
    """Data with a list `choices` is a chat chunk, other data is none, and a frame without data tells nothing."""
    assert is_chat_chunk(data) is verdict
