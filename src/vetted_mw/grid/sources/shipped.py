"""The configured services as sources: which zones each is asked for, on which terms, with which key."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vetted_mw.grid.schedule import Pace
from vetted_mw.grid.services import DEFAULT_CHAIN, SERVICES, least_refresh_seconds
from vetted_mw.grid.sources import (
    electricity_maps,
    energinet,
    energy_charts,
    entsoe,
    fingrid,
    http_json,
    landsnet,
    odre,
    statnett,
)
from vetted_mw.grid.sources.file import FileSignals
from vetted_mw.grid.sources.own_loop import in_place
from vetted_mw.grid.sources.polled import PolledSource
from vetted_mw.grid.sources.request import Question
from vetted_mw.grid.sources.terms import Terms
from vetted_mw.grid.zones import DEFAULT_MAX_PROXY_SHARE, with_area, zone_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from vetted_mw.grid.source import SignalSource
    from vetted_mw.grid.sources.fetching import Session
    from vetted_mw.grid.sources.polled import Run
    from vetted_mw.grid.sources.request import Asked, Parsed
    from vetted_mw.grid.zones import Zone
    from vetted_mw.signal_configuration import JsonReading, JsonSource, ServiceSource, SignalConfiguration

__all__ = ["parser_described", "parsers_of", "sources_of", "terms_of"]


def sources_of(
    signals: SignalConfiguration,
    zones: Iterable[str],
    *,
    session: Session,
    now: Callable[[], datetime],
    monotonic: Callable[[], float] = time.monotonic,
    run: Run = in_place,
) -> list[SignalSource]:
    """Return the configured sources in the order of the default chain.

    Args:
        signals: what the operator configured.
        zones: the zones of the catalogue's regions; a service is asked for those in whose chain it is.
        session: opens connections.
        now: wall clock, aware UTC.
        monotonic: seconds that never go back.
        run: runs a refresh, in a thread of its own perhaps.
    """
    zones = list(dict.fromkeys(zone for zone in zones if zone))
    polled = partial(PolledSource, session=session, now=now, monotonic=monotonic, run=run)
    found: list[SignalSource] = [_service(one, signals, zones, polled) for one in signals.services]
    if signals.http_json is not None:
        found.append(_described(signals.http_json, signals, zones, polled))
    if signals.file is not None:
        found.append(FileSignals(signals.file, now=now))
    return sorted(found, key=lambda source: DEFAULT_CHAIN.index(source.name))


def _judged(code: str, signals: SignalConfiguration, *, areas: ServiceSource | None = None) -> Zone:
    """Return what is known of a zone, with the operator's own words and bars over the shipped table's."""
    zone = zone_of(code)
    if areas is not None and code in areas.areas:
        zone = with_area(zone, areas.name, areas.areas[code])
    return replace(
        zone,
        min_total_mw=signals.min_total_mw.get(code, zone.min_total_mw),
        expected_types=signals.expected_types.get(code, zone.expected_types),
    )


def _max_proxy_share(zone: Zone, signals: SignalConfiguration) -> float:
    """Return the operator's bar for the zone, else the shipped table's, else the operator's default, else ours."""
    found = signals.max_proxy_share.get(zone.code, zone.max_proxy_share)
    return signals.max_proxy_share.get("default", DEFAULT_MAX_PROXY_SHARE) if found is None else found


def terms_of(source: ServiceSource, code: str, signals: SignalConfiguration) -> Terms | None:
    """Return the terms a zone's value of a service is read on; None when the service has nothing for the zone."""
    zone = _judged(code, signals, areas=source)
    area = zone.areas.get(source.name)
    if area is None:
        return None
    return Terms(
        source=odre.DIRECT if source.figure == "taux_co2" else SERVICES[source.name].label,
        zone=code,
        area=area.area,
        name=area.name,
        max_age_minutes=source.max_age_minutes,
        max_proxy_share=_max_proxy_share(zone, signals),
        min_total_mw=zone.min_total_mw,
        expected_types=zone.expected_types,
    )


def parsers_of(  # noqa: PLR0911 (one case per service)
    source: ServiceSource, terms: Terms
) -> Sequence[Callable[[bytes, datetime], Parsed]]:
    """Return what reads an answer of a service for one zone: one parser, or one for each kind of value it holds."""
    match source.name:
        case "entsoe":
            return (partial(entsoe.parse, terms=terms),)
        case "landsnet":
            return (partial(landsnet.parse, terms=terms),)
        case "odre":
            return (partial(odre.parse_direct if source.figure == "taux_co2" else odre.parse, terms=terms),)
        case "statnett":
            return (partial(statnett.parse, terms=terms),)
        case "energy_charts":
            forecast = replace(terms, source=energy_charts.FORECAST)
            return (partial(energy_charts.parse, terms=terms), partial(energy_charts.parse_forecast, terms=forecast))
        case "fingrid":
            return (partial(fingrid.parse, terms=terms, figure=source.figure),)
        case "electricity_maps":
            return (partial(electricity_maps.parse, terms=terms, figure=source.figure),)
        case _:
            return (partial(energinet.parse, terms=terms),)


