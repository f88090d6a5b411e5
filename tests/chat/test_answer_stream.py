"""One stream of chat chunks: when it is committed, what passes, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chat.streams import (
    DONE,
    FINISH,
    HEAD,
    MEMBERS,
    ROLE,
    USAGE,
    chunks,
    delta,
    events,
    frame,
    opened,
    played,
    text_of,
    usage_chunk,
)
from vetted_mw.chat.counts import Usage
from vetted_mw.chat.sse import Placement

CONTENT = delta(content="Hello")

# ---- commit

HELD: dict[str, bytes] = {
    "role": delta(role="assistant"),
    "role with empty content": ROLE,
    "role with null content": delta(role="assistant", content=None),
    "empty delta": delta(),
    "empty tool calls": delta(tool_calls=[]),
    "everything empty": delta(role="assistant", content="", refusal=None, tool_calls=[], reasoning_content=""),
    "no delta": frame({**HEAD, "choices": [{"index": 0, "finish_reason": None}]}),
    "null delta": frame({**HEAD, "choices": [{"index": 0, "delta": None, "finish_reason": None}]}),
    "empty finish reason": delta(finish=""),
    "no choices yet": frame({**HEAD, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
    "comment": b": ping\n\n",
    "an event without data": b"event: ping\n\n",
    "an event with empty data": b"data:\n\n",
    "an id": b"id: 7\n\n",
}

COMMITTING: dict[str, bytes] = {
    "content": CONTENT,
    "a blank": delta(content=" "),
    "reasoning_content": delta(reasoning_content="Hm"),
    "reasoning": delta(reasoning="Hm"),
    "refusal": delta(refusal="No"),
    "tool calls": delta(tool_calls=[{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]),
    "audio": delta(audio={"id": "a", "data": "UklG"}),
    "a member nobody knows": delta(thinking_tokens=0),
    "false": delta(flag=False),
    "the second choice": frame(
        {**HEAD, "choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {"content": "x"}}]}
    ),
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD.keys())
def test_what_bears_no_content_is_held_until_content_comes(held: bytes) -> None:
    """Role-only, empty and data-less events show nothing to the caller until content does; then they come first."""
    stream = opened()
    assert (stream.feed(held), stream.committed) == (b"", False)
    assert (stream.feed(CONTENT), stream.committed) == (held + CONTENT, True)
    assert stream.feed(held) == held


@pytest.mark.parametrize("bearing", COMMITTING.values(), ids=COMMITTING.keys())
def test_any_member_of_a_delta_with_a_value_commits(bearing: bytes) -> None:
    """A delta with anything but a role in it begins the answer, whatever its name."""
    stream = opened(choices=2)
    assert stream.feed(ROLE) == b""
    assert stream.feed(bearing) == ROLE + bearing
    assert stream.committed is True


def test_a_finish_reason_commits_though_its_chunk_is_held() -> None:
    """A finish reason begins the answer: what was held goes out, the finish chunk itself waits for the end."""
    stream = opened()
    assert stream.feed(ROLE) == b""
    assert stream.feed(FINISH) == ROLE
    assert (stream.committed, stream.finished, stream.complete) == (True, True, True)


def test_content_and_what_was_held_before_it_in_one_read_come_together() -> None:
    """Held and bearing events that arrive at once leave at once, in their order."""
    stream = opened()
    assert stream.feed(b": ping\n\n" + ROLE + CONTENT + delta(content="!")) == b": ping\n\n" + ROLE + CONTENT + delta(
        content="!"
    )


def test_what_is_held_before_the_answer_is_bounded() -> None:
    """An upstream that sends comments and nothing else cannot fill memory."""
    stream = opened(max_frame_bytes=1000)
    assert played([b": ping\n\n"] * 1000, stream) == b""
    assert (stream.broken, stream.committed) == (True, False)
    assert len(stream.flush_held()) <= 1000


def test_beginning_early_gives_out_what_was_held() -> None:
    """A commit by the clock sends what was held, once, and later events pass as they come."""
    stream = opened()
    stream.feed(ROLE)
    assert stream.flush_held() == ROLE
    assert stream.committed is True
    assert stream.flush_held() == b""
    assert stream.feed(delta()) == delta()


def test_a_stream_given_back_loses_nothing_it_held() -> None:
    """What turns out to be no stream of chat chunks gets back every frame that was held, as it came."""
    stream = opened()
    stream.feed(ROLE)
    assert stream.give_back() == ROLE
    stream = opened()
    assert stream.feed(ROLE + CONTENT + FINISH + usage_chunk()) == ROLE + CONTENT
    assert stream.give_back() == FINISH + usage_chunk()


# ---- passing


@pytest.mark.parametrize(
    "passing",
    [
        CONTENT,
        b"data:" + CONTENT[6:],
        CONTENT.replace(b"\n\n", b"\r\n\r\n"),
        b"id: 9\nevent: message\n" + CONTENT,
        b": note\n" + CONTENT,
        b'data: {"choices": [{"index": 0,\ndata:  "delta": {"content": "x"}}]}\n\n',
        frame({**HEAD, "choices": [{"index": 0, "delta": {"content": "x"}}], "usage": USAGE, "timings": {"a": 1}}),
        frame({"id": 5, "model": None, "choices": [{"index": "0", "delta": {"content": "x"}}], "usage": []}),
        frame({"type": "ping"}),
        b": ping\n\n",
    ],
)
def test_frames_pass_as_the_bytes_they_came_in(passing: bytes) -> None:
    """After commit every frame leaves as it came, whatever its spelling and line ends."""
    stream = opened()
    stream.feed(CONTENT)
    assert stream.feed(passing) == passing


def test_a_frame_leaves_when_it_is_whole_and_not_before() -> None:
    """Bytes of an unfinished frame wait for its blank line."""
    stream = opened()
    assert stream.feed(CONTENT[:-1]) == b""
    assert stream.feed(CONTENT[-1:]) == CONTENT


# ---- the end


@pytest.mark.parametrize("ending", [DONE, b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: [DONE]", b""])
def test_the_finish_chunk_waits_and_carries_the_members_before_our_done(ending: bytes) -> None:
    """The chunk with the finish reason is held, leaves with receipt and trace, and our `[DONE]` is the end."""
    stream = opened()
    out = b"".join(stream.feed(part) for part in (ROLE, CONTENT, FINISH, ending))
    assert out == ROLE + CONTENT
    out += stream.ended_by_upstream() + stream.close(MEMBERS)
    finish, done = events(out)[-2:]
    assert finish.json() == json.loads(FINISH[6:]) | {name: json.loads(value) for name, value in MEMBERS.items()}
    assert list(finish.json())[-2:] == list(MEMBERS)
    assert done.data == "[DONE]"
    assert len(chunks(out)) == 3


def test_text_on_the_finish_chunk_waits_with_it() -> None:
    """A finish chunk keeps its own text and its own bytes."""
    last = delta(content=" world", finish="stop")
    out = played([ROLE, CONTENT, last, DONE], opened())
    assert text_of(out) == "Hello world"
    assert out[len(ROLE + CONTENT) :].startswith(last[: -len(b"}\n\n")])


def test_a_one_chunk_answer_is_complete() -> None:
    """An upstream that says everything in one chunk, finish reason included, gets it out with the members."""
    whole = delta(role="assistant", content="Hi", finish="stop")
    out = played([whole], opened())
    assert text_of(out) == "Hi"
    assert chunks(out)[-1]["receipt"] == json.loads(MEMBERS["receipt"])


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("choices", [{"choices": []}, {"choices": None}, {}], ids=["empty", "null", "absent"])
def test_the_usage_chunk_goes_only_to_callers_that_asked(asked: bool, choices: dict[str, Any]) -> None:
    """The upstream's usage chunk is read for the receipt; the caller sees it, as it came, only when it asked."""
    stream = opened(include_usage=asked)
    usage = frame({**HEAD, **choices, "usage": USAGE})
    out = played([ROLE, CONTENT, FINISH, usage, DONE], stream)
    assert stream.usage == Usage(prompt_tokens=5, completion_tokens=2)
    assert (usage in out) is asked
    kinds = ["finish" if chunk.get("receipt") else "usage" if chunk.get("usage") else "text" for chunk in chunks(out)]
    assert kinds == ["text", "text", "finish", *(["usage"] if asked else [])]
    assert events(out)[-1].data == "[DONE]"


