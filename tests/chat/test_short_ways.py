"""What is read in a short way, since nearly all looks like it, is read as in the long one: same verdict, same values."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import members_without, names, object_of, spelled, unhurried, values
from chat.streams import (
    DONE,
    FINISH,
    HEAD,
    MEMBERS,
    ROLE,
    cut_at,
    delta,
    frame,
    opened,
    played,
    text_of,
    usage_chunk,
)
from chat.test_stream_splits import CONTENT, ENDING, SILENT, SPEAKING, state
from vetted_mw.chat.frames import FrameSplitter, event_and_data, one_line
from vetted_mw.chat.members import MalformedJSONError, parse_object
from vetted_mw.chat.request import outgoing_body, parse_request
from vetted_mw.chat.response import MalformedAnswerError, add_members, read_answer
from vetted_mw.chat.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vetted_mw.chat.response import Answer
    from vetted_mw.chat.sse import AnswerStream

NONCE = bytes(range(16))
LONG = b" " * 70_000
"""An object that is longer than the short way goes, though it says no more."""

# ---- requests


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """Draw an object as programs write it: compact, with the blanks of Python's library, or any way; some say twice."""
    members = draw(
        members_without() | st.lists(st.tuples(names | st.sampled_from(["a", "vetted"]), values), max_size=4)
    )
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (",", ": "), (" , ", ":")]))
    told = comma.join(draw(spelled(name)) + colon + value for name, value in members)
    return draw(st.sampled_from([f"{{{told}}}".encode(), draw(object_of(members))]))


def verdict(raw: bytes) -> list[tuple[str, bytes]] | None:
    """Split an object; None for what is refused."""
    try:
        return [(name, bytes(value)) for name, value in parse_object(raw).items()]
    except MalformedJSONError:
        return None


@unhurried
@given(raw=written(), cut=st.integers(0, 60), noise=st.binary(max_size=3))
def test_an_object_is_split_alike_short_and_long(raw: bytes, cut: int, noise: bytes) -> None:
    """An object, or what is nearly one, has one verdict and the same members at any length, a name said twice or not."""
    for body in (raw, raw[:cut] + noise + raw[cut:], raw[:cut] + raw[cut + 1 :]):
        assert verdict(body) == verdict(body + LONG)


@pytest.mark.parametrize("count", [1024, 1025])
@pytest.mark.parametrize("blank", ["", " "])
def test_the_most_members_are_the_same_short_and_long(count: int, blank: str) -> None:
    """1024 members are taken and one more is not, in an object of any length."""
    raw = json.dumps({str(number): 0 for number in range(count)}, separators=("," + blank, ":" + blank)).encode()
    assert verdict(raw) == verdict(raw + LONG)
    assert (verdict(raw) is None) == (count > 1024)


@pytest.mark.parametrize("body", [b'{"model":"m","messages":[]}', b' { "messages" : [ ] ,\n"model": "m" } \n'])
def test_a_request_with_nothing_of_ours_leaves_as_the_very_bytes_that_came(body: bytes) -> None:
    """Where nothing is cut and nothing added there is nothing to write."""
    assert outgoing_body(parse_request(body)) is body


@pytest.mark.parametrize("vetted", [b"null", b'{"region":"scaleway-par-1"}'])
def test_a_request_with_options_is_written_anew(vetted: bytes) -> None:
    """Options never leave, also where they are null."""
    body = b'{"model":"m","vetted":%b,"messages":[]}' % vetted
    assert outgoing_body(parse_request(body)) == b'{"model":"m","messages":[]}'


# ---- whole answers

small = (
    st.none() | st.booleans() | st.integers(-1, 5) | st.integers(2**52, 2**54) | st.floats(0, 9) | st.text(max_size=5)
)
odd = small | st.lists(small, max_size=2) | st.dictionaries(st.text(max_size=3), small, max_size=2)
texts = st.text(max_size=8) | st.none()


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw what is usual, and now and then anything."""
    return st.one_of(usual, usual, usual, odd)


def some_of(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw an object with some of these members."""
    return st.fixed_dictionaries({}, optional=members)


