"""What starts and yet will hardly be what was meant of `[signals]`: zones nobody is in, sources that have nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vetted_mw.grid.services import SERVICES
from vetted_mw.grid.sources.file import ReadingsFileError, parse_readings, read_file
from vetted_mw.grid.sources.methods import method_of
from vetted_mw.grid.sources.shipped import terms_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vetted_mw.configuration import Configuration
    from vetted_mw.grid.signal import Method
    from vetted_mw.signal_configuration import FileSource, SignalConfiguration

__all__ = ["signal_warnings", "uncovered_zones"]


def signal_warnings(configuration: Configuration) -> list[str]:
    """Return a line per doubt."""
    signals = configuration.signals
    in_file, faults = _methods_in_file(signals.file)
    of_file = None if in_file is None else frozenset(in_file)
    sources = _zones_by_source(configuration, of_file)
    zones = {region.zone for region in configuration.regions.values()} - {""}
    stray = [
        f"no region is in zone {zone}, which {place}; zones: {', '.join(sorted(zones))}"
        for zone, place in _zones_named(signals, of_file)
        if zone not in zones
    ]
    silent = _silence_warnings(configuration, sources) if sources else []
    unlike = _method_warnings(configuration, sources, in_file or {})
    paces = [*_stale_warnings(signals), *_worker_warnings(signals, configuration.server.workers)]
    return [*_chain_warnings(signals.chains, sources), *faults, *stray, *silent, *unlike, *paces]


def uncovered_zones(configuration: Configuration) -> dict[str, str]:
    """Return the zones of regions for which no configured source can have anything, each with the reason."""
    signals = configuration.signals
    in_file, faults = _methods_in_file(signals.file)
    sources = _zones_by_source(configuration, None if in_file is None else frozenset(in_file))
    found = {}
    for zone in dict.fromkeys(region.zone for region in configuration.regions.values() if region.zone):
        names = [name for name in signals.chains.get(zone, tuple(sources)) if name in sources]
        if not any(zone in sources[name] for name in names):
            found[zone] = "no configured source has it"
        elif faults and names == ["file"]:
            found[zone] = faults[0]
    return found


def _methods_in_file(file: FileSource | None) -> tuple[dict[str, Method] | None, list[str]]:
    """Return the zones the signals file has readings for, each with the last one's method, and what is wrong with it.

    None in place of the zones when they cannot be told.
    """
    if file is None:
        return {}, []
    try:
        readings = parse_readings(read_file(file.path), datetime.now(UTC), max_age_minutes=file.max_age_minutes)
    except OSError as error:
        return None, [f"the signals file {file.path} cannot be read ({type(error).__name__})"]
    except ReadingsFileError as error:
        return None, [f"the signals file {file.path} cannot be used: {error}"]
    return {reading.zone: reading.method for reading in readings}, []


def _zones_by_source(configuration: Configuration, of_file: frozenset[str] | None) -> dict[str, frozenset[str]]:
    """Return for each configured source the zones it has something for; a file that cannot be read may have any."""
    signals = configuration.signals
    zones = {region.zone for region in configuration.regions.values()} | set(signals.chains)
    found = {
        service.name: frozenset(zone for zone in zones if terms_of(service, zone, signals) is not None)
        for service in signals.services
    }
    if signals.http_json is not None:
        found["http_json"] = frozenset(reading.zone for reading in signals.http_json.readings)
    if signals.file is not None:
        found["file"] = frozenset(zones) if of_file is None else of_file
    return found


def _chain_warnings(chains: Mapping[str, tuple[str, ...]], sources: Mapping[str, frozenset[str]]) -> list[str]:
    found = []
    for zone, names in chains.items():
        strange = [name for name in names if name not in sources]
        if strange:
            own = f"signals.chains.{zone} names {', '.join(strange)}, which these settings do not configure"
            found.append(f"{own}: only an application that brings it as a source of its own can start")
        # What a watched file lacks now it may hold in a minute.
        idle = [name for name in names if name in sources and name != "file" and zone not in sources[name]]
        for name in idle:
            own = f"signals.chains.{zone} names {name}, which has nothing for {zone}: take it out"
            place = f"zones.{zone}" if name == "http_json" else f"areas.{zone}"
            is_closed = name in SERVICES and not SERVICES[name].has_areas
            found.append(own if is_closed else f"{own}, or set signals.sources.{name}.{place}")
    return found


def _zones_named(signals: SignalConfiguration, of_file: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    """Yield every zone the settings say something of, and which of them does."""
    tables: dict[str, Iterable[str]] = {
        "chains": signals.chains,
        "max_proxy_share": [zone for zone in signals.max_proxy_share if zone != "default"],
        "min_total_mw": signals.min_total_mw,
        "expected_types": signals.expected_types,
    }
    tables |= {f"sources.{service.name}.areas": service.areas for service in signals.services}
    if signals.http_json is not None:
        tables["sources.http_json.zones"] = [reading.zone for reading in signals.http_json.readings]
    for table, zones in tables.items():
        for zone in zones:
            yield zone, f"signals.{table} names"
    if signals.file is not None:
        for zone in sorted(of_file or ()):
            yield zone, f"{signals.file.path} has a reading for"


def _silence_warnings(configuration: Configuration, sources: Mapping[str, frozenset[str]]) -> list[str]:
    """Say which zones have a server and no signal, once there are sources at all."""
    served: dict[str, list[str]] = {}
    for code in configuration.upstreams:
        served.setdefault(configuration.regions[code].zone, []).append(code)
    found = []
    for zone, codes in served.items():
        names = configuration.signals.chains.get(zone, tuple(sources))
        # A source these settings do not configure is the application's own, and may have anything.
        if zone and not any(name not in sources or zone in sources[name] for name in names):
            own = f"no signal source has anything for zone {zone} ({', '.join(codes)})"
            found.append(f"{own}: carbon-aware routing cannot choose it, and is degraded where it is all there is")
    return found


def _method_warnings(
    configuration: Configuration, sources: Mapping[str, frozenset[str]], in_file: Mapping[str, Method]
) -> list[str]:
    """Say which served zones take their values by which method, where they can never compete."""
    signals = configuration.signals
    methods = {(one.name, zone): method_of(one) for one in signals.services for zone in sources[one.name]}
    described = () if signals.http_json is None else signals.http_json.readings
    methods |= {("http_json", reading.zone): reading.method for reading in described}
    methods |= {("file", zone): method for zone, method in in_file.items()}
    found: dict[str, list[str]] = {}
    for zone in dict.fromkeys(configuration.regions[code].zone for code in configuration.upstreams):
        names = signals.chains.get(zone, tuple(sources))
        # The first that has something for the zone; what an application's own source has is not known here.
        name = next((one for one in names if one not in sources or zone in sources[one]), "")
        if (name, zone) in methods:
            found.setdefault(str(methods[name, zone]), []).append(f"{zone} ({name})")
    if len(found) <= 1:
        return []
    told = "; ".join(f"{', '.join(zones)} by {method}" for method, zones in found.items())
    return [f"zones take their values by different methods, which are never ranked against each other: {told}"]


def _worker_warnings(signals: SignalConfiguration, workers: int) -> list[str]:
    """Say which services all workers together ask more often than one may, for each worker asks for itself."""
    found = []
    for one in signals.services:
        service = SERVICES[one.name]
        least = service.least_refresh_seconds if service.is_at(one.base_urls) else 0.0
        if one.refresh_seconds < least * workers:
            together = f"server.workers = {workers} together ask {one.name} every {one.refresh_seconds / workers:g} s"
            remedy = f"set signals.sources.{one.name}.refresh_seconds to {least * workers:g} or more"
            found.append(f"{together}, and it may be asked every {least:g} s: {remedy}")
    return found


def _stale_warnings(signals: SignalConfiguration) -> list[str]:
    """Say which services are asked so rarely that their values are too old in between."""
    paces = [(one.name, one.refresh_seconds, one.max_age_minutes) for one in signals.services]
    described = signals.http_json
    if described is not None and described.readings:
        shortest = min(reading.max_age_minutes for reading in described.readings)
        paces.append(("http_json", described.refresh_seconds, shortest))
    return [
        f"signals.sources.{name} is asked every {refresh_seconds / 60:g} minutes and its values live for "
        f"{max_age_minutes:g}: between two refreshes they are stale"
        for name, refresh_seconds, max_age_minutes in paces
        if refresh_seconds > max_age_minutes * 60
    ]
