"""A whole JSON answer: what is read of it, and our two members at its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import members_without, object_of, told, unhurried, values
from vetted_mw.chat.counts import Usage, read_usage, text_length
from vetted_mw.chat.response import (
    MalformedAnswerError,
    add_members,
    has_choices,
    read_answer,
)
from vetted_mw.testing import chat_completion

RECEIPT = b'{"gco2e":0.0015}'
TRACE = b'{"region":"scaleway-par-1"}'
OURS = {"receipt": RECEIPT, "routing_trace": TRACE}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

# ---- our members


@unhurried
@given(data=st.data(), members=members_without(*OURS))
def test_the_upstreams_bytes_stay_and_our_members_come_last(
    data: st.DataObject, members: list[tuple[str, str]]
) -> None:
    """Any object keeps every byte of its own, and parses to itself plus the two members at the end."""
    body = data.draw(object_of(members))
    edited = add_members(body, OURS)
    end = body.rindex(b"}")
    assert edited.body.startswith(body[:end])
    assert edited.body.endswith(b"}" + body[end + 1 :])
    assert told(edited.body) == [*((name, text.encode()) for name, text in members), *OURS.items()]
    assert edited.replaced == ()


@unhurried
@given(data=st.data(), members=members_without(*OURS), present=st.sets(st.sampled_from(sorted(OURS)), min_size=1))
def test_members_of_our_names_give_way_to_ours(
    data: st.DataObject, members: list[tuple[str, str]], present: set[str]
) -> None:
    """A member the upstream put under our name is replaced and named; every other value keeps its bytes and place."""
    theirs = [*members, *((name, data.draw(values)) for name in sorted(present))]
    edited = add_members(data.draw(object_of(data.draw(st.permutations(theirs)))), OURS)
    kept = [pair for pair in told(edited.body) if pair[0] not in OURS]
    assert sorted(kept) == sorted((name, text.encode()) for name, text in members)
    assert told(edited.body)[-2:] == list(OURS.items())
    assert len(told(edited.body)) == len(members) + len(OURS)
    assert set(edited.replaced) == present


def test_what_stays_beside_a_replaced_member_stays_in_order() -> None:
    """Replacing one member does not shuffle the others."""
    edited = add_members(b'{"c":1, "receipt":0, "a": 2, "b":3}', OURS)
    assert [name for name, _value in told(edited.body)] == ["c", "a", "b", "receipt", "routing_trace"]


@pytest.mark.parametrize("body", [b"{}", b" { } ", b"{\n}\n", b"\t{\r\n\t}\r\n"])
def test_an_empty_object_gets_the_members_and_no_stray_comma(body: bytes) -> None:
    """An empty object, however it is spaced, holds exactly our members."""
    assert told(add_members(body, OURS).body) == list(OURS.items())


@pytest.mark.parametrize("body", [b"{}", b'{"a": 1}', b'{"a": 1} \n', b'{"a": 1, "a": 2}'])
def test_no_members_leave_the_answer_as_it_is(body: bytes) -> None:
    """Adding nothing changes nothing."""
    edited = add_members(body, {})
    assert (edited.body, edited.replaced) == (body, ())


def test_what_an_upstream_says_twice_passes_as_it_said_it() -> None:
    """A repeated member of the upstream is its own business: its bytes stay, and our members still come last."""
    body = b'{"id": "a", "x": 1, "id": "b"}'
    edited = add_members(body, OURS)
    assert edited.body.startswith(body[:-1])
    assert [name for name, _value in told(edited.body)] == ["id", "x", "id", "receipt", "routing_trace"]


def test_an_answer_with_a_name_that_is_no_text_still_gets_our_members() -> None:
    """Bytes that are no UTF-8 in a member's name are the upstream's business too: they stay, and ours come last."""
    body = b'{"choices": [], "\xff": 1}'
    assert add_members(body, OURS).body == body[:-1] + b',"receipt":' + RECEIPT + b',"routing_trace":' + TRACE + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b'{"receipt": {"forged": 1}, "id": "a", "id": "b"}',
        b'{"receipt": {"forged": 1}, "id": "a", "receipt": {"forged": 2}}',
        b'{"\\u0072eceipt": {"forged": 1}, "receipt": {"forged": 2}}',
        b'{"\\u0072eceipt": {"forged": 1}}',
    ],
)
def test_no_forged_member_survives_beside_ours(body: bytes) -> None:
    """However an upstream repeats or spells a member of our name, exactly ours is left, and the trade is told."""
    edited = add_members(body, OURS)
    assert [value for name, value in told(edited.body) if name == "receipt"] == [RECEIPT]
    assert b"forged" not in edited.body
    assert edited.replaced == ("receipt",)


def test_the_receipt_may_have_another_name_on_the_wire() -> None:
    """Under `receipt_key` the receipt gets that name, and an upstream's own `receipt` stays."""
    edited = add_members(b'{"receipt": 1}', {"vetted": RECEIPT, "routing_trace": TRACE})
    assert told(edited.body) == [("receipt", b"1"), ("vetted", RECEIPT), ("routing_trace", TRACE)]


