"""Made-up requests, answers and streams of chat completions, and words that may stand where a value stands.

The first byte of an input for `frames`, `stream` and `encoding` says how the rest is cut and read.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import TYPE_CHECKING

from targets import Notation, words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BYTES", "JSON", "SEEDS", "SSE", "WAIT"]

_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"\s*:|("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|\b(?:null|true|false)\b)')
_NAMES = (
    *("model", "messages", "stream", "stream_options", "include_usage", "n", "vetted", "extra_body", "region"),
    *("choices", "index", "delta", "message", "content", "tool_calls", "finish_reason", "usage", "error", "object"),
    *("prompt_tokens", "completion_tokens", "receipt", "routing_trace", "detail", "msg", "loc", "id", "created"),
)
_SPELLED = (r'"\u0076etted"', r'"vette\u0064"', '"Vetted"', r'"\u0072eceipt"', r'"mo\u0064el"', r'"\ud800"', '"a\\"b"')
_VALUES = (
    *("null", "true", "false", "0", "-1", "1.0", "1e999", "9" * 4400, "9" * 30, "[]", "{}", '""', "[[]]", "[null]"),
    *("[" * 2000, '{"a":' * 2000, '"' + "x" * 5000 + '"', '{"a":1,"a":2}', '[{"index":1},{"index":-7}]'),
)

JSON = Notation(
    value=_VALUE,
    words=(
        *words_of(*(f'"{name}"' for name in _NAMES), *(f',"{name}":' for name in _NAMES), *_SPELLED, *_VALUES),
        *(b"\xff", b"\xed\xa0\x80", b"\x00", b"\xef\xbb\xbf", b"\\u", b" \t\r\n"),
    ),
)
SSE = Notation(
    value=_VALUE,
    words=JSON.words
    + words_of("data: ", "data:", "data", "event: error\n", "id: 1\n", "retry: 1\n", ": ping\n\n", "[DONE]", "\n\n")
    + words_of("data: [DONE]\n\n", "\r\n\r\n", "\r\r", "\r", "\ndata: ", '"finish_reason":"stop"', '"usage":{"a":1}'),
)
BYTES = Notation(
    value=re.compile(rb"(\x00\x00\xff\xff)"), words=(b"\x1f\x8b\x08\x00", b"\x78\x9c", b"\x00\x00\xff\xff", b"\x03\x00")
)
WAIT = Notation(
    value=re.compile(rb"(\d+|[A-Z][a-z]+|[+-]\d+)"),
    words=words_of("0", "-1", "1e3", "9" * 400, "inf", "nan", "Sun", "Sunday", "Nov", "GMT", "-0000", "+2400", "EST")
    + words_of(", ", ":", "-99999999999", "0001", "9999", "99", "1_0", "."),
)


def _json(*told: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(one, separators=(",", ":")).encode() for one in told)


_HELLO = [{"role": "user", "content": "Grüezi 😀"}]
_PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]}
]
_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
_USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
_OPTIONS = {"region": "scaleway-par-1", "secondary_region": "ovh-gra-1", "latency_budget_ms": 100, "tier": "auto"}
_REQUESTS = (
    *_json(
        {"model": "m", "messages": _HELLO},
        {"model": "m", "messages": _PARTS, "stream": True, "stream_options": {"include_usage": False, "a": 1}, "n": 2},
        {"messages": [{"role": "assistant", "tool_calls": [_CALL]}], "model": "m", "vetted": _OPTIONS, "max_tokens": 7},
        {"model": "m", "messages": [], "extra_body": {"a": 1}, "temperature": 0.5, "top_p": 1, "vetted": None},
    ),
    b'{"model":"m","messages":[],"\\u0076etted":{"\\u0072egion":"ovh-gra-1"},"seed":1e2}',
    b' {\t"model" : "m" ,\r\n"messages":[ 1e999 ] } ',
)


def _answers() -> tuple[bytes, ...]:
    message = {"role": "assistant", "content": "Hi", "reasoning": None, "tool_calls": [_CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": [{"bytes": [1]}]}}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return (
        *_json(
            head | {"choices": [choice, choice | {"index": 1}], "usage": _USAGE},
            head | {"choices": [choice], "receipt": {"a": 1}, "routing_trace": 1},
            {"choices": []},
            {"error": {"message": "m"}},
        ),
        b'{ "choices" : [ {"message":{"content":"\\ud800"}} ] , "receipt":1, "\\u0072eceipt":2 } ',
        b"{}",
    )


def _errors() -> tuple[bytes, ...]:
    told = {"message": "m", "type": "t", "code": 400, "param": "p"}
    entry = {"loc": ["body", "messages", 0], "msg": "Field required", "type": "missing"}
    return (*_json({"error": told}, told, {"detail": [entry, entry]}, {"error": "overloaded"}, [told]), b"Bad Gateway")


def _frame(data: object, end: str = "\n") -> bytes:
    return f"data: {json.dumps(data, separators=(',', ':'))}{end}{end}".encode()


def _streams() -> tuple[bytes, ...]:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def delta(reason: str | None = None, index: int = 0, **members: object) -> dict[str, object]:
        return head | {"choices": [{"index": index, "delta": members, "finish_reason": reason}]}

    role, text, finish, done = delta(role="assistant"), delta(content="Hi"), delta("stop"), b"data: [DONE]\n\n"
    usage = head | {"choices": [], "usage": _USAGE}
    plain = b"".join(map(_frame, (role, text, finish, usage)))
    both = [delta(content="a"), delta(index=1, tool_calls=[_CALL]), delta("stop"), delta("length", 1)]
    crlf = b"".join(_frame(one, "\r\n") for one in (text, finish | {"usage": _USAGE}))
    odd = b'data:{"choices":[{"index":0.0,"delta":{"content":"x"}}],\ndata: "id":5}\n\nid: 1\nretry: 2\n: c\n\n'
    bodies = (
        plain + done,
        plain,
        b"".join(map(_frame, both)) + done,
        b"\xef\xbb\xbf" + crlf + b": ping\r\n\r\ndata: [DONE]\r\n\r\n",
        odd + _frame(finish | {"receipt": 1}) + done,
        _frame(text) + b"event: error\n" + _frame({"error": {"message": "m"}}),
        _frame(text) + b"data: <html>\n\n",
        b"".join(_frame(one, "\r") for one in (text, finish)),
    )
    return tuple(bytes([number * 37 % 256]) + body for number, body in enumerate(bodies))


def _encoded() -> tuple[bytes, ...]:
    raw = zlib.compressobj(wbits=-15)
    packed = (gzip.compress(b"data: a\n\n" * 9), zlib.compress(bytes(3000)), raw.compress(b"abc" * 99) + raw.flush())
    return tuple(bytes([number * 4 + kind]) + body for number, body in enumerate(packed) for kind in range(4))


SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "request": _REQUESTS,
    "answer": _answers(),
    "error": _errors(),
    "frames": _streams(),
    "stream": _streams(),
    "encoding": _encoded(),
    "retry_after": words_of(
        "120", "0.5", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"
    ),
}
"""Target -> inputs of every shape it knows."""