counts = st.integers(0, 9) | st.integers(-1, 0) | st.integers(2**53 - 1, 2**53)
usages = some_of(
    prompt_tokens=mostly(counts),
    completion_tokens=mostly(counts),
    prompt_tokens_details=mostly(some_of(cached_tokens=mostly(counts), audio_tokens=odd)),
    total_tokens=odd,
)
messages = some_of(
    role=mostly(st.just("assistant")),
    content=mostly(texts),
    reasoning_content=mostly(texts),
    reasoning=mostly(texts),
    refusal=mostly(texts),
    tool_calls=mostly(st.sampled_from([None, [], [{"function": {"name": "f", "arguments": "{}"}}]])),
    function_call=mostly(st.none()),
    unheard=odd,
)
choices = some_of(
    index=mostly(st.integers(0, 2)),
    message=mostly(messages),
    finish_reason=mostly(st.sampled_from(["stop", "", None])),
    logprobs=odd,
)
answers = some_of(
    id=mostly(st.just("a")),
    model=mostly(st.just("m")),
    choices=mostly(st.lists(mostly(choices), min_size=1, max_size=2) | st.tuples(choices)),
    usage=mostly(usages | st.none()),
    error=st.sampled_from([None, None, None, False, {"message": "x"}]),
    created=odd,
)


def read(body: bytes) -> Answer | None:
    """Read an answer; None for what is none."""
    try:
        return read_answer(body)
    except MalformedAnswerError:
        return None


def told(answer: Answer) -> tuple[object, ...]:
    """Return all that an answer tells."""
    return (
        answer.id,
        answer.model,
        answer.usage,
        answer.finish_reasons,
        answer.completion_characters,
        answer.is_answer,
        answer.is_error,
        answer.transcript_digest(NONCE),
    )


@unhurried
@given(answer=answers, ascii_only=st.booleans())
def test_an_answer_is_read_alike_whatever_else_is_in_it(answer: dict[str, Any], ascii_only: bool) -> None:
    """A member that no answer has sends it the long way: it is read as without it, and has the same digest."""
    short, long = (
        read_answer(json.dumps(told, ensure_ascii=ascii_only).encode()) for told in (answer, {**answer, "unheard": 1})
    )
    assert told(short) == told(long)
    assert long.names is None


MESSAGE: dict[str, Any] = {"role": "assistant", "content": "Hi"}
CHOICE: dict[str, Any] = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
COUNTS: dict[str, Any] = {"prompt_tokens": 5, "completion_tokens": 2}
NEARLY_PLAIN: dict[str, dict[str, Any]] = {
    "another index": {"choices": [CHOICE | {"index": 1}]},
    "no index": {"choices": [{"message": MESSAGE}]},
    "two choices": {"choices": [CHOICE, CHOICE | {"index": 1}]},
    "no choice": {"choices": []},
    "no choices": {},
    "content in parts": {"choices": [CHOICE | {"message": {"content": [{"type": "text", "text": "a"}]}}]},
    "no content": {"choices": [CHOICE | {"message": MESSAGE | {"content": None}}]},
    "no message": {"choices": [{"index": 0, "finish_reason": "stop"}]},
    "reasoning": {"choices": [CHOICE | {"message": MESSAGE | {"reasoning_content": "abc", "reasoning": "de"}}]},
    "a refusal": {"choices": [CHOICE | {"message": MESSAGE | {"refusal": "No."}}]},
    "a call": {"choices": [CHOICE | {"message": MESSAGE | {"tool_calls": [{"function": {"name": "f"}}]}}]},
    "a call of the old kind": {"choices": [CHOICE | {"message": MESSAGE | {"function_call": {"name": "f"}}}]},
    "an empty reason": {"choices": [CHOICE | {"finish_reason": ""}]},
    "a reason that is none": {"choices": [CHOICE | {"finish_reason": 5}]},
    "an error": {"choices": [CHOICE], "error": {"message": "m"}},
    "an error that is false": {"choices": [CHOICE], "error": False},
    "cached tokens": {"choices": [CHOICE], "usage": COUNTS | {"prompt_tokens_details": {"cached_tokens": 9}}},
    "cached tokens below 0": {"choices": [CHOICE], "usage": COUNTS | {"prompt_tokens_details": {"cached_tokens": -1}}},
    "a count too high": {"choices": [CHOICE], "usage": COUNTS | {"prompt_tokens": 2**53}},
    "a count below 0": {"choices": [CHOICE], "usage": COUNTS | {"completion_tokens": -1}},
    "a count that is true": {"choices": [CHOICE], "usage": COUNTS | {"completion_tokens": True}},
    "a count with a point": {"choices": [CHOICE], "usage": COUNTS | {"completion_tokens": 2.0}},
    "one count": {"choices": [CHOICE], "usage": {"prompt_tokens": 5}},
    "an id that is none": {"choices": [CHOICE], "id": 5, "model": ["m"]},
}


