"""Coverage-guided fuzzing of what reads the grid services' answers: one target per service, with made-up seeds.

    python fuzz/grid_parsers.py                     name the targets
    python fuzz/grid_parsers.py TARGET [OPTION...]  run one until stopped; options are libFuzzer's, a file is run once

An input fails a target when a parser raises, takes long or much memory, or gives a value that is no intensity or whose
time is not known. What was learnt and what failed stays in `.fuzz/TARGET`.
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["vetted_mw.grid", "vetted_mw.instants", "tomllib"]):
    from vetted_mw.configuration import JsonReading, Secret, ServiceSource, SignalConfiguration
    from vetted_mw.demo import grid_wire
    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.services import SERVICES
    from vetted_mw.grid.signal import DECLARED, GridSignal, read_at
    from vetted_mw.grid.sources import http_json
    from vetted_mw.grid.sources.file import ReadingsFileError, parse_readings
    from vetted_mw.grid.sources.shipped import parsers_of, terms_of
    from vetted_mw.grid.sources.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vetted_mw.grid.sources.request import Parsed

NOW = datetime(2026, 11, 22, 10, 31, 7, tzinfo=UTC)
FRANCE = "10YFR-RTE------C"
FOLDER = Path(__file__).resolve().parents[1] / ".fuzz"
GUARDS = ("-timeout=5", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1")


@dataclass(frozen=True, kw_only=True)
class Notation:
    """How answers of one kind are written.

    Attributes:
        value: finds a value, its first group; a match without the group is passed over.
        words: what may stand in a value's place, and what the format is made of.
    """

    value: re.Pattern[bytes]
    words: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one target runs.

    Attributes:
        check: reads one input, and raises where a promise is broken.
        notation: of its inputs.
        seeds: valid answers, and answers that say there is nothing.
    """

    check: Callable[[bytes], None]
    notation: Notation
    seeds: tuple[bytes, ...]


INSTANTS = (
    "2026-11-22T10:30Z",
    "2026-11-22T10:30:00",
    "2026-11-22T12:30:00+02:00",
    "2026-W47-7T10:30:00Z",
    "0001-01-01T00:00:00+23:59",
    "0001-01-01T00:00Z",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59Z",
)
NUMBERS = ("0", "-1", "-0.0", "1e12", "1e-999", "1e999", "9" * 4400, "253402300799", "253402300799000", "1763807400")
JSON = Notation(
    value=re.compile(rb'"(?:[^"\\]|\\.)*"\s*:|("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|\b(?:null|true|false)\b)'),
    words=tuple(
        word.encode()
        for word in (
            *(f'"{text}"' for text in (*INSTANTS, *NUMBERS, "-", "12\u00a0345", "\u221212", "\u0661", "", "\\ud800")),
            *NUMBERS,
            *("null", "true", "false", "NaN", "[]", "{}", "[[]]", "[null]", '{"value":1}', "[" * 2000, "\ufeff"),
        )
    ),
)
XML = Notation(
    value=re.compile(rb">([^<>]+)(?=<)"),
    words=tuple(
        word.encode()
        for word in (
            *INSTANTS,
            *NUMBERS,
            *("A01", "A03", "A16", "A75", "B04", "B14", "B20", "B10", "B99", "MAW", "KWH", "999"),
            *("PT15M", "PT1M", "PT0M", "PT1440M", "PT1H", "P1D", "P9D", "\u0661", FRANCE, "10YFI-1--------U"),
            *("<TimeSeries>", "</TimeSeries>", "<Period>", "</Period>", "<Point>", "</Point>", "<Reason>", "</Reason>"),
            *("<outBiddingZone_Domain.mRID>", "<position>", "<quantity>", "<code>", "<text>", "No matching data found"),
            *("<!DOCTYPE a>", "<!ENTITY a 'b'>", "&amp;", "&#1;", "&a;", "<![CDATA[", "]]>", "<!--", "-->", "<?a?>"),
            *('encoding="utf-16"', 'encoding="utf-7"', 'encoding="cp037"', 'xmlns:a="b"', "a:", "PK\x03\x04"),
        )
    ),
)
TOML = Notation(
    value=re.compile(rb"= ([^\n]+)"),
    words=tuple(
        word.encode()
        for word in (
            *(f'"{text}"' for text in (*INSTANTS, "measured", "forecast", "fallback", "declared", "FR", "", "\\ud800")),
            *('"production/lifecycle/average/-"', '"consumption/direct/marginal/a"', '"""', "'''", "[" * 2000),
            *INSTANTS,
            *NUMBERS,
            *("nan", "inf", "-inf", "true", "0x7f", "1_0", "[]", "{}", "{a.b=1}", "10:30:00", "2026-11-22"),
            *("[[reading]]\n", "reading = [{}]\n", "zone = ", "kind = ", "observed_at = ", "source = ", "#", "\x00"),
        )
    ),
)


def service(name: str, zone: str, *figures: str) -> Callable[[bytes], None]:
    """Return the check of a service's answers for one zone, by every parser that reads them."""
    readers = [
        (terms.zone, parse)
        for source, terms in _asked(name, zone, figures or ("",))
        for parse in parsers_of(source, terms)
    ]
    return partial(_read, readers)


