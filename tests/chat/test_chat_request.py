"""A request's body: what is refused, what is read, and what leaves for the upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import members_without, object_of, pairs_of, spelled, told, unhurried, values
from vetted_mw.chat.request import ChatRequest, outgoing_body, parse_request
from vetted_mw.errors import InvalidJSONError, InvalidOptionError, InvalidRequestError, RequestError

OURS = ("model", "messages", "vetted", "stream_options", "stream", "n")


def request(**members: Any) -> ChatRequest:
    """Parse a small request with `members` added or replaced."""
    return parse_request(json.dumps({"model": "m", "messages": [], **members}).encode())


@st.composite
def chat_bodies(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, str]]]:
    """Draw a body and its members: model and messages somewhere among others, often with options of ours."""
    members = draw(members_without(*OURS))
    required = [("model", draw(spelled("some-model"))), ("messages", f"[{draw(values)}]")]
    maybe = [("vetted", draw(st.sampled_from(['{"region": "x"}', "null", "{ }"]))), ("stream", "true"), ("n", "2")]
    members += required + draw(st.lists(st.sampled_from(maybe), unique=True))
    members = draw(st.permutations(members))
    return draw(object_of(members)), members


# ---- what is refused

NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "a form": b"model=m&messages=%5B%5D",
    "array": b"[]",
    "null": b"null",
    "cut": b'{"model": "m", "messages": [',
    "trailing garbage": b'{"model": "m", "messages": []} {}',
    "trailing NUL": b'{"model": "m", "messages": []}\0',
    "NUL in the prompt": b'{"model": "m", "messages": ["\0"]}',
    "byte order mark": b'\xef\xbb\xbf{"model": "m", "messages": []}',
    "NaN": b'{"model": "m", "messages": [], "temperature": NaN}',
    "invalid UTF-8 in the prompt": b'{"model": "m", "messages": ["\xff"]}',
    "invalid UTF-8 in a member nobody reads": b'{"model": "m", "messages": [], "user": "\xc3("}',
    "deep prompt": b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep options": b'{"model": "m", "messages": [], "vetted": ' + b'{"region":' * 100_000 + b"1" + b"}" * 100_001,
    "model twice": b'{"model": "m", "messages": [], "model": "n"}',
    "messages twice": b'{"model": "m", "messages": [], "messages": []}',
    "vetted twice": b'{"model": "m", "vetted": {"region": "a"}, "messages": [], "vetted": {"region": "b"}}',
    "vetted escaped": b'{"model": "m", "messages": [], "vetted": {}, "\\u0076etted": {"region": "a"}}',
    "a member we do not know twice": b'{"model": "m", "messages": [], "x": 1, "\\u0078": 1}',
}

NO_COMPLETION: dict[str, tuple[bytes, str]] = {
    "empty object": (b"{}", "messages"),
    "no model": (b'{"messages": []}', "model"),
    "null model": (b'{"model": null, "messages": []}', "model"),
    "empty model": (b'{"model": "", "messages": []}', "model"),
    "endless model": (b'{"model": "%b", "messages": []}' % (b"m" * 1025), "model"),
    "model a number": (b'{"model": 1, "messages": []}', "model"),
    "model a list": (b'{"model": ["m"], "messages": []}', "model"),
    "model a huge number": (b'{"model": ' + b"9" * 10_000 + b', "messages": []}', "model"),
    "no messages": (b'{"model": "m"}', "messages"),
    "null messages": (b'{"model": "m", "messages": null}', "messages"),
    "messages a string": (b'{"model": "m", "messages": "[]"}', "messages"),
    "messages an object": (b'{"model": "m", "messages": {"0": []}}', "messages"),
    "stream a string": (b'{"model": "m", "messages": [], "stream": "true"}', "stream"),
    "stream a number": (b'{"model": "m", "messages": [], "stream": 1}', "stream"),
    "stream a list": (b'{"model": "m", "messages": [], "stream": []}', "stream"),
    "stream a huge number": (b'{"model": "m", "messages": [], "stream": 1e999}', "stream"),
    "stream a number of many digits": (b'{"model": "m", "messages": [], "stream": ' + b"9" * 10_000 + b"}", "stream"),
}

NO_OPTIONS: dict[str, bytes] = {
    "string": b'"scaleway-par-1"',
    "number": b"1",
    "huge number": b"9" * 10_000,
    "list": b"[]",
    "true": b"true",
    "a member twice": b'{"region": "a", "region": "b"}',
    "a member twice, escaped": b'{"region": "a", "r\\u0065gion": "a"}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_body_that_is_not_one_json_object_is_400_invalid_json(body: bytes) -> None:
    """Anything but one JSON object in UTF-8 with unique members is 400 `invalid_json`."""
    with pytest.raises(InvalidJSONError) as caught:
        parse_request(body)
    assert (caught.value.status, caught.value.type, caught.value.code) == (400, "validation_error", "invalid_json")


@pytest.mark.parametrize(("body", "param"), NO_COMPLETION.values(), ids=NO_COMPLETION.keys())
def test_an_object_that_is_no_chat_completion_is_400_and_names_the_member(body: bytes, param: str) -> None:
    """A missing or mistyped `model`, `messages` or `stream` is 400 `invalid_request` that names it."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_request(body)
    error = caught.value
    assert (error.status, error.type, error.code, error.param) == (400, "validation_error", "invalid_request", param)
    assert param in error.message