@pytest.mark.parametrize("asked", [False, True])
def test_usage_on_the_finish_chunk_stays_there(asked: bool) -> None:
    """Usage that the upstream puts on its finish chunk is read and stays; no usage chunk is made up."""
    stream = opened(include_usage=asked)
    finish = frame({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE})
    out = played([CONTENT, finish], stream)
    assert stream.usage == Usage(prompt_tokens=5, completion_tokens=2)
    assert [chunk.get("usage") for chunk in chunks(out)] == [None, USAGE]
    assert chunks(out)[-1]["receipt"]


@pytest.mark.parametrize("asked", [False, True])
def test_absent_usage_is_not_made_up(asked: bool) -> None:
    """Without usage from the upstream there is none, for the receipt or for the caller who asked."""
    stream = opened(include_usage=asked)
    out = played([ROLE, CONTENT, FINISH, DONE], stream)
    assert stream.usage is None
    assert all("usage" not in chunk for chunk in chunks(out))


def test_usage_on_every_chunk_passes_and_the_last_counts() -> None:
    """Running counts stay on their chunks and the last ones are the answer's."""
    running = [
        frame({**HEAD, "choices": [{"index": 0, "delta": {"content": "a"}}], "usage": USAGE | {"completion_tokens": n}})
        for n in (1, 2, 3)
    ]
    stream = opened()
    assert stream.feed(b"".join(running)) == b"".join(running)
    assert stream.usage == Usage(prompt_tokens=5, completion_tokens=3)


