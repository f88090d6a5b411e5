"""Read `VETTED_*` into a table of the file's shape: `VETTED_REGIONS__SCALEWAY_PAR_1__BASE_URL` is one value of it."""

from __future__ import annotations

import json
import re
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from vetted_mw.errors import ConfigurationError
from vetted_mw.settings.faults import unknown_key
from vetted_mw.settings.schema import VettedSettings
from vetted_mw.settings.shape import is_table, member_of, section_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CONFIG_VARIABLE", "ZONE_TABLES", "Environment", "read_environment"]

CONFIG_VARIABLE = "VETTED_CONFIG"
_PREFIX = "VETTED_"
_BETWEEN = "__"
_FOLDED = re.compile(r"[-.]")
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
ZONE_TABLES = frozenset({"areas", "chains", "expected_types", "max_proxy_share", "min_total_mw", "zones"})
"""Tables by zone: a zone is written as it is, `SE_3`."""

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the environment says.

    Attributes:
        table: the values, in the file's shape.
        variables: path of a value -> the variable it came from.
    """

    table: Mapping[str, Any]
    variables: Mapping[_Path, str]


def read_environment(
    environ: Mapping[str, str], *, known: Callable[[_Path, Mapping[str, Any]], list[str]]
) -> Environment:
    """Read every `VETTED_*` variable but `VETTED_CONFIG`.

    Args:
        environ: the process environment.
        known: given the path of a table with names of the operator's own, and what was read so far, the names it has.

    Raises:
        ConfigurationError: a variable names no key, two name the same one, or a value is not of the key's kind.
    """
    table: dict[str, Any] = {}
    variables: dict[_Path, str] = {}
    named = [name for name in environ if name.upper().startswith(_PREFIX) and name.upper() != CONFIG_VARIABLE]
    # Regions first: what they list are names that the other tables may use.
    for name in sorted(named, key=lambda name: (not name.upper().startswith(f"{_PREFIX}REGIONS"), name)):
        path, annotation = _resolved(name, lambda path: known(path, table))
        clash = next((other for there, other in variables.items() if _meets(there, path)), None)
        if clash is not None:
            raise ConfigurationError(
                f"the environment variables {clash} and {name} name the same value.",
                field=".".join(path),
                remedy="Unset one of them.",
            )
        _place(table, path, _value(environ[name], annotation, name, path))
        variables[path] = name
    return Environment(table=table, variables=variables)


def _resolved(variable: str, known: Callable[[_Path], list[str]]) -> tuple[_Path, Any]:
    path: _Path = ()
    annotation: Any = VettedSettings
    for segment in variable[len(_PREFIX) :].split(_BETWEEN):
        if not segment:
            raise ConfigurationError(
                f"the environment variable {variable} has an empty part.",
                field=".".join(path),
                remedy="Write two underscores between levels and nowhere else, as in VETTED_SERVER__PORT.",
            )
        names, is_open = _names_at(annotation, path, known)
        name = _matching(segment, names, variable, path)
        if name is None:
            if not is_open:
                raise unknown_key(
                    segment.lower(),
                    field=".".join((*path, segment.lower())),
                    known=names,
                    place=f"from the environment variable {variable}",
                )
            name = segment if path and path[-1] in ZONE_TABLES else segment.lower()
        annotation = member_of(annotation, name)
        path = (*path, name)
    return path, annotation


def _names_at(annotation: Any, path: _Path, known: Callable[[_Path], list[str]]) -> tuple[list[str], bool]:
    section = section_of(annotation)
    if section is not None:
        return list(section.model_fields), False
    return (known(path), True) if is_table(annotation) else ([], False)


def _matching(segment: str, names: list[str], variable: str, path: _Path) -> str | None:
    found = sorted({name for name in names if _FOLDED.sub("_", name).lower() == segment.lower()})
    if len(found) > 1:
        raise ConfigurationError(
            f"the environment variable {variable} could mean {' or '.join(found)}.",
            field=".".join(path),
            remedy="Set the value in the settings file.",
        )
    return found[0] if found else None


def _meets(one: _Path, other: _Path) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _place(table: dict[str, Any], path: _Path, value: Any) -> None:
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = value


def _value(text: str, annotation: Any, variable: str, path: _Path) -> Any:
    """Read a variable's text as its key's kind; the text itself is never repeated."""
    kinds = _kinds(annotation)
    reader, remedy = next((reading for kind, reading in _READERS.items() if kind in kinds), _JSON)
    if reader is not json.loads or (text.lstrip()[:1] in {"{", "["} and not kinds <= {str}):
        try:
            return reader(text)
        except (ValueError, RecursionError):
            raise ConfigurationError(
                f"the environment variable {variable} cannot be read as this key's kind of value.",
                field=".".join(path),
                remedy=remedy,
            ) from None
    if list in kinds and str not in kinds:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _truth(text: str) -> bool:
    folded = text.strip().lower()
    if folded not in _TRUE | _FALSE:
        raise ValueError
    return folded in _TRUE


_READERS: Mapping[type, tuple[Callable[[str], Any], str]] = {
    bool: (_truth, "Write true or false."),
    int: (int, "Write a whole number."),
    float: (float, "Write a number."),
}
_JSON: tuple[Callable[[str], Any], str] = (json.loads, 'Write it as JSON, such as ["one", "two"] or {"key": "value"}.')


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types an annotation can hold."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return set().union(*(_kinds(part) for part in get_args(annotation))) - {type(None)}
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    return {origin or annotation}
