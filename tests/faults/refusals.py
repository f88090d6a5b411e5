"""Faults that a status tells, and those in which nothing or nearly nothing is answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import msgspec

from faults.fault import Fault, before, caller, well_all_the_same
from faults.playing import JSON, SSE, Asked, Ending, Gate, Part, Script, answer, frames_of, head, streamed, well, whole

if TYPE_CHECKING:
    from faults.playing import Play

__all__ = ["CANARY", "NOW", "REFUSALS", "SOON", "UNANSWERED", "both", "dripping"]

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
"""The instant the wall's gateways take for now, so that an HTTP date can be in it."""

CANARY = "canary-of-an-upstream"
"""Stands in every error an upstream writes; no log and no span may hold it."""

SOON = 10.0
"""Seconds of a limit that has to pass: the wall's clock leaps over them."""

ERROR = msgspec.json.encode({"error": {"message": CANARY, "type": "server_error", "code": 500, "param": None}})
HTML = ("content-type", "text/html")
PLAIN = ("content-type", "text/plain; charset=utf-8")


def both(name: str, play: Play, outcome: str, status: int | None, **facts: object) -> Fault:
    """A fault that shows before commit, the same way for JSON and streams."""
    due = before(play, outcome, status)
    return Fault(name=name, json=due, sse=due, **facts)  # type: ignore[arg-type]


def says(status: int, body: bytes = ERROR, *headers: tuple[str, str]) -> Play:
    """Answer with a status and a body."""
    return lambda _asked: answer(status, body, *(headers or (JSON,)))


def waits(*values: str) -> tuple[tuple[str, str], ...]:
    """Headers of an answer that asks for time."""
    return (JSON, *(("Retry-After", value) for value in values))


def redirects(status: int) -> Play:
    """Redirect to the trap, with a body that would be a good answer under another status."""

    def play(asked: Asked) -> Script:
        body = b"".join(frames_of(asked)) if asked.stream else whole(asked)
        kind = SSE if asked.stream else JSON
        return answer(status, body, kind, ("Location", f"{asked.trap}/chat/completions"))

    return play


def _refused(name: str, status: int, body: bytes, code: str, *headers: tuple[str, str]) -> Fault:
    play = says(status, body, *headers)
    # A stream is asked for once more, without the usage option: that was ours and could have been what was refused.
    asked = 2 if status in {400, 422} else 1
    return Fault(name=name, json=caller(play, status, code), sse=caller(play, status, code, logged=asked))


def _without_option(asked: Asked) -> Script:
    if "stream_options" in asked.members:
        return answer(400, b'{"detail": "Extra inputs are not permitted: stream_options"}', JSON)
    return well(asked)


REFUSALS = [
    both("429", says(429), "saturated", 429, follow_up=False),
    both(
        "429, Retry-After in seconds",
        says(429, ERROR, *waits("7")),
        "saturated",
        429,
        follow_up=False,
        retry_after=7.0,
    ),
    both(
        "429, Retry-After as a date",
        says(429, ERROR, *waits(format_datetime(NOW + timedelta(seconds=90), usegmt=True))),
        "saturated",
        429,
        follow_up=False,
        retry_after=90.0,
    ),
    both("529", says(529), "saturated", 529, follow_up=False),
    both(
        "503, Retry-After in seconds",
        says(503, ERROR, *waits("2")),
        "saturated",
        503,
        follow_up=False,
        retry_after=2.0,
    ),
    both("503", says(503), "upstream_error", 503),
    both("500", says(500), "upstream_error", 500),
    both("500 once", says(500), "upstream_error", 500, once=True),
    both("500 as plain text", says(500, CANARY.encode(), PLAIN), "upstream_error", 500),
    both("502 as an HTML page", says(502, b"<html>" + CANARY.encode(), HTML), "upstream_error", 502),
    both("408", says(408), "upstream_error", 408),
    both("401: the key is ours", says(401), "upstream_error", 401),
    both("403: the key is ours", says(403), "upstream_error", 403),
    _refused("400, code as a number", 400, ERROR.replace(b"500", b"400"), "400", JSON),
    _refused(
        "422, `detail`",
        422,
        b'{"detail": [{"loc": ["body"], "msg": "' + CANARY.encode() + b'"}]}',
        "upstream_error",
        JSON,
    ),
    _refused("404 as plain text", 404, CANARY.encode(), "upstream_error", PLAIN),
    Fault(
        name="400 for the usage option we added",
        sse=well_all_the_same(_without_option, logged=2),
    ),
    *[
        both(f"{status} to another host", redirects(status), "invalid_response", status)
        for status in (301, 302, 307, 308)
    ],
    both("204", lambda _: Script(parts=[head(204, [])]), "invalid_response", 204),
    both(
        "101, another protocol",
        lambda _: Script(parts=[head(101, [("upgrade", "h2c"), ("connection", "upgrade")])], ending=Ending.CLOSE),
        "upstream_cut",
        None,
        unreadable_head=True,
    ),
    both("200 with an HTML page", says(200, b"<html>Sign in</html>", HTML), "invalid_response", 200),
    Fault(
        name="200 with an empty body",
        json=before(says(200, b""), "invalid_response", 200),
        sse=before(says(200, b"", SSE), "upstream_cut", 200),
    ),
    Fault(
        name="1xx before the answer",
        json=well_all_the_same(lambda asked: _hinted(answer(200, whole(asked), JSON))),
        sse=well_all_the_same(lambda asked: _hinted(well(asked))),
    ),
    Fault(
        name="error object with 200",
        json=before(says(200), "upstream_error", 200),
        sse=before(says(200), "invalid_response", 200),
    ),
]