@pytest.mark.parametrize("bad", [{}, {"prompt_tokens": 5}, {"prompt_tokens": -1, "completion_tokens": 2}])
def test_counts_that_cannot_be_do_not_replace_those_that_can(bad: dict[str, int]) -> None:
    """Broken usage is ignored: the last good counts stay, and none stay none."""
    stream = opened()
    stream.feed(CONTENT + frame({**HEAD, "choices": [], "usage": bad}))
    assert stream.usage is None
    stream.feed(usage_chunk() + frame({**HEAD, "choices": [], "usage": bad}))
    assert stream.usage == Usage(prompt_tokens=5, completion_tokens=2)


def test_a_usage_chunk_before_the_finish_chunk_still_comes_after_it() -> None:
    """The order at the end is finish chunk, usage chunk, `[DONE]`, whatever the upstream's was."""
    out = played([CONTENT, usage_chunk(), FINISH, DONE], opened(include_usage=True))
    assert [("receipt" in chunk, "usage" in chunk) for chunk in chunks(out)] == [
        (False, False),
        (True, False),
        (False, True),
    ]


def test_usage_alone_is_no_answer() -> None:
    """A stream of nothing but usage and `[DONE]` has no content: it is neither begun nor complete."""
    stream = opened(include_usage=True)
    assert stream.feed(usage_chunk() + DONE) == b""
    assert (stream.committed, stream.done, stream.complete) == (False, True, False)


@pytest.mark.parametrize("begun", [(ROLE, CONTENT), (ROLE,), (delta(),)], ids=["text", "role only", "empty delta"])
def test_done_without_a_finish_reason_is_a_success(begun: tuple[bytes, ...]) -> None:
    """`[DONE]` ends a single answer well; the members travel on a complete chunk of the answer with an empty delta."""
    stream = opened()
    out = played([*begun, DONE], stream)
    assert stream.complete is True
    assert out.startswith(b"".join(begun))
    *_rest, last = chunks(out)
    assert {name: last[name] for name in HEAD} == HEAD
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert last["receipt"] == json.loads(MEMBERS["receipt"])
    assert events(out)[-1].data == "[DONE]"


