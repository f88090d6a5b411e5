"""`vetted-mw methodology`: every figure receipts rest on, with its source, and the formulas."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.cli.table import table
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.coefficients import load_coefficients
from vetted_mw.receipts.methodology import formulas_of, rows_of
from vetted_mw.receipts.shipped import CURRENT, versions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.methodology import Row

__all__ = ["methodology"]

_HEAD = ("figure", "value", "unit", "quality", "year", "pedigree", "source")
_NUMBERS = ("value", "year")
_FORMULAS = "formulas"


def methodology(arguments: argparse.Namespace) -> int:
    """Print one version of the methodology: digests, every figure with its source, and the formulas."""
    version = arguments.methodology_version or CURRENT
    if version not in versions():
        raise ConfigurationError(
            f"no methodology {version!r} is shipped.", field="--version", remedy=f"There are {', '.join(versions())}."
        )
    sections: Mapping[str, Any] = {**rows_of(version), _FORMULAS: formulas_of(version)}
    if arguments.section is not None:
        if arguments.section not in sections:
            raise ConfigurationError(
                f"there is no section {arguments.section!r}.",
                field="--section",
                remedy=f"There are {', '.join(sections)}.",
            )
        sections = {arguments.section: sections[arguments.section]}
    told = _digests(load_coefficients(version))
    if arguments.json:
        plain = {name: rows if name == _FORMULAS else [asdict(row) for row in rows] for name, rows in sections.items()}
        print(msgspec.json.format(msgspec.json.encode({**told, "sections": plain}), indent=2).decode())
        return 0
    print("\n".join(f"{name}: {value}" for name, value in told.items()))
    for name, rows in sections.items():
        print(f"\n{name}\n{_formulas(rows) if name == _FORMULAS else _figures(rows)}")
    return 0


def _digests(coefficients: Coefficients) -> dict[str, str]:
    with_engines = {
        f"coefficients_digest with {engine.package}": engine.digest for engine in coefficients.engines.values()
    }
    return {
        "methodology_version": coefficients.methodology_version,
        "methodology_digest": coefficients.methodology_digest,
        "coefficients_digest": coefficients.digest,
        **with_engines,
    }


def _figures(rows: Sequence[Row]) -> str:
    return table(_HEAD, [_cells(row) for row in rows], numbers=_NUMBERS)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        "" if row.value is None else f"{row.value:.6g}",
        row.unit,
        row.quality,
        "" if row.year is None else str(row.year),
        " ".join(map(str, row.pedigree)),
        row.source,
    )


def _formulas(parts: Mapping[str, Mapping[str, str]]) -> str:
    return "\n".join(
        f"[{part}]\n" + "\n".join(f"  {name}: {text}" for name, text in lines.items()) for part, lines in parts.items()
    )
