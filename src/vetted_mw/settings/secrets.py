"""Read the keys that settings point to; a key is in memory only from here on, and prints as `***`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vetted_mw.errors import ConfigurationError
from vetted_mw.secret import Secret
from vetted_mw.settings.places import beside

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vetted_mw.settings.section import KeyReference

__all__ = ["resolved"]

_KEY = re.compile(r"[!-~]+")
_MAX_KEY_BYTES = 16_384


def resolved(reference: KeyReference, *, field: str, file: Path | None, environ: Mapping[str, str]) -> Secret:
    """Return the key that `reference` points to.

    Args:
        reference: an environment variable or a file; relative paths start at the settings file's folder.
        field: the key's place in the settings, for messages.
        file: the settings file, if any.
        environ: the process environment.

    Raises:
        ConfigurationError: it is not there, or holds what cannot travel in a header. The text holds neither the key nor
            the reference: a key pasted in the reference's place would be shown.
    """
    if reference.env is not None:
        text = _of_environment(reference.env, environ, field=field)
    else:
        text = _of_file(str(reference.file), file, field=field)
    key = text.strip()
    if not _KEY.fullmatch(key):
        raise ConfigurationError(
            "holds an empty key, or one with blanks or characters beyond ASCII.",
            field=field,
            remedy="Store the key alone, on one line.",
        )
    return Secret(key)


def _of_environment(name: str, environ: Mapping[str, str], *, field: str) -> str:
    text = environ.get(name)
    if text is None:
        raise ConfigurationError(
            "names an environment variable that is not set.",
            field=f"{field}.env",
            remedy="Export that variable, or name another.",
        )
    return text


def _of_file(name: str, file: Path | None, *, field: str) -> str:
    try:
        with beside(name, file).open("rb") as opened:
            data = opened.read(_MAX_KEY_BYTES + 1)
        text = data.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"names a file that cannot be read ({type(error).__name__}).",
            field=f"{field}.file",
            remedy="Name a readable file that holds the key alone.",
        ) from None
    if len(data) > _MAX_KEY_BYTES:
        raise ConfigurationError(
            "names a file that is larger than any key.",
            field=f"{field}.file",
            remedy="Name a readable file that holds the key alone.",
        )
    return text
