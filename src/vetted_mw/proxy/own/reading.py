"""Answers out of the bytes of one connection. Nothing here waits, and nothing here knows a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from vetted_mw.proxy.own.framing import (
    CODING,
    FRAMING,
    KEPT_VERSION,
    MAX_BARREN_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    RefusedError,
    ends_with_connection,
    head_end,
)

if TYPE_CHECKING:
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.own.answer import Answer

__all__ = ["AnswerReader"]

_SWITCHING = 101


class AnswerReader:
    """Reads one answer after the other, each into the `Answer` that waits for it.

    Args:
        answer: the first one; one that is over takes nothing.

    Attributes:
        has_heard: anything has come of the answer, an interim one or the begin of a head included.
        is_clean: all that has come belongs to an answer, and was taken.
        lasts: the answer has ended, and lets the connection serve again.
        on_body: takes a part of a body, from the parser.
        until_end: its body ends where the connection does.
    """

    __slots__ = (
        "_answer",
        "_barren",
        "_head_start",
        "_headers",
        "_is_chunked",
        "_is_interim",
        "_may_last",
        "_parser",
        "_parts",
        "_seen",
        "_skips_body",
        "has_heard",
        "is_clean",
        "lasts",
        "on_body",
        "until_end",
    )

    def __init__(self, answer: Answer) -> None:
        self._parts: list[bytes] = []
        self.on_body = self._parts.append  # no code of ours runs for each part
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_headers=True)  # `head_end` looks at what that lets pass
        self._seen: list[bytes] = []
        self.is_clean = True
        self.begin(answer, skips_body=False)

    def begin(self, answer: Answer, *, skips_body: bool) -> None:
        """Read what comes next into `answer`; `skips_body`: it has none, whatever its headers say."""
        self._answer = answer
        self._barren = 0
        self._head_start = 0
        self._is_chunked = False
        self._is_interim = False
        self._may_last = False
        self._seen.clear()
        self._skips_body = skips_body
        self.has_heard = False
        self.lasts = False
        self.until_end = False

    def end(self) -> None:
        """Let go of what would hold this: nothing comes any more."""
        del self._answer, self._parser

    def feed(self, data: bytes) -> bool:
        """Take what came; returns whether all is well."""
        answer = self._answer
        if not answer.status:
            self.has_heard = True
            self._seen.append(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.is_clean = False
            answer.feed(self._parts)
            return False
        if self._parts:
            self._barren = 0
            answer.feed(self._parts)
        elif not answer.is_whole:
            self._barren += len(data)
            return self._barren <= MAX_BARREN_BYTES
        return True

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        """Begin a head; one behind a whole answer belongs to nobody."""
        if self._answer.is_over:
            raise RefusedError
        self._headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. Those of a trailer are dropped, for what it says of the framing there is too late."""
        if self._answer.status:
            if name.lower() in FRAMING:
                raise RefusedError
            return
        headers = self._headers
        headers.append((name.lower(), value.rstrip(b" \t")))
        if len(headers) > MAX_HEADERS:
            raise RefusedError

    def on_headers_complete(self) -> None:
        """Hand the head over, unless it is an interim one."""
        answer = self._answer
        parser = self._parser
        status = parser.get_status_code()
        self._look_at_head()
        if 100 <= status < 200:  # noqa: PLR2004
            if status == _SWITCHING:
                raise RefusedError  # nobody asked for another protocol
            self._is_interim = True
            return
        self._seen.clear()
        version, headers = parser.get_http_version(), self._headers
        framing = [pair for pair in headers if pair[0] in FRAMING]
        self.until_end = ends_with_connection(status, version, framing)
        self._may_last = version == KEPT_VERSION and not self.until_end
        self._is_chunked = bool(framing) and framing[0][0] == CODING
        if self._is_chunked:
            parser.set_dangerous_leniencies(lenient_headers=False)  # nobody looks at a trailer but the parser
        answer.begin(status, headers)
        del self._headers  # it is the answer's now, whose reader lets go of it when it will
        if self._skips_body:
            answer.end()
            raise RefusedError  # the parser would take for a body what is none

    def on_message_complete(self) -> None:
        """End the answer, unless it was an interim one."""
        if self._is_interim:
            self._is_interim = False
        else:
            if self._is_chunked:
                self._parser.set_dangerous_leniencies(lenient_headers=True)
            # Only now: the parser heeds a `connection: close` in a trailer, and takes no further answer then.
            self.lasts = self._may_last and self._parser.should_keep_alive()
            answer = self._answer
            answer.feed(self._parts)
            answer.end()

    # ---- within

    def _look_at_head(self) -> None:
        """Refuse a head that the parser, lenient with the values of headers, has let pass."""
        seen = self._seen
        if len(seen) > 1:
            seen[:] = [b"".join(seen)]
        start = self._head_start
        self._head_start = head_end(seen[0], start)
        if self._head_start - start > MAX_HEAD_BYTES:
            raise RefusedError