@pytest.mark.parametrize("answer", NEARLY_PLAIN.values(), ids=NEARLY_PLAIN.keys())
def test_what_is_nearly_plain_is_read_alike_too(answer: dict[str, Any]) -> None:
    """Each thing that an answer may have beside one text counts as it does in the long way."""
    body = HEAD | {"usage": COUNTS} | answer
    assert told(read_answer(json.dumps(body).encode())) == told(read_answer(json.dumps(body | {"unheard": 1}).encode()))


def test_a_name_of_ours_that_an_ordinary_answer_has_gives_way() -> None:
    """Known names spare the look only where none of them is ours."""
    body = json.dumps({"choices": [CHOICE], "system_fingerprint": "theirs"}).encode()
    ours = {"system_fingerprint": b"1"}
    assert add_members(body, ours, names=read_answer(body).names).replaced == ("system_fingerprint",)


@unhurried
@given(answer=answers, ours=st.sampled_from([{}, {"receipt": 1}, {"routing_trace": {}}]))
def test_members_are_added_alike_whether_the_names_are_known(answer: dict[str, Any], ours: dict[str, Any]) -> None:
    """What was noted of an answer's names spares a second look at it and changes nothing."""
    body = json.dumps(answer | ours).encode()
    assert add_members(body, MEMBERS, names=read_answer(body).names) == add_members(body, MEMBERS)


@unhurried
@given(body=st.sampled_from([b'{"choices":[{"message":{"content":"x"}}]}', b"{}"]), cut=st.integers(0, 41))
def test_a_body_that_is_cut_is_no_answer_either_way(body: bytes, cut: int) -> None:
    """Half an answer is malformed, in the short way and the long."""
    half = body[: min(cut, len(body) - 1)]
    assert read(half) is None


def test_an_ordinary_answer_goes_the_short_way() -> None:
    """What nearly every upstream sends is read at one go: that is what the comparison above compares."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "tool_calls": [],
        "annotations": [],
    }
    choice = {"index": 0, "message": message, "logprobs": {"content": []}, "finish_reason": "stop"}
    body = {**HEAD, "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "error": None}
    assert read_answer(json.dumps(body).encode()).names is not None


# ---- streams

_LINE_BEGINS = re.compile(rb"(?:^|(?<=[\r\n]))data: ")
_TABBED = re.compile(rb"(?:^|(?<=[\r\n]))data:\t")


def the_long_way(data: bytes) -> bytes:
    """Write the same events with a tab before their data, which nobody does and every reader takes."""
    return _LINE_BEGINS.sub(b"data:\t", data)


def as_one(data: bytes) -> bytes:
    """Undo that."""
    return _TABBED.sub(b"data: ", data)


deltas = some_of(
    role=mostly(st.just("assistant")),
    content=mostly(texts),
    reasoning_content=mostly(texts),
    reasoning=mostly(texts),
    refusal=mostly(texts),
    tool_calls=mostly(st.sampled_from([None, [], [{"index": 0, "function": {"arguments": "{"}}]])),
    function_call=mostly(st.none()),
    unheard=odd,
)
odd_chunks = some_of(
    id=mostly(st.just("a")),
    model=mostly(st.just("m")),
    object=mostly(st.just("chat.completion.chunk") | st.just("error")),
    created=mostly(st.just(5)),
    choices=mostly(
        st.lists(
            some_of(index=mostly(st.integers(0, 1)), delta=mostly(deltas), finish_reason=mostly(st.none())),
            min_size=1,
            max_size=2,
        )
    ),
    usage=mostly(usages | st.none()),
    error=st.sampled_from([None, None, None, None, False, {"message": "x"}]),
).map(frame)
begun = st.sampled_from([[ROLE, CONTENT], [ROLE, CONTENT, delta(1, content="b")], [CONTENT], []])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw a stream that mostly runs, with anything in it now and then, its line ends of any kind."""
    running = st.sampled_from([*SPEAKING, *SPEAKING, *SILENT]) | odd_chunks
    frames = draw(begun) + draw(st.lists(running, max_size=6))
    frames += draw(st.lists(st.sampled_from([*ENDING, FINISH, DONE, CONTENT, usage_chunk()]), max_size=4))
    ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
    return b"".join(found.replace(b"\n", draw(ends)) for found in frames)


