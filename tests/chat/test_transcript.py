"""The digest of what an answer said: the same for stream and whole answer, by the formula, and never an exception."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import unhurried
from chat.streams import DONE, HEAD, cut_at, delta, events, frame, opened, played, usage_chunk
from vetted_mw.chat.chunk import Choice
from vetted_mw.chat.response import read_answer
from vetted_mw.chat.sse import Placement
from vetted_mw.chat.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Sequence

NONCE = bytes(range(16))
ODD_TEXTS = ["", '"', "\\", '\\"', "\x00\x1f\x7f", "\b\t\n\f\r", "\u2028\u2029\u0085", "😀\U0010ffff", "é/é", "\\u0041"]
texts = st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One choice of an answer as drawn; `calls` are pairs of name and arguments."""

    index: int
    content: str | None
    finish_reason: str | None
    calls: list[tuple[str, str]] = field(default_factory=list)


def choices() -> st.SearchStrategy[list[Told]]:
    """Draw the choices of an answer."""
    one = st.builds(
        Told,
        index=st.integers(0, 4),
        content=texts | st.none(),
        finish_reason=st.sampled_from(["stop", "length", 'od"d', None]),
        calls=st.lists(st.tuples(texts, texts), max_size=3),
    )
    return st.lists(one, min_size=1, max_size=4, unique_by=lambda choice: choice.index)


def expected(found: Sequence[Told], nonce: bytes = NONCE) -> str:
    """Return the digest by its definition, with the standard library's writer."""
    transcript = [
        {
            "content": choice.content or "",
            "finish_reason": choice.finish_reason,
            "index": choice.index,
            "tool_calls": [list(call) for call in choice.calls],
        }
        for choice in sorted(found, key=lambda choice: choice.index)
    ]
    text = json.dumps(transcript, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "hmac-sha-256:" + hmac.new(nonce, text.encode(), hashlib.sha256).hexdigest()


def whole(found: Sequence[Told]) -> bytes:
    """Write an answer in one JSON."""
    told = [
        {
            "index": choice.index,
            "message": {
                "role": "assistant",
                "content": choice.content,
                "tool_calls": [
                    {"id": f"call-{place}", "type": "function", "function": {"name": name, "arguments": arguments}}
                    for place, (name, arguments) in enumerate(choice.calls)
                ],
            },
            "finish_reason": choice.finish_reason,
        }
        for choice in found
    ]
    return json.dumps({"id": "a", "object": "chat.completion", "choices": told}).encode()


@st.composite
def streamed(draw: st.DrawFn, found: Sequence[Told]) -> list[bytes]:
    """Write an answer as a stream: every text cut anywhere, the choices and their calls interleaved."""
    queues: list[list[tuple[int, dict[str, Any], str | None]]] = []
    for choice in found:
        content = cut_text(draw, choice.content or "")
        queues.append([(choice.index, {"content": piece}, None) for piece in content])
        for place, (name, arguments) in enumerate(choice.calls):
            pieces: list[dict[str, Any]] = [{"name": piece} for piece in cut_text(draw, name)]
            pieces += [{"arguments": piece} for piece in cut_text(draw, arguments)]
            queues.append(
                [(choice.index, {"tool_calls": [{"index": place, "function": piece}]}, None) for piece in pieces]
            )
    said = [(choice.index, {"role": "assistant", "content": ""}, None) for choice in found] + interleaved(draw, queues)
    frames = [delta(index, **members) for index, members, _reason in said]
    frames += [delta(choice.index, finish=choice.finish_reason) for choice in found]
    return [*frames, DONE]


def cut_text(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text between any of its characters."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


def interleaved(draw: st.DrawFn, queues: list[list[Any]]) -> list[Any]:
    """Merge queues in any way that keeps the order of each."""
    merged = []
    while waiting := [queue for queue in queues if queue]:
        merged.append(draw(st.sampled_from(waiting)).pop(0))
    return merged


def digest_of(parts: Sequence[bytes], **options: Any) -> str | None:
    """Return the digest of a stream that is fed in `parts`."""
    transcript = Transcript(NONCE)
    played(parts, opened(transcript=transcript, **options))
    return transcript.digest()


# ---- one answer, one digest


@unhurried
@given(data=st.data(), found=choices())
def test_stream_and_whole_answer_have_the_digest_of_the_definition(data: st.DataObject, found: list[Told]) -> None:
    """However an answer is cut into deltas and bytes, streamed or whole, its digest is that of its transcript."""
    frames = data.draw(streamed(found))
    raw = b"".join(frames)
    places = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    told = expected(found)
    assert read_answer(whole(found)).transcript_digest(NONCE) == told
    assert digest_of(frames, choices=len(found)) == told
    assert digest_of(cut_at(raw, places), choices=len(found)) == told


@unhurried
@given(found=choices(), other=choices())
def test_two_answers_have_one_digest_only_when_they_say_the_same(found: list[Told], other: list[Told]) -> None:
    """What differs in content, finish reason, index or a call has another digest."""
    same = [read_answer(whole(one)).transcript_digest(NONCE) for one in (found, other)]
    assert (same[0] == same[1]) == (expected(found) == expected(other))


@pytest.mark.parametrize("size", [255, 256, 257, 4096, 100_000])
@pytest.mark.parametrize("step", [1, 7, 5000, 100_000])
def test_a_long_text_is_hashed_as_it_comes(size: int, step: int) -> None:
    """Texts beyond the piece that is hashed at once, in steps of any size, have the digest of the whole."""
    if size // step > 20_000:
        step = 10
    text = ('ab"\\\n😀\u2028' * size)[:size]
    transcript = Transcript(NONCE)
    for begin in range(0, size, step):
        transcript.take([Choice(index=0, delta={"content": text[begin : begin + step]}, finish_reason=None)])
    transcript.take([Choice(index=0, delta={}, finish_reason="stop")])
    assert transcript.digest() == expected([Told(index=0, content=text, finish_reason="stop")])


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\ude00"])
def test_half_a_character_is_no_answer(half: bytes) -> None:
    """A stream cut inside a surrogate pair breaks there: what comes out of it has a digest of its own."""
    transcript = Transcript(NONCE)
    stream = opened(transcript=transcript)
    stream.feed(delta(content="Hi") + b'data: {"choices": [{"delta": {"content": "' + half + b'"}}]}\n\n')
    assert stream.broken
    assert transcript.digest(whole=False) == expected([Told(index=0, content="Hi", finish_reason=None)])


def test_another_nonce_gives_another_digest() -> None:
    """The digest is keyed: the same answer under another nonce has nothing in common with it."""
    found = [Told(index=0, content="yes", finish_reason="stop")]
    answer = read_answer(whole(found))
    assert answer.transcript_digest(b"n" * 16) == expected(found, b"n" * 16) != answer.transcript_digest(NONCE)


def test_the_digest_can_be_asked_for_again_and_in_between() -> None:
    """Asking changes nothing: what comes later is hashed after it, and the same question has the same answer."""
    transcript = Transcript(NONCE)
    transcript.take([Choice(index=0, delta={"content": "Hel"}, finish_reason=None)])
    assert transcript.digest() == expected([Told(index=0, content="Hel", finish_reason=None)])
    transcript.take([Choice(index=0, delta={"content": "lo"}, finish_reason="stop")])
    told = expected([Told(index=0, content="Hello", finish_reason="stop")])
    assert (transcript.digest(), transcript.digest()) == (told, told)


# ---- what counts, and what does not


def test_content_in_parts_is_the_texts_of_its_parts() -> None:
    """A content that is a list counts with its texts alone, streamed or whole."""
    parts = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []}, 5, {"text": 6}, {"text": "b"}]
    told = expected([Told(index=0, content="ab", finish_reason="stop")])
    assert digest_of([delta(content=parts), delta(finish="stop"), DONE]) == told
    answer = {"choices": [{"index": 0, "message": {"content": parts}, "finish_reason": "stop"}]}
    assert read_answer(json.dumps(answer).encode()).transcript_digest(NONCE) == told