@pytest.mark.parametrize("value", NO_OPTIONS.values(), ids=NO_OPTIONS.keys())
def test_options_that_are_no_object_or_repeat_themselves_are_400(value: bytes) -> None:
    """A `vetted` member that is no object, or says a thing twice, is 400 `invalid_option`: a typo is never no pin."""
    with pytest.raises(InvalidOptionError) as caught:
        parse_request(b'{"model": "m", "messages": [], "vetted": ' + value + b"}")
    error = caught.value
    assert (error.status, error.type, error.code, error.param) == (400, "validation_error", "invalid_option", "vetted")


@unhurried
@given(secret=st.text("abcdefghij", min_size=12, max_size=12), place=st.integers(0, 5))
def test_no_refusal_quotes_the_caller(secret: str, place: int) -> None:
    """No message, and nothing it was raised from, holds what the caller wrote."""
    bodies = [
        f'{{"{secret}": 1, "{secret}": 2}}',
        f'{{"model": "{secret}"',
        f'{{"model": ["{secret}"], "messages": []}}',
        f'{{"model": "m", "messages": "{secret}"}}',
        f'{{"model": "m", "messages": [], "stream": "{secret}"}}',
        f'{{"model": "m", "messages": [], "vetted": "{secret}"}}',
    ]
    with pytest.raises(RequestError) as caught:
        parse_request(bodies[place].encode())
    assert secret not in repr((caught.value, caught.value.param, caught.value.__cause__))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@unhurried