# ---- usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, Usage(prompt_tokens=5, completion_tokens=2)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(prompt_tokens=0, completion_tokens=0)),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(prompt_tokens=9, completion_tokens=1, cached_tokens=4),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 10}},
            Usage(prompt_tokens=9, completion_tokens=1, cached_tokens=9),
        ),
    ],
)
def test_counts_are_read_as_the_upstream_made_them(usage: object, expected: Usage) -> None:
    """Both counts are the upstream's; cached tokens are part of the prompt and never more than it."""
    assert read_usage(usage) == expected


@pytest.mark.parametrize("details", [None, [], {}, "4", {"cached_tokens": None}, {"cached_tokens": -1}])
def test_cached_tokens_that_cannot_be_are_none(details: object) -> None:
    """Broken details cost no counts: nothing was cached as far as anyone knows."""
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": details}
    assert read_usage(usage) == Usage(prompt_tokens=9, completion_tokens=1, cached_tokens=0)


@pytest.mark.parametrize("bad", [None, True, "5", -1, 5.0, [5], {}, 2**53, 10**40])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_one_count_that_cannot_be_one_leaves_no_usage(name: str, bad: object) -> None:
    """When either count is missing or impossible there is no usage: nothing is made up from the other."""
    good = {"prompt_tokens": 5, "completion_tokens": 2}
    assert read_usage(good | {name: bad}) is None
    assert read_usage({key: value for key, value in good.items() if key != name}) is None


@pytest.mark.parametrize("usage", [None, [], "usage", 5, True, {}, {"total_tokens": 7}, {"input_tokens": 1}])
def test_what_is_no_usage_is_none(usage: object) -> None:
    """No usage stays no usage, never a silent zero."""
    assert read_usage(usage) is None


@unhurried
@given(
    usage=json_values
    | st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": json_values,
            "completion_tokens": json_values,
            "prompt_tokens_details": st.fixed_dictionaries({}, optional={"cached_tokens": json_values}) | json_values,
        },
    )
)
def test_usage_is_never_invented(usage: object) -> None:
    """Whatever stands there, the counts read are exactly those that stand there, or there are none."""
    read = read_usage(usage)
    if read is None:
        return
    assert isinstance(usage, dict)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (read.prompt_tokens, read.completion_tokens)
    assert 0 <= read.cached_tokens <= read.prompt_tokens


# ---- the rest of an answer


def test_an_answer_tells_its_id_model_usage_and_reasons() -> None:
    """What the receipt needs is read from an ordinary completion."""
    answer = read_answer(chat_completion(text="Bonjour", model="real-name", usage=(11, 3)))
    assert answer.id == "chatcmpl-fake"
    assert answer.model == "real-name"
    assert answer.usage == Usage(prompt_tokens=11, completion_tokens=3)
    assert answer.finish_reasons == ("stop",)
    assert answer.completion_characters == len("Bonjour")
    assert answer.is_error is False


def test_every_choice_counts() -> None:
    """Reasons and characters of all choices are read; one without a reason adds none."""
    choices = [
        {"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"},
        {"index": 1, "message": {"content": "cde"}, "finish_reason": None},
        {"index": 2, "message": {"content": "f"}, "finish_reason": "length"},
    ]
    answer = read_answer(json.dumps({"choices": choices}).encode())
    assert answer.finish_reasons == ("stop", "length")
    assert answer.completion_characters == 6