def test_members_of_a_wrong_type_are_passed_over() -> None:
    """What is no text, no list of calls or no function adds nothing."""
    odd: list[dict[str, Any]] = [
        {"content": 5},
        {"content": {"text": "no"}},
        {"tool_calls": "f"},
        {"tool_calls": [7, {"index": 0}, {"index": 0, "function": "f"}]},
        {"function_call": "f"},
    ]
    told = expected([Told(index=0, content="x", finish_reason="stop")])
    frames = [*(delta(**members) for members in odd), delta(content="x"), delta(finish="stop"), DONE]
    assert digest_of(frames) == told
    whole_one = {"content": "x", "tool_calls": odd[3]["tool_calls"], "function_call": "f"}
    answer = {"choices": [{"index": True, "message": whole_one, "finish_reason": "stop"}]}
    assert read_answer(json.dumps(answer).encode()).transcript_digest(NONCE) == told


def test_a_choice_that_is_no_message_says_nothing() -> None:
    """A message or delta that is no object is an empty one; so is a finish reason that is empty."""
    told = expected([Told(index=0, content="", finish_reason=None)])
    answer = {"choices": [{"index": 0, "message": "text", "finish_reason": ""}]}
    assert read_answer(json.dumps(answer).encode()).transcript_digest(NONCE) == told
    assert digest_of([frame({"choices": [{"index": 0, "delta": "text", "finish_reason": ""}]}), DONE]) == told


