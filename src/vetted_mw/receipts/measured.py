"""Energy that an upstream says it measured: read from its answer, looked at, and charged. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from vetted_mw.chat.members import MalformedJSONError, is_sprawling, parse_object
from vetted_mw.receipts.charging import Work, charged, embodied_g
from vetted_mw.receipts.parametric import joules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.configuration import MeasuredEnergy
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.figures import Figures, Inputs

__all__ = ["MeasuredReading", "figures_measured", "is_believable", "read_measured"]

_JOULE_PER_WH = 3600.0
_MOST_TIMES = 100.0
"""How far a measurement may lie from the parametric figure, either way, and still be believed."""
_MAX_NUMBER = 64
"""Characters; more than any number of an energy needs."""
_MAX_INNER = 1_048_576
"""Bytes of what holds the number inside an answer; it is read again at every level of the path."""
_MANY_ITEMS = 50_000
"""Commas in a list from which on it is no place for a number; its items would be as many objects in memory."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_POSITION = re.compile(r"\d{1,9}", re.ASCII)


class MeasuredReading(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream says an answer took.

    Attributes:
        value_wh: Wh; not a number where what stood there could not be read.
        scope: of the accelerators (`gpu`), or of the whole server (`node`).
    """

    value_wh: float
    scope: Literal["gpu", "node"]


def read_measured(
    where: MeasuredEnergy, *, headers: Sequence[tuple[bytes, bytes]], body: bytes | None
) -> MeasuredReading | None:
    """Read the energy an answer tells; None where it tells none.

    Args:
        where: the place the operator named.
        headers: the answer's, lower-case names.
        body: a JSON answer, or the chunk of a stream that carried its usage; None when there is none.

    Returns:
        A reading that is not a number where something stands in the place that cannot be read: it is rejected later,
        and the receipt says so.
    """
    told = _from_headers(headers, where.header) if where.header else _from_body(body, where.json_path)
    if told is None:
        return None
    return MeasuredReading(value_wh=told / _JOULE_PER_WH if where.unit == "J" else told, scope=where.scope)


def is_believable(measured: MeasuredReading, inputs: Inputs, coefficients: Coefficients) -> bool:
    """Whether a measurement can be true: a positive number, within 100 times of the parametric figure either way."""
    value = measured.value_wh
    estimate = sum(joules(inputs, coefficients)) / 3600
    if measured.scope == "node":
        estimate *= _server_ratio(coefficients)
    return math.isfinite(value) and value > 0 and estimate / _MOST_TIMES <= value <= estimate * _MOST_TIMES


def figures_measured(measured: MeasuredReading, inputs: Inputs, coefficients: Coefficients) -> Figures:
    """Return the figures of a measurement; what was measured has no part in their intervals.

    Args:
        measured: accelerators' (`gpu`) or the whole server's (`node`) Wh. `node` has no narrow boundary: whoever calls
            refuses it.
        inputs: the site, the grid and the boundary.
        coefficients: the ratios for what was not measured.
    """
    return charged(_work(measured, inputs, coefficients), inputs, coefficients)


def _from_headers(headers: Sequence[tuple[bytes, bytes]], name: str) -> float | None:
    wanted = name.encode("latin-1")
    told = {value.strip() for found, value in headers if found == wanted}
    if not told:
        return None
    return _number(told.pop().decode("latin-1")) if len(told) == 1 else math.nan  # two words for one number are none


def _number(text: str) -> float:
    return float(text) if len(text) <= _MAX_NUMBER and _NUMBER.fullmatch(text) else math.nan


def _from_body(body: bytes | None, path: str) -> float | None:
    if body is None:
        return None
    raw = body
    try:
        for name in path.split("."):
            if is_sprawling(raw) or (raw is not body and len(raw) > _MAX_INNER):
                return math.nan
            member = _member(raw, name)
            if member is None:
                return None
            raw = member
        return _json_number(raw)
    except (MalformedJSONError, msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError):
        return math.nan


def _member(raw: bytes, name: str) -> bytes | None:
    """Return a member of an object, or an item of a list by its position; None where there is none."""
    first = raw.lstrip()[:1]
    if first == b"{":
        found = parse_object(raw).get(name)
        return None if found is None else bytes(found)
    if first != b"[" or not _POSITION.fullmatch(name):
        return None
    if raw.count(b",") > _MANY_ITEMS:
        raise MalformedJSONError
    items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    return bytes(items[int(name)]) if int(name) < len(items) else None


def _json_number(raw: bytes) -> float | None:
    value = msgspec.json.decode(raw) if len(raw) <= _MAX_NUMBER else False
    if value is None:
        return None
    return math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)


def _work(measured: MeasuredReading, inputs: Inputs, coefficients: Coefficients) -> Work:
    value, spread = measured.value_wh, coefficients.spread
    ratio = _server_ratio(coefficients)
    if measured.scope == "node":
        return Work(
            it_wh=value,
            accelerator_wh=None,
            embodied_g=embodied_g(value * 3600 / ratio, coefficients),
            variance=0.0,
            host_variance=0.0,
        )
    whole = Work(
        it_wh=value * ratio,
        accelerator_wh=value,
        embodied_g=embodied_g(value * 3600, coefficients),
        variance=spread.idle**2,
        host_variance=spread.host**2,
    )
    return (
        whole
        if not inputs.narrow
        else msgspec.structs.replace(whole, it_wh=value, embodied_g=0.0, variance=0.0, host_variance=0.0)
    )


def _server_ratio(coefficients: Coefficients) -> float:
    """Return Wh of a whole server and its idle share per Wh of its accelerators."""
    return coefficients.parametric.host_ratio * coefficients.parametric.idle_ratio
