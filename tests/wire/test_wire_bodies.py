"""Bodies: too large, too slow, encoded, nested without end, saying things twice. None that is wrong reaches an upstream."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import HELLO, MODEL, proxied
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames
from wire.clients import (
    COMPLETIONS,
    PARIS,
    STOCKHOLM,
    at_the_wire,
    chat,
    error_row,
    raw_connection,
    request_head,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from wire.conftest import Gate

pytestmark = pytest.mark.anyio

MIB = 1_048_576
TOO_LARGE = (413, "validation_error", "body_too_large", None)
NOT_JSON = (400, "validation_error", "invalid_json", None)
JSON_TYPE = {"content-type": "application/json"}


def encoded(**members: Any) -> bytes:
    return json.dumps(chat(**members)).encode()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


# ---- size


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "chunked"])
async def test_a_body_of_one_byte_over_16_mib_is_a_413(*, declared: bool) -> None:
    """The shipped limit is 16 MiB to the byte, whether the length is declared or the body comes in chunks."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b" " * MIB
        yield b" "

    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}) as client:
        content: Any = b" " * (16 * MIB + 1) if declared else parts()
        answer = await client.post(COMPLETIONS, content=content, headers=JSON_TYPE)
    assert error_row(answer) == TOO_LARGE
    assert paris.requests == []


async def test_a_body_of_exactly_the_limit_passes() -> None:
    """The limit itself is allowed; the upstream gets every byte of the prompt."""
    filler = "x" * (65_536 - len(encoded(user="")))
    body = encoded(user=filler)
    assert len(body) == 65_536
    async with (
        FakeUpstream() as paris,
        at_the_wire({PARIS: paris.base_url}, limits={"max_body_bytes": 65_536}) as client,
    ):
        answer = await client.post(COMPLETIONS, content=body, headers=JSON_TYPE)
    assert answer.status_code == 200
    assert paris.requests[0].json()["user"] == filler


@pytest.mark.parametrize("framing", ["content-length: 1000000000", "transfer-encoding: chunked"])
async def test_a_body_without_end_is_answered_and_then_no_longer_read(gate: Gate, framing: str) -> None:
    """Reading stops: an upload that goes on after its 413 is cut off, long before what it announced has come."""
    part = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if "chunked" in framing else b"x" * 65_536
    async with raw_connection(gate.client) as connection:
        await connection.send(request_head(framing), part, part)
        answer = await connection.answer()
        sent = await connection.send_until_refused(part, times=8000)
    assert error_row(answer) == TOO_LARGE
    assert answer.header("connection") == "close"
    assert sent < 1600
    assert gate.upstream.requests == []


async def test_a_slow_body_is_a_408_and_the_connection_ends() -> None:
    """A body that stops half-way is answered after `body_read_seconds`; the server does not wait for the rest."""
    limits = {"body_read_seconds": 0.2}
    async with (
        FakeUpstream() as paris,
        at_the_wire({PARIS: paris.base_url}, limits=limits) as client,
        raw_connection(client) as connection,
    ):
        await connection.send(request_head("content-length: 1000"), b'{"model":')
        answer = await connection.answer()
        assert await connection.rest() == b""
    assert error_row(answer) == (408, "validation_error", "body_too_slow", None)
    assert answer.header("connection") == "close"
    assert paris.requests == []


async def test_a_caller_that_leaves_in_the_middle_of_its_body_harms_nobody(gate: Gate) -> None:
    """Half a body and a closed connection reach no upstream, and the next caller is served as ever."""
    async with raw_connection(gate.client) as connection:
        await connection.send(request_head("content-length: 1000"), b'{"model":')
    answer = await gate.client.post(COMPLETIONS, json=chat(vetted={"region": "nowhere"}))
    assert answer.status_code == 400
    assert gate.upstream.requests == []


# ---- content-encoding


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip,identity", "nonsense"])
async def test_an_encoding_we_do_not_undo_is_a_415(gate: Gate, encoding: str) -> None:
    """An unknown or stacked content-encoding is refused and never forwarded blind."""
    headers = JSON_TYPE | {"content-encoding": encoding}
    answer = await gate.client.post(COMPLETIONS, content=encoded(), headers=headers)
    assert error_row(answer) == (415, "validation_error", "unsupported_encoding", None)
    assert gate.upstream.requests == []


