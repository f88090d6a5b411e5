"""How the facts of `vetted-mw signals` are shown: a table, what may be done about it, a line per change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vetted_mw.cli.table import table
from vetted_mw.grid.absence import NoSignalReason
from vetted_mw.grid.signal import Ineligible, SignalKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["changes", "signal_table", "told_age"]

_HEAD = ("zone", "source", "area", "gCO2e/kWh", "age", "method", "proxy", "may decide")
_NUMBERS = ("gCO2e/kWh", "age", "proxy")
_SOURCES = ("source", "state", "last answer (UTC)", "failures", "last error")
_NO_SOURCE = """\
No source is configured, so carbon-aware requests run in the default order and say so. Add, for France, Sweden, Finland
and Germany without a key, and for Iceland:

[signals.sources.energy_charts]
[signals.sources.landsnet]"""
_NONE_DECIDES = "No value may decide: carbon-aware requests run in the default order, and the trace says `degraded`."
_METHOD_MISMATCH = "method_mismatch"
_SENTENCES = {
    Ineligible.NOT_MEASURED.value: "A forecast is shown and never decides.",
    Ineligible.ESTIMATED.value: "The service itself calls the value an estimate.",
    Ineligible.FUTURE_DATED.value: "The value is dated ahead of the time it was fetched at: a clock is wrong.",
    Ineligible.STALE.value: "The value is older than its source's max_age_minutes.",
    Ineligible.NOT_A_NUMBER.value: "The value is none.",
    Ineligible.PROXY_SHARE.value: "More of the mix rests on stand-in factors than signals.max_proxy_share allows.",
    _METHOD_MISMATCH: "Values of another method cover more zones, or the more preferred region: they alone compete.",
} | {reason.value: reason.sentence for reason in NoSignalReason}


def signal_table(facts: dict[str, Any]) -> str:
    """Return everything at once: the zones' values, the sources, what is compared, and what each reason means."""
    if not facts["sources"]:
        return _NO_SOURCE
    rows = [_row(row, facts["competing"]) for zone in facts["zones"].values() for row in zone]
    silent = [
        (zone, *("-",) * (len(_HEAD) - 2), f"no: {facts['silent'].get(zone, 'no source has answered for it')}")
        for zone, of_zone in facts["zones"].items()
        if not of_zone
    ]
    parts = [
        table(_HEAD, [*rows, *silent], numbers=_NUMBERS),
        table(_SOURCES, [_source(one) for one in facts["sources"]], numbers=("failures",)),
        _compared(facts["competing"]),
        "\n".join(f"{reason}: {_SENTENCES[reason]}" for reason in _reasons(facts)),
    ]
    return "\n\n".join(part for part in parts if part)


def changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield a line for every value, verdict and state that is another now, and for every row that is gone."""
    known = {_key(row): _cells(row, before["competing"]) for zone in before["zones"].values() for row in zone}
    for zone in after["zones"].values():
        for row in zone:
            cells = _cells(row, after["competing"])
            if known.get(_key(row)) != cells:
                value, verdict = cells
                yield f"{row['zone']} {row['source']}: {value}, may decide: {verdict}"
    yield from _gone(before, after)
    states = {one["source"]: _source(one)[1] for one in before["sources"]}
    for one in after["sources"]:
        state = _source(one)[1]
        if states.get(one["source"]) != state:
            yield f"{one['source']}: {state}" + (f", {one['error']}" if one["error"] else "")


def told_age(minutes: float) -> str:
    """Write an age as people say it: minutes, then hours, then days."""
    if minutes <= 3 * 60:
        return f"{minutes:g} min"
    return f"{minutes / 60:.1f} h" if minutes < 3 * 24 * 60 else f"{minutes / 24 / 60:,.0f} days"


def _gone(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    left = [_key(row) for zone in after["zones"].values() for row in zone]
    for *place, kind in [_key(row) for zone in before["zones"].values() for row in zone]:
        kinds = [one for *other, one in left if other == place]
        # A value in the place of a reason, or a reason in that of a value, has its line already.
        if kind not in kinds and None not in kinds and not (kind is None and kinds):
            zone, _name, label = place
            yield f"{zone} {label}: gone" if kind in {None, SignalKind.MEASURED} else f"{zone} {label} ({kind}): gone"


def _key(row: dict[str, Any]) -> tuple[str, str, str, str | None]:
    return row["zone"], row["name"], row["source"], row["signal_kind"]


def _cells(row: dict[str, Any], competing: dict[str, Any]) -> tuple[str, str]:
    value = "no value" if row["gco2_per_kwh"] is None else f"{row['gco2_per_kwh']:.4g} gCO2e/kWh"
    return value, _verdict(row, competing)


def _row(row: dict[str, Any], competing: dict[str, Any]) -> tuple[str, ...]:
    verdict = _verdict(row, competing)
    if row["gco2_per_kwh"] is None:
        return (row["zone"], row["source"], *("-",) * (len(_HEAD) - 3), verdict)
    return (
        row["zone"],
        row["source"],
        row["area"],
        f"{row['gco2_per_kwh']:.4g}",
        "ahead" if row["ineligible_reason"] == Ineligible.FUTURE_DATED else told_age(row["age_minutes"]),
        row["method"],
        "-" if row["proxy_share"] is None else f"{row['proxy_share']:.0%}",
        verdict,
    )


def _verdict(row: dict[str, Any], competing: dict[str, Any]) -> str:
    if row["gco2_per_kwh"] is None:
        return f"no: {_why_nothing(row['no_signal'])}"
    verdict = f"no: {_why_not(row)}"
    if row["live_eligible"]:
        verdict = "yes" if row["of_zone"] else "yes, as backup"
    if row["of_zone"] and row["zone"] in competing[_METHOD_MISMATCH]:
        verdict = f"no: {_METHOD_MISMATCH}"
    if row["no_signal"] is not None:
        verdict += f"; nothing new: {_why_nothing(row['no_signal'])}"
    return verdict


def _why_not(row: dict[str, Any]) -> str:
    reason = str(row["ineligible_reason"])
    if reason == Ineligible.PROXY_SHARE and row["proxy_share"] is not None:
        return f"{reason} ({row['proxy_share']:.0%} > {row['max_proxy_share']:.0%})"
    return reason


def _why_nothing(told: dict[str, Any]) -> str:
    status = None if told["status"] in {None, 200} else f"HTTP {told['status']}"
    more = ", ".join(part for part in (status, told["cause"]) if part)
    return f"{told['reason']}{f' ({more})' if more else ''} since {_clock(told['since'])}"


def _source(state: dict[str, Any]) -> tuple[str, ...]:
    breaker = ", breaker open" if state["breaker"] == "open" else ""
    error = state["error"] if state["failures"] else None
    return (
        state["source"],
        state["state"].replace("_", " ") + breaker,
        _clock(state["succeeded_at"]),
        str(state["failures"]),
        error or "-",
    )


def _compared(competing: dict[str, Any]) -> str:
    if competing["method"] is None:
        return _NONE_DECIDES
    told = f"Compared with each other: {', '.join(competing['zones'])} ({competing['method']})."
    others = competing[_METHOD_MISMATCH]
    return f"{told} Not with them: {', '.join(others)} ({_METHOD_MISMATCH})." if others else told


def _reasons(facts: dict[str, Any]) -> Iterable[str]:
    found: dict[str, None] = {}
    for row in (row for zone in facts["zones"].values() for row in zone):
        if row["ineligible_reason"] is not None:
            found[row["ineligible_reason"]] = None
        if row["no_signal"] is not None:
            found[row["no_signal"]["reason"]] = None
    if facts["competing"][_METHOD_MISMATCH]:
        found[_METHOD_MISMATCH] = None
    return found


def _clock(instant: str | None) -> str:
    """Write an instant to the second, without the letters in between."""
    return "-" if instant is None else instant[:19].replace("T", " ")
