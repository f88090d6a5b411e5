"""Coverage-guided fuzzing of what reads callers' requests and upstreams' answers: one target per parser.

    python fuzz/chat_parsers.py                     name the targets
    python fuzz/chat_parsers.py TARGET [OPTION...]  run one until stopped; options are libFuzzer's, a file is run once

An input fails a target when a parser raises what it does not declare, takes long or much memory, or breaks a promise
of the wire: what leaves is what came, nothing is lost or made up, no cut answer ends as a whole one. The standard
library's JSON reader is the second reader that must see the same; and what is read in a short way must be read alike in
the long one. What was learnt and what failed stays in `.fuzz/TARGET`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import atheris

with atheris.instrument_imports(
    include=["vetted_mw.chat", "vetted_mw.proxy.decoding", "vetted_mw.retry_after", "email"]
):
    from chat_texts import BYTES, JSON, SEEDS, SSE, WAIT
    from targets import Target, main
    from vetted_mw.chat.frames import BOM, FrameSplitter, event_and_data
    from vetted_mw.chat.members import MalformedJSONError, parse_object
    from vetted_mw.chat.request import outgoing_body, parse_request
    from vetted_mw.chat.response import (
        MalformedAnswerError,
        add_members,
        error_envelope,
        has_choices,
        read_answer,
        upstream_message,
    )
    from vetted_mw.chat.sse import AnswerStream, Placement
    from vetted_mw.chat.transcript import Transcript
    from vetted_mw.errors import CallerFaultError, RequestError
    from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, StreamDecoder, TooLargeError
    from vetted_mw.retry_after import parse_retry_after
    from vetted_mw.routing.options import parse_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vetted_mw.chat.response import Answer

NOW = datetime(2026, 11, 22, 10, 31, 7, tzinfo=UTC)
REGIONS = ("scaleway-par-1", "ovh-gra-1")
MEMBERS = {"receipt": b'{"gco2e":0.0015}', "routing_trace": b'{"region":"scaleway-par-1"}'}
MAX_FRAME = 2048
MOST_PIECES = 64
NONCE = bytes(16)
LONG = b" " * 70_000
MANY_CONTAINERS = 50_000
LINE_BEGINS = re.compile(rb"(?:^|(?<=[\r\n]))data: ")
TABBED = re.compile(rb"(?:^|(?<=[\r\n]))data:\t")


def request(data: bytes) -> None:
    """Read a request: refused as a 4xx, or what leaves is read by another reader as what came, without `vetted`."""
    assert _members(data) == _members(data + LONG)
    try:
        read = parse_request(data)
        parse_options(read.vetted_members, [], regions=REGIONS)
    except RequestError:
        return
    assert read.model
    assert read.prompt_characters() >= 0
    came = _pairs(data)
    if came is None:
        return
    kept = [pair for pair in came if pair[0] != "vetted"]
    assert len({name for name, _value in came}) == len(came), came
    assert _pairs(outgoing_body(read)) == kept
    renamed = dict(_pairs(outgoing_body(read, upstream_model="other", include_usage=True)) or ())
    assert renamed.pop("model") == "other"
    options = renamed.pop("stream_options")
    before = dict(kept)
    assert not isinstance(options, dict) or options["include_usage"] is True
    assert isinstance(options, dict) or options == before["stream_options"]
    assert renamed == {name: value for name, value in before.items() if name not in {"model", "stream_options"}}
    assert parse_request(outgoing_body(read)).held.members == read.held.members


def answer(data: bytes) -> None:
    """Read an answer and add our members: the result is read by another reader as the same, and ours at the end."""
    try:
        read = read_answer(data)
    except MalformedAnswerError:
        assert not has_choices(data)
        return
    assert not read.is_answer or has_choices(data)  # an empty list is choices to look at, and no answer
    assert read.completion_characters >= 0
    edited = add_members(data, MEMBERS)
    assert add_members(data, MEMBERS, names=read.names) == edited
    _assert_alike(read, data)
    came = _pairs(data)
    if came is None:
        return
    choices = dict(came).get("choices")
    assert read.is_answer is (isinstance(choices, list) and choices != [])
    ours = [(name, json.loads(value, parse_int=str, parse_float=str)) for name, value in MEMBERS.items()]
    found = _pairs(edited.body) or []
    assert found[-len(ours) :] == ours, edited
    theirs = [pair for pair in came if pair[0] not in MEMBERS]
    if edited.replaced:  # then the last of equal names stays
        assert dict(found[: -len(ours)]) == dict(theirs), edited
    else:
        assert found[: -len(ours)] == theirs, edited


def error(data: bytes) -> None:
    """Read an error of any shape: it becomes an envelope with words in it, and not too many."""
    told = upstream_message(502, data)
    assert 0 < len(told.message) <= 2000  # noqa: PLR2004 (the longest message)
    fault = CallerFaultError(told.message, status=400, type=told.type or "t", code=told.code or "c", param=told.param)
    assert json.loads(error_envelope(fault))["error"]["message"] == told.message


def frames(data: bytes) -> None:
    """Split a stream: the same frames however it is cut, no byte lost, memory bounded, events as a reader sees them."""
    if not data:
        return
    size, stream = data[0] + 1, data[1:]
    whole = FrameSplitter(max_frame_bytes=MAX_FRAME)
    found = whole.feed(stream)
    splitter = FrameSplitter(max_frame_bytes=MAX_FRAME)
    again = []
    for part in _cut(stream, size):
        again += splitter.feed(part)
        assert len(splitter._held) <= MAX_FRAME  # noqa: SLF001 (what memory is bounded by)
    assert again == found
    assert splitter.overflowed is whole.overflowed
    assert all(len(frame) <= MAX_FRAME for frame in found)
    rest = splitter.finish()
    joined = b"".join(found) + rest
    assert stream.startswith(joined)
    assert splitter.overflowed or joined == stream
    seen = [event_and_data(frame) for frame in found]
    expected = _events(b"".join(found))
    assert [(name, told) for name, told in seen if told] == [pair for pair in expected if pair[1]], (seen, expected)


def stream(data: bytes) -> None:
    """Read a whole stream: the same output however it is cut, and no end that promises more than there was."""
    if not data:
        return
    first, body = data[0], data[1:]
    options: dict[str, Any] = {
        "choices": 1 + first % 2,
        "include_usage": bool(first & 2),
        "max_frame_bytes": MAX_FRAME,
        "placement": (Placement.FINISH_CHUNK, Placement.USAGE_CHUNK, Placement.COMMENT, Placement.OFF)[first // 4 % 4],
    }
    whole, read = AnswerStream(**options), AnswerStream(**options)
    out = _played(whole, [body])
    assert _played(read, _cut(body, first // 16 * 7 + 1)) == out
    assert _state(read) == _state(whole)
    short, long = Transcript(NONCE), Transcript(NONCE)
    again, apart = (AnswerStream(**options, transcript=transcript) for transcript in (short, long))
    assert TABBED.sub(b"data: ", _played(apart, [LINE_BEGINS.sub(b"data:\t", body)])) == TABBED.sub(b"data: ", out)
    assert _played(again, [body]) == out
    assert (_state(apart), long.digest()) == (_state(again), short.digest())
    assert len(out) <= 2 * len(body) + 1000
    ends = [told for _name, told in _events(out) if told == b"[DONE]"]
    if not read.complete or read.error is not None or read.broken:
        assert not ends, out
        is_plain = read._usage_frame is None and not read.finish_reasons  # noqa: SLF001 (else frames were held back)
        assert not is_plain or (_with_lf(body) + b"\n\n").startswith(_with_lf(out)), out
        return
    assert len(ends) == 1, out
    assert out.endswith(b"data: [DONE]\n\n"), out
    if options["placement"] is Placement.FINISH_CHUNK:
        assert sum(MEMBERS["receipt"] in told for _name, told in _events(out)) >= 1, out


def encoding(data: bytes) -> None:
    """Undo an encoding: the same bytes however they are cut and by both decoders, each piece bounded."""
    if not data:
        return
    first, body = data[0], data[1:]
    name = (b"gzip", b"deflate", b"x-gzip", b"identity")[first % 4]
    out, is_whole = _decoded(name, [body])
    again, is_whole_again = _decoded(name, _cut(body, first // 4 + 1))
    if max(len(out), len(again)) >= MOST_PIECES * 1024:
        return  # a bomb: not read to its end
    assert (out, is_whole) == (again, is_whole_again)
    decoder = BodyDecoder(name, max_bytes=MOST_PIECES * 1024)
    try:
        assert decoder.feed(body) == out
    except (DecodingError, TooLargeError):
        assert not is_whole


def retry_after(data: bytes) -> None:
    """Read `Retry-After`: a wait within bounds, or none."""
    seconds = parse_retry_after(data.decode("latin-1"), now=NOW)
    assert seconds is None or 0 <= seconds <= 3600, seconds  # noqa: PLR2004 (the longest wait)


def _members(data: bytes) -> list[tuple[str, bytes]] | None:
    try:
        return [(name, bytes(value)) for name, value in parse_object(data).items()]
    except MalformedJSONError:
        return None


def _assert_alike(read: Answer, data: bytes) -> None:
    """Hold an answer against the same one with a member that sends it the long way."""
    long = read_answer(add_members(data, {"unheard": b"0"}).body)
    assert long.names is None
    if data.count(b"[") + data.count(b"{") > MANY_CONTAINERS:
        return  # the long way gives up on what is so wide, brackets in texts included
    for name in ("id", "model", "finish_reasons", "completion_characters", "is_answer", "is_error"):
        assert getattr(read, name) == getattr(long, name), name
    assert long.usage in {read.usage, None}  # the short way passes over what it does not need, odd or not
    assert read.transcript_digest(NONCE) == long.transcript_digest(NONCE)


def _played(stream: AnswerStream, parts: list[bytes]) -> bytes:
    """Feed and end a stream as the proxy does."""
    out = bytearray()
    for part in parts:
        out += stream.feed(part)
        held = (stream._held, stream._finish_frame or b"", stream._usage_frame or b"", stream._splitter._held)  # noqa: SLF001
        assert max(map(len, held)) <= MAX_FRAME
        assert stream.committed or not out
    if not stream.done and stream.error is None and not stream.broken:
        out += stream.ended_by_upstream()
    if stream.complete and stream.error is None and not stream.broken:
        out += stream.close(MEMBERS)
    return bytes(out)


def _state(stream: AnswerStream) -> tuple[object, ...]:
    told = (stream.committed, stream.complete, stream.done, stream.broken, stream.error, stream.usage, stream.id)
    return (*told, stream.model, stream.finish_reasons, stream.completion_characters, stream.frames, stream.bearing)


def _decoded(name: bytes, parts: list[bytes]) -> tuple[bytes, bool]:
    decoder = StreamDecoder(name)
    out = bytearray()
    try:
        for piece in _pieces(decoder, parts):
            assert len(piece) <= 65_536  # noqa: PLR2004 (the longest piece)
            out += piece
            if len(out) >= MOST_PIECES * 1024:
                break
    except DecodingError:
        return bytes(out), False
    return bytes(out), True


def _pieces(decoder: StreamDecoder, parts: list[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield from decoder.pieces(part)


def _with_lf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _cut(data: bytes, size: int) -> list[bytes]:
    size = max(size, len(data) // MOST_PIECES)
    return [data[start : start + size] for start in range(0, len(data), size)]


def _pairs(data: bytes) -> list[tuple[str, Any]] | None:
    """Read an object's members by the standard library, numbers as written; None where it is too deep for it."""
    pairs: list[tuple[str, Any]] = []

    def noted(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object ends last
        return dict(found)

    try:
        json.loads(data.decode(), object_pairs_hook=noted, parse_int=str, parse_float=str)
    except RecursionError:
        return None
    return pairs


def _events(data: bytes) -> list[tuple[bytes, bytes]]:
    """Read events as the standard of server-sent events says, line by line, sharing nothing with what is tested."""
    found: list[tuple[bytes, bytes]] = []
    name, told = b"", None
    for line in _with_lf(data.removeprefix(BOM)).split(b"\n")[:-1]:
        if not line:
            if told is not None:
                found.append((name, b"\n".join(told).strip()))
            name, told = b"", None
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            told = [*(told or ()), value]
        elif field == b"event":
            name = value
    return found


TARGETS = {
    "request": Target(check=request, notation=JSON),
    "answer": Target(check=answer, notation=JSON),
    "error": Target(check=error, notation=JSON),
    "frames": Target(check=frames, notation=SSE),
    "stream": Target(check=stream, notation=SSE),
    "encoding": Target(check=encoding, notation=BYTES),
    "retry_after": Target(check=retry_after, notation=WAIT),
}

if __name__ == "__main__":
    main(TARGETS, SEEDS)