def outcome(parts: Sequence[bytes], *, choices: int, asked: bool) -> tuple[bytes, tuple[object, ...], str | None]:
    """Play a stream; returns what went out, what it tells of itself, and the digest."""
    transcript = Transcript(NONCE)
    stream = opened(choices=choices, include_usage=asked, transcript=transcript, max_frame_bytes=5000)
    out = played(parts, stream)
    counted = (stream.frames, stream.bearing, stream.broken, as_one(stream.telling or b""))
    return as_one(out), (*state(stream), *counted), transcript.digest(whole=stream.complete)


@unhurried
@given(
    data=streams(), choices=st.integers(1, 2), asked=st.booleans(), places=st.lists(st.integers(0, 2000), max_size=8)
)
def test_a_stream_is_read_alike_short_and_long(data: bytes, choices: int, asked: bool, places: list[int]) -> None:
    """Frames that nobody writes so are read the long way: same bytes out, same state, same digest, cut anywhere."""
    long = outcome([the_long_way(data)], choices=choices, asked=asked)
    assert outcome([data], choices=choices, asked=asked) == long
    assert outcome(cut_at(data, places), choices=choices, asked=asked) == long


def chunk(*told: dict[str, Any], **members: Any) -> bytes:
    """Write a chunk with these choices and members."""
    return frame({**HEAD, "choices": list(told), **members})


A: dict[str, Any] = {"index": 0, "delta": {"content": "a"}}
NEARLY_PLAIN_CHUNKS: dict[str, bytes] = {
    "a member that nobody knows": delta(unheard="x"),
    "a member that nobody knows, empty": delta(content="a", unheard=[]),
    "a call": delta(content="a", tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{}"}}]),
    "a call of the old kind": delta(content="a", function_call={"name": "f", "arguments": "{}"}),
    "reasoning": delta(reasoning_content="abc", reasoning="de"),
    "a refusal": delta(refusal="No."),
    "nothing new": delta(),
    "content in parts": delta(content=[{"text": "a"}]),
    "a number as content": delta(content=5),
    "a choice not seen before": delta(1, content="b"),
    "a choice below 0": delta(-1, content="b"),
    "an index with a point": chunk({**A, "index": 0.0}),
    "an index that is null": chunk({**A, "index": None}),
    "no index": chunk({"delta": {"content": "a"}}),
    "no delta": chunk({"index": 0}),
    "two choices": chunk(A, {**A, "index": 1}),
    "the same choice twice": chunk(A, A),
    "no choice": chunk(),
    "a reason": chunk({**A, "finish_reason": "stop"}),
    "an empty reason": chunk({**A, "finish_reason": ""}),
    "counts": chunk(A, usage=COUNTS),
    "counts that are none": chunk(A, usage=[]),
    "an empty object of counts": chunk(A, usage={}),
    "an error": chunk(A, error={"message": "m"}),
    "an error that is false": chunk(A, error=False),
    "what calls itself an error": chunk(A, object="error"),
    "another kind": chunk(A, object="text_completion"),
    "another id": chunk(A, id="other", model="other", created=7),
    "no UTF-8": chunk(A).replace(b'"a"', b'"\xff"'),
    "half a character": chunk(A).replace(b'"a"', b'"\\ud83d"'),
    "a number out of range": chunk(A).replace(b'"content": "a"', b'"content": "a", "role": 1e999'),
    "a line end in the middle": chunk(A).replace(b": [", b":\r["),
    "two lines": chunk(A).replace(b": [", b": \ndata: ["),
    "an event name": b"event: message\n" + chunk(A),
    "an error by name": b"event: error\n" + chunk(A),
    "a comment before": b": note\n" + chunk(A),
    "too long": delta(content="x" * 5000),
    "longer than is small": delta(content="x" * 4200),
}


@pytest.mark.parametrize("near", NEARLY_PLAIN_CHUNKS.values(), ids=NEARLY_PLAIN_CHUNKS.keys())
@pytest.mark.parametrize("choices", [1, 2])
def test_what_is_nearly_a_plain_chunk_is_read_alike_too(near: bytes, choices: int) -> None:
    """Each thing that a chunk may have beside a text counts in a running stream as it does in the long way."""
    parts = [ROLE, CONTENT, near, CONTENT, FINISH, DONE]
    long = outcome([the_long_way(part) for part in parts], choices=choices, asked=True)
    assert outcome(parts, choices=choices, asked=True) == long
    assert outcome([b"".join(parts)], choices=choices, asked=True) == long


@pytest.mark.parametrize("unnamed", ["id", "model", "object", "created"])
def test_what_names_the_answer_is_noted_however_late_it_comes(unnamed: str) -> None:
    """A stream whose first chunks leave out its id, model, kind or time takes it from the first that tells."""
    head = {name: value for name, value in HEAD.items() if name != unnamed}
    parts = [frame({**head, "choices": [{"index": 0, "delta": {"content": "x"}}]})] * 3 + [CONTENT, DONE]
    out, *rest = outcome(parts, choices=1, asked=False)
    assert (out, *rest) == outcome([the_long_way(part) for part in parts], choices=1, asked=False)
    assert json.dumps(HEAD[unnamed]).encode() in out.replace(CONTENT, b"")


def _ran(stream: AnswerStream, data: bytes) -> bool:
    """Whether the very object that went in came out, which only a stream that runs gives."""
    return stream.feed(data) is data


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_running_stream_goes_the_short_way(end: bytes) -> None:
    """Whole plain frames pass as the very object that was read: that is what the comparison above compares."""
    stream = opened(transcript=Transcript(NONCE))
    stream.feed(ROLE + CONTENT)
    plain = [CONTENT, delta(content="Grüße 😀"), delta(reasoning_content="Hm"), delta(content="a", tool_calls=[])]
    plain += [frame({**HEAD, "usage": None, "choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": None}]})]
    assert all(_ran(stream, one.replace(b"\n", end)) for one in plain)
    assert _ran(stream, b"".join(plain).replace(b"\n", end))
    assert not _ran(stream, delta(content="c", finish="stop"))


