"""JSON of millions of values, or of one endless name: read in memory that goes with its bytes, before anyone's turn ends."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import members_without, object_of, pairs_of, unhurried
from chat.streams import MEMBERS
from vetted_mw.chat.members import MalformedJSONError, is_utf8, parse_object
from vetted_mw.chat.request import outgoing_body, parse_request
from vetted_mw.chat.response import (
    MalformedAnswerError,
    add_members,
    has_choices,
    read_answer,
    read_error,
    upstream_message,
)
from vetted_mw.errors import RequestError
from vetted_mw.routing.options import parse_options

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 4 << 20
REQUEST = b'{"model":"m","messages":[],'


def filled(begin: bytes, part: bytes, end: bytes) -> bytes:
    """Repeat `part` until the whole is as long as a large body."""
    return begin + part * ((SIZE - len(begin) - len(end)) // len(part)) + end


def lists(begin: bytes, end: bytes) -> bytes:
    """Put a million empty lists between `begin` and `end`."""
    return filled(begin + b"[", b"[],", b"[]]" + end)


def peak_of(read: Callable[[], object]) -> int:
    """Return the most memory that reading took beside what there was."""
    tracemalloc.start()
    try:
        with contextlib.suppress(RequestError, MalformedAnswerError, MalformedJSONError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BODIES: dict[str, bytes] = {
    "model": lists(b'{"messages":[],"model":', b"}"),
    "stream": lists(REQUEST + b'"stream":', b"}"),
    "n": lists(REQUEST + b'"n":', b"}"),
    "temperature": lists(REQUEST + b'"temperature":', b"}"),
    "stream_options": lists(REQUEST + b'"stream_options":{"a":', b"}}"),
    "extra_body": lists(REQUEST + b'"extra_body":{"a":', b"}}"),
    "an option": lists(REQUEST + b'"vetted":{"region":', b"}}"),
    "messages": lists(b'{"model":"m","messages":', b"}"),
    "a long name": filled(REQUEST + b'"', b"a", b'":1}'),
    "a name of escapes": filled(REQUEST + b'"', b"\\u0061", b'":1}'),
    "a name like vetted": filled(REQUEST + b'"', b"vet", b'":1}'),
    "many names": REQUEST + b",".join(b'"%x":0' % number for number in range(300_000)) + b"}",
    "one name again and again": filled(REQUEST, b'"a":1,', b'"a":1}'),
    "digits": filled(REQUEST + b'"n":', b"9", b"}"),
    "blanks": filled(REQUEST[:-1], b" ", b"}"),
    "deep": filled(REQUEST + b'"a":', b"[", b"}"),
    "a text of many bytes to a character": filled(REQUEST + b'"a":"', "😀".encode(), b'"}'),
}


def _read_request(body: bytes) -> None:
    read = parse_request(body)
    with contextlib.suppress(RequestError):
        parse_options(read.vetted_members, [], regions=())
    assert read.prompt_characters() <= len(body)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_request_takes_memory_by_its_bytes_and_not_by_its_values(body: bytes) -> None:
    """Whatever 4 MiB are made of, reading them takes a few times as much and no more."""
    assert len(body) > SIZE // 2
    assert peak_of(lambda: _read_request(body)) < 3.5 * SIZE


ANSWERS: dict[str, bytes] = {
    "choices": lists(b'{"choices":', b"}"),
    "choices that are objects": filled(b'{"choices":[', b"{},", b"{}]}"),
    "a message": lists(b'{"choices":[{"message":', b"}]}"),
    "tool calls": filled(b'{"choices":[{"message":{"tool_calls":[', b'{"a":{}},', b"{}]}}]}"),
    "usage": lists(b'{"choices":[],"usage":{"a":', b"}}"),
    "an id": lists(b'{"choices":[],"id":', b"}"),
    "an unknown member": lists(b'{"choices":[],"x":', b"}"),
    "an error": lists(b'{"error":', b"}"),
    "a text of many bytes to a character": filled(b'{"choices":[{"message":{"content":"', "😀".encode(), b'"}}]}'),
    "deep": filled(b'{"choices":', b"[", b"}"),
}


@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_takes_memory_by_its_bytes_and_not_by_its_values(body: bytes) -> None:
    """An upstream is not trusted for what it sends either: an answer, or an error, costs about its size."""
    readers: list[Callable[[bytes], object]] = [read_answer, has_choices, read_error, partial(upstream_message, 500)]
    for read in readers:
        assert peak_of(partial(read, body)) < 6 * SIZE


def test_the_probabilities_of_every_token_are_no_sprawl() -> None:
    """An answer with twenty candidates for each of a thousand tokens is read as any other."""
    candidate = {"token": "a", "logprob": -1.5, "bytes": [97]}
    tokens = [candidate | {"top_logprobs": [candidate] * 20} for _ in range(1000)]
    choice = {"index": 0, "message": {"content": "Hi"}, "logprobs": {"content": tokens}, "finish_reason": "stop"}
    read = read_answer(json.dumps({"choices": [choice]}).encode())
    assert (read.completion_characters, read.finish_reasons) == (2, ("stop",))


def test_an_estimate_of_a_sprawling_prompt_is_wide() -> None:
    """More messages than are worth decoding count as text, all of them: never nothing."""
    body = filled(b'{"model":"m","messages":[', b"{},", b"{}]}")
    assert SIZE // 2 < parse_request(body).prompt_characters() <= len(body)


@pytest.mark.parametrize("depth", range(900, 1000, 3))
def test_an_error_about_something_deep_has_words_all_the_same(depth: int) -> None:
    """An entry of `detail` that points at a deep value is read without it, however deep our reader still goes."""
    nested = b"[" * depth + b"]" * depth
    told = read_error(b'{"detail":[{"loc":["body",' + nested + b',"n",0],"msg":"Field required"}]}')
    assert told.message in {"n.0: Field required", ""} or told.message.startswith('{"detail"')


@unhurried
@given(
    data=st.binary(max_size=40) | st.text(max_size=20).map(str.encode),
    before=st.just(0) | st.integers(65_530, 65_540) | st.just(200_000),
)
def test_utf8_is_told_as_the_language_tells_it(data: bytes, before: int) -> None:
    """Looked at in slices, bytes are UTF-8 exactly when they decode as a whole, wherever a slice ends."""
    data = b"x" * before + data
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not is_utf8(data)
    else:
        assert is_utf8(data)


@pytest.mark.parametrize("place", range(-4, 1))
def test_a_character_across_two_slices_is_one(place: int) -> None:
    """Four bytes that stand on both sides of a slice's end are a character, and half of them are none."""
    before = b"x" * ((1 << 20) + place)
    assert is_utf8(before + "😀".encode() + b"x" * 10)
    assert not is_utf8(before + "😀".encode()[:2] + b"x" * 10)
    assert not is_utf8(before + "😀".encode()[:2])