def _hinted(script: Script) -> Script:
    hints = head(100, []) + head(103, [("link", "</style.css>; rel=preload")])
    return Script(parts=[hints, 0.02, *script.parts], ending=script.ending)


# ---- nothing, or nothing that is an answer


def _slow(play: Play, name: str) -> Fault:
    return Fault(
        name=name,
        json=before(play, "answer_timeout", None),
        sse=before(play, "first_byte_timeout", None),
        limits={"answer_seconds": SOON, "first_byte_seconds": SOON},
    )


def _parts(*parts: Part, ending: Ending = Ending.CLOSE) -> Play:
    return lambda _asked: Script(parts=parts, ending=ending)


def dripping(part: bytes) -> list[Part]:
    """The same part again and again, for far longer than any limit of the wall."""
    return [2.0, part] * 100


_START = b"HTTP/1.1 200 OK\r\n"
_NOTHING = before(_parts(), "connect_error", None, sent=False, logged=0)
_HELD_BACK = before(_parts(), "connect_timeout", None, sent=False, logged=0)
_NO_TLS = before(_parts(), "tls_error", None, sent=False, logged=0)
_UNHEARD = before(_parts(), "upstream_cut", None, logged=0)

UNANSWERED = [
    Fault(name="connection refused", json=_NOTHING, sse=_NOTHING, refusing=True, follow_up=False),
    Fault(
        name="no TLS where TLS is spoken",
        json=_NO_TLS,
        sse=_NO_TLS,
        bare=Script(parts=[b"HTTP/1.1 400 Bad Request\r\n\r\n"], ending=Ending.CLOSE),
        scheme="https",
        follow_up=False,
    ),
    Fault(
        name="silent TLS handshake",
        json=_HELD_BACK,
        sse=_HELD_BACK,
        bare=Script(parts=[], ending=Ending.SILENCE),
        scheme="https",
        limits={"connect_seconds": 0.5},
        follow_up=False,
    ),
    Fault(
        name="reset as soon as connected",
        json=_UNHEARD,
        sse=_UNHEARD,
        bare=Script(parts=[], ending=Ending.RESET),
        follow_up=False,
    ),
    both("reset before headers", _parts(ending=Ending.RESET), "upstream_cut", None),
    both("closed before headers", _parts(), "upstream_cut", None),
    _slow(_parts(ending=Ending.SILENCE), "never answers"),
    _slow(lambda asked: Script(parts=[100 * SOON, *well(asked).parts]), "first byte too late"),
    _slow(_parts(_START, *dripping(b"x-drip: 1\r\n")), "dripping headers"),
    both("endless headers", _parts(_START, *[b"x-more: " + b"y" * 10_000 + b"\r\n"] * 30), "upstream_cut", None),
    both("no HTTP", _parts(b"220 smtp.example ESMTP\r\n"), "upstream_cut", None),
    both(
        "two lengths that differ",
        lambda asked: answer(200, whole(asked), JSON, ("content-length", "5"), ending=Ending.CLOSE),
        "upstream_cut",
        None,
        unreadable_head=True,
    ),
    Fault(
        name="first byte late, but in time",
        json=well_all_the_same(lambda asked: Script(parts=[0.9 * SOON, *well(asked).parts])),
        sse=well_all_the_same(lambda asked: Script(parts=[0.9 * SOON, *well(asked).parts])),
        limits={"answer_seconds": SOON, "first_byte_seconds": SOON},
    ),
    Fault(
        name="reset after headers",
        json=before(
            lambda asked: Script(parts=[head(200, [JSON, ("content-length", "500")]), Gate.HEAD], ending=Ending.RESET),
            "upstream_cut",
            200,
        ),
        sse=before(lambda asked: streamed([Gate.HEAD], ending=Ending.RESET, ended=False), "upstream_cut", 200),
    ),
]
