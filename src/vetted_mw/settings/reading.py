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
from vetted_mw.settings.environment import CONFIG_VARIABLE, Environment, read_environment
from vetted_mw.settings.faults import configuration_error
from vetted_mw.settings.schema import VettedSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Written", "read_settings", "settings_file"]

DEFAULT_FILE = "vetted.toml"
_MAX_FILE_BYTES = 4_194_304
_POSITION = re.compile(r"\(at [a-z0-9 ,]+\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The settings as written, and where each value stands.

    Attributes:
        settings: checked key by key.
        file: the settings file; None when there is none.
        variables: path of a value -> the environment variable it came from.
    """

    settings: VettedSettings
    file: Path | None
    variables: Mapping[tuple[str, ...], str]


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
    if not file.is_file():
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
    places = _Places(file=file, given=given, environment=environment)
    try:
        settings = _bound((given, environment.table, table))()
    except ValidationError as error:
        raise configuration_error(error, place=places.of) from None
    return Written(settings=settings, file=file, variables=environment.variables)


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
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _bound(tables: Sequence[Mapping[str, Any]]) -> type[VettedSettings]:
    """Return the settings class over these tables, first wins; pydantic-settings asks a class for its sources."""

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
            return tuple(InitSettingsSource(settings_cls, init_kwargs=dict(table)) for table in tables)

    return Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    file: Path | None
    given: Mapping[str, Any]
    environment: Environment

    def of(self, path: tuple[str, ...]) -> str:
        """Say where the value of `path`, or what lies in it, was written."""
        if _reaches(self.given, path):
            return "in the overrides"
        for known, variable in self.environment.variables.items():
            if known[: len(path)] == path or path[: len(known)] == known:
                return f"in the environment variable {variable}"
        return "in the settings" if self.file is None else f"in {self.file}"


def _reaches(table: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(table, Mapping) or name not in table:
            return False
        table = table[name]
    return bool(path)


def _names(path: tuple[str, ...], tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names a table of the operator's own may have, for `read_environment`."""
    listed = list(tables)
    written = [name for table in listed for name in _table(table, path)]
    if path[-1] == "chains":
        return [*written, *_zones(listed)]
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