@pytest.mark.parametrize("size", [1, 7, 65_536])
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("GZip", gzip.compress, id="upper case"),
        pytest.param("x-gzip", gzip.compress, id="x-gzip"),
        pytest.param("deflate", zlib.compress, id="deflate with zlib's wrapper"),
        pytest.param("deflate", raw_deflate, id="deflate without"),
        pytest.param("identity", bytes, id="identity"),
    ],
)
async def test_an_encoded_body_is_decoded_however_it_is_split(
    encoding: str, pack: Callable[[bytes], bytes], size: int
) -> None:
    """gzip and deflate reach the upstream as plain JSON without `content-encoding`, in pieces of any size."""
    sent = pack(encoded())
    parts = [sent[start : start + size] for start in range(0, len(sent), size)]
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        exchange = await asgi_exchange(app, body=parts, headers=[("content-encoding", encoding)])
    assert exchange.status == 200
    (request,) = paris.requests
    assert (request.json()["model"], request.json()["messages"]) == (MODEL, HELLO)
    assert request.header("content-encoding") is None


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", gzip.compress(encoded())[:-9], id="cut gzip"),
        pytest.param("gzip", encoded(), id="no gzip at all"),
        pytest.param("deflate", zlib.compress(encoded())[:-5], id="cut deflate"),
        pytest.param("deflate", b"\xff" * 64, id="no deflate at all"),
    ],
)
async def test_a_body_that_is_not_in_its_encoding_is_a_400(gate: Gate, encoding: str, body: bytes) -> None:
    """Bytes that the named encoding cannot have made are the caller's fault and go no further."""
    answer = await gate.client.post(COMPLETIONS, content=body, headers=JSON_TYPE | {"content-encoding": encoding})
    assert error_row(answer) == (400, "validation_error", "invalid_request", None)
    assert gate.upstream.requests == []


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate], ids=["gzip", "zlib", "raw"])
async def test_a_small_body_that_grows_huge_is_a_413(gate: Gate, pack: Callable[[bytes], bytes]) -> None:
    """The limit holds for what a body decodes to; a bomb of 16 MiB in 16 KiB is stopped at 64 KiB."""
    bomb = pack(b" " * (16 * MIB))
    assert len(bomb) < 65_536
    encoding = "gzip" if pack is gzip.compress else "deflate"
    answer = await gate.client.post(COMPLETIONS, content=bomb, headers=JSON_TYPE | {"content-encoding": encoding})
    assert error_row(answer) == TOO_LARGE
    assert gate.upstream.requests == []


# ---- what is no JSON object


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"   ", id="blanks"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[1]", id="list"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"{}{}", id="two objects"),
        pytest.param(encoded() + b"x", id="something after it"),
        pytest.param(encoded()[:-1], id="cut"),
        pytest.param(encoded().replace(b'"', b"'"), id="single quotes"),
        pytest.param(b'{"model":"m","messages":[],"n":NaN}', id="NaN"),
        pytest.param(b'{"model":"m","messages":[],}', id="trailing comma"),
        pytest.param(b'{"model":"m",/**/"messages":[]}', id="comment"),
        pytest.param(b'{"model":"m","messages":[]}\0', id="NUL after it"),
        pytest.param(b'{"model":"m","mess\0ages":[]}', id="NUL in a name"),
        pytest.param(b"\xef\xbb\xbf" + encoded(), id="byte order mark"),
        pytest.param(encoded().decode().encode("utf-16"), id="UTF-16"),
    ],
)
async def test_what_is_not_one_json_object_is_invalid_json(gate: Gate, body: bytes) -> None:
    """Anything but one whole JSON object in UTF-8 is refused as such."""
    answer = await gate.client.post(COMPLETIONS, content=body, headers=JSON_TYPE)
    assert error_row(answer) == NOT_JSON
    assert gate.upstream.requests == []


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"])
@pytest.mark.parametrize(
    "template",
    [
        b'{"model":"m%s","messages":[]}',
        b'{"model":"m","messages":[{"role":"user","content":"%s"}]}',
        b'{"model":"m","messages":[],"user%s":1}',
        b'{"model":"m","messages":[],"metadata":{"%s":"x"}}',
        b'{"model":"m","messages":[],"vetted":{"region":"%s"}}',
    ],
)
async def test_invalid_utf8_anywhere_is_invalid_json(gate: Gate, template: bytes, bad: bytes) -> None:
    """Bytes that are not UTF-8, overlong forms and surrogates included, are refused wherever they stand."""
    answer = await gate.client.post(COMPLETIONS, content=template % bad, headers=JSON_TYPE)
    assert error_row(answer) == NOT_JSON
    assert gate.upstream.requests == []


DEEP = 100_000


@pytest.mark.parametrize(
    "nested",
    [
        pytest.param("[" * DEEP + "]" * DEEP, id="lists"),
        pytest.param('{"a":' * DEEP + "1" + "}" * DEEP, id="objects"),
        pytest.param("[" * DEEP, id="never closed"),
    ],
)
@pytest.mark.parametrize("name", ["", "messages", "metadata", "vetted", "model", "stream_options", "n"])
async def test_a_hundred_thousand_levels_are_refused(name: str, nested: str) -> None:
    """JSON nested 10^5 deep is a 400 wherever it stands, and the gateway goes on."""
    others = "".join(f',"{key}":{json.dumps(value)}' for key, value in chat().items() if key != name)
    body = f'{{"{name}":{nested}{others}}}' if name else nested
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        exchange = await asgi_exchange(app, body=body.encode())
        after = await asgi_exchange(app, json=chat())
    assert exchange.status == 400
    assert exchange.json()["error"]["code"] == "invalid_json"
    assert after.status == 200
    assert len(paris.requests) == 1