@pytest.mark.parametrize("many", [1, 20])
@pytest.mark.parametrize("last", [DONE, frame({"error": {"message": "m"}}), b"data: no JSON\n\n", FINISH + DONE])
def test_nothing_runs_on_after_the_end_whatever_came_in_one_read(last: bytes, many: int) -> None:
    """What stands behind an end in the same read, or comes after it, neither leaves nor is read."""
    stream = opened()
    stream.feed(ROLE + CONTENT)
    out = stream.feed(b": ping\n\n" * many + last + CONTENT)
    assert stream.feed(CONTENT) == b""
    assert text_of(out) == ""
    assert stream.completion_characters == len("Hello")


def test_an_upstream_with_a_habit_of_its_own_is_read_all_the_same() -> None:
    """Hundreds of frames that are not plain, then plain ones: all of them pass, and the plain ones run again."""
    stream = opened()
    habit = delta(content="a", habit=1)
    stream.feed(ROLE + CONTENT)
    assert all(stream.feed(habit) == habit for _ in range(300))
    assert all(stream.feed(CONTENT) == CONTENT for _ in range(100))
    assert _ran(stream, CONTENT)
    assert stream.completion_characters == 300 + 102 * len("Hello")


lines = st.sampled_from(["data: {}", "data: a", "data:b", "data: ", "data", ": x", "", "data: é", "data:  c "])
line_ends = st.sampled_from(["\n", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", ""])


@unhurried
@given(parts=st.lists(st.tuples(lines, line_ends), min_size=1, max_size=4), before=st.sampled_from(["", "data: z\n\n"]))
def test_a_line_found_at_once_is_the_frame_that_the_splitter_finds(parts: list[tuple[str, str]], before: str) -> None:
    """Where a frame is told apart without the splitter, the splitter tells the same one, and the same data."""
    data = (before + "".join(line + end for line, end in parts)).encode()
    found = one_line(data, len(before), 100)
    if found is None:
        return
    line, after = found
    splitter = FrameSplitter(max_frame_bytes=100)
    assert splitter.feed(data[len(before) : after]) == [data[len(before) : after]]
    assert not splitter.is_amid
    assert event_and_data(data[len(before) : after]) == (b"", line.strip())


@pytest.mark.parametrize("read_one", [lambda data: one_line(data, 0, 9), lambda data: one_line(data, 0, 100)])
def test_a_frame_that_is_too_long_or_not_whole_is_not_taken_at_once(read_one: Callable[[bytes], object]) -> None:
    """A frame is whole with its blank line, and no longer than may be."""
    assert read_one(b"data: abcd") is None
    assert read_one(b"data: abcd\n") is None
    assert read_one(b"data: abc\r\n\r") is None
    assert read_one(b"event: a\ndata: b\n\n") is None
    assert one_line(b"data: a\n\n", 0, 9) == (b"a", 9)
    assert one_line(b"data: a\n\n", 0, 8) is None
