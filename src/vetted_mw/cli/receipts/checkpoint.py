"""`vetted-mw receipts checkpoint`: one line that fixes every row of a ledger, to be kept elsewhere."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vetted_mw.audit.verify.findings import shown
from vetted_mw.audit.verify.keys import own_signer
from vetted_mw.cli.receipts.ledgers import Chosen, chosen, unreadable
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.ledger.checkpoints import make_checkpoint
from vetted_mw.receipts.ledger.reading import LedgerReader, LedgerUnreadableError
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from vetted_mw.receipts.signing import Ed25519Signer

__all__ = ["checkpoint"]

_CONTRADICTED = (
    "vetted-mw: the ledger holds a checkpoint of as many rows with another root: rows were changed since it was made."
    " Run `vetted-mw receipts verify` on the ledger."
)


def checkpoint(arguments: argparse.Namespace) -> int:
    """Make a checkpoint, keep it in the ledger, and say how to have it timestamped.

    Raises:
        ConfigurationError: there is no ledger, or something cannot be written.
    """
    ledger = chosen(arguments)
    out: Path | None = arguments.out
    if out is not None and out.exists():
        raise ConfigurationError(
            f"{shown(out)} is there already.", field="--out", remedy="Name a file that is not there yet."
        )
    try:
        with LedgerReader(ledger.path):  # whether there is one comes before whether it can be signed
            signer = _signer(ledger, is_unsigned=arguments.unsigned)
        made = make_checkpoint(ledger.path, signer, datetime.now(UTC))
    except LedgerUnreadableError as error:
        raise unreadable(ledger.path, error.reason) from None
    except LedgerUnavailableError as error:
        if error.reason == "contradicted":
            print(_CONTRADICTED, file=sys.stderr)
            return 1
        raise ConfigurationError(
            f"the checkpoint cannot be kept in the ledger ({error.reason.replace('_', ' ')}).",
            field="ledger",
            remedy="See that the file and its folder may be written, and that the disk has room.",
        ) from None
    if out is not None:
        _write(out, made.text)  # before anything is printed: whoever reads that may go away
    print(f"rows    {made.tree_size:,}\nroot    {made.root}\nsigned  {_signed(made.text)}\n")
    if out is None:
        print(f"{made.text}\n")
    print(_recipe("checkpoint.jws" if out is None else str(out), written=out is not None))
    return 0


def _signer(ledger: Chosen, *, is_unsigned: bool) -> Ed25519Signer | None:
    """Return who signs; None where the caller wants no signature.

    Raises:
        ConfigurationError: no key is named, and what is stored without a signature stays so for good.
    """
    signer = None if is_unsigned else own_signer(ledger.configuration)
    if signer is None and not is_unsigned:
        raise ConfigurationError(
            "no settings with a key were found, and a checkpoint that nobody signed proves little.",
            field="signing.key",
            remedy="Name the gateway's settings with --config, or say --unsigned where it has no key.",
        )
    return signer


def _signed(text: str) -> str:
    return "no" if text.startswith("{") else "yes"


def _write(out: Path, text: str) -> None:
    try:
        with out.open("x", encoding="ascii") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise ConfigurationError(
            f"{shown(out)} cannot be written: {error.strerror}.",
            field="--out",
            remedy="Name a file in a folder you may write to; the checkpoint itself is in the ledger.",
        ) from None


def _recipe(name: str, *, written: bool) -> str:
    file = shlex.quote(name)
    lines = [
        "To fix its date, send FILE.tsq to a timestamp authority (RFC 3161) and keep what comes back as FILE.tsr:",
        "",
        f"  openssl ts -query -data {file} -sha256 -cert -out {file}.tsq",
        f"  openssl ts -verify -data {file} -in {file}.tsr -CAfile authority.pem",
        "",
        "Keep all three where whoever runs the gateway cannot change them;",
        f"`vetted-mw receipts verify LEDGER --checkpoint {file}` compares them later.",
    ]
    return "\n".join(([] if written else [f"Write the line above to {file}."]) + lines)
