"""Hand-made exchanges: how long an answer is, and where it ends."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from differential.exchange import ANSWERED, CLOSES, Exchange, Moment, Script, answered, in_chunks
from differential.generated import byte_by_byte
from faults.playing import Ending
from vetted_mw.testing import chat_completion, chat_frames

if TYPE_CHECKING:
    from differential.exchange import Part

__all__ = ["FRAMING"]

_CHUNKED = ANSWERED + b"transfer-encoding: chunked\r\n\r\n"
_JSON = b'{"a": 1}'


def _one(name: str, *parts: Part, ending: Ending = Ending.KEEP, **facts: object) -> Exchange:
    return Exchange(name=name, answer=Script(parts=parts, ending=ending), **facts)  # type: ignore[arg-type]


def _closing(name: str, *parts: Part, **facts: object) -> Exchange:
    return _one(name, *parts, ending=Ending.CLOSE, **facts)


def _resetting(name: str, *parts: Part, **facts: object) -> Exchange:
    return _one(name, *parts, ending=Ending.RESET, **facts)


def _with_chunks(name: str, body: bytes, *, ending: Ending = Ending.CLOSE) -> Exchange:
    return _one(f"chunked: {name}", _CHUNKED, body, ending=ending)


def _with_length(value: bytes, *, body: bytes = _JSON) -> Exchange:
    return _closing(f"content-length: {value[:40]!r}", ANSWERED + b"content-length: " + value + b"\r\n\r\n" + body)


def _with_coding(value: bytes) -> Exchange:
    return _closing(
        f"transfer-encoding: {value!r}", ANSWERED + b"transfer-encoding:" + value + b"\r\n\r\n", in_chunks(_JSON)
    )


def _framed_by(name: str, *headers: bytes, body: bytes = in_chunks(_JSON)) -> Exchange:
    lines = b"".join(header + b"\r\n" for header in headers)
    return _closing(f"framed by {name}", ANSWERED + lines + b"\r\n", body)


def _without_body(status: int, *headers: bytes, rest: bytes = b"") -> Exchange:
    lines = b"".join(header + b"\r\n" for header in headers)
    told = " and ".join(header.decode() for header in headers) or "no header"
    name = f"{status} with {told}{', and bytes behind it' if rest else ''}"
    return _one(name, b"HTTP/1.1 %d Odd\r\n%b\r\n%b" % (status, lines, rest))


_GOOD_CHUNKS = {
    "one chunk": in_chunks(_JSON),
    "a chunk for each byte": in_chunks(*[bytes([byte]) for byte in _JSON]),
    "nothing": in_chunks(),
    "upper-case hex": b"1A\r\n%b\r\n0\r\n\r\n" % (b"x" * 26),
    "leading zeros": b"0000008\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a last chunk of many zeros": b"8\r\n%b\r\n0000\r\n\r\n" % _JSON,
    "an extension": b"8;a=b\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a quoted extension": b'8;a="b c"\r\n%b\r\n0\r\n\r\n' % _JSON,
    "an extension without a value": b"8;a\r\n%b\r\n0\r\n\r\n" % _JSON,
    "several extensions": b"8;a=b;c=d;e\r\n%b\r\n0;f=g\r\n\r\n" % _JSON,
    "an extension of 200 bytes": b"8;a=%b\r\n%b\r\n0\r\n\r\n" % (b"b" * 200, _JSON),
    "a trailer": in_chunks(_JSON, last=b"0\r\nx-checksum: 1\r\n\r\n"),
    "trailers": in_chunks(_JSON, last=b"0\r\nx-a: 1\r\nx-b: 2\r\n\r\n"),
    "a trailer with a length": in_chunks(_JSON, last=b"0\r\ncontent-length: 5\r\n\r\n"),
    "a trailer with a coding": in_chunks(_JSON, last=b"0\r\ntransfer-encoding: gzip\r\n\r\n"),
    "events": in_chunks(*chat_frames()),
    "a chunk of 100 KB": in_chunks(b"x" * 100_000),
}
_BAD_CHUNKS = {
    "no hex": b"zz\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a negative size": b"-8\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size with a plus": b"+8\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size with 0x": b"0x8\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size with an underscore": b"0_8\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size with a blank before it": b" 8\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size with a blank after it": b"8 \r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size with a tab after it": b"8\t\r\n%b\r\n0\r\n\r\n" % _JSON,
    "an empty size": b"\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size of 16 digits": b"8000000000000008\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size of 17 digits": b"10000000000000008\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size of 20 digits, zeros first": b"00000000000000000008\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size of 21 digits, zeros first": b"000000000000000000008\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size of all ones": b"ffffffffffffffff\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a size ended by a bare LF": b"8\n%b\r\n0\r\n\r\n" % _JSON,
    "a size ended by a bare CR": b"8\r%b\r\n0\r\n\r\n" % _JSON,
    "data ended by a bare LF": b"8\r\n%b\n0\r\n\r\n" % _JSON,
    "data without its end": b"8\r\n%b0\r\n\r\n" % _JSON,
    "data longer than its size": b"6\r\n%b\r\n0\r\n\r\n" % _JSON,
    "data shorter than its size": b"9\r\n%b\r\n0\r\n\r\n" % _JSON,
    "NUL in a size": b"8\0\r\n%b\r\n0\r\n\r\n" % _JSON,
    "NUL in an extension": b"8;a=\0\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a bare LF in an extension": b"8;a=b\nc\r\n%b\r\n0\r\n\r\n" % _JSON,
    "a bare CR in an extension": b"8;a=b\rc\r\n%b\r\n0\r\n\r\n" % _JSON,
    "an extension of 100 KB": b"8;a=%b\r\n%b\r\n0\r\n\r\n" % (b"b" * 100_000, _JSON),
    "a wide digit as a size": "\N{FULLWIDTH DIGIT EIGHT}\r\n".encode() + _JSON + b"\r\n0\r\n\r\n",
    "a size that never ends": b"0" * 200_000,
    "an end by a bare LF": in_chunks(_JSON, last=b"0\n\n"),
    "an end by CR LF and a bare LF": in_chunks(_JSON, last=b"0\r\n\n"),
    "no last chunk": in_chunks(_JSON, last=b""),
    "half a last chunk": in_chunks(_JSON, last=b"0\r\n"),
    "only the digit of a last chunk": in_chunks(_JSON, last=b"0"),
    "a trailer cut short": in_chunks(_JSON, last=b"0\r\nx-a: 1\r\n"),
    "a trailer without a colon": in_chunks(_JSON, last=b"0\r\nx-a 1\r\n\r\n"),
    "a trailer with NUL": in_chunks(_JSON, last=b"0\r\nx-a: \0\r\n\r\n"),
    "a folded trailer": in_chunks(_JSON, last=b"0\r\nx-a: 1\r\n 2\r\n\r\n"),
    "endless trailers": in_chunks(_JSON, last=b"0\r\n" + b"x-a: 1\r\n" * 20_000),
    "nothing at all": b"",
}
_LENGTHS = [
    *(b"8", b"08", b"0000000008", b"8 ", b" 8", b"\t8\t", b"+8", b"-8", b"-1", b"8.0", b"8,8", b"8, 8", b"8,9", b"8;8"),
    *(
        b"0x8",
        b"8e0",
        b"8 8",
        b"eight",
        b"",
        b" ",
        b"8\0",
        b"\xb2",
        "\N{FULLWIDTH DIGIT EIGHT}".encode(),
        b"0_8",
        b"8,",
        b",8",
        b"8\x0b",
    ),
    *(b"9" * 19, b"9" * 20, b"9" * 21, b"18446744073709551616", b"18446744073709551624", b"9" * 200, b"0" * 300 + b"8"),
]
_CODINGS = [
    *(
        b" chunked",
        b"chunked",
        b" CHUNKED",
        b" Chunked ",
        b"\tchunked",
        b" chunked,",
        b" ,chunked",
        b" chunked, chunked",
    ),
    *(b" gzip, chunked", b" gzip", b" identity", b" identity, chunked", b" chunked, identity", b" chunked, gzip", b""),
    *(b" xchunked", b" chunkedx", b" chunked;q=1", b' "chunked"', b" chunked\0", b"\x0bchunked", b" chunked chunked"),
    *(b" \x00chunked", b" deflate", b" trailers"),
]
_EIGHT = b"content-length: 8"
_FRAMED_TWICE = [
    _framed_by("a length and chunks", _EIGHT, b"transfer-encoding: chunked"),
    _framed_by("chunks and a length", b"transfer-encoding: chunked", _EIGHT),
    _framed_by("a length and chunks, and the body has the length", _EIGHT, b"transfer-encoding: chunked", body=_JSON),
    _framed_by("the same length twice", _EIGHT, _EIGHT, body=_JSON),
    _framed_by("the same length twice, in other words", _EIGHT, b"content-length: 08", body=_JSON),
    _framed_by("two lengths", _EIGHT, b"content-length: 7", body=_JSON),
    _framed_by("two lengths, one of them zero", b"content-length: 0", _EIGHT, body=_JSON),
    _framed_by("a length and an empty one", _EIGHT, b"content-length:", body=_JSON),
    _framed_by("chunked twice", b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
    _framed_by("gzip and chunked in two lines", b"transfer-encoding: gzip", b"transfer-encoding: chunked"),
    _framed_by("chunked and identity in two lines", b"transfer-encoding: chunked", b"transfer-encoding: identity"),
    _framed_by("a length and gzip as a coding", _EIGHT, b"transfer-encoding: gzip", body=_JSON),
    _framed_by("a length and identity as a coding", _EIGHT, b"transfer-encoding: identity", body=_JSON),
    _framed_by("a length whose name has a blank", b"content-length : 8", body=_JSON),
    _framed_by("a coding whose name has a blank", b"transfer-encoding : chunked"),
    _framed_by("a folded coding", b"transfer-encoding:\r\n chunked"),
    _framed_by("a folded length", b"content-length:\r\n 8", body=_JSON),
    _framed_by("a length behind an underscore", b"content_length: 3", _EIGHT, body=_JSON),
    _framed_by("chunks by HTTP/1.0's keep-alive", b"connection: keep-alive", b"transfer-encoding: chunked"),
]
_BODILESS = [
    _without_body(204),
    _without_body(304),
    _without_body(205, b"content-length: 0"),
    *[
        _without_body(status, *headers, rest=rest)
        for status in (204, 304)
        for headers, rest in (
            ((_EIGHT,), b""),
            ((b"content-length: 0",), b""),
            ((b"transfer-encoding: chunked",), b""),
            ((_EIGHT,), _JSON),
            ((b"transfer-encoding: chunked",), in_chunks(_JSON)),
            ((), _JSON),
        )
    ],
    _one("an empty body with a length", answered(b"")),
    _one("an empty body of a stream", ANSWERED + b"content-type: text/event-stream\r\n" + b"content-length: 0\r\n\r\n"),
]
_ENDED_BY_CLOSING = [
    _closing("no length, closed", ANSWERED + b"\r\n", _JSON),
    _closing("no length, closed, and nothing in it", ANSWERED + b"\r\n"),
    _closing("no length, closed, in HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\n", _JSON),
    _closing("no length, closed, with connection: close", ANSWERED + b"connection: close\r\n\r\n", _JSON),
    _closing("no length, closed, though connection: keep-alive", ANSWERED + b"connection: keep-alive\r\n\r\n", _JSON),
    _closing("no length, closed, and large", ANSWERED + b"\r\n", b"x" * 300_000),
    _resetting("no length, reset", ANSWERED + b"\r\n", _JSON, Moment.BODY),
    _closing("no length, and the body looks like an answer", ANSWERED + b"\r\n", answered()),
]
_CUT = [
    _closing("closed at once"),
    _resetting("reset at once"),
    *[
        one(f"{how} after {len(begun)} bytes of the head", begun)
        for one, how in ((_closing, "closed"), (_resetting, "reset"))
        for begun in (b"H", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", ANSWERED, ANSWERED + b"\r")
    ],
    *[
        one(f"{how} after the head, {framing}", head, Moment.HEAD)
        for one, how in ((_closing, "closed"), (_resetting, "reset"))
        for framing, head in (("of a length", ANSWERED + _EIGHT + b"\r\n\r\n"), ("of chunks", _CHUNKED))
    ],
    *[
        one(f"{how} in the middle of the body, {framing}", head, part, Moment.BODY)
        for one, how in ((_closing, "closed"), (_resetting, "reset"))
        for framing, head, part in (
            ("of a length", ANSWERED + _EIGHT + b"\r\n\r\n", _JSON[:4]),
            ("of chunks", _CHUNKED, b"8\r\n" + _JSON[:4]),
            ("between chunks", _CHUNKED, b"8\r\n" + _JSON + b"\r\n"),
        )
    ],
    *[
        one(f"{how} right behind a whole answer, {framing}", whole)
        for one, how in ((_closing, "closed"),)
        for framing, whole in (("of a length", answered()), ("of chunks", _CHUNKED + in_chunks(_JSON)))
    ],
    _closing("a length too long by one", ANSWERED + b"content-length: 9\r\n\r\n" + _JSON),
    _closing("a length too long by far", ANSWERED + b"content-length: 99999999\r\n\r\n" + _JSON),
]
_LEFT_OVER = [
    _one("a length too short by one", ANSWERED + b"content-length: 7\r\n\r\n" + _JSON),
    _one("a length too short, the rest by itself", ANSWERED + b"content-length: 7\r\n\r\n" + _JSON[:7], _JSON[7:]),
    _one("a second answer behind the first", answered() + answered(b"stolen")),
    _one("a second answer behind the first, by itself", answered(), answered(b"stolen")),
    _one("a second answer once the first is closed", answered(), Moment.IDLE, answered(b"stolen")),
    _one("a second answer behind chunks", _CHUNKED + in_chunks(_JSON) + answered(b"stolen")),
    _one(
        "a second answer behind chunks, once they are closed",
        _CHUNKED + in_chunks(_JSON),
        Moment.IDLE,
        answered(b"stolen"),
    ),
    _one("a second answer behind 204", b"HTTP/1.1 204 No\r\n\r\n" + answered(b"stolen")),
    _one("a line end behind the answer", answered() + b"\r\n"),
    _one("a line end once the answer is closed", answered(), Moment.IDLE, b"\r\n"),
    _one("one byte behind chunks", _CHUNKED + in_chunks(_JSON) + b"x"),
    _one("a chunk behind the last chunk", _CHUNKED + in_chunks(_JSON) + in_chunks(_JSON)),
    _one("408 once the answer is closed", answered(), Moment.IDLE, b"HTTP/1.1 408 Late\r\nconnection: close\r\n\r\n"),
    _closing("408 once the answer is closed, and closed", answered(), Moment.IDLE, b"HTTP/1.1 408 Late\r\n\r\n"),
]
_KEPT_AND_CLOSED = [
    _one("kept", answered()),
    _one("kept, chunked", _CHUNKED + in_chunks(_JSON)),
    _closing("closed once it is idle", answered(), Moment.IDLE),
    _resetting("reset once it is idle", answered(), Moment.IDLE),
    _one("connection: close, and left open", answered(_JSON, b"connection: close"), Moment.IDLE),
    _one("Connection: Close, upper-case", answered(_JSON, b"Connection: CLOSE"), Moment.IDLE),
    _one("connection: close among others", answered(_JSON, b"connection: keep-alive, close"), Moment.IDLE),
    _one("connection: keep-alive", answered(_JSON, b"connection: keep-alive")),
    _one("connection: closed is not close", answered(_JSON, b"connection: closed")),
    _one("keep-alive: timeout=5", answered(_JSON, b"keep-alive: timeout=5, max=100")),
    _one("proxy-connection: close", answered(_JSON, b"proxy-connection: close")),
    _one("HTTP/1.0 with a length", answered().replace(b"/1.1", b"/1.0"), Moment.IDLE),
    _one("HTTP/1.0 with keep-alive", answered(_JSON, b"connection: keep-alive").replace(b"/1.1", b"/1.0"), Moment.IDLE),
    _one(
        "HTTP/1.0 with chunks", _CHUNKED.replace(b"/1.1", b"/1.0") + in_chunks(_JSON), Moment.IDLE, ending=Ending.CLOSE
    ),
    _one("hung up on the second request", answered(), again=CLOSES),
    _one("reset at the second request", answered(), again=Script(parts=(), ending=Ending.RESET)),
    _one("half an answer to the second request", answered(), again=Script(parts=[b"HTTP/1.1 2"], ending=Ending.CLOSE)),
]
_ENCODED = [
    _one("gzip nobody asked for", answered(gzip.compress(_JSON, mtime=0), b"content-encoding: gzip")),
    _one(
        "gzip nobody asked for, in chunks",
        ANSWERED
        + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
        + in_chunks(gzip.compress(_JSON, mtime=0)),
    ),
    _one("a completion", answered(chat_completion())),
    _one("a completion of 1 MB", answered(chat_completion(text="x" * 1_000_000))),
    _one("a completion byte by byte", *byte_by_byte(answered(chat_completion()))),
    _one("a stream byte by byte", *byte_by_byte(_CHUNKED + in_chunks(*chat_frames()))),
    _one("a stream, frame by frame", _CHUNKED, *[in_chunks(frame, last=b"") for frame in chat_frames()], b"0\r\n\r\n"),
]

FRAMING = [
    *[_with_chunks(name, body, ending=Ending.KEEP) for name, body in _GOOD_CHUNKS.items()],
    *[_with_chunks(name, body) for name, body in _BAD_CHUNKS.items()],
    *map(_with_length, _LENGTHS),
    *map(_with_coding, _CODINGS),
    *_FRAMED_TWICE,
    *_BODILESS,
    *_ENDED_BY_CLOSING,
    *_CUT,
    *_LEFT_OVER,
    *_KEPT_AND_CLOSED,
    *_ENCODED,
]
