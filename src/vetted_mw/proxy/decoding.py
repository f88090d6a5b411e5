"""Undo gzip and deflate within a limit, so that a small body cannot become a huge one."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BodyDecoder", "DecodingError", "StreamDecoder", "TooLargeError", "is_identity", "is_known_encoding"]

_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_RAW_DEFLATE = -15
_HEADER_BYTES = 2
_PIECE_BYTES = 65_536


class DecodingError(ValueError):
    """The bytes are not what `Content-Encoding` says."""


class TooLargeError(ValueError):
    """The decoded bytes are over the limit."""


def is_known_encoding(encoding: bytes) -> bool:
    """Whether `BodyDecoder` takes this `Content-Encoding` (lower case; empty is identity)."""
    return is_identity(encoding) or encoding in _WINDOW


def is_identity(encoding: bytes) -> bool:
    """Whether there is nothing to undo."""
    return encoding in {b"", b"identity"}


class BodyDecoder:
    """Decode one body fed in pieces, cut anywhere; raises as soon as the total passes `max_bytes`.

    Args:
        encoding: lower-case `Content-Encoding`, empty for identity; must be known.
        max_bytes: limit on what comes out in all.
    """

    __slots__ = ("_inflater", "_left")

    def __init__(self, encoding: bytes, *, max_bytes: int) -> None:
        self._left = max_bytes
        self._inflater = _Inflater(encoding) if encoding in _WINDOW else None

    def feed(self, data: bytes) -> bytes:
        """Return what `data` decodes to.

        Raises:
            TooLargeError: the total is over the limit.
            DecodingError: the bytes are not in the encoding, or go on after its end.
        """
        out = data
        if self._inflater is not None:
            out, rest = self._inflater.feed(data, self._left + 1)
            if rest:
                raise TooLargeError
        self._left -= len(out)
        if self._left < 0:
            raise TooLargeError
        return out

    def finish(self) -> None:
        """Check that the encoded body was complete.

        Raises:
            DecodingError: it was cut.
        """
        if self._inflater is not None and not self._inflater.may_end:
            raise DecodingError


class StreamDecoder:
    """Decode a stream without end, in pieces of bounded size: who reads them decides how many there are at a time.

    Args:
        encoding: lower-case `Content-Encoding`, empty for identity; must be known.
    """

    __slots__ = ("_inflater",)

    def __init__(self, encoding: bytes) -> None:
        self._inflater = _Inflater(encoding) if encoding in _WINDOW else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, each piece decoded when it is asked for; take all of them before the next call.

        Raises:
            DecodingError: the bytes are not in the encoding, or go on after its end; what came before that was
                yielded.
        """
        if self._inflater is None:
            yield data
            return
        rest, is_full = data, False
        while rest or is_full:  # a full piece may leave something behind in zlib, with all of the data taken
            before, given = self._inflater.copy(), rest
            try:
                piece, rest = self._inflater.feed(given, _PIECE_BYTES)
            except DecodingError:
                yield from before.salvaged(given)
                raise
            is_full = len(piece) == _PIECE_BYTES
            if piece:
                yield piece


class _Inflater:
    """zlib behind the two forms of "deflate", with a limit on each call."""

    __slots__ = ("_encoding", "_head", "_inflate")

    def __init__(self, encoding: bytes) -> None:
        self._encoding = encoding
        self._head = b""
        self._inflate: zlib._Decompress | None = None

    @property
    def may_end(self) -> bool:
        """Whether the encoded body is complete, or has not begun."""
        return not self._head and (self._inflate is None or self._inflate.eof)

    def copy(self) -> _Inflater:
        """Return another one in the same state."""
        other = _Inflater(self._encoding)
        other._head = self._head
        other._inflate = None if self._inflate is None else self._inflate.copy()
        return other

    def feed(self, data: bytes, max_bytes: int) -> tuple[bytes, bytes]:
        """Return up to `max_bytes` of what `data` decodes to, and the part of `data` that is for the next call.

        Raises:
            DecodingError: the bytes are not in the encoding, or go on after its end.
        """
        self._head += data
        if len(self._head) < _HEADER_BYTES and self._inflate is None:
            return b"", b""
        if self._inflate is None:
            self._inflate = zlib.decompressobj(_window(self._encoding, self._head))
        data, self._head = self._head, b""
        try:
            out = self._inflate.decompress(data, max_bytes)
        except zlib.error:
            raise DecodingError from None
        if self._inflate.unused_data:
            raise DecodingError  # what follows, a second body say, would be dropped in silence
        return out, self._inflate.unconsumed_tail

    def salvaged(self, data: bytes) -> Iterator[bytes]:
        """Yield what of `data` can be decoded before the place where it is wrong: zlib drops it with its error."""
        for start in range(len(data)):
            try:
                piece, _rest = self.feed(data[start : start + 1], _PIECE_BYTES)
            except DecodingError:
                return
            yield piece


def _window(encoding: bytes, head: bytes) -> int:
    """Choose zlib's window; that "deflate" has the zlib wrapper is disputed (RFC 9110 §8.4.1.2), so its head tells."""
    is_wrapped = head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(head[:_HEADER_BYTES], "big") % 31 == 0
    return _WINDOW[encoding] if encoding != b"deflate" or is_wrapped else _RAW_DEFLATE
