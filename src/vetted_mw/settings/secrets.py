"""Read the keys that settings point to; a key is in memory only from here on, and prints as `***`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.configuration import Secret
from vetted_mw.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.settings.schema import KeyReference

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
        ConfigurationError: it is not there, or holds what cannot travel in a header. The text never holds the key.
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
            f"the environment variable {name} is not set.", field=f"{field}.env", remedy="Export it, or name another."
        )
    return text


def _of_file(name: str, file: Path | None, *, field: str) -> str:
    folder = Path.cwd() if file is None else file.resolve().parent
    try:
        data = (folder / Path(name).expanduser()).read_bytes()[:_MAX_KEY_BYTES]
        return data.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the key file {name!r} cannot be read ({type(error).__name__}).",
            field=f"{field}.file",
            remedy="Name a readable file that holds the key alone.",
        ) from None
