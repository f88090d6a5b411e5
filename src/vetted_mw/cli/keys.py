"""`vetted-mw keys new | show`: make the key that signs receipts, and show public halves. Never a private one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.cli.table import table
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.exact_json import NotExactJsonError, read_json
from vetted_mw.receipts.jwks import PublicKeyError, jwks, parse_jwks, read_public_key, spki_pem
from vetted_mw.receipts.signing import load_signer, new_private_pem
from vetted_mw.settings import load_configuration
from vetted_mw.settings.secrets import read_file, read_private_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["keys_new", "keys_show"]

_PRIVATE = b"PRIVATE KEY-----"
_NAME_A_KEY = "Name a readable file with a key: PEM, a public JWK, or a JWKS."


def keys_new(arguments: argparse.Namespace) -> int:
    """Write a new key into a file of its own, and say what to paste where.

    Raises:
        ConfigurationError: there is such a file, or it cannot be written.
    """
    file: Path = arguments.out
    pem = new_private_pem()
    replaced = _jwk_of(file) if arguments.force and file.is_file() else None
    _write(file, pem, replaces=replaced is not None)
    jwk = load_signer(pem).jwk
    print(f"wrote {file}, which its owner alone may read\nkid  {jwk['kid']}\n\nPaste into the settings:\n")
    print(f"[signing]\nkey = {{ file = {json.dumps(str(file.absolute()))} }}\n")
    if replaced is None:
        print("When another key takes its place, keep its public half listed: receipts it signed need it for good.\n")
        print(f"vetted-mw keys show {shlex.quote(str(file))} --public > {_public_name(jwk)}\n\n{_retired_line(jwk)}")
    else:
        print(f"The key it replaced is gone. Keep its public half as {_public_name(replaced)}: receipts it signed need")
        print(f"it for good.\n\n{spki_pem(replaced)}\n{_retired_line(replaced)}")
    return 0


def keys_show(arguments: argparse.Namespace) -> int:
    """Print the keys of the settings, or of a file: as a table, as JWKS, or one public half as PEM.

    Raises:
        ConfigurationError: there is none, or it cannot be used.
    """
    if arguments.file is not None:
        keys, signs_now = _jwks_of(arguments.file), False
    else:
        signing = load_configuration(arguments.config).signing
        signer = None if signing.key is None else load_signer(signing.key, alg=signing.alg)
        keys, signs_now = jwks(signer, signing.retired)["keys"], signer is not None
    is_retired = arguments.public and arguments.file is None and not signs_now and arguments.kid is None
    if not keys or is_retired:
        raise ConfigurationError(
            "is not set: receipts are not signed.",
            field="signing.key",
            remedy="Make one: vetted-mw keys new --out signing-key.pem",
        )
    if arguments.kid is not None:
        signs_now = signs_now and keys[0]["kid"] == arguments.kid
        keys = [dict(_chosen(keys, arguments.kid))]
    if arguments.public:
        if len(keys) > 1 and arguments.file is not None:
            print(f"vetted-mw: key {keys[0]['kid']}, the first of {len(keys)}; --kid names another", file=sys.stderr)
        print(spki_pem(keys[0]), end="")
    elif arguments.json:
        print(msgspec.json.format(msgspec.json.encode({"keys": keys})).decode())
    else:
        print(_readable(keys, signs_now=signs_now))
    return 0


def _readable(keys: Sequence[Mapping[str, Any]], *, signs_now: bool) -> str:
    rows = [
        [
            key["kid"],
            key.get("alg", ""),
            "signs now" if signs_now and number == 0 else "",
            key.get("not_before", ""),
            key.get("not_after", ""),
        ]
        for number, key in enumerate(keys)
    ]
    return table(["kid", "alg", "", "not before", "not after"], rows)


def _chosen(keys: Sequence[Mapping[str, Any]], kid: str) -> Mapping[str, Any]:
    found = next((key for key in keys if key["kid"] == kid), None)
    if found is None:
        raise ConfigurationError(
            "names a key that is not listed.",
            field="--kid",
            remedy=f"Name one of these: {', '.join(key['kid'] for key in keys)}.",
        )
    return found


def _jwks_of(file: Path) -> list[dict[str, Any]]:
    """Return the public keys of a file: those that a JWKS lists, or the one that is there."""
    data = read_file(file, field=str(file), subject="is", remedy=_NAME_A_KEY)
    try:
        document = read_json(data)
    except NotExactJsonError:
        document = None
    if not isinstance(document, dict) or "keys" not in document:
        return [_jwk_of(file)]
    try:
        known = parse_jwks(data).keys
    except PublicKeyError as error:
        problem, remedy = error.problem, error.remedy
    else:
        if known:
            shown = ("kty", "crv", "x", "kid", "use", "alg", "not_before", "not_after")
            return [{name: key[name] for name in shown if name in key} for key in document["keys"]]
        problem, remedy = "is a JWKS without any key.", _NAME_A_KEY
    raise ConfigurationError(problem, field=str(file), remedy=remedy)


def _jwk_of(file: Path) -> dict[str, str]:
    """Return the public key of a file, which may hold the private one too, if nobody else may read it."""
    data = read_file(file, field=str(file), subject="is", remedy=_NAME_A_KEY)
    if _PRIVATE in data:
        data = read_private_file(file, field=str(file), subject="is")
        jwk = load_signer(data.decode("ascii", "replace"), place=str(file)).jwk
        return {name: value for name, value in jwk.items() if name != "alg"}  # which the settings choose, not the key
    try:
        return read_public_key(data)
    except PublicKeyError as error:
        problem = error.problem
    raise ConfigurationError(problem, field=str(file), remedy=_NAME_A_KEY)


def _write(file: Path, pem: str, *, replaces: bool) -> None:
    """Write the key into a file that nobody but its owner could ever open, not even for a moment."""
    target = file.resolve() if replaces else file
    # What is replaced is whole at every instant: the old key or the new one.
    new = target.with_name(f".{secrets.token_hex(8)}.pem") if replaces else target
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
            opened.write(pem)
            opened.flush()
            os.fsync(opened.fileno())
        if new != target:
            new.replace(target)
    except FileExistsError:
        raise ConfigurationError(
            "is there already, and a key that is lost is lost for good.",
            field=str(file),
            remedy="Choose another name; --force replaces the key.",
        ) from None
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise ConfigurationError(
            f"cannot be written ({type(error).__name__}).",
            field=str(file),
            remedy="Name a file in a folder that exists and that you may write to.",
        ) from None


def _public_name(jwk: Mapping[str, str]) -> str:
    return f"retired-{jwk['kid'][:8]}.pem"


def _retired_line(jwk: Mapping[str, str]) -> str:
    file = json.dumps(_public_name(jwk))
    return f"retired = [{{ file = {file} }}]  # under [signing], and not_after once it signs no more"
