"""Where a value of the settings was written, and where a file that it names lies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Places", "beside", "keys_of", "told_path"]

_LONGEST_TOLD = 200
_ENDINGS = frozenset({".jwk", ".json", ".key", ".pem", ".txt"})
_HERE = ("./", "../", "~/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Says where values were written, for messages; what is stronger is named first.

    Attributes:
        overridden: dotted keys of the overrides.
        variables: dotted key -> the environment variable it came from.
        written: dotted keys of the settings file.
        file: the settings file; None when there is none.
    """

    overridden: frozenset[str]
    variables: Mapping[str, str]
    written: frozenset[str]
    file: Path | None

    def of(self, key: str) -> str:
        """Say where a dotted key, or what lies in it, was written; a missing one is missing in the table around it."""
        sources = [
            *((name, "in the overrides") for name in self.overridden),
            *((name, f"in the environment variable {variable}") for name, variable in self.variables.items()),
            *((name, f"in {self.file}") for name in self.written),
        ]
        while key:
            around = [(name, place) for name, place in sources if key == name or key.startswith(f"{name}.")]
            if around:  # the nearest: an empty table of a stronger source takes nothing from a weaker one's
                return max(around, key=lambda found: len(found[0]))[1]
            inside = dict.fromkeys(place for name, place in sources if name.startswith(f"{key}."))
            if inside:
                return " and ".join(inside)
            key = key.rpartition(".")[0]
        return "in the settings" if self.file is None else f"in {self.file}"


def keys_of(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every value in a table of tables."""
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from keys_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def beside(name: str, file: Path | None) -> Path:
    """Return the path a setting means; a relative one starts at the settings file's folder."""
    return (Path.cwd() if file is None else file.resolve().parent) / Path(name).expanduser()


def told_path(name: str, path: Path) -> str:
    """Return the path in full where `name` cannot but be the name of a file, else nothing.

    A key that was pasted in the place of a file's name must not be told. It has no ending that files of keys have, does
    not begin in a folder that is there, and there is no file of its name.

    Args:
        name: as it stands in the settings.
        path: what it means, absolute.
    """
    if len(name) > _LONGEST_TOLD or not name.isprintable() or "PRIVATE KEY" in name:
        return ""
    is_rooted = Path(name).is_absolute() and Path(*path.parts[:2]).is_dir()
    is_name = path.suffix in _ENDINGS or name.startswith(_HERE) or is_rooted or os.path.lexists(path)
    return str(path) if is_name else ""
