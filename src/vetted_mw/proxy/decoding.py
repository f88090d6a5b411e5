"""Undo gzip and deflate within a limit, so that a small body cannot become a huge one."""

from __future__ import annotations

import zlib

__all__ = ["BodyDecoder", "DecodingError", "TooLargeError", "is_known_encoding"]

_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_RAW_DEFLATE = -15


class DecodingError(ValueError):
    """The bytes are not what `Content-Encoding` says."""


class TooLargeError(ValueError):
    """The decoded bytes are over the limit."""


def is_known_encoding(encoding: bytes) -> bool:
    """Whether `BodyDecoder` takes this `Content-Encoding` (lower case; empty is identity)."""
    return encoding in {b"", b"identity"} or encoding in _WINDOW


class BodyDecoder:
    """Decode one body fed in pieces; raises as soon as the total passes `max_bytes`.

    Args:
        encoding: lower-case `Content-Encoding`, empty for identity; must be known.
        max_bytes: limit on what comes out in all; None for no limit (a stream limits its frames instead).
    """

    def __init__(self, encoding: bytes, *, max_bytes: int | None) -> None:
        self._encoding = encoding
        self._left = max_bytes
        window = _WINDOW.get(encoding)
        self._inflate = None if window is None else zlib.decompressobj(window)
        self._started = False

    def feed(self, data: bytes) -> bytes:
        """Return what `data` decodes to.

        Raises:
            TooLargeError: the total is over the limit.
            DecodingError: the bytes are not in the encoding.
        """
        out = data if self._inflate is None else self._inflated(data)
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
        if self._inflate is not None and self._started and not self._inflate.eof:
            raise DecodingError

    def _inflated(self, data: bytes) -> bytes:
        bound = 0 if self._left is None else self._left + 1
        try:
            return self._decompress(data, bound)
        except zlib.error:
            raise DecodingError from None

    def _decompress(self, data: bytes, bound: int) -> bytes:
        assert self._inflate is not None  # noqa: S101 (narrowing for the type checker; feed() checked)
        try:
            out = self._inflate.decompress(data, bound)
        except zlib.error:
            if self._started or self._encoding != b"deflate":
                raise
            # Whether "deflate" has the zlib wrapper is disputed (RFC 9110 §8.4.1.2); the other form is tried once.
            self._inflate = zlib.decompressobj(_RAW_DEFLATE)
            out = self._inflate.decompress(data, bound)
        self._started = self._started or bool(data)
        if self._inflate.unconsumed_tail:
            raise TooLargeError
        return out
