"""Hand-made exchanges: status lines, headers, interim answers, what is no HTTP, and answers that come early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from differential.exchange import Exchange, Moment, Script, answered
from faults.playing import Ending

if TYPE_CHECKING:
    from differential.exchange import Part

__all__ = ["HEADS"]

_BODY = b'{"a": 1}'
_LENGTH = b"content-length: 8\r\n\r\n" + _BODY


def _one(name: str, *parts: Part, ending: Ending = Ending.CLOSE, **facts: object) -> Exchange:
    return Exchange(name=name, answer=Script(parts=parts, ending=ending), **facts)  # type: ignore[arg-type]


def _kept(name: str, *parts: Part, **facts: object) -> Exchange:
    return _one(name, *parts, ending=Ending.KEEP, **facts)


def _status_line(line: bytes) -> Exchange:
    return _one(f"status line {line[:40]!r}, {len(line)} bytes", line + _LENGTH)


def _header(name: str, line: bytes) -> Exchange:
    return _one(f"header: {name}", b"HTTP/1.1 200 OK\r\n" + line + _LENGTH)


def _interim(name: str, *before: bytes, ending: Ending = Ending.KEEP) -> Exchange:
    return _one(f"interim: {name}", *before, answered(), ending=ending)


def _early(name: str, *parts: Part, ending: Ending = Ending.CLOSE, **facts: object) -> Exchange:
    return _one(f"early: {name}", *parts, ending=ending, **{"upload": 2_000_000, "reads": False, **facts})


_STATUS_LINES = [
    *(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 \r\n",
        b"HTTP/1.1 200\r\n",
        b"HTTP/1.1 200  OK\r\n",
        b"HTTP/1.1  200 OK\r\n",
    ),
    *(b"HTTP/1.1 200 \xc3\xbc\xe9\r\n", b"HTTP/1.1 200 O\tK\r\n", b"HTTP/1.1 200 O\0K\r\n", b"HTTP/1.1 200 O\x07K\r\n"),
    *(b"HTTP/1.1 200 O\x7fK\r\n", b"HTTP/1.1 200 O\rK\r\n", b"HTTP/1.1\t200\tOK\r\n", b"HTTP/1.1 200\tOK\r\n"),
    *(b"HTTP/1.1 200 " + b"x" * 5_000 + b"\r\n", b"HTTP/1.1 200 " + b"x" * 150_000 + b"\r\n"),
    *(
        b"HTTP/1.1 299 Odd\r\n",
        b"HTTP/1.1 404 No\r\n",
        b"HTTP/1.1 599 Odd\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\n",
    ),
    *(
        b"HTTP/1.1 600 Odd\r\n",
        b"HTTP/1.1 999 Odd\r\n",
        b"HTTP/1.1 000 Odd\r\n",
        b"HTTP/1.1 099 Odd\r\n",
        b"HTTP/1.1 1000 Odd\r\n",
    ),
    *(
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 2 OK\r\n",
        b"HTTP/1.1 2OO OK\r\n",
        b"HTTP/1.1 -200 OK\r\n",
        b"HTTP/1.1 +200 OK\r\n",
    ),
    *(
        b"HTTP/1.1 200.1 OK\r\n",
        b"HTTP/1.1 0200 OK\r\n",
        b"HTTP/1.1 \xb2\xb20 OK\r\n",
        b"HTTP/1.1 OK\r\n",
        b"HTTP/1.1\r\n",
    ),
    *(
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.2 200 OK\r\n",
        b"HTTP/1.9 200 OK\r\n",
        b"HTTP/0.9 200 OK\r\n",
        b"HTTP/2.0 200 OK\r\n",
    ),
    *(
        b"HTTP/2 200 OK\r\n",
        b"HTTP/3.0 200 OK\r\n",
        b"HTTP/1 200 OK\r\n",
        b"HTTP/1.10 200 OK\r\n",
        b"HTTP/01.1 200 OK\r\n",
    ),
    *(
        b"http/1.1 200 OK\r\n",
        b"Http/1.1 200 OK\r\n",
        b"HTTPS/1.1 200 OK\r\n",
        b"XHTTP/1.1 200 OK\r\n",
        b"HTTP 200 OK\r\n",
    ),
    *(
        b"HTTP/1.1 200 OK\n",
        b"HTTP/1.1 200 OK\r",
        b"HTTP/1.1 200 OK\r\r\n",
        b"HTTP/1.1 200 OK\n\r\n",
        b" HTTP/1.1 200 OK\r\n",
    ),
    *(b"\r\nHTTP/1.1 200 OK\r\n", b"\nHTTP/1.1 200 OK\r\n", b"\r\n\r\nHTTP/1.1 200 OK\r\n", b"\0HTTP/1.1 200 OK\r\n"),
    *(
        b"\xef\xbb\xbfHTTP/1.1 200 OK\r\n",
        b"ICY 200 OK\r\n",
        b"RTSP/1.0 200 OK\r\n",
        b"GET / HTTP/1.1\r\n",
        b"OK\r\n",
        b"{}\r\n",
    ),
    *(b"HTTP/1.1 200 OK\r\n \r\n", b"HTTP/1.1 200 OK\r\n folded\r\n", b"HTTP/1.1 200 OK\r\n: nameless\r\n"),
]
_HEADERS = {
    "upper-case name": b"X-ODD: 1\r\n",
    "no blank": b"x-odd:1\r\n",
    "many blanks": b"x-odd:  \t 1 \t \r\n",
    "no value": b"x-odd:\r\n",
    "only blanks": b"x-odd:   \r\n",
    "twice": b"x-odd: 1\r\nx-odd: 2\r\n",
    "twice, apart and in another case": b"x-odd: 1\r\nx-else: 0\r\nX-Odd: 1\r\n",
    "colons in the value": b"x-odd: a:b:c\r\n",
    "latin-1 in the value": b"x-odd: \xe9\xff\r\n",
    "UTF-8 in the value": "x-odd: ü\r\n".encode(),
    "every letter a name may have": b"!#$%&'*+-.^_`|~09azAZ: 1\r\n",
    "digits as a name": b"123: 1\r\n",
    "a blank in the name": b"x odd: 1\r\n",
    "a blank before the colon": b"x-odd : 1\r\n",
    "a tab before the colon": b"x-odd\t: 1\r\n",
    "a blank before the name": b" x-odd: 1\r\n",
    "a tab before the name": b"\tx-odd: 1\r\n",
    "no name": b": 1\r\n",
    "no colon": b"x-odd 1\r\n",
    "only a name": b"x-odd\r\n",
    "latin-1 in the name": b"x-\xe9: 1\r\n",
    "NUL in the name": b"x-\0odd: 1\r\n",
    "NUL in the value": b"x-odd: a\0b\r\n",
    "NUL at the value's end": b"x-odd: a\0\r\n",
    "a bell in the value": b"x-odd: a\x07b\r\n",
    "an escape in the value": b"x-odd: a\x1b[0mb\r\n",
    "a form feed in the value": b"x-odd: a\x0cb\r\n",
    "a form feed before the value": b"x-odd: \x0cb\r\n",
    "a vertical tab at the value's end": b"x-odd: b\x0b\r\n",
    "DEL in the value": b"x-odd: a\x7fb\r\n",
    "a tab in the value": b"x-odd: a\tb\r\n",
    "a bracket in the name": b"x-odd[]: 1\r\n",
    "quotes in the name": b'"x-odd": 1\r\n',
    "an at in the name": b"@x: 1\r\n",
    "a slash in the name": b"x/odd: 1\r\n",
    "a bare CR in the value": b"x-odd: a\rb\r\n",
    "a bare CR and then a header": b"x-odd: a\rx-next: b\r\n",
    "a bare CR at the value's end": b"x-odd: a\r\r\n",
    "a bare LF at the value's end": b"x-odd: a\n",
    "a bare LF and then a header": b"x-odd: a\nx-next: b\r\n",
    "folded": b"x-odd: a\r\n b\r\n",
    "folded with a tab": b"x-odd: a\r\n\tb\r\n",
    "folded with many blanks": b"x-odd: a\r\n   \t b\r\n",
    "folded twice": b"x-odd: a\r\n b\r\n c\r\n",
    "folded to nothing": b"x-odd: a\r\n \r\n",
    "a value of 1 KB": b"x-odd: " + b"v" * 1_000 + b"\r\n",
    "a value of 9 KB": b"x-odd: " + b"v" * 9_000 + b"\r\n",
    "a value of 30 KB": b"x-odd: " + b"v" * 30_000 + b"\r\n",
    "a value of 60 KB": b"x-odd: " + b"v" * 60_000 + b"\r\n",
    "a value of 200 KB": b"x-odd: " + b"v" * 200_000 + b"\r\n",
    "a name of 1 KB": b"x" * 1_000 + b": 1\r\n",
    "a name of 200 KB": b"x" * 200_000 + b": 1\r\n",
    "50 of them": b"".join(b"x-%d: 1\r\n" % number for number in range(50)),
    "95 of them": b"".join(b"x-%d: 1\r\n" % number for number in range(95)),
    "120 of them": b"".join(b"x-%d: 1\r\n" % number for number in range(120)),
    "1,000 of them": b"".join(b"x-%d: 1\r\n" % number for number in range(1_000)),
    "20,000 of them": b"".join(b"x-%d: 1\r\n" % number for number in range(20_000)),
    "set-cookie twice": b"set-cookie: a=1\r\nset-cookie: b=2\r\n",
    "a spoofed one of ours": b"x-vetted-region: elsewhere\r\n",
    "upgrade without 101": b"upgrade: h2c\r\nconnection: upgrade\r\n",
    "connection: upgrade alone": b"connection: upgrade\r\n",
    "te: trailers": b"te: trailers\r\ntrailer: x-checksum\r\n",
    "location": b"location: http://elsewhere.example/\r\n",
    "a pseudo header": b":status: 200\r\n",
    "no head's end": b"x-odd: 1",
}
_INTERIM = [
    _interim("100", b"HTTP/1.1 100 Continue\r\n\r\n"),
    _interim("100 in one piece with the answer", b"HTTP/1.1 100 Continue\r\n\r\n" + answered()[:10], answered()[10:]),
    _interim("100 twice", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    _interim("102", b"HTTP/1.1 102 Processing\r\n\r\n"),
    _interim("103 with headers", b"HTTP/1.1 103 Hints\r\nlink: </a>\r\nx-early: 1\r\n\r\n"),
    _interim("150, which nobody knows", b"HTTP/1.1 150 Odd\r\n\r\n"),
    _interim("199, which nobody knows", b"HTTP/1.1 199 Odd\r\n\r\n"),
    _interim("100 with a length", b"HTTP/1.1 100 Continue\r\ncontent-length: 8\r\n\r\n"),
    _interim(
        "100 with a length and a body",
        b"HTTP/1.1 100 Continue\r\ncontent-length: 8\r\n\r\n" + _BODY,
        ending=Ending.CLOSE,
    ),
    _interim("100 with chunks", b"HTTP/1.1 100 Continue\r\ntransfer-encoding: chunked\r\n\r\n"),
    _interim("100 with connection: close", b"HTTP/1.1 100 Continue\r\nconnection: close\r\n\r\n"),
    _interim("100 in HTTP/1.0", b"HTTP/1.0 100 Continue\r\n\r\n"),
    _interim("30 of them", *[b"HTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\n"] * 30),
    _one("interim: 101", b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", b"PRI * HTTP/2.0"),
    _one("interim: 101 without upgrade", b"HTTP/1.1 101 Switching\r\n\r\n", answered()),
    _one("interim: 100 and nothing more", b"HTTP/1.1 100 Continue\r\n\r\n"),
    _one("interim: reset after 100", b"HTTP/1.1 100 Continue\r\n\r\n", ending=Ending.RESET),
]
_NO_HTTP = [
    _one("no HTTP: a TLS alert", b"\x15\x03\x03\x00\x02\x02\x46"),
    _one("no HTTP: a TLS server hello", b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(range(64))),
    _one("no HTTP: HTTP/2 settings", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    _one("no HTTP: SMTP", b"220 smtp.example ESMTP\r\n"),
    _one("no HTTP: SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    _one("no HTTP: a page", b"<html>Sign in</html>\r\n"),
    _one("no HTTP: JSON", b'{"object": "chat.completion"}\n'),
    _one("no HTTP: all bytes", bytes(range(256))),
    _one("no HTTP: zeros", bytes(10_000)),
    _one("no HTTP: 1 MB of one letter", b"H" * 1_000_000),
    _one("no HTTP: line ends", b"\r\n" * 1_000),
    _one("no HTTP: blanks", b" " * 10_000),
    _one("TLS was asked of plain HTTP", scheme="https"),
]
_REDIRECTS = [
    _kept(f"redirect: {status}", b"HTTP/1.1 %d Moved\r\nlocation: http://127.0.0.1:9/\r\n" % status + _LENGTH)
    for status in (301, 302, 303, 307, 308)
]
_REFUSED = b"HTTP/1.1 413 Too Large\r\n"
_DEAF: dict[str, Any] = {"upload": 16_000_000, "gives_up_after": 1.0}
_EARLY = [
    _early("413, and all is read", _REFUSED + _LENGTH, ending=Ending.KEEP),
    _early("413, and closed once it was read", _REFUSED + b"connection: close\r\n" + _LENGTH, Moment.IDLE),
    _early(
        "401 in chunks, closed once it was read",
        b"HTTP/1.1 401 No\r\ntransfer-encoding: chunked\r\n\r\n8\r\n" + _BODY + b"\r\n0\r\n\r\n",
        Moment.IDLE,
    ),
    _early("200 before the body was read", answered(), Moment.IDLE),
    _early("nobody reads what is larger than all buffers, and 200", answered(), Moment.IDLE, **_DEAF),
    _early("nobody reads what is larger than all buffers, nor answers", Moment.IDLE, **_DEAF),
    _early("hung up in the middle of the upload", ending=Ending.CLOSE),
    _early("reset in the middle of the upload", ending=Ending.RESET),
    _early("half an answer, and then hung up", _REFUSED, ending=Ending.CLOSE),
    _one("upload: 2 MB and a whole answer", answered(), ending=Ending.KEEP, upload=2_000_000),
    _one("upload: nothing", answered(), ending=Ending.KEEP, upload=0),
]
_PROBES = [
    _kept("probe: a whole answer", answered(), is_probe=True),
    _kept("probe: 404", b"HTTP/1.1 404 No\r\n" + _LENGTH, is_probe=True),
    _kept("probe: 204", b"HTTP/1.1 204 No\r\n\r\n", is_probe=True),
    _one("probe: closed at once", is_probe=True),
    _one("probe: no length", b"HTTP/1.1 200 OK\r\n\r\n" + _BODY, is_probe=True),
    _kept(
        "probe: chunks",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n" + _BODY + b"\r\n0\r\n\r\n",
        is_probe=True,
    ),
]

HEADS = [
    *map(_status_line, _STATUS_LINES),
    *[_header(name, line) for name, line in _HEADERS.items()],
    *_INTERIM,
    *_NO_HTTP,
    *_REDIRECTS,
    *_EARLY,
    *_PROBES,
]