def test_a_function_call_of_the_old_kind_is_the_last_call() -> None:
    """`function_call` counts as one call, streamed in pieces or whole."""
    told = expected([Told(index=0, content="", finish_reason="function_call", calls=[("f", '{"a":1}')])])
    pieces = [{"name": "f", "arguments": ""}, {"arguments": '{"a"'}, {"arguments": ":1}"}]
    assert digest_of([*(delta(function_call=one) for one in pieces), delta(finish="function_call"), DONE]) == told
    message = {"content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}
    answer = {"choices": [{"message": message, "finish_reason": "function_call"}]}
    assert read_answer(json.dumps(answer).encode()).transcript_digest(NONCE) == told


@pytest.mark.parametrize("places", [(None, None), ("0", "1"), (True, [])])
def test_calls_without_a_number_stand_in_the_order_they_came(places: tuple[object, object]) -> None:
    """A call with a name begins one, a piece without goes on with the latest."""
    told = expected([Told(index=0, content="", finish_reason="tool_calls", calls=[("f", "{}"), ("g", "[]")])])
    first, second = places
    calls = [
        {"index": first, "function": {"name": "f", "arguments": "{"}},
        {"index": first, "function": {"arguments": "}"}},
        {"index": second, "function": {"name": "g"}},
        {"index": second, "function": {"arguments": "[]"}},
    ]
    frames = [delta(tool_calls=[call]) for call in calls]
    assert digest_of([*frames, delta(finish="tool_calls"), DONE]) == told


def test_the_numbers_of_calls_give_their_order_alone() -> None:
    """Numbers with gaps, out of order or written as `1.0` are the order of the list that a whole answer has."""
    told = expected([Told(index=0, content="", finish_reason="stop", calls=[("f", "1"), ("g", "2")])])
    calls = [
        {"index": 7, "function": {"name": "g", "arguments": "2"}},
        {"index": 1.0, "function": {"name": "f"}},
        {"index": 1, "function": {"arguments": "1"}},
    ]
    assert digest_of([delta(tool_calls=calls), delta(finish="stop"), DONE]) == told


def test_a_whole_answers_calls_are_what_their_list_says() -> None:
    """Servers that number every call of a whole answer 0 still made as many calls as they list."""
    calls = [{"index": 0, "function": {"name": name, "arguments": "{}"}} for name in "fg"]
    answer = {"choices": [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "stop"}]}
    told = expected([Told(index=0, content="", finish_reason="stop", calls=[("f", "{}"), ("g", "{}")])])
    assert read_answer(json.dumps(answer).encode()).transcript_digest(NONCE) == told


def test_choices_without_a_number_stand_as_they_are_listed() -> None:
    """A whole answer's choice without an index has that of its place."""
    answer = {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}
    told = expected([Told(index=0, content="a", finish_reason=None), Told(index=1, content="b", finish_reason=None)])
    assert read_answer(json.dumps(answer).encode()).transcript_digest(NONCE) == told


# ---- only what was delivered


@pytest.mark.parametrize("failing", [frame({"error": {"message": "m"}}), b"data: no JSON\n\n", b""])
def test_what_was_kept_back_counts_only_for_an_answer_that_ended_well(failing: bytes) -> None:
    """A finish chunk that never went out is no part of what a broken answer delivered."""
    transcript = Transcript(NONCE)
    stream = opened(transcript=transcript)
    out = stream.feed(delta(content="Hello") + delta(content=" end", finish="stop") + failing)
    assert b"end" not in out
    assert transcript.digest(whole=False) == expected([Told(index=0, content="Hello", finish_reason=None)])
    assert transcript.digest() == expected([Told(index=0, content="Hello end", finish_reason="stop")])


def test_an_answer_that_goes_on_after_its_finish_reason_counts_as_it_left() -> None:
    """Chunk after chunk with a finish reason: each is out once the next has come."""
    transcript = Transcript(NONCE)
    stream = opened(transcript=transcript)
    stream.feed(delta(content="a", finish="stop") + delta(content="b") + delta(content="c", finish="length"))
    assert transcript.digest(whole=False) == expected([Told(index=0, content="ab", finish_reason="stop")])
    assert transcript.digest() == expected([Told(index=0, content="abc", finish_reason="length")])


def test_the_digest_is_that_of_the_bytes_that_left() -> None:
    """Whoever reads the stream as delivered finds the same transcript, without a finish reason too."""
    for index in (0, 1):
        transcript = Transcript(NONCE)
        stream = opened(transcript=transcript)
        out = played([delta(index, content="Hi"), DONE], stream)
        again = Transcript(NONCE)
        opened(transcript=again).feed(out)
        assert transcript.digest() == again.digest()
        assert transcript.digest() == expected([Told(index=index, content="Hi", finish_reason=None)])
        assert len(events(out)) == 3