def described(*places: tuple[str, str, str, str]) -> Callable[[bytes], None]:
    """Return the check of answers of services we do not know: path of the value, of its time, of its estimate, unit."""
    readers: list[tuple[str, Callable[[bytes, datetime], Parsed]]] = []
    for value, observed_at, estimated, unit in places:
        terms = Terms(source=http_json.LABEL, zone="FR", area="FR", name="FR", max_age_minutes=180.0)
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
    """Read `signals.toml`; of what is wrong with it only the one error may tell."""
    try:
        found = parse_readings(data, NOW, max_age_minutes=180.0)
    except ReadingsFileError:
        return
    for signal in found:
        _require_whole(signal)


def mutated(data: bytes, max_size: int, seed: int, *, notation: Notation) -> bytes:
    """Put another value in one place, so that the answer can still be read; every other time change any bytes."""
    seed, by_value = divmod(seed, 2)
    spots = [spot for spot in notation.value.finditer(data) if spot[1] is not None] if by_value else []
    if not spots:
        changed: bytes = atheris.Mutate(data, max_size)
        return changed
    seed, number = divmod(seed, len(spots))
    start, end = spots[number].span(1)
    return (data[:start] + notation.words[seed % len(notation.words)] + data[end:])[:max_size]


def _asked(name: str, zone: str, figures: Sequence[str]) -> Iterator[tuple[ServiceSource, Terms]]:
    for figure in figures:
        shipped = SERVICES[name]
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
        yield source, terms


def _read(readers: Sequence[tuple[str, Callable[[bytes, datetime], Parsed]]], data: bytes) -> None:
    for zone, parse in readers:
        found = parse(data, NOW)
        assert isinstance(found, (GridSignal, NoSignal)), type(found)
        assert found.zone == zone, found
        if isinstance(found, GridSignal):
            _require_whole(found)


def _require_whole(signal: GridSignal) -> None:
    """Hold a signal to what every reader of the board relies on."""
    assert math.isfinite(signal.gco2_per_kwh), signal
    assert signal.gco2_per_kwh >= 0, signal
    assert signal.observed_at.utcoffset() == timedelta(0), signal
    assert signal.proxy_share is None or 0 <= signal.proxy_share <= 1, signal
    assert all(math.isfinite(megawatts) and megawatts >= 0 for _code, megawatts in signal.mix), signal
    assert read_at(signal, NOW).age_minutes >= 0, signal


def _generation(*series: tuple[str, str, str, Mapping[int, float]]) -> bytes:
    """Return an A75 document of 09:00 to 10:00: type, curve, resolution, and position -> MW."""
    written = "".join(
        f"<TimeSeries><inBiddingZone_Domain.mRID>{FRANCE}</inBiddingZone_Domain.mRID>"
        f"<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>{curve}</curveType>"
        f"<MktPSRType><psrType>{code}</psrType></MktPSRType><Period><timeInterval><start>2026-11-22T09:00Z</start>"
        f"<end>2026-11-22T10:00Z</end></timeInterval><resolution>{resolution}</resolution>"
        + "".join(f"<Point><position>{at}</position><quantity>{mw}</quantity></Point>" for at, mw in points.items())
        + "</Period></TimeSeries>"
        for code, curve, resolution, points in series
    )
    head = "<type>A75</type><process.processType>A16</process.processType>"
    return f'<?xml version="1.0" encoding="UTF-8"?><GL_MarketDocument>{head}{written}</GL_MarketDocument>'.encode()


def _zipped(data: bytes, method: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.xml"), data, compress_type=method)
    return packed.getvalue()


def _entsoe_seeds() -> tuple[bytes, ...]:
    mixed = _generation(
        ("B14", "A03", "PT15M", {1: 30000, 3: 31000.5}),
        ("B04", "A01", "PT60M", {1: 4000}),
        ("B20", "A01", "PT15M", {1: -3, 2: 20, 3: 30, 4: 40}),
    )
    minutes = [grid_wire.entsoe(FRANCE, NOW, has_gaps=has_gaps) or b"" for has_gaps in (True, False)]
    zipped = [_zipped(mixed, method) for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)]
    return (mixed, *minutes, *zipped, grid_wire.acknowledgement("No matching data found"))


def _json(*answers: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(answer, separators=(",", ":")).encode() for answer in answers)


def _odre_row(hour: str, **members: object) -> dict[str, object]:
    fuels = ("nucleaire", "gaz", "charbon", "fioul", "eolien", "solaire", "bioenergies")
    hydro = ("hydraulique_fil_eau_eclusee", "hydraulique_lacs")
    return {"date_heure": hour, "taux_co2": 31} | dict.fromkeys((*fuels, *hydro), 4000) | members


