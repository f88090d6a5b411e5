"""RFC 8785 (JCS): the one way to write a JSON value, which is what signatures and digests are made over. Pure.

Our own, since every receipt passes here and `rfc8785` takes several times as long; that library is the oracle of its
tests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["NotCanonicalError", "canonical", "canonical_members"]

_MAX_INTEGER = 2**53 - 1
_LARGEST_PLAIN = 21
"""ECMAScript writes numbers below 1e21 without an exponent."""
_SMALLEST_PLAIN = -6
"""And those from 1e-6 on."""
_LEAST_ALIKE, _MOST_ALIKE = 1e-4, 1e15
"""Between these every writer of shortest digits writes the same."""
_PLAIN = frozenset({str, bool, type(None)})
_SORTED = msgspec.json.Encoder(order="sorted").encode
_text = json.encoder.encode_basestring


class NotCanonicalError(ValueError):
    """A value that RFC 8785 has no form for. Content-free."""


def canonical(value: object) -> bytes:
    """Write `value` in its canonical form, UTF-8.

    Args:
        value: mappings with text keys, sequences, texts, numbers, booleans and None.

    Raises:
        NotCanonicalError: a number is not finite or an integer beyond 2**53 - 1, a text holds half a surrogate pair,
            something is no JSON, or it nests beyond reason.
    """
    try:
        return _written(value).encode()
    except (UnicodeEncodeError, RecursionError):
        raise NotCanonicalError from None


def canonical_members(members: dict[str, Any]) -> bytes:
    """Write a flat object with ASCII names, as a receipt is, in a quarter of the time; the same bytes.

    `msgspec` sorts members and writes texts as the RFC has them, and so the numbers that need no exponent, once those
    without a fraction are integers. What it may write otherwise is left to `canonical`.

    Raises:
        NotCanonicalError: as `canonical` does.
    """
    changed: dict[str, int] = {}
    for name, value in members.items():
        kind = type(value)
        if kind is float:
            if value and not _LEAST_ALIKE <= value < _MOST_ALIKE:
                return canonical(members)
            if value.is_integer():
                changed[name] = int(value)
        elif kind is int:
            if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
                return canonical(members)
        elif kind not in _PLAIN:
            return canonical(members)
    try:
        return _SORTED({**members, **changed})
    except (UnicodeEncodeError, msgspec.MsgspecError):
        raise NotCanonicalError from None


def _written(value: Any) -> str:
    write = _WRITERS.get(type(value))
    if write is None:  # an enumeration's member, a struct's mapping: what is like a JSON value without being one
        write = next((writer for kind, writer in _KINDS if isinstance(value, kind)), _refused)
    return write(value)


def _object(members: Mapping[Any, Any]) -> str:
    try:
        is_ascii = "".join(members).isascii()
    except TypeError:  # a name that is no text
        raise NotCanonicalError from None
    # In order of their UTF-16 code units, as ECMAScript compares texts.
    names = sorted(members) if is_ascii else sorted(members, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join([f"{_text(name)}:{_written(members[name])}" for name in names]) + "}"


def _array(values: Sequence[Any]) -> str:
    return "[" + ",".join([_written(value) for value in values]) + "]"


def _boolean(value: bool) -> str:  # noqa: FBT001 (a value to write, no switch)
    return "true" if value else "false"


def _null(_value: None) -> str:
    return "null"


def _integer(value: int) -> str:
    if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
        raise NotCanonicalError
    return int.__repr__(value)


def _refused(_value: object) -> str:
    raise NotCanonicalError


def _number(value: float) -> str:
    """Write a number as ECMAScript does: the shortest digits that read back the same, which Python finds as well."""
    if not math.isfinite(value):
        raise NotCanonicalError
    if value == 0:
        return "0"  # minus zero too
    written = float.__repr__(value)
    if "e" in written:
        return _with_exponent(written)
    return written.removesuffix(".0")


def _with_exponent(written: str) -> str:
    """Write what Python writes with an exponent the way ECMAScript does, which uses one more rarely."""
    sign = "-" if written.startswith("-") else ""
    mantissa, _, exponent = written.removeprefix("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction  # one digit before the point
    point = 1 + int(exponent)
    return sign + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    """Write `0.digits * 10**point`, which is below 1e-4 or from 1e16 on."""
    if _SMALLEST_PLAIN < point <= 0:
        return "0." + "0" * -point + digits
    if 0 < point <= _LARGEST_PLAIN:
        return digits.ljust(point, "0")  # there are 17 digits at most
    exponent = point - 1
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{'+' if exponent > 0 else ''}{exponent}"


_KINDS: Sequence[tuple[type, Callable[[Any], str]]] = (
    (str, _text),
    (float, _number),
    (bool, _boolean),
    (int, _integer),
    (type(None), _null),
    (bytes, _refused),
    (bytearray, _refused),
    (memoryview, _refused),
    (Mapping, _object),
    (Sequence, _array),
)
_WRITERS: Mapping[type, Callable[[Any], str]] = dict([*_KINDS[:5], (dict, _object), (list, _array), (tuple, _array)])
