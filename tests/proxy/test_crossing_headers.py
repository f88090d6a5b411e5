"""Which headers cross the gateway: an allow-list out, everything but a deny-list back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.configuration import Auth, Upstream
from vetted_mw.proxy.headers import OURS, header_value, heard, outgoing_headers, returning_headers
from vetted_mw.secret import Secret

if TYPE_CHECKING:
    from vetted_mw.proxy.headers import Headers

KEY = "sk-of-the-region"
ALWAYS: Headers = [(b"content-type", b"application/json"), (b"accept-encoding", b"identity")]
unhurried = settings(max_examples=100, deadline=None)


def _upstream(auth: Literal["region", "passthrough", "none"], *, key: bool) -> Upstream:
    secret = Secret(KEY) if key else None
    return Upstream(region="r", base_url="https://model.example/v1", auth=Auth(auth), api_key=secret)


def _out(inbound: Headers, *, forward: frozenset[bytes] = frozenset(), trace: Headers | None = None) -> Headers:
    upstream = _upstream("region", key=False)
    return outgoing_headers(inbound, upstream=upstream, forward=forward, trace=trace or [])


@pytest.mark.parametrize(
    "name",
    [
        b"accept",
        b"user-agent",
        b"x-request-id",
        b"idempotency-key",
        b"openai-organization",
        b"openai-project",
        b"openai-beta",
    ],
)
def test_a_listed_header_leaves_as_it_came(name: bytes) -> None:
    """What the contract lists passes, value and all."""
    assert _out([(name, b"value")]) == [(name, b"value"), *ALWAYS]


@pytest.mark.parametrize(
    "name",
    [
        b"cookie",
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"expect",
        b"te",
        b"upgrade",
        b"proxy-authorization",
        b"x-forwarded-for",
        b"forwarded",
        b"x-api-key",
        b"api-key",
        b"x-vetted-region",
        b"traceparent",
        b"baggage",
        b"x-stainless-lang",
        b"x-openai-like",
        b"accept-language",
    ],
)
def test_any_other_header_stays(name: bytes) -> None:
    """What is not listed does not leave, whatever it is."""
    assert _out([(name, b"value")]) == ALWAYS


def test_an_operator_can_let_more_pass() -> None:
    """`forward_headers` adds names to the list, once each."""
    inbound = [(b"x-tenant", b"a"), (b"x-other", b"b"), (b"user-agent", b"c")]
    forward = frozenset({b"x-tenant", b"user-agent"})
    assert _out(inbound, forward=forward) == [(b"x-tenant", b"a"), (b"user-agent", b"c"), *ALWAYS]


def test_the_encoding_is_always_identity_and_the_type_always_json() -> None:
    """What the caller's client accepts encoded, and what it calls its body, is not the upstream's business."""
    inbound = [(b"accept-encoding", b"gzip, zstd"), (b"content-type", b"application/x-www-form-urlencoded")]
    assert _out(inbound) == ALWAYS


def test_trace_context_leaves_as_it_was_made() -> None:
    """The attempt's own context goes out, the caller's does not."""
    made = [(b"traceparent", b"00-ours")]
    assert _out([(b"traceparent", b"00-theirs")], trace=made) == [*ALWAYS, *made]


@pytest.mark.parametrize(
    ("auth", "key", "callers", "expected"),
    [
        ("region", True, b"Bearer sk-callers", f"Bearer {KEY}".encode()),
        ("region", True, None, f"Bearer {KEY}".encode()),
        ("region", False, b"Bearer sk-callers", None),
        ("none", False, b"Bearer sk-callers", None),
        ("passthrough", False, b"Bearer sk-callers", b"Bearer sk-callers"),
        ("passthrough", False, b" Basic dTpw ", b"Basic dTpw"),
        ("passthrough", False, None, None),
        ("passthrough", False, b"Bearer a\r\nx-injected: b", None),
    ],
)
def test_the_callers_key_leaves_only_where_it_is_passed_through(
    auth: Literal["region", "passthrough", "none"], key: bool, callers: bytes | None, expected: bytes | None
) -> None:
    """A region's own key replaces the caller's; a region without one gets none."""
    inbound = [] if callers is None else [(b"authorization", callers)]
    sent = outgoing_headers(inbound, upstream=_upstream(auth, key=key), forward=frozenset())
    assert header_value(sent, b"authorization") == expected
    assert sum(name == b"authorization" for name, _value in sent) == (expected is not None)


@unhurried
@given(value=st.binary(max_size=20), name=st.sampled_from([b"user-agent", b"openai-x", b"x-request-id"]))
def test_no_value_that_leaves_holds_a_control_character_or_outer_blank(name: bytes, value: bytes) -> None:
    """A value HTTP has no form for stays here: it would fail every attempt as if each upstream had."""
    sent = [value for key, value in _out([(name, value)]) if key == name]
    is_clean = not any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in value)
    assert sent == ([value.strip(b" \t")] if is_clean else [])


@pytest.mark.parametrize("name", [b"openai-a b", b"openai-a:b", b"openai-\r\nx", b"openai-\xe9"])
def test_no_name_leaves_that_is_none(name: bytes) -> None:
    """The open end of `openai-*` lets names pass, not requests within requests."""
    assert _out([(name, b"value")]) == ALWAYS


# ---- back


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Content-Length",
        b"Content-Encoding",
        b"Set-Cookie",
        b"Alt-Svc",
        b"Server",
        b"X-Vetted-Region",
        b"x-vetted-anything",
    ],
)
def test_what_must_not_come_back_does_not(name: bytes) -> None:
    """Hop-by-hop headers, those about bytes we change, cookies, and words that only we may say."""
    assert returning_headers([(name, b"value"), (b"X-Kept", b"1")]) == [(b"x-kept", b"1")]


def test_whatever_connection_names_stays_behind() -> None:
    """Every token of every `Connection` header is hop-by-hop too, in any case and spacing."""
    received = [
        (b"Connection", b"close, X-Hop"),
        (b"connection", b"x-other ,x-third"),
        (b"x-hop", b"1"),
        (b"X-Other", b"2"),
        (b"x-third", b"3"),
        (b"x-end", b"4"),
    ]
    assert returning_headers(received) == [(b"x-end", b"4")]


@pytest.mark.parametrize(
    "name",
    [
        b"content-type",
        b"x-request-id",
        b"openai-processing-ms",
        b"x-ratelimit-remaining-tokens",
        b"retry-after",
        b"vary",
    ],
)
def test_everything_else_comes_back(name: bytes) -> None:
    """What the contract does not name passes, in its order and as often as it stands."""
    received = [(name.title(), b"a"), (name, b"b")]
    assert returning_headers(received) == [(name, b"a"), (name, b"b")]


def test_the_first_value_of_a_header_counts_whatever_its_case() -> None:
    """A name is looked for in lower case; absent is None, not empty."""
    headers = [(b"Retry-After", b"1"), (b"retry-after", b"2"), (b"empty", b"")]
    assert header_value(headers, b"retry-after") == b"1"
    assert header_value(headers, b"empty") == b""
    assert header_value(headers, b"absent") is None


# ---- heard

_LOOKED_UP = [
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"origin",
    b"traceparent",
    b"transfer-encoding",
]
_NAMES = st.sampled_from([*_LOOKED_UP, b"Origin", b"Content-Type", b"x-other", b"host", b"openai-x", b"x-request-id"])
_HEADERS = st.lists(st.tuples(_NAMES, st.binary(max_size=3)))


@unhurried
@given(_HEADERS)
def test_all_first_values_at_once_are_those_looked_up_one_by_one(headers: list[tuple[bytes, bytes]]) -> None:
    """However names are written and repeated, both ways to look one up agree."""
    _picked, named = heard(headers)
    assert {name: named.get(name) for name in _LOOKED_UP} == {name: header_value(headers, name) for name in _LOOKED_UP}


@unhurried
@given(_HEADERS, st.sampled_from(["region", "passthrough"]))
def test_what_leaves_of_all_headers_leaves_of_those_that_are_heard(
    headers: list[tuple[bytes, bytes]], auth: Literal["region", "passthrough"]
) -> None:
    """Nothing that leaves is lost with the headers that mean nothing here."""
    upstream = _upstream(auth, key=auth == "region")
    of_all, of_heard = (
        outgoing_headers(some, upstream=upstream, forward=frozenset()) for some in (headers, heard(headers)[0])
    )
    assert of_heard == of_all


@pytest.mark.parametrize("name", [b"x-vetted-region", b"x_vetted_region", b"X-Vetted-Anything", b"vetted-region"])
def test_every_header_that_may_be_meant_for_us_is_heard(name: bytes) -> None:
    """An option under a name that is none of ours is refused, so it has to be seen."""
    headers = [(b"host", b"h"), (name, b"value")]
    assert heard(headers) == ([(name, b"value")], {OURS: b"value"})


def test_what_is_heard_is_judged_alike_however_many_names_were_seen() -> None:
    """A caller that sends ever new names, or long ones, fills no memory and changes no verdict on the known ones."""
    known = [(b"Origin", b"a"), (b"x-other", b"b"), (b"openai-x", b"c"), (b"x-vetted-region", b"d")]
    before = heard(known)
    for number in range(2000):
        heard([(b"x-new-%d" % number, b"1"), (b"x-long-%d" % number * 50, b"1")])
    assert heard(known) == before == ([pair for pair in known if pair[0] != b"x-other"], before[1])


# ---- judged once


def test_what_may_return_is_judged_alike_however_many_names_were_seen() -> None:
    """An upstream that sends ever new names fills no memory and changes no verdict on the known ones."""
    known = [(b"Set-Cookie", b"a=b"), (b"X-Kept", b"1"), (b"x-vetted-region", b"spoofed"), (b"bad name", b"1")]
    before = returning_headers(known)
    for number in range(2000):
        returning_headers([(b"x-new-%d" % number, b"1")])
    assert returning_headers(known) == before == [(b"x-kept", b"1")]
