"""Coverage-guided fuzzing of what reads the grid services' answers: one target per service, with made-up seeds.

    python fuzz/grid_parsers.py                     name the targets
    python fuzz/grid_parsers.py TARGET [OPTION...]  run one until stopped; options are libFuzzer's, a file is run once

An input fails a target when a parser raises, takes long or much memory, or gives a value that is no intensity or whose
time is not known. What was learnt and what failed stays in `.fuzz/TARGET`.
"""

from __future__ import annotations

import math
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["vetted_mw.grid", "vetted_mw.instants", "tomllib"]):
    from grid_answers import JSON, NOW, SEEDS, TOML, XML
    from targets import Target, main
    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.services import SERVICES
    from vetted_mw.grid.signal import DECLARED, GridSignal, read_at
    from vetted_mw.grid.sources import http_json
    from vetted_mw.grid.sources.file import ReadingsFileError, parse_readings
    from vetted_mw.grid.sources.shipped import parsers_of, terms_of
    from vetted_mw.grid.sources.terms import Terms
    from vetted_mw.secret import Secret
    from vetted_mw.signal_configuration import JsonReading, ServiceSource, SignalConfiguration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import TypeAlias

    from vetted_mw.grid.sources.request import Parsed

    Reader: TypeAlias = tuple[str, Callable[[bytes, datetime], Parsed]]  # the zone, and what reads it


def service(name: str, zone: str, *figures: str) -> Callable[[bytes], None]:
    """Return the check of a service's answers for one zone: every parser of each of its figures reads them."""
    shipped = SERVICES[name]
    readers: list[Reader] = []
    for figure in figures or ("",):
        source = ServiceSource(
            name=name,
            base_urls=(shipped.base_url,),
            max_age_minutes=shipped.max_age_minutes,
            refresh_seconds=shipped.refresh_seconds,
            figure=figure,
        )
        terms = terms_of(source, zone, SignalConfiguration())
        if terms is None:
            raise ValueError(f"{name} has nothing for {zone}")
        readers += [(zone, parse) for parse in parsers_of(source, terms)]
    return partial(_read, readers)


def described(*places: tuple[str, str, str, str]) -> Callable[[bytes], None]:
    """Return the check of services we do not know: path of the value, of its time, of its estimate, and the unit."""
    terms = Terms(source=http_json.LABEL, zone="FR", area="FR", name="FR", max_age_minutes=180.0)
    readers: list[Reader] = []
    for value, observed_at, estimated, unit in places:
        reading = JsonReading(
            zone="FR",
            area="FR",
            url=Secret("https://grid.example/now"),
            value=value,
            observed_at=observed_at,
            estimated=estimated,
            unit=unit,
            method=DECLARED,
            max_age_minutes=180.0,
        )
        readers.append(("FR", partial(http_json.parse, terms=terms, reading=reading)))
    return partial(_read, readers)


def readings_file(data: bytes) -> None:
    """Read `signals.toml`; whatever is wrong with it is told by the one error."""
    try:
        found = parse_readings(data, NOW, max_age_minutes=180.0)
    except ReadingsFileError:
        return
    for signal in found:
        _require_whole(signal)


def _read(readers: Sequence[Reader], data: bytes) -> None:
    for zone, parse in readers:
        found = parse(data, NOW)
        assert isinstance(found, (GridSignal, NoSignal)), type(found)
        assert found.zone == zone, found
        if isinstance(found, GridSignal):
            _require_whole(found)


def _require_whole(signal: GridSignal) -> None:
    """Hold a signal to what its readers rely on."""
    assert math.isfinite(signal.gco2_per_kwh), signal
    assert signal.gco2_per_kwh >= 0, signal
    assert signal.observed_at.utcoffset() == timedelta(0), signal
    assert signal.proxy_share is None or 0 <= signal.proxy_share <= 1, signal
    assert all(math.isfinite(megawatts) and megawatts >= 0 for _code, megawatts in signal.mix), signal
    assert read_at(signal, NOW).age_minutes >= 0, signal


TARGETS = {
    "entsoe": Target(check=service("entsoe", "FR"), notation=XML),
    "landsnet": Target(check=service("landsnet", "IS"), notation=JSON),
    "energy_charts": Target(check=service("energy_charts", "FR"), notation=JSON),
    "odre": Target(check=service("odre", "FR", "mix", "taux_co2"), notation=JSON),
    "statnett": Target(check=service("statnett", "SE_3"), notation=JSON),
    "fingrid": Target(check=service("fingrid", "FI", "consumption", "production"), notation=JSON),
    "electricity_maps": Target(check=service("electricity_maps", "SE_3", "lifecycle", "direct"), notation=JSON),
    "energinet": Target(check=service("energinet", "DK_1"), notation=JSON),
    "http_json": Target(
        check=described(
            ("data.0.intensity.actual", "data.0.to", "data.0.intensity.isEstimated", "g_per_kwh"),
            ("data.-1.intensity.actual", "data.-1.to", "", "lb_per_mwh"),
            ("0", "1", "", "t_per_mwh"),
        ),
        notation=JSON,
    ),
    "file": Target(check=readings_file, notation=TOML),
}


if __name__ == "__main__":
    main(TARGETS, SEEDS)