def _statnett_answer() -> dict[str, object]:
    columns: dict[str, tuple[str, ...]] = {
        "Headers": ("", "SE", "NO"),
        "ProductionData": ("", "18\u00a0000", "20 000"),
        "NuclearData": ("", "6 000", "-"),
        "HydroData": ("", "8\u00a0000", "19 000"),
        "ThermalData": ("", "500", "-"),
        "WindData": ("", "3 500", "1 000"),
        "NotSpecifiedData": ("", "-", "-"),
    }
    cells = {name: [{"value": one, "titleTranslationId": None} for one in row] for name, row in columns.items()}
    return {"MeasuredAt": 1795343400000, **cells}


_FINGRID = {"datasetId": 265, "startTime": "2026-11-22T10:27:00.000Z", "endTime": "2026-11-22T10:30:00.000Z", "value": 38.2}
_ELECTRICITY_MAPS = {
    "zone": "SE-SE3",
    "carbonIntensity": 22,
    "datetime": "2026-11-22T09:00:00.000Z",
    "emissionFactorType": "lifecycle",
    "isEstimated": False,
}
_ENERGINET = [
    {"Minutes5UTC": f"2026-11-22T10:{minute}:00", "PriceArea": area, "CO2Emission": 97.0}
    for minute in (20, 25)
    for area in ("DK1", "DK2")
]
_PERIOD = {"from": "2026-11-22T10:00Z", "to": "2026-11-22T10:30Z", "intensity": {"actual": 140, "isEstimated": False}}
_FILE = b"""
[[reading]]
zone = "SE_3"
gco2_per_kwh = 22.5
kind = "measured"
observed_at = 2026-11-22T10:15:00Z
source = "ours"
method = "production/lifecycle/average/ar5_v1"

[[reading]]
zone = "FR"
gco2_per_kwh = 40
kind = "forecast"
observed_at = "2026-11-22T12:15:00+01:00"
"""

TARGETS = {
    "entsoe": Target(check=service("entsoe", "FR"), notation=XML, seeds=_entsoe_seeds()),
    "landsnet": Target(check=service("landsnet", "IS"), notation=JSON, seeds=(grid_wire.landsnet(NOW),)),
    "energy_charts": Target(
        check=service("energy_charts", "FR"),
        notation=JSON,
        seeds=(
            grid_wire.energy_charts("fr", NOW) or b"",
            *_json({"unix_seconds": [1795342500, 1795343400], "co2eq": [31.5, None], "co2eq_forecast": [None, 30]}),
        ),
    ),
    "odre": Target(
        check=service("odre", "FR", "mix", "taux_co2"),
        notation=JSON,
        seeds=_json(
            {"results": [_odre_row("2026-11-22T10:15:00+00:00"), _odre_row("2026-11-22T10:30:00+00:00", gaz=None)]},
            {"records": [{"fields": _odre_row("2026-11-22T11:15:00+01:00")}]},
        ),
    ),
    "statnett": Target(check=service("statnett", "SE_3"), notation=JSON, seeds=_json(_statnett_answer())),
    "fingrid": Target(
        check=service("fingrid", "FI", "consumption", "production"),
        notation=JSON,
        seeds=_json(_FINGRID, {"data": [_FINGRID, _FINGRID | {"endTime": "2026-11-22T10:33:00+00:00"}]}),
    ),
    "electricity_maps": Target(
        check=service("electricity_maps", "SE_3", "lifecycle", "direct"),
        notation=JSON,
        seeds=_json(_ELECTRICITY_MAPS, _ELECTRICITY_MAPS | {"emissionFactorType": "direct", "isEstimated": True}),
    ),
    "energinet": Target(
        check=service("energinet", "DK_1"), notation=JSON, seeds=_json({"dataset": "CO2Emis", "records": _ENERGINET})
    ),
    "http_json": Target(
        check=described(
            ("data.0.intensity.actual", "data.0.to", "data.0.intensity.isEstimated", "g_per_kwh"),
            ("data.-1.intensity.actual", "data.-1.to", "", "lb_per_mwh"),
            ("0", "1", "", "t_per_mwh"),
        ),
        notation=JSON,
        seeds=_json({"data": [_PERIOD, _PERIOD]}, [0.05, 1795343400], [0.05, 1795343400000.5], [1, "2026-11-22T10:30Z"]),
    ),
    "file": Target(check=readings_file, notation=TOML, seeds=(_FILE,)),
}


def run(name: str, options: Sequence[str]) -> None:
    """Write the target's seeds and words, then fuzz it; never returns."""
    target = TARGETS[name]
    for data in target.seeds:  # before anything is changed, so that the tables are read and the seeds known to be good
        target.check(data)
    folder = FOLDER / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    words = folder / "words.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.notation.words if len(word) <= 64))
    given = [f"-dict={words}", f"-artifact_prefix={folder}/", *GUARDS, *options]
    if all(option.startswith("-") for option in options):
        given.append(str(corpus))
    atheris.Setup([sys.argv[0], *given], target.check, custom_mutator=partial(mutated, notation=target.notation))
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(*TARGETS)
    elif sys.argv[1] not in TARGETS:
        sys.exit(f"no such target; there are {', '.join(TARGETS)}")
    else:
        run(sys.argv[1], sys.argv[2:])