# ---- no digest


def test_an_answer_without_choices_has_no_digest() -> None:
    """Where nothing was said there is nothing to bind."""
    assert Transcript(NONCE).digest() is None
    assert digest_of([b": ping\n\n", usage_chunk(), DONE]) is None
    for body in (b"{}", b'{"choices": []}', b'{"choices": "text"}', b'{"choices": [5]}'):
        assert read_answer(body).transcript_digest(NONCE) is None


def test_two_choices_with_one_number_have_no_digest() -> None:
    """A whole answer that says twice what its first choice is cannot be told apart."""
    assert read_answer(b'{"choices": [{"index": 0}, {"index": 0}]}').transcript_digest(NONCE) is None


@pytest.mark.parametrize("index", [-1, 2**53])
def test_a_choice_whose_number_is_no_place_in_a_list_has_no_digest(index: int) -> None:
    """A negative number, or one that JSON's readers do not agree on, leaves none, whatever else is said."""
    assert digest_of([delta(index, content="x"), delta(content="y"), DONE]) is None
    both = {"choices": [{"index": found, "delta": {"content": "x"}} for found in (index, 0)]}
    assert digest_of([frame(both), DONE]) is None


@pytest.mark.parametrize("said", [b'{"content": 1e999}', b'{"content": "x", "n": [' + b"[]," * 60_000 + b"1]}"])
def test_what_could_not_be_read_leaves_no_digest(said: bytes) -> None:
    """A number out of range, far more than a message: no digest of the rest, streamed or whole."""
    answer = b'{"choices": [{"index": 0, "message": ' + said + b', "finish_reason": "stop"}]}'
    assert read_answer(answer).transcript_digest(NONCE) is None
    chunk = b'data: {"choices": [{"index": 0, "delta": ' + said + b"}]}\n\n"
    assert digest_of([delta(content="a"), chunk, delta(content="b"), delta(finish="stop"), DONE]) is None


def test_choices_beyond_our_reader_have_no_digest() -> None:
    """Where the choices as a whole are more than is worth reading, none is told."""
    body = b'{"choices": [{"message": {"content": "x"}},' + b"[]," * 1_000_001 + b"{}]}"
    assert read_answer(body).transcript_digest(NONCE) is None


@pytest.mark.parametrize(
    "said",
    [
        Choice(index=1, delta={"content": "x" * 2000}),
        Choice(delta={"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "x" * 2000}}]}),
        Choice(delta={"function_call": {"arguments": "x" * 2000}}),
        Choice(delta={"tool_calls": [{"index": place, "function": {}} for place in range(8)]}),
    ],
)
def test_what_is_held_is_bounded(said: Choice) -> None:
    """Other choices, arguments or calls beyond the bound leave no digest, and whatever follows changes nothing."""
    transcript = Transcript(NONCE, max_held_bytes=1500)
    transcript.take([said])
    assert transcript.digest() is None
    transcript.take([Choice(index=0, delta={"content": "y"}, finish_reason="stop")])
    assert transcript.digest() is None


def test_the_first_choices_text_is_not_held() -> None:
    """A text of any length has a digest within the smallest bound."""
    transcript = Transcript(NONCE, max_held_bytes=300)
    for _ in range(100):
        transcript.take([Choice(index=0, delta={"content": "x" * 100}, finish_reason=None)])
    assert transcript.digest() == expected([Told(index=0, content="x" * 10_000, finish_reason=None)])


# ---- the chunk that tells what the answer took


def test_the_telling_chunk_is_the_last_with_usage_else_with_a_finish_reason() -> None:
    """A stream shows where an upstream would say what it used, whatever else comes."""
    stream = opened()
    assert stream.telling is None
    stream.feed(delta(content="a"))
    assert stream.telling is None
    finish = {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "timings": {"energy": 5}}
    stream.feed(frame(finish))
    assert json.loads(stream.telling or b"") == finish
    stream.feed(usage_chunk(prompt_tokens=1, completion_tokens=2, energy_joules=7.5))
    assert json.loads(stream.telling or b"")["usage"]["energy_joules"] == 7.5
    stream.feed(delta(content="late", finish="stop") + DONE)
    assert json.loads(stream.telling or b"")["usage"]["energy_joules"] == 7.5


def test_members_on_the_usage_chunk_do_not_change_what_tells() -> None:
    """What is added for the caller is not what the upstream told."""
    stream = opened(include_usage=True, placement=Placement.USAGE_CHUNK)
    out = played([delta(content="a", finish="stop"), usage_chunk(), DONE], stream)
    assert b"receipt" in out
    assert b"receipt" not in (stream.telling or b"receipt")