def test_the_empty_chunk_of_an_upstream_that_names_nothing_is_still_complete() -> None:
    """Clients need id, object, created, model and choices on every chunk, also where the upstream gives none."""
    out = played([frame({"choices": [{"delta": {"content": "x"}}]}), DONE], opened())
    last = chunks(out)[-1]
    assert (last["id"], last["object"], last["created"], last["model"]) == ("", "chat.completion.chunk", 0, "")


@pytest.mark.parametrize("odd", [{"usage": []}, {"created": 1_764_000_123.0}, {"choices": [{"index": None}]}])
def test_an_odd_member_costs_the_empty_chunk_none_of_the_others(odd: dict[str, Any]) -> None:
    """A chunk with one member of a wrong type still tells id, object, created and model."""
    out = played([frame({**HEAD, "choices": [{"delta": {"content": "x"}}], **odd}), DONE], opened())
    assert {name: chunks(out)[-1][name] for name in HEAD} == HEAD


def test_the_first_id_and_model_are_the_answers() -> None:
    """The receipt names what the upstream named first."""
    stream = opened()
    stream.feed(CONTENT + frame({"id": "other", "model": "other", "choices": [{"delta": {"content": "x"}}]}))
    assert (stream.id, stream.model) == (HEAD["id"], HEAD["model"])


def test_what_the_model_wrote_is_counted_across_chunks() -> None:
    """Text, reasoning and tool arguments of every choice add up, for an estimate where nobody counted tokens."""
    stream = opened(choices=2)
    call = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    stream.feed(ROLE + delta(content="ab") + delta(1, reasoning_content="c") + delta(tool_calls=[call]))
    assert stream.completion_characters == 2 + 1 + 3


