"""RFC 8785 (JCS): the one way to write a JSON value, which is what signatures and digests are made over. Pure.

Our own, since every receipt passes here twice as a rule and `rfc8785` takes five times as long; that library is the
oracle of its tests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["NotCanonicalError", "canonical"]

_MAX_INTEGER = 2**53 - 1
_LARGEST_PLAIN = 21
"""ECMAScript writes numbers below 1e21 without an exponent."""
_SMALLEST_PLAIN = -6
"""And those from 1e-6 on."""
_text = json.encoder.encode_basestring


class NotCanonicalError(ValueError):
    """A value that RFC 8785 has no form for. Content-free."""


def canonical(value: object) -> bytes:
    """Write `value` in its canonical form, UTF-8.

    Args:
        value: mappings with text keys, sequences, texts, numbers, booleans and None.

    Raises:
        NotCanonicalError: a number is not finite or an integer beyond 2**53 - 1, a text holds half a surrogate pair, or
            something is no JSON.
    """
    try:
        return _written(value).encode()
    except UnicodeEncodeError:
        raise NotCanonicalError from None


def _written(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise NotCanonicalError
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_text(name)}:{_written(value[name])}" for name in _sorted(value)) + "}"
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return "[" + ",".join(map(_written, value)) + "]"
    raise NotCanonicalError


def _sorted(members: Mapping[Any, Any]) -> list[str]:
    """Return the names in order of their UTF-16 code units, as ECMAScript compares texts."""
    if not all(isinstance(name, str) for name in members):
        raise NotCanonicalError
    if all(name.isascii() for name in members):
        return sorted(members)
    return sorted(members, key=lambda name: name.encode("utf-16-be"))


def _number(value: float) -> str:
    """Write a number as ECMAScript does: the shortest digits that read back the same, which Python finds as well."""
    if not math.isfinite(value):
        raise NotCanonicalError
    if value == 0:
        return "0"  # minus zero too
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return sign + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    """Write `0.digits * 10**point`."""
    if _SMALLEST_PLAIN < point <= 0:
        return "0." + "0" * -point + digits
    if 0 < point <= _LARGEST_PLAIN:
        if len(digits) <= point:
            return digits + "0" * (point - len(digits))
        return f"{digits[:point]}.{digits[point:]}"
    exponent = point - 1
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{'+' if exponent > 0 else ''}{exponent}"
