"""The shipped methodology as rows a person can read: each figure with its unit, source and pedigree. Pure."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vetted_mw.receipts.shipped import CURRENT, METHODOLOGY_FILE, TABLES, factor_set_file, version_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Row", "formulas_of", "rows_of"]

_SECTIONS = {
    "parametric": ("parametric",),
    "engines": ("engine",),
    "embodied": ("embodied",),
    "spreads": ("gsd",),
    "grid": ("grid_fallback",),
    "sites": ("site", "unknown_site"),
    "water": ("water", "ewif", "ewif_fallback"),
    "models": ("model", "unknown"),
    "pedigrees": ("pedigree", "grid_pedigree"),
}
_FACTORS = ("factors", "override")
_PARTS = {"parametric": "parametric", "engine": "ecologits", "embodied": "embodied", "grid_fallback": "grid_annual"}
_NAMED_BY = ("region", "country", "name")
_PLAIN = {"parametric", "engine", "embodied", "gsd", "pedigree"}
"""Tables whose name says no more than that of their section."""
_PEDIGREE_SIZE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of the methodology.

    Attributes:
        name: of the figure, dotted where it is a part of something.
        value: the figure; None for a row that holds a pedigree alone.
        unit: its unit.
        source: who says so.
        year: when they did; None where no single year is named.
        quality: `published`, `fitted`, `assumed`, or `proxy` for a factor that stands in for another's.
        pedigree: reliability, completeness, temporal, geographical, technological, 1 best to 5 worst; empty where the
            figure has an empirical spread instead.
    """

    name: str
    value: float | None
    unit: str
    source: str
    year: int | None
    quality: str
    pedigree: tuple[int, ...]


def rows_of(version: str = CURRENT) -> Mapping[str, tuple[Row, ...]]:
    """Return every row of one shipped version, section -> rows.

    Raises:
        KeyError: no such version is shipped.
    """
    held = version_files(version)
    table: dict[str, Any] = {}
    for name in TABLES:
        table |= tomllib.loads(held[name].decode()) if name in held else {}
    sections = {title: _section(table, keys) for title, keys in _SECTIONS.items()}
    factors = tomllib.loads(held[factor_set_file(held[METHODOLOGY_FILE])].decode())
    sections["factors"] = _section(factors, _FACTORS)
    return {title: rows for title, rows in sections.items() if rows}


def formulas_of(version: str = CURRENT) -> Mapping[str, Mapping[str, str]]:
    """Return the method in words and formulas, part -> name -> text.

    Raises:
        KeyError: no such version is shipped.
    """
    text = tomllib.loads(version_files(version)[METHODOLOGY_FILE].decode())
    return {part: rows for part, rows in text.items() if isinstance(rows, dict)}


def _section(table: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(
        row
        for key in keys
        for label, item in _labelled(key, table.get(key, {}))
        for row in _rows(label, item, _above(key, table))
    )


def _above(key: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of the part that the rows under a key belong to, where they have none of their own."""
    part = table.get("pedigree", {}).get(_PARTS.get(key, ""))
    return {} if part is None else {"pedigree": part["scores"]}


def _labelled(key: str, value: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the tables under a key, each with the name its rows begin with."""
    if key == "factors":
        return [(f"{code} {row['name']}", row) for code, row in value.items()]
    if key == "override":
        return [(f"{row['code']} in {', '.join(row['zones'])}", row) for row in value]
    if isinstance(value, list):
        return [(str(next(row[name] for name in _NAMED_BY if name in row)), row) for row in value]
    return [("" if key in _PLAIN else key, value)]


def _rows(label: str, table: Mapping[str, Any], above: Mapping[str, Any]) -> Iterator[Row]:
    """Return the rows of one table and of those inside; what it does not say of a figure itself, it has from above."""
    told = {**above, **{key: value for key, value in table.items() if not isinstance(value, dict)}}
    for key, value in table.items():
        place = label if key in {"value", "scores"} else ".".join(part for part in (label, key) if part)
        if isinstance(value, dict):
            yield from _rows(place, value, told)
        elif _is_pedigree(key, value):
            yield _row(place, None, {**told, "source": told.get("of", ""), "pedigree": value})
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and key != "year":
            yield _row(place, float(value), told)


def _is_pedigree(key: str, value: Any) -> bool:
    is_five = isinstance(value, list) and len(value) == _PEDIGREE_SIZE
    return is_five and key != "pedigree" and all(isinstance(score, int) for score in value)


def _row(name: str, value: float | None, told: Mapping[str, Any]) -> Row:
    return Row(
        name=name,
        value=value,
        unit=str(told.get("unit", "")),
        source=str(told.get("source", "")),
        year=told.get("year"),
        quality=str(told.get("quality", "")),
        pedigree=tuple(told.get("pedigree", ())),
    )
