"""Opening a digest: the caller's nonce and content do, and nothing else does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.chat.response import read_answer
from vetted_mw.receipts.binding import digest_of_stream, new_nonce, nonce_text, opens, transcript_of_answer

NONCE = bytes(range(16))
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "choices": [
        {"index": 1, "message": {"role": "assistant", "content": "Nö \u2028 😀"}, "finish_reason": "length"},
        {
            "index": 0,
            "message": {
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            "finish_reason": "tool_calls",
        },
    ],
}
STREAM = (
    b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": null}]}\n\n'
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "receipt": {}}\n\n'
    b"data: [DONE]\n\n"
)
YES = [{"content": "yes", "finish_reason": "stop", "index": 0, "tool_calls": []}]
# HMAC-SHA256 of '[{"content":"yes","finish_reason":"stop","index":0,"tool_calls":[]}]' with the key 00 01 .. 0f, by
# printf '%s' TEXT | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102030405060708090a0b0c0d0e0f
YES_DIGEST = "hmac-sha-256:088744047be5c1c5de70386a7293b5e1f5dfc4d75b5b84932de43cef9e8ef21d"

MEMBERS = ["index", "message", "finish_reason", "content", "text", "tool_calls", "function_call"]
MEMBERS += ["function", "name", "arguments"]
odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)
functions = st.fixed_dictionaries(
    {}, optional={"name": st.text(max_size=3) | odd, "arguments": st.text(max_size=3) | odd}
)
calls = st.fixed_dictionaries({}, optional={"index": odd, "function": functions | odd})
messages = st.fixed_dictionaries(
    {},
    optional={
        "content": st.text(max_size=9) | odd,
        "tool_calls": st.lists(calls | odd, max_size=3) | odd,
        "function_call": functions | odd,
    },
)
choices = st.fixed_dictionaries(
    {}, optional={"index": st.integers(0, 3) | odd, "message": messages | odd, "finish_reason": odd}
)


def digest(answer: dict[str, Any], nonce: bytes = NONCE) -> str:
    """Return the digest the gateway gives an answer."""
    told = read_answer(json.dumps(answer).encode()).transcript_digest(nonce)
    assert told is not None
    return told


def test_a_nonce_is_sixteen_bytes_and_never_the_same() -> None:
    """Each nonce is fresh, and its text is base64url without padding."""
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert {len(nonce) for nonce in nonces} == {16}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", nonce_text(nonce)) for nonce in nonces)
    assert nonce_text(NONCE) == "AAECAwQFBgcICQoLDA0ODw"


def test_the_transcript_is_what_the_page_of_receipts_says() -> None:
    """Per choice by index: content, finish reason, index, and name and arguments of each call."""
    assert transcript_of_answer(ANSWER) == [
        {"content": "", "finish_reason": "tool_calls", "index": 0, "tool_calls": [["f", '{"a": 1}']]},
        {"content": "Nö \u2028 😀", "finish_reason": "length", "index": 1, "tool_calls": []},
    ]


def test_the_digest_of_the_documented_answer_is_what_openssl_gives() -> None:
    """An independent tool finds the same digest."""
    assert opens(YES_DIGEST, NONCE, YES)
    assert digest_of_stream(STREAM, NONCE) == YES_DIGEST


def test_nonce_and_content_open_the_digest() -> None:
    """The delivered answer opens it, whatever else stands in its JSON."""
    assert opens(digest(ANSWER), NONCE, transcript_of_answer(ANSWER | {"receipt": {}, "usage": None}))


@pytest.mark.parametrize("nonce", [b"", b"\x00" * 16, bytes(range(1, 17)), NONCE + b"\x00"])
def test_another_nonce_does_not_open_it(nonce: bytes) -> None:
    """Without the caller's nonce nobody can try out contents; one with a zero added is another, though HMAC pads so."""
    assert not opens(digest(ANSWER), nonce, transcript_of_answer(ANSWER))


@pytest.mark.parametrize(
    "change",
    [
        {"message": {"content": "Nö \u2028 😁"}},
        {"message": {"content": "Nö \u2028 😀 "}},
        {"finish_reason": "stop"},
        {"finish_reason": None},
        {"index": 2},
        {"message": {"content": "Nö \u2028 😀", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}},
    ],
)
def test_another_content_does_not_open_it(change: dict[str, Any]) -> None:
    """A changed character, finish reason, index or call is found."""
    changed = {"choices": [ANSWER["choices"][0] | change, ANSWER["choices"][1]]}
    assert not opens(digest(ANSWER), NONCE, transcript_of_answer(changed))


@pytest.mark.parametrize("told", ["", "sha-256:00", "hmac-sha-256:", YES_DIGEST.upper(), YES_DIGEST[:-1], "é"])
def test_a_digest_of_another_form_is_not_opened(told: str) -> None:
    """Only the one way of writing a digest is taken."""
    assert not opens(told, NONCE, YES)


def test_a_content_that_has_no_canonical_form_does_not_open_anything() -> None:
    """Half a surrogate pair, as lenient readers of JSON let it pass, is no content that was delivered."""
    assert not opens(YES_DIGEST, NONCE, [YES[0] | {"content": "\ud83d"}])


@pytest.mark.parametrize("stream", [b"", b"data: no JSON\n\n", b": ping\n\n"])
def test_a_stream_that_says_nothing_has_no_digest(stream: bytes) -> None:
    """What holds no chat chunk cannot be bound."""
    assert digest_of_stream(stream, NONCE) is None


def test_a_saved_stream_may_lack_what_follows_its_finish_chunk() -> None:
    """A client that stops reading at the finish reason has all that was bound."""
    assert digest_of_stream(STREAM.removesuffix(b"data: [DONE]\n\n"), NONCE) == YES_DIGEST


def test_a_saved_stream_counts_in_the_order_in_which_it_came() -> None:
    """Whatever follows a finish reason, of this choice or another, stands where the caller read it."""
    said = [(0, "a", "stop"), (1, "x", None), (0, "b", None), (1, "y", "stop")]
    frames = [
        json.dumps({"choices": [{"index": index, "delta": {"content": content}, "finish_reason": reason}]})
        for index, content, reason in said
    ]
    told = digest_of_stream("".join(f"data: {frame}\n\n" for frame in frames).encode(), NONCE)
    transcript = [
        {"content": content, "finish_reason": "stop", "index": index, "tool_calls": []}
        for index, content in enumerate(["ab", "xy"])
    ]
    assert told is not None
    assert opens(told, NONCE, transcript)


def test_a_stream_with_a_frame_that_is_none_has_no_digest() -> None:
    """What an auditor's file holds besides the answer is not passed over."""
    assert digest_of_stream(b"data: {\n\n" + STREAM, NONCE) is None


@settings(max_examples=300, deadline=None)
@given(found=st.lists(choices | odd, min_size=1, max_size=3))
def test_auditor_and_gateway_read_the_same_of_any_answer(found: object) -> None:
    """However odd the JSON, what the gateway bound is what an auditor's transcript opens."""
    answer: dict[str, Any] = {"choices": found}
    told = read_answer(json.dumps(answer).encode()).transcript_digest(NONCE)
    if told is not None:
        assert opens(told, NONCE, transcript_of_answer(answer))
