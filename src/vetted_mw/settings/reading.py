"""Find the settings file, read it and the environment, and check both against the schema."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from vetted_mw.errors import ConfigurationError
from vetted_mw.routing.regions import load_catalogue
from vetted_mw.settings.environment import CONFIG_VARIABLE, ZONE_TABLES, read_environment
from vetted_mw.settings.faults import configuration_error
from vetted_mw.settings.places import Places, keys_of
from vetted_mw.settings.schema import VettedSettings
from vetted_mw.settings.section import KeyReference
from vetted_mw.settings.shape import member_of, section_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Written", "read_settings", "settings_file"]

DEFAULT_FILE = "vetted.toml"
_MAX_FILE_BYTES = 4_194_304
_POSITION = re.compile(r"\(at [a-z0-9 ,]+\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The settings as written.

    Attributes:
        settings: checked key by key.
        file: the settings file; None when there is none.
        places: says where each value stands.
    """

    settings: VettedSettings
    file: Path | None
    places: Places


def settings_file(path: Path | None, *, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the settings file: `path`, else `VETTED_CONFIG`, else `vetted.toml` in `cwd` if present, else None.

    Raises:
        ConfigurationError: a file was named and is not there.
    """
    named = Path(path) if path is not None else _of_environment(environ)
    if named is None:
        found = cwd / DEFAULT_FILE
        return found if found.is_file() else None
    file = cwd / named
    try:
        there = file.is_file()
    except OSError:  # a folder on the way may not be looked into, or the name is longer than any file's
        there = False
    if not there:
        raise ConfigurationError(
            f"there is no settings file {str(named)!r}.",
            field="" if path is not None else CONFIG_VARIABLE,
            remedy="Name a readable TOML file.",
        )
    return file


def read_settings(
    file: Path | None, *, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Written:
    """Read file and environment and check them key by key.

    Args:
        file: the settings file, if any.
        environ: the process environment.
        overrides: a table of the file's shape that wins over both.

    Raises:
        ConfigurationError: a key is unknown, or a value cannot be used.
    """
    table = {} if file is None else _toml(file)
    given = _plain(overrides or {})
    environment = read_environment(environ, known=lambda path, read: _names(path, (given, read, table)))
    places = Places(
        overridden=frozenset(keys_of(given)),
        variables={".".join(path): name for path, name in environment.variables.items()},
        written=frozenset(keys_of(table)),
        file=file,
    )
    try:
        settings = _bound(_laid_over(given, _laid_over(environment.table, table, VettedSettings), VettedSettings))()
    except ValidationError as error:
        raise configuration_error(error, places=places) from None
    return Written(settings=settings, file=file, places=places)


def _of_environment(environ: Mapping[str, str]) -> Path | None:
    named = environ.get(CONFIG_VARIABLE, "")
    return Path(named) if named else None


def _toml(file: Path) -> dict[str, Any]:
    try:
        data = file.read_bytes()
        if len(data) > _MAX_FILE_BYTES:
            raise ConfigurationError(f"{str(file)!r} is larger than any settings file.", remedy="Name the right file.")
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(
            f"the settings file {str(file)!r} cannot be read ({type(error).__name__}).", remedy="Make it readable."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{str(file)!r} is not UTF-8.", remedy="Save it as UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # Only the position: the parser's text can quote the line, and the line can hold a key.
        position = _POSITION.search(str(error))
        told = f" {position.group()}" if position else ""
        raise ConfigurationError(
            f"{str(file)!r} is not valid TOML{told}.", remedy="Correct the syntax there."
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ConfigurationError("a key of the overrides is not a text.", remedy="Write every key as a text.")
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _laid_over(upper: Any, lower: Any, annotation: Any) -> Any:
    """Lay one table over another, key by key; a key reference is one value and is replaced whole."""
    if not (isinstance(upper, Mapping) and isinstance(lower, Mapping)) or section_of(annotation) is KeyReference:
        return upper
    laid = {
        name: _laid_over(value, lower[name], member_of(annotation, name)) if name in lower else value
        for name, value in upper.items()
    }
    return {**lower, **laid}


def _bound(table: Mapping[str, Any]) -> type[VettedSettings]:
    """Return the settings class over a table alone; pydantic-settings asks a class for its sources."""

    class Bound(VettedSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic-settings calls by these names)
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (InitSettingsSource(settings_cls, init_kwargs=dict(table)),)

    return Bound


def _names(path: tuple[str, ...], tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names a table of the operator's own may have, for `read_environment`."""
    listed = list(tables)
    written = [name for table in listed for name in _table(table, path)]
    if path[-1] in ZONE_TABLES:
        return [*written, *_zones(listed), *(["default"] if path[-1] == "max_proxy_share" else [])]
    if path == ("models",):
        return [*written, *_listed_models(listed)]
    if path in {("regions",), (*path[:-1], "upstream_names")}:
        return [*written, *load_catalogue(), *(code for table in listed for code in _table(table, ("regions",)))]
    return written


def _zones(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    shipped = [region.zone for region in load_catalogue().values()]
    regions = [region for table in tables for region in _table(table, ("regions",)).values()]
    own = [region.get("zone") for region in regions if isinstance(region, Mapping)]
    return [*shipped, *(zone for zone in own if isinstance(zone, str))]


def _listed_models(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    regions = [region for table in tables for region in _table(table, ("regions",)).values()]
    lists = [region.get("models") for region in regions if isinstance(region, Mapping)]
    return [name for names in lists if isinstance(names, list) for name in names if isinstance(name, str)]


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    found: Any = table
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
