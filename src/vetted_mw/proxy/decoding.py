"""Undo gzip and deflate within a limit, so that a small body cannot become a huge one."""

from __future__ import annotations

import zlib

__all__ = ["BodyDecoder", "DecodingError", "TooLargeError", "is_known_encoding"]

_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_RAW_DEFLATE = -15
_HEADER_BYTES = 2


class DecodingError(ValueError):
    """The bytes are not what `Content-Encoding` says."""


class TooLargeError(ValueError):
    """The decoded bytes are over the limit."""


def is_known_encoding(encoding: bytes) -> bool:
    """Whether `BodyDecoder` takes this `Content-Encoding` (lower case; empty is identity)."""
    return encoding in {b"", b"identity"} or encoding in _WINDOW


class BodyDecoder:
    """Decode one body fed in pieces, cut anywhere; raises as soon as the total passes `max_bytes`.

    Args:
        encoding: lower-case `Content-Encoding`, empty for identity; must be known.
        max_bytes: limit on what comes out in all; None for no limit (a stream limits its frames instead).
    """

    def __init__(self, encoding: bytes, *, max_bytes: int | None) -> None:
        self._encoding = encoding
        self._left = max_bytes
        self._head = b""
        self._inflate: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """Return what `data` decodes to.

        Raises:
            TooLargeError: the total is over the limit.
            DecodingError: the bytes are not in the encoding, or go on after its end.
        """
        out = self._inflated(data) if self._encoding in _WINDOW else data
        if self._left is not None:
            self._left -= len(out)
            if self._left < 0:
                raise TooLargeError
        return out

    def finish(self) -> None:
        """Check that the encoded body was complete.

        Raises:
            DecodingError: it was cut.
        """
        if self._head or (self._inflate is not None and not self._inflate.eof):
            raise DecodingError

    def _inflated(self, data: bytes) -> bytes:
        self._head += data
        if len(self._head) < _HEADER_BYTES and self._inflate is None:
            return b""
        if self._inflate is None:
            self._inflate = zlib.decompressobj(_window(self._encoding, self._head))
        data, self._head = self._head, b""
        try:
            out = self._inflate.decompress(data, 0 if self._left is None else self._left + 1)
        except zlib.error:
            raise DecodingError from None
        if self._inflate.unconsumed_tail:
            raise TooLargeError
        if self._inflate.unused_data:
            raise DecodingError  # what follows would be dropped in silence
        return out


def _window(encoding: bytes, head: bytes) -> int:
    """Choose zlib's window; that "deflate" has the zlib wrapper is disputed (RFC 9110 §8.4.1.2), so its head tells."""
    is_wrapped = head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(head[:_HEADER_BYTES], "big") % 31 == 0
    return _WINDOW[encoding] if encoding != b"deflate" or is_wrapped else _RAW_DEFLATE
