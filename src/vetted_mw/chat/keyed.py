"""HMAC-SHA-256 (RFC 2104) of a message that is at hand as a whole, or comes in pieces. Pure.

Two passes of the library's SHA-256. The HMAC of OpenSSL 3 looks its digest up and sets a context up for every message,
which takes longer than hashing a short one twice; and one that is under way holds three hashes, for a stream's whole
life.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from hashlib import _Hash

__all__ = ["begun", "ended", "hmac_sha256"]

_BLOCK_BYTES = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def hmac_sha256(key: bytes, parts: Iterable[bytes]) -> str:
    """Return the HMAC of a message under `key`, in hexadecimal digits.

    Args:
        key: of any length.
        parts: the message is these, one after the other.
    """
    block = _block(key)
    inner = sha256(b"".join((block.translate(_INNER), *parts))).digest()
    return sha256(block.translate(_OUTER) + inner).hexdigest()


def begun(key: bytes) -> _Hash:
    """Return what is to be updated with a message, piece by piece, for `ended`."""
    return sha256(_block(key).translate(_INNER))


def ended(key: bytes, said: _Hash) -> str:
    """Return the HMAC of a message, in hexadecimal digits.

    Args:
        key: the same that it was begun with.
        said: what was begun, updated with all of the message; it may go on being updated.
    """
    return sha256(_block(key).translate(_OUTER) + said.digest()).hexdigest()


def _block(key: bytes) -> bytes:
    if len(key) > _BLOCK_BYTES:
        key = sha256(key).digest()
    return key.ljust(_BLOCK_BYTES, b"\0")