async def test_no_depth_of_nesting_is_a_fault_of_ours() -> None:
    """Around the depth at which readers give up, every body is either served or refused, never a 500."""
    seen = set()
    async with FakeUpstream(usage=None) as paris, proxied({PARIS: paris.base_url}) as app:
        for depth in range(40, 1100, 20):
            nested = "[" * depth + "]" * depth
            for template in ('{{"model":"m","messages":{}}}', '{{"model":"m","messages":[],"vetted":{{"tier":{}}}}}'):
                seen.add((await asgi_exchange(app, body=template.format(nested).encode())).status)
    assert seen == {200, 400}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_prompt_that_we_cannot_read_costs_nobody_the_answer(*, stream: bool) -> None:
    """A number no reader of ours takes is the upstream's business: the answer comes even where tokens are estimated."""
    messages = b'[{"role":"user","content":[1e999]}]'
    body = b'{"model":"m","messages":%s,"stream":%s}' % (messages, b"true" if stream else b"false")
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        answer = FakeAnswer.stream(chat_frames(usage=None)) if stream else FakeAnswer.json(chat_completion(usage=None))
        paris.then(answer)
        exchange = await asgi_exchange(app, body=body)
    assert exchange.status == 200
    assert exchange.complete
    assert messages in paris.requests[0].body
    assert b'"routing_trace":' in exchange.body
    assert b'"error"' not in exchange.body


# ---- a thing said twice


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"model":"a","messages":[],"model":"b"}', id="model"),
        pytest.param(b'{"model":"a","messages":[],"model":"a"}', id="equal values"),
        pytest.param(b'{"model":"a","messages":[],"\\u006dodel":"b"}', id="escaped"),
        pytest.param(b'{"model":"a","messages":[],"vetted":{},"\\u0076etted":{"region":"x"}}', id="vetted, escaped"),
        pytest.param(b'{"\\u0076etted":{},"model":"a","messages":[],"vetted":null}', id="vetted, escaped first"),
        pytest.param(b'{"model":"a","messages":[],"x":1,"y":{"x":1},"x":1}', id="a member we do not know"),
        pytest.param(b'{"model":"a","messages":[],"a\\/b":1,"a/b":1}', id="an escaped slash"),
        pytest.param(b'{"":1,"model":"a","messages":[],"":1}', id="the empty name"),
    ],
)
async def test_a_top_level_member_that_stands_twice_is_refused(gate: Gate, body: bytes) -> None:
    """Two readers could see two requests in one body, so one that says a thing twice goes nowhere."""
    answer = await gate.client.post(COMPLETIONS, content=body, headers=JSON_TYPE)
    assert error_row(answer) == NOT_JSON
    assert gate.upstream.requests == []


@pytest.mark.parametrize(
    "vetted", [b'{"region":"a","region":"b"}', b'{"region":"a","\\u0072egion":"b"}', b"[]", b'"eu"', b"1", b"true"]
)
async def test_a_vetted_member_that_is_no_unique_object_is_refused(gate: Gate, vetted: bytes) -> None:
    """Options that say a thing twice, or are no object, could be read as no pin: they are refused."""
    body = b'{"model":"m","messages":[],"vetted":' + vetted + b"}"
    answer = await gate.client.post(COMPLETIONS, content=body, headers=JSON_TYPE)
    assert error_row(answer) == (400, "validation_error", "invalid_option", "vetted")
    assert gate.upstream.requests == []


async def test_an_escaped_vetted_is_vetted() -> None:
    """`"\\u0076etted"` is the option member: it pins, and does not leave."""
    body = b'{"model":"m","messages":[],"\\u0076etted":{"\\u0072egion":"' + STOCKHOLM.encode() + b'"}}'
    async with (
        FakeUpstream() as paris,
        FakeUpstream() as stockholm,
        proxied({PARIS: paris.base_url, STOCKHOLM: stockholm.base_url}) as app,
    ):
        exchange = await asgi_exchange(app, body=body)
    assert exchange.headers["x-vetted-region"] == STOCKHOLM
    assert stockholm.requests[0].body == b'{"model":"m","messages":[]}'
    assert paris.requests == []


# ---- options


