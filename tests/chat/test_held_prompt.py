"""A long prompt is let go of once it leaves for nobody else: what is still asked of it is remembered, its bytes are not."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vetted_mw.chat.request import ChatRequest, outgoing_body, parse_request


def a_body(text: str, **more: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


@given(st.text(max_size=50), st.integers(1, 2000))
def test_the_count_of_its_characters_stays(text: str, times: int) -> None:
    """Long or short, counted before or not: an estimate is the same with the prompt and without it."""
    body = a_body(text * times)
    read = parse_request(body)
    read.let_go_of_prompt()
    assert read.prompt_characters() == parse_request(body).prompt_characters() == len(text) * times


def test_nothing_holds_the_body_any_more() -> None:
    """Not even a small value that is kept for spans: each was read as a part of the whole."""
    body = a_body("word " * 4000, temperature=0.5)
    alone = sys.getrefcount(body)
    read = parse_request(body)
    assert sys.getrefcount(body) > alone
    read.let_go_of_prompt()
    assert sys.getrefcount(body) == alone


def test_what_spans_tell_of_a_request_is_kept() -> None:
    """Numbers and words are small."""
    read = parse_request(a_body("word " * 4000, temperature=0.5, top_p=0.25, max_tokens=7, stream=True))
    read.let_go_of_prompt()
    assert (read.temperature, read.top_p, read.max_tokens) == (0.5, 0.25, 7)


def test_a_short_prompt_is_kept() -> None:
    """It costs less than to count it: the request can still leave."""
    body = a_body("word")
    read = parse_request(body)
    read.let_go_of_prompt()
    assert outgoing_body(read) == body


def test_what_was_let_go_of_leaves_for_nobody() -> None:
    """A request cut to its numbers must never reach an upstream as if it were whole."""
    read: ChatRequest = parse_request(a_body("word " * 4000))
    read.let_go_of_prompt()
    read.let_go_of_prompt()
    with pytest.raises(RuntimeError, match="let go"):
        outgoing_body(read)
