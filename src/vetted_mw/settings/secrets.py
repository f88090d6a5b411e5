"""Read the keys that settings point to; a key is in memory only from here on, and prints as `***`."""

from __future__ import annotations

import os
import re
import shlex
import stat
from typing import TYPE_CHECKING

from vetted_mw.errors import ConfigurationError
from vetted_mw.secret import Secret
from vetted_mw.settings.places import beside, told_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vetted_mw.settings.section import KeyReference

__all__ = ["private_key", "read_file", "read_private_file", "resolved"]

_KEY = re.compile(r"[!-~]+")
_MAX_KEY_BYTES = 16_384
_ALONE = "Name a readable file that holds the key alone."
_TOO_OPEN = stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
"""A group may read: so a mounted secret reaches a process that is not its owner. Nobody else may, nor write it."""


def resolved(reference: KeyReference, *, field: str, file: Path | None, environ: Mapping[str, str]) -> Secret:
    """Return the key that `reference` points to.

    Args:
        reference: an environment variable or a file; relative paths start at the settings file's folder.
        field: the key's place in the settings, for messages.
        file: the settings file, if any.
        environ: the process environment.

    Raises:
        ConfigurationError: it is not there, or holds what cannot travel in a header. The text holds no key, and of the
            reference only what cannot be a key: one pasted in the reference's place would be shown.
    """
    if reference.env is not None:
        text = _of_environment(reference.env, environ, field=field)
    else:
        name = str(reference.file)
        path = beside(name, file)
        text = _ascii(read_file(path, field=f"{field}.file", written=name), told_path(name, path), field=field)
    key = text.strip()
    if not _KEY.fullmatch(key):
        raise ConfigurationError(
            "holds an empty key, or one with blanks or characters beyond ASCII.",
            field=field,
            remedy="Store the key alone, on one line.",
        )
    return Secret(key)


def private_key(reference: KeyReference, *, field: str, file: Path | None, environ: Mapping[str, str]) -> Secret:
    r"""Return the PEM that `reference` points to; in a variable its lines may be parted by a written `\n`.

    Args:
        reference: an environment variable or a file; relative paths start at the settings file's folder.
        field: the key's place in the settings, for messages.
        file: the settings file, if any.
        environ: the process environment.

    Raises:
        ConfigurationError: it is not there, or is a file that others than its owner may read or write.
    """
    if reference.env is not None:
        lines = _of_environment(reference.env, environ, field=field).replace("\\n", "\n").split("\n")
        return Secret("\n".join(line.strip() for line in lines if line.strip()))
    name = str(reference.file)
    path = beside(name, file)
    data = read_private_file(path, field=f"{field}.file", written=name)
    return Secret(_ascii(data, told_path(name, path), field=field))


def read_file(path: Path, *, field: str, written: str = "", subject: str = "names", remedy: str = _ALONE) -> bytes:
    """Return what a small file holds.

    Args:
        path: the file.
        field: the key's place in the settings, for messages, as all that follow.
        written: how the settings name the file; empty where `field` names it.
        subject: begin of what is wrong.
        remedy: what to do.

    Raises:
        ConfigurationError: it cannot be read, or is larger than any key.
    """
    where = told_path(written, path) if written else ""
    return _read(path, where, field=field, subject=subject, remedy=remedy)[0]


def read_private_file(path: Path, *, field: str, written: str = "", subject: str = "names") -> bytes:
    """Return what the file of a private key holds. Links are followed: what counts is the file they lead to.

    Args:
        path: the file.
        field: the key's place in the settings, for messages, as all that follow.
        written: how the settings name the file; empty where `field` names it.
        subject: begin of what is wrong.

    Raises:
        ConfigurationError: it cannot be read, is larger than any key, or is open to others.
    """
    where = told_path(written, path) if written else ""
    named = shlex.quote(where) if where else "it" if written else shlex.quote(str(path))
    make = f"vetted-mw keys new --out {'PATH' if named == 'it' else named}"
    is_missing = not os.path.lexists(path)
    remedy = f"Make one: {make}, or name the file that holds it." if is_missing else _ALONE
    data, mode = _read(path, where, field=field, subject=subject, remedy=remedy)
    if os.name == "posix" and mode & _TOO_OPEN:  # elsewhere these bits say nothing of who may read
        raise ConfigurationError(
            f"{subject} a file that others may read or write{_in_brackets(where)}.",
            field=field,
            remedy=f"Run chmod 600 {named}; give a mounted secret the mode 0400, or 0440 where a group needs it.",
        )
    return data


def _read(path: Path, where: str, *, field: str, subject: str, remedy: str) -> tuple[bytes, int]:
    try:
        with path.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            data = opened.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        told = f"{type(error).__name__}{f': {where}' if where else ''}"
        raise ConfigurationError(
            f"{subject} a file that cannot be read ({told}).", field=field, remedy=remedy
        ) from None
    if len(data) > _MAX_KEY_BYTES:
        raise ConfigurationError(
            f"{subject} a file that is larger than any key{_in_brackets(where)}.", field=field, remedy=remedy
        )
    return data, mode


def _in_brackets(where: str) -> str:
    return f" ({where})" if where else ""


def _of_environment(name: str, environ: Mapping[str, str], *, field: str) -> str:
    text = environ.get(name)
    if text is None:
        raise ConfigurationError(
            "names an environment variable that is not set.",
            field=f"{field}.env",
            remedy="Export that variable, or name another.",
        )
    return text


def _ascii(data: bytes, where: str, *, field: str) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        told = f"UnicodeDecodeError{f': {where}' if where else ''}"
    raise ConfigurationError(f"names a file that cannot be read ({told}).", field=f"{field}.file", remedy=_ALONE)