def parser_described(reading: JsonReading, signals: SignalConfiguration) -> Callable[[bytes, datetime], Parsed]:
    """Return what reads an answer of a service that the operator described."""
    terms = Terms(
        source=http_json.LABEL,
        zone=reading.zone,
        area=reading.area,
        name=reading.zone,
        max_age_minutes=reading.max_age_minutes,
        max_proxy_share=_max_proxy_share(zone_of(reading.zone), signals),
    )
    return partial(http_json.parse, terms=terms, reading=reading)


def _service(
    source: ServiceSource, signals: SignalConfiguration, zones: Sequence[str], polled: Callable[..., PolledSource]
) -> PolledSource:
    service = SERVICES[source.name]
    is_its_own = service.is_at(source.base_urls)
    asked = [zone for zone in zones if source.name in signals.chains.get(zone, (source.name,))]
    terms = [one for zone in asked if (one := terms_of(source, zone, signals)) is not None]
    return polled(
        source.name,
        base_urls=source.base_urls,
        questions=_questions(source, terms),
        pace=Pace(
            refresh_seconds=source.refresh_seconds,
            least_seconds=service.least_refresh_seconds if is_its_own else 0.0,
            spacing_seconds=service.spacing_seconds if is_its_own else 0.0,
            ban_seconds=service.ban_seconds,
            least_ban_seconds=service.ban_seconds if is_its_own else 0.0,
        ),
    )


def _questions(source: ServiceSource, terms: Sequence[Terms]) -> list[Question]:
    """Return one question per GET: zones that one answer tells are asked for together."""
    together: dict[str, list[Terms]] = {}
    for one in terms:
        together.setdefault("" if source.name in {"statnett", "energinet"} else one.name, []).append(one)
    return [
        Question(
            source=group[0].source,
            zones=tuple(one.zone for one in group),
            request=_request(source, group),
            parse=_read_by([parse for one in group for parse in parsers_of(source, one)]),
            reads_400=source.name == "entsoe",
        )
        for group in together.values()
    ]


def _read_by(parsers: Sequence[Callable[[bytes, datetime], Parsed]]) -> Callable[[bytes, datetime], list[Parsed]]:
    return lambda data, fetched_at: [parse(data, fetched_at) for parse in parsers]


def _request(source: ServiceSource, terms: Sequence[Terms]) -> Asked:  # noqa: PLR0911 (one case per service)
    key = "" if source.key is None else source.key.reveal()
    first = terms[0]
    match source.name:
        case "entsoe":
            return lambda base, now: entsoe.request(base, first, now, token=key)
        case "landsnet":
            return lambda base, _now: landsnet.request(base)
        case "odre":
            return lambda base, _now: odre.request(base)
        case "statnett":
            return lambda base, _now: statnett.request(base)
        case "energy_charts":
            return lambda base, _now: energy_charts.request(base, first)
        case "fingrid":
            return lambda base, _now: fingrid.request(base, figure=source.figure, key=key)
        case "electricity_maps":
            return lambda base, _now: electricity_maps.request(base, first, figure=source.figure, key=key)
        case _:
            names = list(dict.fromkeys(one.name for one in terms))
            return lambda base, _now: energinet.request(base, names)


def _described(
    source: JsonSource, signals: SignalConfiguration, zones: Sequence[str], polled: Callable[..., PolledSource]
) -> PolledSource:
    questions = []
    for reading in source.readings:
        is_in_chain = http_json.LABEL in signals.chains.get(reading.zone, (http_json.LABEL,))
        if reading.zone not in zones or not is_in_chain:
            continue
        questions.append(
            Question(
                source=http_json.LABEL,
                zones=(reading.zone,),
                request=_fixed(reading),
                parse=_read_by([parser_described(reading, signals)]),
                service=urlsplit(reading.url.reveal()).netloc,
            )
        )
    return polled(
        http_json.LABEL,
        base_urls=("",),
        questions=questions,
        pace=Pace(
            refresh_seconds=source.refresh_seconds,
            least_seconds=least_refresh_seconds([reading.url.reveal() for reading in source.readings]),
        ),
    )


def _fixed(reading: JsonReading) -> Asked:
    return lambda _base, _now: http_json.request(reading)