@pytest.mark.parametrize(
    ("vetted", "code", "param"),
    [
        pytest.param({"Region": PARIS}, "invalid_option", "vetted", id="upper case name"),
        pytest.param({"region ": PARIS}, "invalid_option", "vetted", id="blank in the name"),
        pytest.param({"": PARIS}, "invalid_option", "vetted", id="empty name"),
        pytest.param({"region": ""}, "invalid_option", "vetted.region", id="empty string"),
        pytest.param({"region": [PARIS]}, "invalid_option", "vetted.region", id="list"),
        pytest.param({"region": True}, "invalid_option", "vetted.region", id="boolean"),
        pytest.param({"region": PARIS.upper()}, "invalid_region", "vetted.region", id="upper case code"),
        pytest.param({"region": f" {PARIS}"}, "invalid_region", "vetted.region", id="blank before the code"),
        pytest.param(
            {"region": PARIS, "secondary_region": "mars"},
            "invalid_region",
            "vetted.secondary_region",
            id="unknown secondary",
        ),
        pytest.param(
            {"region": PARIS, "secondary_region": PARIS},
            "conflicting_options",
            "vetted.secondary_region",
            id="secondary is the region",
        ),
        pytest.param({"routing": "green"}, "invalid_option", "vetted.routing", id="unknown routing"),
        pytest.param({"latency_budget_ms": 0}, "invalid_option", "vetted.latency_budget_ms", id="no budget"),
        pytest.param({"latency_budget_ms": -1}, "invalid_option", "vetted.latency_budget_ms", id="negative"),
        pytest.param({"latency_budget_ms": 1.5}, "invalid_option", "vetted.latency_budget_ms", id="fraction"),
        pytest.param({"latency_budget_ms": True}, "invalid_option", "vetted.latency_budget_ms", id="true"),
        pytest.param({"latency_budget_ms": 10**400}, "invalid_option", "vetted.latency_budget_ms", id="huge"),
        pytest.param({"tier": "gold"}, "invalid_option", "vetted.tier", id="unknown tier"),
        pytest.param({"boundary": 1}, "invalid_option", "vetted.boundary", id="boundary of a wrong type"),
    ],
)
async def test_an_option_that_is_wrong_is_named_and_never_ignored(
    gate: Gate, vetted: dict[str, Any], code: str, param: str
) -> None:
    """A typo never becomes "no pin": each wrong option is a 400 that names its parameter."""
    answer = await gate.client.post(COMPLETIONS, json=chat(vetted=vetted))
    assert error_row(answer) == (400, "validation_error", code, param)
    assert gate.upstream.requests == []


@pytest.mark.parametrize("value", [b'"\\ud800"', b"1e999", b"-1e999", b'"\\udfff\\ud800"', b"9" * 5000])
@pytest.mark.parametrize("name", ["region", "latency_budget_ms", "tier"])
async def test_an_option_that_no_reader_can_take_is_a_400(gate: Gate, name: str, value: bytes) -> None:
    """Lone surrogates and numbers out of range inside `vetted` are refused, not a fault of ours."""
    body = b'{"model":"m","messages":[],"vetted":{"%s":%s}}' % (name.encode(), value)
    answer = await gate.client.post(COMPLETIONS, content=body, headers=JSON_TYPE)
    assert answer.status_code == 400
    assert gate.upstream.requests == []


@pytest.mark.parametrize("vetted", [None, {}, {"region": None, "routing": None, "latency_budget_ms": None}])
async def test_null_means_absent(vetted: Any) -> None:
    """`null` for `vetted` or for a member is as if it were not there."""
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        exchange = await asgi_exchange(app, json=chat(vetted=vetted))
    assert exchange.headers["x-vetted-decision-reason"] == "preferred_available"
    assert "vetted" not in paris.requests[0].json()


# ---- whatever comes


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
async def test_no_body_at_all_is_a_fault_of_ours(body: bytes) -> None:
    """Arbitrary bytes are answered with a 4xx in our envelope."""
    async with proxied({PARIS: "http://127.0.0.1:9/v1"}) as app:
        exchange = await asgi_exchange(app, body=body)
    assert exchange.status == 400
    assert exchange.json()["error"]["code"] in {"invalid_json", "invalid_request"}


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["model", "messages", "stream", "stream_options", "n", "vetted", "max_tokens", "temperature"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.dictionaries(NAMES, ODD, max_size=4))
async def test_odd_members_are_served_or_refused_but_never_a_fault_of_ours(members: dict[str, Any]) -> None:
    """Any JSON in any member we read gives an answer or a 4xx; an upstream's absence is the only 5xx."""
    async with proxied({PARIS: {"base_url": "http://127.0.0.1:9/v1", "drained": True}}) as app:
        exchange = await asgi_exchange(app, json=chat(**members))
    assert exchange.status in {400, 503}
    assert exchange.json()["error"]["code"] != "internal_error"