@unhurried
@given(data=st.data(), members=members_without(max_size=3), cut=st.integers(0, 60), noise=st.binary(max_size=3))
def test_what_is_read_as_an_answer_can_carry_our_members(
    data: st.DataObject, members: list[tuple[str, str]], cut: int, noise: bytes
) -> None:
    """Bytes near to an answer are one or are not; one that is reads back as its own members with ours after them."""
    body = data.draw(object_of(members))
    body = data.draw(st.sampled_from([body, body[:cut] + noise + body[cut:], body[:cut] + body[cut + 1 :]]))
    try:
        read_answer(body)
    except MalformedAnswerError:
        assert not has_choices(body)
        return
    found = pairs_of(add_members(body, MEMBERS).body)
    assert found[-2:] == [(name, json.loads(value)) for name, value in MEMBERS.items()]
    assert [name for name, _value in found[:-2]] == [name for name, _value in pairs_of(body) if name not in MEMBERS]


@unhurried
@given(data=st.data(), members=members_without(max_size=3), cut=st.integers(0, 60), noise=st.binary(max_size=3))
def test_what_is_read_as_a_request_leaves_as_another_reader_reads_it(
    data: st.DataObject, members: list[tuple[str, str]], cut: int, noise: bytes
) -> None:
    """Bytes near to a request are refused, or the upstream reads in what leaves just what anyone reads in what came."""
    written = [*members, ("model", '"m"'), ("messages", "[]"), ("vetted", '{"region":"x"}')]
    body = data.draw(object_of(data.draw(st.permutations([pair for pair in written if pair[0]]))))
    body = data.draw(st.sampled_from([body, body[:cut] + noise + body[cut:], body[:cut] + body[cut + 1 :]]))
    try:
        read = parse_request(body)
    except RequestError:
        return
    assert pairs_of(outgoing_body(read)) == [pair for pair in pairs_of(body) if pair[0] != "vetted"]
    assert list(parse_object(body)) == [name for name, _value in pairs_of(body)]
