"""The shipped methodology as files: one folder per version, none of which ever changes once it has been released."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CURRENT", "METHODOLOGY_FILE", "TABLES", "factor_set_file", "version_files", "versions"]

CURRENT = "1.1.0"
"""The version new receipts are made by."""

METHODOLOGY_FILE = "methodology.toml"
TABLES = ("coefficients.toml", "models.toml", "sites.toml", "water.toml")
"""Files with figures, in the order their digest takes them; early versions have fewer."""


@cache
def versions() -> tuple[str, ...]:
    """Return every shipped version, oldest first."""
    folders = [folder.name for folder in files("vetted_mw.receipts").joinpath("data").iterdir() if folder.is_dir()]
    found = [name for name in folders if name.replace(".", "").isdecimal()]
    return tuple(sorted(found, key=lambda name: tuple(map(int, name.split(".")))))


@cache
def version_files(version: str = CURRENT) -> Mapping[str, bytes]:
    """Return the files of one version by name, the grid's factor set among them.

    Raises:
        KeyError: no such version is shipped.
    """
    if version not in versions():
        raise KeyError(version)
    folder = files("vetted_mw.receipts").joinpath(f"data/{version}")
    found = {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda file: file.name)}
    factors = factor_set_file(found[METHODOLOGY_FILE])
    return MappingProxyType(found | {factors: files("vetted_mw.grid").joinpath(f"data/{factors}").read_bytes()})


def factor_set_file(methodology: bytes) -> str:
    """Return the name of the factor set's file that a methodology names; the first version named none."""
    return f"{tomllib.loads(methodology.decode()).get('factor_set', 'ar5_v1')}.toml"
