"""`vetted-mw signals --from-file`: the real parser over a recorded answer, with all that an auditor would recompute."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.factors import load_factors
from vetted_mw.grid.report import reading_facts
from vetted_mw.grid.services import SERVICES
from vetted_mw.grid.signal import read_at
from vetted_mw.grid.sources import http_json
from vetted_mw.grid.sources.request import MAX_BODY_BYTES
from vetted_mw.grid.sources.shipped import parser_described, parsers_of, terms_of
from vetted_mw.grid.zones import load_zones
from vetted_mw.instants import parse_rfc3339
from vetted_mw.settings import load_configuration
from vetted_mw.signal_configuration import ServiceSource, SignalConfiguration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vetted_mw.grid.sources.request import Parsed

__all__ = ["recorded"]


def recorded(arguments: argparse.Namespace) -> int:
    """Print what a source's parser makes of a file; exit code 1 when that is no signal.

    Raises:
        ConfigurationError: the file cannot be read, or the source has nothing for the zone.
    """
    if arguments.watch:
        raise ConfigurationError(
            "--watch and --from-file exclude each other.", remedy="A file is read once: leave one out."
        )
    if arguments.source is None or arguments.zone is None:
        raise ConfigurationError(
            "--from-file needs to know what the file is.",
            remedy="Add --source and --zone, as in --source entsoe --zone SE_4.",
        )
    at = datetime.now(UTC) if arguments.at is None else _instant(arguments.at)
    data = _read(arguments.from_file)
    parsed = _parsed(arguments.source, arguments.zone, _signals(arguments.config), data, at)
    told = [_told(one, at) for one in parsed]
    if arguments.json:
        shown: Any = told[0] if len(told) == 1 else told
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        print("\n\n".join(_readable(one) for one in told))
    return 0 if "gco2_per_kwh" in told[0] else 1


def _signals(file: Path | None) -> SignalConfiguration:
    """Return the settings every command would use; without a file that was named, what is wrong with them is no bar."""
    try:
        return load_configuration(file).signals
    except ConfigurationError as error:
        if file is not None:
            raise
        print(f"vetted-mw: the settings cannot be used, so the shipped defaults are: {error}", file=sys.stderr)
        return SignalConfiguration()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """What reads an answer: the label its signals have, and one parser for each kind of value."""

    label: str
    parsers: Sequence[Callable[[bytes, datetime], Parsed]]


def _parsed(source: str, zone: str, signals: SignalConfiguration, data: bytes, at: datetime) -> list[Parsed]:
    reader = _described(zone, signals) if source == http_json.LABEL else _shipped(source, zone, signals)
    if len(data) > MAX_BODY_BYTES:
        return [NoSignal(source=reader.label, zone=zone, reason=NoSignalReason.TOO_LARGE)]
    return [parse(data, at) for parse in reader.parsers]


def _described(zone: str, signals: SignalConfiguration) -> _Reader:
    readings = () if signals.http_json is None else signals.http_json.readings
    found = [parser_described(reading, signals) for reading in readings if reading.zone == zone]
    if not found:
        raise ConfigurationError(
            f"no settings describe {http_json.LABEL} for that zone.",
            field="--zone",
            remedy=f"Add --config FILE with [signals.sources.http_json.zones.{zone}].",
        )
    return _Reader(label=http_json.LABEL, parsers=found)


def _shipped(source: str, zone: str, signals: SignalConfiguration) -> _Reader:
    service = SERVICES[source]
    asked = next((one for one in signals.services if one.name == source), None) or ServiceSource(
        name=source,
        base_urls=(service.base_url,),
        max_age_minutes=service.max_age_minutes,
        refresh_seconds=service.refresh_seconds,
        figure=service.figure,
    )
    terms = terms_of(asked, zone, signals)
    if terms is None:
        known = [code for code, one in load_zones().items() if source in one.areas]
        raise ConfigurationError(
            f"{source} has nothing for that zone.", field="--zone", remedy=f"It has {', '.join(known)}."
        )
    return _Reader(label=terms.source, parsers=parsers_of(asked, terms))


def _told(parsed: Parsed, at: datetime) -> dict[str, Any]:
    if isinstance(parsed, NoSignal):
        return {
            "source": parsed.source,
            "zone": parsed.zone,
            "no_signal": {"reason": parsed.reason.value, "sentence": parsed.reason.sentence},
        }
    factors = load_factors()
    told = {"zone": parsed.zone, **reading_facts(read_at(parsed, at))}
    if parsed.mix and parsed.method.factor_set == factors.id:
        told["factor_set_digest"] = factors.digest
        told["factors"] = {
            code: factors.factor(code, parsed.zone).gco2_per_kwh for code, _ in parsed.mix if factors.counts(code)
        }
    return told


def _readable(told: dict[str, Any]) -> str:
    line = partial("{:<12} {}".format)
    if "no_signal" in told:
        why = f"{told['no_signal']['reason']}: {told['no_signal']['sentence']}"
        return "\n".join([line("source", told["source"]), line("zone", told["zone"]), line("no signal", why)])
    span = "-" if told["resolution_minutes"] is None else f"{told['interval_start']} to {told['observed_at']}"
    lines = [
        line("source", told["source"]),
        line("zone", f"{told['zone']} (the value is of {told['area']})"),
        line("interval", f"{span}, {told['resolution_minutes']} min" if span != "-" else told["observed_at"]),
        line("intensity", f"{told['gco2_per_kwh']:g} gCO2e/kWh, {told['signal_kind']}"),
        line("method", told["method"]),
    ]
    if "factors" in told:
        factors = told["factors"]
        mix = (
            f"{code} {_fuel(code)} {megawatts:g} MW x {factors[code]:g}"
            for code, megawatts in told["mix"].items()
            if code in factors
        )
        lines += [line("mix", ", ".join(mix)), line("factor set", f"{told['factor_set']}, {told['factor_set_digest']}")]
        lines.append(line("proxy share", f"{told['proxy_share']:.1%} (limit {told['max_proxy_share']:.0%})"))
    verdict = "yes" if told["live_eligible"] else f"no: {told['ineligible_reason']}"
    age = f"{_age(told['age_minutes'])} old at {told['requested_at']}, limit {_age(told['max_age_minutes'])}"
    return "\n".join([*lines, line("may decide", f"{verdict} ({age})"), line("body", f"sha-256 {told['raw_ref']}")])


def _fuel(code: str) -> str:
    known = load_factors().factors.get(code)
    return "unknown" if known is None else known.name


def _age(minutes: float) -> str:
    """Write an age as people say it: minutes, then hours, then days."""
    if minutes <= 3 * 60:
        return f"{minutes:g} min"
    return f"{minutes / 60:.1f} h" if minutes < 3 * 24 * 60 else f"{minutes / 24 / 60:,.0f} days"


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"the file cannot be read ({type(error).__name__}).", field="--from-file", remedy="Name a readable file."
        ) from None


def _instant(text: str) -> datetime:
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise ConfigurationError(
            "is no instant.", field="--at", remedy="Write it with an offset, as in 2026-11-22T09:45:00Z."
        ) from None
