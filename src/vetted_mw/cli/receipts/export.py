"""`vetted-mw receipts export`: a period as an evidence pack."""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from vetted_mw.audit.ledger import AuditedLedger, LedgerUnreadableError
from vetted_mw.audit.pack.packing import Packed, write_pack
from vetted_mw.audit.pack.period import period_of
from vetted_mw.audit.verify.findings import counted, shown
from vetted_mw.audit.verify.keys import jwks_bytes, own_jwks
from vetted_mw.audit.verify.opening import kid_of
from vetted_mw.cli.receipts.ledgers import Chosen, chosen, unreadable
from vetted_mw.errors import ConfigurationError
from vetted_mw.instants import rfc3339
from vetted_mw.receipts.jwks import parse_jwks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

__all__ = ["export"]


def export(arguments: argparse.Namespace) -> int:
    """Write the pack; exit code 1 when rows of the ledger hold no receipt that can be read.

    Raises:
        ConfigurationError: there is no ledger, no period, or no place to write to.
    """
    since, until = period_of(arguments.since, arguments.until)
    if until > rfc3339(datetime.now(UTC), milliseconds=True):
        _warn("the period is not over: receipts that are issued in it from now on will not be in this pack")
    ledger = chosen(arguments)
    keys = _keys(arguments, ledger)
    try:
        with AuditedLedger(ledger.path) as rows, _new_file(arguments.out) as target:
            software = f"vetted-mw/{version('vetted-mw')}"
            made = write_pack(rows, target, since=since, until=until, jwks=keys, software=software)
    except LedgerUnreadableError as error:
        raise unreadable(ledger.path, error.reason) from None
    _tell(arguments.out, made, kids=set(parse_jwks(keys).keys))
    return 1 if made.unreadable else 0


def _keys(arguments: argparse.Namespace, ledger: Chosen) -> bytes:
    if arguments.jwks is not None:
        return jwks_bytes(arguments.jwks)
    return own_jwks(ledger.configuration)


def _tell(out: Path, made: Packed, *, kids: set[str]) -> None:
    manifest = made.manifest
    print(f"wrote {shown(out)}: {counted(manifest.receipts, 'receipt')} of {counted(len(manifest.ledgers), 'ledger')}")
    print(f"period  {manifest.since} to {manifest.until}, its end not included")
    print(f"root    {manifest.root}")
    used = {kid for head in manifest.heads if (kid := kid_of(head.text)) is not None}
    if not kids:
        _warn("no keys are in the pack: whoever checks its signatures needs the issuer's JWKS besides")
    for kid in sorted(used - kids) if kids else ():
        _warn(f"the pack lacks the key {shown(kid)}, which signed heads in it: name the issuer's JWKS with --jwks")
    if made.unreadable:
        _warn(
            f"{counted(made.unreadable, 'row')} without a receipt that can be read: run"
            " `vetted-mw receipts verify` on the ledger"
        )
    for digest in made.unknown_methods:
        _warn(f"the methodology with coefficients_digest {shown(digest)} is not in this version: its files are missing")


def _warn(text: str) -> None:
    print(f"vetted-mw: {text}", file=sys.stderr)


@contextlib.contextmanager
def _new_file(out: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name once it is whole, and never takes another's place."""
    if out.exists():
        raise ConfigurationError(
            f"{shown(out)} is there already.", field="--out", remedy="Name a file that is not there yet."
        )
    partial = out.with_name(f".{out.name}.partial")
    try:
        with open(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as target:  # noqa: PTH123 (a descriptor)
            yield target
        partial.rename(out)
    except OSError as error:
        raise ConfigurationError(
            f"{shown(out)} cannot be written: {error.strerror}.",
            field="--out",
            remedy="Name a file in a folder you may write to, on a disk with room.",
        ) from None
    finally:
        partial.unlink(missing_ok=True)
