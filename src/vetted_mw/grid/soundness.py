"""Whether an answer of a source is one: its members by their types, its value by what a grid can have. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vetted_mw.grid.absence import Cause, NoSignal, NoSignalReason
from vetted_mw.grid.signal import GridSignal, Method, SignalKind
from vetted_mw.grid.units import is_plausible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["require_members", "unfit"]

_SIGNAL: Mapping[str, tuple[type, ...]] = {
    "source": (str,),
    "zone": (str,),
    "area": (str,),
    "kind": (SignalKind,),
    "gco2_per_kwh": (int, float),
    "observed_at": (datetime,),
    "fetched_at": (datetime,),
    "max_age_minutes": (int, float),
    "method": (Method,),
    "resolution_minutes": (int, type(None)),
    "estimated": (bool,),
    "proxy_share": (int, float, type(None)),
    "max_proxy_share": (int, float),
    "raw_ref": (str,),
    "mix": (tuple,),
}
_METHOD: Mapping[str, tuple[type, ...]] = {
    "accounting": (str,),
    "basis": (str,),
    "kind": (str,),
    "factor_set": (str, type(None)),
}
_NO_SIGNAL: Mapping[str, tuple[type, ...]] = {
    "source": (str,),
    "zone": (str,),
    "reason": (NoSignalReason,),
    "cause": (Cause, type(None)),
    "status": (int, type(None)),
    "retry_after_seconds": (int, float, type(None)),
}


def require_members(answers: Iterable[Any]) -> None:
    """Refuse what one who reads the board, on a request's path perhaps, could fail over.

    Raises:
        TypeError: an answer is none, or a member is not of its type.
        ValueError: a limit is no finite number.
        OverflowError: a number or an instant is beyond what can be told.
    """
    for one in answers:
        if isinstance(one, NoSignal):
            _require(one, _NO_SIGNAL)
        elif isinstance(one, GridSignal):
            _require(one, _SIGNAL)
            _require(one.method, _METHOD)
            _require_told(one)
        else:
            raise TypeError("an answer is neither a signal nor the word that there is none")


def unfit(signal: GridSignal) -> NoSignal | None:
    """Say why a value can be no grid's; None when it can."""
    if not math.isfinite(signal.gco2_per_kwh) or signal.gco2_per_kwh < 0:
        reason = NoSignalReason.NOT_A_NUMBER
    elif not is_plausible(signal.gco2_per_kwh, signal.method.basis):
        reason = NoSignalReason.IMPLAUSIBLE
    else:
        return None
    return NoSignal(source=signal.source, zone=signal.zone, reason=reason)


def _require(value: object, members: Mapping[str, tuple[type, ...]]) -> None:
    for name, types in members.items():
        member = getattr(value, name)
        # True is an int to Python, and to nobody who reads a signal.
        if not isinstance(member, types) or (isinstance(member, bool) and bool not in types):
            raise TypeError(f"{name} is not of its type")


def _require_told(signal: GridSignal) -> None:
    """Do with the members what the report and a receipt will do with them."""
    for code, megawatts in signal.mix:
        if not isinstance(code, str) or isinstance(megawatts, bool) or not isinstance(megawatts, (int, float)):
            raise TypeError("mix is not of its type")
    numbers = [signal.max_age_minutes, signal.max_proxy_share, signal.proxy_share or 0.0]
    if not all(math.isfinite(number) for number in (*numbers, *(megawatts for _code, megawatts in signal.mix))):
        raise ValueError("a number is not finite")
    float(signal.gco2_per_kwh)
    if signal.observed_at.utcoffset() is None or signal.fetched_at.utcoffset() is None:
        raise TypeError("an instant names no offset")
    start = signal.observed_at - timedelta(minutes=signal.resolution_minutes or 0)
    for moment in (start, signal.observed_at, signal.fetched_at):
        moment.astimezone(UTC)