@given(body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever bytes come, they are a request or a 4xx of ours, never another exception."""
    try:
        read = parse_request(body)
    except RequestError:
        return  # every one of them is a 4xx
    assert read.model


# ---- what is read


@pytest.mark.parametrize(
    ("members", "stream"),
    [({}, False), ({"stream": None}, False), ({"stream": False}, False), ({"stream": True}, True)],
)
def test_a_stream_is_wanted_only_when_true(members: dict[str, Any], stream: bool) -> None:
    """`stream` decides; absent and null are no stream."""
    assert request(**members).stream is stream


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"include_usage": True}, True),
        ({"include_usage": True, "other": 1}, True),
        ({"include_usage": False}, False),
        ({"include_usage": None}, False),
        ({"include_usage": "true"}, False),
        ({"include_usage": 1}, False),
        ({}, False),
        (None, False),
        ([], False),
        ("include_usage", False),
    ],
)
def test_usage_was_asked_for_only_by_a_true_option(options: object, asked: bool) -> None:
    """Only `stream_options.include_usage: true` is the caller asking for the usage chunk."""
    assert request(stream_options=options).include_usage is asked
    assert request().include_usage is False


@pytest.mark.parametrize(
    ("n", "choices"), [(1, 1), (2, 2), (128, 128), (0, 1), (-3, 1), (True, 1), ("2", 1), (2.5, 1), (None, 1), ([2], 1)]
)
def test_n_is_how_many_choices_were_asked_for_and_1_when_odd(n: object, choices: int) -> None:
    """`n` counts the choices; what is no count counts as 1 and is the upstream's to refuse."""
    assert request(n=n).choices == choices
    assert request().choices == 1


@pytest.mark.parametrize(
    "number",
    [b"1e999", b"-1e999", b"9" * 10_000, b"-" + b"9" * 400, b"1" + b"0" * 400 + b".5"],
    ids=["exponent", "negative exponent", "ten thousand digits", "negative digits", "digits and a half"],
)
@pytest.mark.parametrize("name", ["n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed"])
def test_a_huge_number_is_odd_to_us_and_leaves_as_it_came(name: str, number: bytes) -> None:
    """A number no reader of ours holds is taken for absent, and the upstream gets its digits as they came."""
    body = b'{"model": "m", "messages": [], "' + name.encode() + b'": ' + number + b"}"
    read = parse_request(body)
    assert (read.choices, read.max_tokens, read.temperature, read.top_p) == (1, None, None, None)
    assert dict(told(outgoing_body(read)))[name] == number


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"max_tokens": 7, "temperature": 0.5, "top_p": 1}, (7, 0.5, 1.0)),
        ({"max_tokens": 7, "max_completion_tokens": 9}, (9, None, None)),
        ({"max_tokens": True, "temperature": "0.5", "top_p": [1]}, (None, None, None)),
        ({"max_tokens": None, "temperature": None}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_what_spans_show_is_read_where_it_is_a_number(
    members: dict[str, Any], expected: tuple[int | None, float | None, float | None]
) -> None:
    """Token limit, temperature and top_p are read where they are numbers, the newer limit first, else left out."""
    read = request(**members)
    assert (read.max_tokens, read.temperature, read.top_p) == expected


@pytest.mark.parametrize("members", [{}, {"vetted": None}])
def test_options_that_are_null_are_absent(members: dict[str, Any]) -> None:
    """`vetted: null` means the same as no `vetted`, and does not leave either."""
    read = request(**members)
    assert read.vetted_members is None
    assert "vetted" not in dict(told(outgoing_body(read)))


def test_options_are_told_apart_from_the_request() -> None:
    """The `vetted` member is kept aside, split, and is no member of the request any more."""
    read = request(vetted={"region": "atnorth-sto-1", "tier": "auto"})
    assert read.vetted_members is not None
    told = {name: json.loads(bytes(value)) for name, value in read.vetted_members.items()}
    assert told == {"region": "atnorth-sto-1", "tier": "auto"}
    assert list(read.held.members) == ["model", "messages"]


@pytest.mark.parametrize(
    ("messages", "characters"),
    [
        ([], 0),
        ([{"role": "user", "content": "Grüezi"}], 6),
        ([{"role": "system", "content": "ab"}, {"role": "user", "content": "cde"}], 5),
        ([{"role": "user", "content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]}], 3),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:long"}}]}], 0),
        ([{"role": "user", "content": None}, {"role": "user"}, "text", 5, None, []], 0),
        ([{"role": "user", "content": [{"text": 5}, "x", None]}], 0),
    ],
)
def test_the_prompts_text_is_counted_for_an_estimate(messages: list[Any], characters: int) -> None:
    """Characters of text are counted, in plain content and in parts; what is no text counts nothing."""
    assert request(messages=messages).prompt_characters() == characters


def test_the_calls_of_earlier_turns_count_as_prompt() -> None:
    """A tool call's name and arguments in the history are text the model reads."""
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}}
    assert request(messages=[{"role": "assistant", "tool_calls": [call]}]).prompt_characters() == 7 + 7


@pytest.mark.parametrize(
    "odd", [b"1e999", b"9" * 10_000, b"[" * 900 + b"]" * 900], ids=["out of range", "many digits", "deep"]
)
def test_a_prompt_with_an_odd_value_still_gets_an_estimate(odd: bytes) -> None:
    """A value no reader of ours holds never costs the caller the answer: the estimate is wide, not absent."""
    text = "x" * 500
    body = b'{"model": "m", "messages": [{"role": "user", "content": "' + text.encode() + b'"}, ' + odd + b"]}"
    assert parse_request(body).prompt_characters() >= len(text)


# ---- what leaves


@unhurried
@given(drawn=chat_bodies())
def test_what_leaves_is_what_came_without_our_options(drawn: tuple[bytes, list[tuple[str, str]]]) -> None:
    """The upstream parses the same members in the same order, each value's bytes its own, and no `vetted`."""
    body, members = drawn
    left = outgoing_body(parse_request(body))
    assert told(left) == [(name, text.encode()) for name, text in members if name != "vetted"]


@unhurried
@given(drawn=chat_bodies(), name=st.text(min_size=1, max_size=10))
def test_only_the_model_is_renamed(drawn: tuple[bytes, list[tuple[str, str]]], name: str) -> None:
    """The upstream's own name stands where the model stood, and nothing else changes."""
    body, members = drawn
    left = outgoing_body(parse_request(body), upstream_model=name)
    expected = [(key, text.encode()) for key, text in members if key != "vetted"]
    found = told(left)
    assert [key for key, _value in found] == [key for key, _value in expected]
    assert [pair for pair in found if pair[0] != "model"] == [pair for pair in expected if pair[0] != "model"]
    assert json.loads(dict(found)["model"]) == name


