"""JSON read without a doubt left over: what one reader could take otherwise than another is refused. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["NotExactJsonError", "read_json"]


class NotExactJsonError(ValueError):
    """No JSON, or JSON that readers may differ on. Content-free."""


def read_json(data: bytes) -> Any:
    """Read one JSON value.

    Raises:
        NotExactJsonError: it is no UTF-8, no JSON, names a member twice, holds a number that is not finite or too large
            to be read, or nests beyond reason.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise NotExactJsonError from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotExactJsonError
    return members


def _no_constant(_name: str) -> float:
    raise NotExactJsonError


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotExactJsonError
    return value