@pytest.mark.parametrize(
    ("error", "is_error"),
    [({"message": "x"}, True), ("overloaded", True), ({}, True), (None, False)],
)
def test_an_error_member_that_is_not_null_is_an_error(error: object, is_error: bool) -> None:
    """An `error` beside or instead of choices is noticed; `null` is what some servers always send."""
    assert read_answer(chat_completion(error=error)).is_error is is_error


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"<html></html>", b'{"id": ', b'{"id": "\xff"}', pytest.param(b"[" * 100_000, id="deep")],
)
def test_an_answer_that_is_no_json_object_is_malformed(body: bytes) -> None:
    """What is no JSON object raises the one content-free error."""
    with pytest.raises(MalformedAnswerError) as caught:
        read_answer(body)
    assert str(caught.value) == ""


@unhurried
@given(
    answer=st.fixed_dictionaries(
        {},
        optional={
            "id": json_values,
            "model": json_values,
            "usage": json_values,
            "error": json_values,
            "choices": st.lists(
                st.fixed_dictionaries({}, optional={"finish_reason": json_values, "message": json_values})
                | json_values,
                max_size=3,
            )
            | json_values,
        },
    )
)
def test_reading_is_lenient_about_everything_inside_the_object(answer: dict[str, Any]) -> None:
    """Members of any type are taken where they make sense and left out where not; nothing inside raises."""
    read = read_answer(json.dumps(answer).encode())
    assert read.id == (answer.get("id") if isinstance(answer.get("id"), str) else None)
    assert read.model == (answer.get("model") if isinstance(answer.get("model"), str) else None)
    assert read.usage == read_usage(answer.get("usage"))
    assert read.is_error == (answer.get("error") is not None)
    assert all(isinstance(reason, str) and reason for reason in read.finish_reasons)
    assert read.completion_characters >= 0


@unhurried
@given(body=st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_an_answer_or_malformed(body: bytes) -> None:
    """Whatever an upstream sends, reading it ends in an answer or in the one error, and what has choices is read."""
    has = has_choices(body)
    try:
        read_answer(body)
    except MalformedAnswerError:
        assert not has


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"choices": []}', True),
        (b' {"id": "x", "choices" : [ {} ] } ', True),
        (b'{"\\u0063hoices": []}', True),
        (b'{"choices": null}', False),
        (b'{"choices": {}}', False),
        (b'{"choices": "[]"}', False),
        (b'{"error": {"message": "x"}}', False),
        (b'{"nested": {"choices": []}}', False),
        (b"{}", False),
        (b"[]", False),
        (b"", False),
        (b"<html>choices</html>", False),
        (b'{"\xff": 1}', False),
        pytest.param(b'{"choices": ' + b"[" * 100_000, False, id="deep"),
    ],
)
def test_an_answer_is_a_completion_when_its_choices_are_a_list(body: bytes, expected: bool) -> None:
    """Only a JSON object with a list `choices` is a chat completion; anything else is not, and never raises."""
    assert has_choices(body) is expected


@pytest.mark.parametrize(
    ("message", "characters"),
    [
        ({"role": "assistant", "content": "Grüezi"}, 6),
        ({"content": "a", "reasoning_content": "bc", "refusal": "def"}, 6),
        ({"reasoning": "abcd"}, 4),
        ({"content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]}, 3),
        ({"tool_calls": [{"function": {"name": "ab", "arguments": "cde"}}, {"function": {"arguments": "f"}}]}, 6),
        ({"content": None, "tool_calls": None}, 0),
        ({"content": 5, "tool_calls": [None, {"function": None}, {"function": {"name": 1}}, {}]}, 0),
        ({"content": ["x", {"text": 5}, {}]}, 0),
        ({}, 0),
        (None, 0),
        ("content", 0),
        ([], 0),
    ],
)
def test_everything_a_model_wrote_is_counted(message: object, characters: int) -> None:
    """Text, reasoning, refusals and tool calls count by character, and what is no text counts nothing."""
    assert text_length(message) == characters