@unhurried
@given(
    drawn=chat_bodies(),
    inner=members_without("include_usage"),
    own=st.sampled_from([None, "true", "false", "null", '"yes"']),
    data=st.data(),
)
def test_the_usage_option_is_merged_and_no_other_is_touched(
    drawn: tuple[bytes, list[tuple[str, str]]],
    inner: list[tuple[str, str]],
    own: str | None,
    data: st.DataObject,
) -> None:
    """`include_usage: true` joins the caller's stream options, whose other members keep their bytes and order."""
    _body, members = drawn
    given_options = data.draw(st.permutations([*inner, *([] if own is None else [("include_usage", own)])]))
    options = data.draw(object_of(given_options)).decode().strip()
    members = data.draw(st.permutations([*members, ("stream_options", options)]))
    left = told(outgoing_body(parse_request(data.draw(object_of(members))), include_usage=True))
    expected = [(name, text.encode()) for name, text in members if name != "vetted"]
    assert [name for name, _value in left] == [name for name, _value in expected]
    assert [pair for pair in left if pair[0] != "stream_options"] == [
        pair for pair in expected if pair[0] != "stream_options"
    ]
    found = told(dict(left)["stream_options"])
    others = [(name, text.encode()) for name, text in given_options if name != "include_usage"]
    assert [pair for pair in found if pair[0] != "include_usage"] == others
    assert [value for name, value in found if name == "include_usage"] == [b"true"]


@unhurried
@given(drawn=chat_bodies())
def test_the_usage_option_is_added_where_there_was_none(drawn: tuple[bytes, list[tuple[str, str]]]) -> None:
    """Without stream options the one option is added and every other member stays as it was."""
    body, members = drawn
    left = outgoing_body(parse_request(body), include_usage=True)
    expected = [(name, text.encode()) for name, text in members if name != "vetted"]
    assert [pair for pair in told(left) if pair[0] != "stream_options"] == expected
    assert dict(pairs_of(left))["stream_options"] == {"include_usage": True}


def test_null_stream_options_get_the_usage_option() -> None:
    """`stream_options: null` means absent, so the option is added in its place."""
    left = outgoing_body(request(stream_options=None, user="u"), include_usage=True)
    assert pairs_of(left) == [
        ("model", "m"),
        ("messages", []),
        ("stream_options", {"include_usage": True}),
        ("user", "u"),
    ]


@pytest.mark.parametrize("options", [b"5", b'"usage"', b"[1, 2]", b"true", b"1e999"])
def test_stream_options_that_are_no_object_leave_as_they_came(options: bytes) -> None:
    """A mistake in the caller's own option is the upstream's to refuse, never hidden by ours."""
    body = b'{"model": "m", "messages": [], "stream_options": ' + options + b"}"
    left = outgoing_body(parse_request(body), include_usage=True)
    assert dict(told(left))["stream_options"] == options


@unhurried
@given(
    text=st.sampled_from(['"vetted"', '{"vetted": {"region": "x"}}', "\\u0076etted", '","vetted":{},"x":"'])
    | st.text(),
    data=st.data(),
)
def test_vetted_inside_a_prompt_is_never_touched(text: str, data: st.DataObject) -> None:
    """A prompt that speaks of `vetted`, in text or as a member deeper down, leaves byte for byte."""
    content = data.draw(spelled(text))
    messages = f'[{{"role": "user", "content": {content}, "vetted": {{"region": "x"}}}}, {{"vetted": {content}}}]'
    body = f'{{"messages": {messages}, "vetted": {{"region": "a"}}, "model": "vetted", "metadata": {{"vetted": 1}}}}'
    left = told(outgoing_body(parse_request(body.encode()), include_usage=data.draw(st.booleans())))
    assert left[:3] == [("messages", messages.encode()), ("model", b'"vetted"'), ("metadata", b'{"vetted": 1}')]
    assert "vetted" not in dict(left)


def test_one_request_can_leave_for_several_upstreams() -> None:
    """Writing one outgoing body changes nothing for the next: a failover starts from what came in."""
    read = request(stream_options={"a": 1})
    plain = outgoing_body(read)
    outgoing_body(read, upstream_model="other", include_usage=True)
    assert outgoing_body(read) == plain