@pytest.mark.parametrize(
    "cut",
    [
        [],
        [ROLE],
        [ROLE, CONTENT],
        [ROLE, CONTENT, usage_chunk()],
        [ROLE, CONTENT, FINISH[: len(FINISH) // 2]],
        [ROLE, CONTENT, FINISH[:-4]],
        [ROLE, CONTENT, b"data"],
        [ROLE, CONTENT, b"data: [DO"],
        [b": ping\n\n"],
    ],
)
def test_an_end_before_the_finish_reason_is_a_cut(cut: list[bytes]) -> None:
    """Without finish reason and `[DONE]` the upstream's end is a cut: never complete, and never a clean end."""
    stream = opened()
    out = played(cut, stream)
    assert (stream.complete, stream.done) == (False, False)
    assert b"[DONE]" not in out


@pytest.mark.parametrize("missing", range(1, 3))
@pytest.mark.parametrize("last", [FINISH, DONE], ids=["finish chunk", "done"])
def test_a_last_frame_without_its_blank_line_counts_when_it_is_whole(last: bytes, missing: int) -> None:
    """An upstream that closes right after its last event, line ends missing, has still said it."""
    stream = opened()
    parts = [CONTENT, last[:-missing]] if last is FINISH else [CONTENT, FINISH, last[:-missing]]
    out = played(parts, stream)
    assert stream.complete is True
    assert chunks(out)[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_end_of_a_stream_of_lone_crs_counts() -> None:
    """A last frame that ends in a CR, whose LF might still have come, is whole when the upstream ends."""
    out = played([CONTENT.replace(b"\n", b"\r"), FINISH.replace(b"\n", b"\r")], opened())
    assert text_of(out) == "Hello"
    assert chunks(out)[-1]["receipt"]


def test_a_second_finish_chunk_keeps_its_place_and_carries_the_members() -> None:
    """Text after a first finish reason comes after it, and the members travel on the last finish chunk."""
    out = played([CONTENT, delta(content=" wor", finish="stop"), delta(content="ld", finish="stop"), DONE], opened())
    assert text_of(out) == "Hello world"
    assert ["receipt" in chunk for chunk in chunks(out)] == [False, False, True]


@pytest.mark.parametrize("late", [CONTENT, FINISH, usage_chunk(), b": late\n\n", b"data: not JSON\n\n", DONE])
def test_nothing_after_done_leaks(late: bytes) -> None:
    """`[DONE]` is the end: what an upstream sends after it is neither passed on nor read."""
    for parts in ([CONTENT, FINISH, DONE, late], [CONTENT + FINISH + DONE + late], [CONTENT, FINISH, DONE + late[:9]]):
        stream = opened(include_usage=True)
        out = played(parts, stream)
        assert stream.feed(late) == b""
        assert stream.ended_by_upstream() == b""
        assert len(chunks(out)) == 2
        assert out.count(b"[DONE]") == 1
        assert out.endswith(DONE)
        assert stream.usage is None
        assert stream.completion_characters == len("Hello")


# ---- several choices


def test_only_the_last_of_several_finish_chunks_is_held() -> None:
    """With n > 1 the finish chunks of the first choices pass at once; the last one carries the members."""
    stream = opened(choices=3)
    first, second, third = (delta(index, finish="stop") for index in (2, 0, 1))
    assert stream.feed(delta(0, content="a") + first) == delta(0, content="a") + first
    assert stream.feed(second) == second
    assert (stream.finished, stream.complete) == (False, False)
    assert stream.feed(third) == b""
    assert (stream.finished, stream.complete) == (True, True)
    out = stream.close(MEMBERS)
    assert [chunk["choices"][0]["index"] for chunk in chunks(out)] == [1]
    assert chunks(out)[0]["receipt"]
    assert stream.finish_reasons == ("stop", "stop", "stop")


def test_several_choices_in_one_chunk_are_each_read() -> None:
    """A chunk that finishes all choices at once is the one that waits."""
    stream = opened(choices=2)
    both = frame(
        {**HEAD, "choices": [{"index": n, "delta": {"content": "x"}, "finish_reason": "length"} for n in (0, 1)]}
    )
    assert stream.feed(both) == b""
    assert stream.complete is True
    assert stream.finish_reasons == ("length", "length")
    assert text_of(stream.close(MEMBERS), choice=1) == "x"


@pytest.mark.parametrize(
    "parts",
    [
        [delta(0, content="a"), delta(1, content="b"), delta(0, finish="stop")],
        [delta(0, content="a"), delta(1, content="b"), delta(0, finish="stop"), DONE],
        [delta(0, content="a"), delta(1, content="b"), DONE],
        [delta(0, content="a"), DONE],
        [delta(0, content="a"), delta(0, finish="stop")],
    ],
    ids=["end", "done", "none finished", "one unfinished", "the other never began"],
)
def test_a_choice_without_a_finish_reason_is_a_cut(parts: list[bytes]) -> None:
    """With n > 1 an answer is complete only when no choice lacks its finish reason."""
    stream = opened(choices=2)
    assert b"[DONE]" not in played(parts, stream)
    assert (stream.finished, stream.complete) == (False, False)


def test_an_upstream_that_ignores_n_and_says_done_is_complete() -> None:
    """An upstream that gives one choice of two, finishes it and says `[DONE]` has given all it will."""
    stream = opened(choices=2)
    out = played([delta(0, content="a"), FINISH, DONE], stream)
    assert stream.complete is True
    assert FINISH in out
    assert chunks(out)[-1]["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert chunks(out)[-1]["receipt"]


def test_a_choice_that_came_unasked_must_be_finished_too() -> None:
    """More choices than were asked for are held to the same: one without a finish reason is a cut."""
    stream = opened()
    parts = [delta(0, content="a"), delta(1, content="b"), delta(0, finish="stop")]
    assert b"[DONE]" not in played(parts, stream)
    assert stream.complete is False
    stream = opened()
    out = played([*parts, delta(1, finish="stop")], stream)
    assert stream.complete is True
    assert chunks(out)[-1]["choices"][0]["index"] == 1
    assert chunks(out)[-1]["receipt"]


# ---- placement


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("placement", list(Placement))
def test_the_members_stand_where_the_operator_put_them(placement: Placement, asked: bool) -> None:
    """Finish chunk, usage chunk (the finish chunk where the caller sees no usage chunk), comment, or nowhere."""
    out = played([ROLE, CONTENT, FINISH, usage_chunk(), DONE], opened(placement=placement, include_usage=asked))
    carrying = ["usage" if "usage" in chunk else "finish" for chunk in chunks(out) if "receipt" in chunk]
    expected = {
        Placement.FINISH_CHUNK: ["finish"],
        Placement.USAGE_CHUNK: ["usage" if asked else "finish"],
        Placement.COMMENT: [],
        Placement.OFF: [],
    }
    assert carrying == expected[placement]
    comments = [line[2:] for line in out.split(b"\n") if line.startswith(b": ")]
    told = {name: json.loads(value) for name, value in MEMBERS.items()}
    assert [json.loads(comment) for comment in comments] == ([told] if placement is Placement.COMMENT else [])
    assert text_of(out) == "Hello"
    assert len(chunks(out)) == (4 if asked else 3)
    assert out.endswith(DONE)


@pytest.mark.parametrize("placement", ["comment", "off"])
def test_a_stream_that_carries_nothing_keeps_every_byte_of_its_chunks(placement: str) -> None:
    """Where no chunk carries the members, every chunk leaves as it came, and none is added."""
    out = played([ROLE, CONTENT, FINISH, usage_chunk(), DONE], opened(placement=placement, include_usage=True))
    lines = [line for line in out.split(b"\n\n") if not line.startswith(b":")]
    assert b"\n\n".join(lines) == ROLE + CONTENT + FINISH + usage_chunk() + DONE
    out = played([ROLE, CONTENT, DONE], opened(placement=placement))
    assert chunks(out) == chunks(ROLE + CONTENT)


@pytest.mark.parametrize("placement", list(Placement))
def test_a_bare_answer_gets_no_members_anywhere(placement: Placement) -> None:
    """Closed without members, a stream is the upstream's own, with the end it needs."""
    stream = opened(placement=placement, include_usage=True)
    out = stream.feed(ROLE + CONTENT + FINISH + usage_chunk() + DONE) + stream.close({})
    assert out == ROLE + CONTENT + FINISH + usage_chunk() + DONE


def test_a_forged_member_on_the_carrying_chunk_gives_way() -> None:
    """A `receipt` that the upstream put on its finish chunk is replaced by ours."""
    forged = frame({**HEAD, "receipt": {"forged": 1}, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    out = played([CONTENT, forged, DONE], opened())
    assert b"forged" not in out
    assert chunks(out)[-1]["receipt"] == json.loads(MEMBERS["receipt"])


@pytest.mark.parametrize(
    "finish",
    [
        FINISH.replace(b"\n", b"\r\n"),
        FINISH.replace(b"\n", b"\r"),
        FINISH.replace(b', "choices"', b',\ndata: "choices"'),
        b"\xef\xbb\xbf" + FINISH,
        b": note\nid: 4\n" + FINISH,
    ],
    ids=["CRLF", "CR", "two data lines", "byte order mark", "comment and id"],
)
def test_the_carrying_chunk_is_one_good_event_however_it_was_written(finish: bytes) -> None:
    """A finish chunk in any spelling of SSE leaves as one event with the members at its end."""
    out = played([finish, DONE], opened())
    assert chunks(out) == [json.loads(FINISH[6:]) | {name: json.loads(value) for name, value in MEMBERS.items()}]


def test_an_unknown_placement_is_refused() -> None:
    """Only the four placements of the settings exist."""
    assert {placement.value for placement in Placement} == {"finish_chunk", "usage_chunk", "comment", "off"}
    with pytest.raises(ValueError, match="somewhere"):
        opened(placement="somewhere")


# ---- frames that are none


@pytest.mark.parametrize(
    "bad",
    [
        b"data: hello\n\n",
        b"data: {\n\n",
        b'data: {"id": 5, "choices": [}\n\n',
        b'data: {"choices": [{"delta": {"content": "x"}}]} x\n\n',
        b"data: []\n\n",
        b"data: 5\n\n",
        b"data: null\n\n",
        b'data: "text"\n\n',
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
        b'data: {"id": 5, "x": "\xff", "model": "\xff"}\n\n',
        b'data: {"choices": [{"delta": {"content": "a\0b"}}]}\n\n',
        pytest.param(b'data: {"choices": ' + b"[" * 100_000 + b"\n\n", id="deep"),
        pytest.param(b'data: {"id": 5, "choices": ' + b"[" * 100_000 + b"\n\n", id="deep after an odd member"),
        b"data: [DONE\n\n",
        b"event: ping\ndata: pong\n\n",
    ],
)
@pytest.mark.parametrize("begun", [False, True], ids=["before commit", "after commit"])
def test_a_data_frame_that_is_no_json_object_is_refused(bad: bytes, begun: bool) -> None:
    """What claims to be a chunk and is none breaks the stream, before commit and after, and is not passed on."""
    stream = opened()
    if begun:
        stream.feed(CONTENT)
    assert stream.feed(bad + CONTENT) == b""
    assert (stream.broken, stream.complete) == (True, False)
    assert stream.feed(CONTENT + FINISH + DONE) == stream.ended_by_upstream() == b""


BAD = {
    "no JSON": b"data: <html>\n\n",
    "too long": b"data: " + b"x" * 3000 + b"\n\n",
    "too long and not ended": b"data: " + b"x" * 3000,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("before", [[], [CONTENT]], ids=["before commit", "after commit"])
def test_what_came_in_one_read_with_a_bad_frame_is_not_lost(bad: bytes, before: list[bytes]) -> None:
    """The good frames before a bad one go out, those after it do not: an error frame then follows what was said."""
    stream = opened(max_frame_bytes=2000)
    assert b"".join(stream.feed(part) for part in before) == b"".join(before)
    good = ROLE + delta(content=" wor") + b": ping\n\n" + delta(content="ld")
    assert stream.feed(good + bad + CONTENT) == good
    assert (stream.broken, stream.complete) == (True, False)


@pytest.mark.parametrize("begun", [False, True], ids=["before commit", "after commit"])
def test_an_oversized_frame_is_refused(begun: bool) -> None:
    """A frame over `max_frame_bytes` is refused, whole or as it grows."""
    for parts in ([delta(content="x" * 2000)], [b"data: ", b"x" * 600, b"x" * 600]):
        stream = opened(max_frame_bytes=1000)
        if begun:
            stream.feed(CONTENT)
        assert b"".join(stream.feed(part) for part in parts) == b""
        assert (stream.broken, stream.complete) == (True, False)


ODD: list[Any] = ["x", 5, None, [], {"a": 1}, [5, "x", None]]


@pytest.mark.parametrize(
    ("name", "odd"),
    [(name, odd) for name in ("id", "model", "object", "created", "choices") for odd in ODD]
    + [("usage", odd) for odd in ODD if not isinstance(odd, dict)],
)
def test_a_member_of_a_wrong_type_counts_as_absent(name: str, odd: object) -> None:
    """A chunk is an object whatever its members are: a wrong type never breaks a stream or changes its bytes."""
    stream = opened()
    stream.feed(CONTENT)
    strange = frame({"choices": [{"index": 0, "delta": {"content": "x"}}], name: odd})
    assert stream.feed(strange) == strange
    assert stream.usage is None


@pytest.mark.parametrize(
    ("name", "odd"),
    [("index", odd) for odd in ODD]
    + [("delta", odd) for odd in ODD if not isinstance(odd, dict)]
    + [("finish_reason", odd) for odd in ODD if not isinstance(odd, str)],
)
def test_a_choices_member_of_a_wrong_type_counts_as_absent(name: str, odd: object) -> None:
    """A choice with an odd member is read for the rest of it, and its frame is not changed."""
    stream = opened(choices=9)
    stream.feed(CONTENT)
    strange = frame({**HEAD, "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None} | {name: odd}]})
    assert stream.feed(strange) == strange
    assert stream.finish_reasons == ()
