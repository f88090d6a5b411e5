"""Checkpoints: one signed line that fixes every row a ledger file holds, to be put where its owner cannot reach it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.instants import rfc3339
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jwks import Jwks, PublicKey
from vetted_mw.receipts.jws import CHECKPOINT_TYPE, MalformedJwsError, compact, read_jws
from vetted_mw.receipts.ledger.faults import reason_of
from vetted_mw.receipts.ledger.file import connected, place_of
from vetted_mw.receipts.ledger.merkle import MerkleTree
from vetted_mw.receipts.ledger.reading import LedgerReader
from vetted_mw.receipts.sealed import LedgerUnavailableError
from vetted_mw.receipts.signing import JwsRefusedError, verify_jws

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.ledger.reading import LedgerRow

__all__ = ["Checkpoint", "MalformedCheckpointError", "checkpoint_matches", "make_checkpoint", "read_checkpoint"]

_VERSION = "1"
_ROOT = re.compile(r"sha-256:[0-9a-f]{64}")


class MalformedCheckpointError(ValueError):
    """The text is no checkpoint of ours. Content-free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a ledger file held at one moment.

    Attributes:
        tree_size: how many rows.
        root: `sha-256:<hex>`, the Merkle tree hash over the texts of the first `tree_size` rows.
        text: the full JWS; without a key its canonical JSON.
    """

    tree_size: int
    root: str
    text: str


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    at: str
    checkpoint_version: str
    heads: dict[str, int]
    root: str
    tree_size: int


def make_checkpoint(path: Path, signer: Signer | None, now: datetime) -> Checkpoint:
    """Compute the root over every row, and keep it in the file. Reads the whole file; beside live writers if need be.

    Where the file has a checkpoint of the same rows already, that one is returned: with a key, one that it signed. So a
    signed one comes to stand beside one that was made without the key.

    Args:
        path: of the ledger.
        signer: signs it; None: it stays canonical JSON.
        now: aware UTC.

    Raises:
        LedgerUnreadableError: the file cannot be read.
        LedgerUnavailableError: the checkpoint cannot be written; `contradicted`: the file holds another one of the same
            size, so that rows must have been changed since.
    """
    made, earlier = _computed(path, signer, now)
    known = list(_readable(earlier))
    if any(one.root != made.root for one in known):
        raise LedgerUnavailableError("contradicted")
    fitting = [one for one in known if signer is None or _is_signed_by(signer, one)]
    if fitting:
        return next((one for one in fitting if not one.text.startswith("{")), fitting[0])
    _store(path, made)
    return made


def read_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint; its signature is not checked here.

    Raises:
        MalformedCheckpointError: it is none.
    """
    payload = _payload(text)
    if payload.checkpoint_version != _VERSION or payload.tree_size < 0 or not _ROOT.fullmatch(payload.root):
        raise MalformedCheckpointError
    return Checkpoint(tree_size=payload.tree_size, root=payload.root, text=text)


def checkpoint_matches(rows: Iterable[LedgerRow], checkpoint: Checkpoint) -> bool:
    """Whether the first `tree_size` rows are those the checkpoint was made of; fewer rows never are.

    Args:
        rows: in the order of the file; no more of them are read than needed.
        checkpoint: what they are held against.
    """
    tree = MerkleTree()
    remaining = iter(rows)
    while len(tree) < checkpoint.tree_size:
        row = next(remaining, None)
        if row is None:
            return False
        tree.add(row.text.encode())
    return _written(tree) == checkpoint.root


def _computed(path: Path, signer: Signer | None, now: datetime) -> tuple[Checkpoint, list[str]]:
    """Return the checkpoint of what the file holds, and the texts of earlier ones of the same size."""
    tree = MerkleTree()
    with LedgerReader(path) as reader:
        for row in reader.rows():
            tree.add(row.text.encode())
        heads = {head.ledger_id: head.seq for head in reader.heads()}
        earlier = [one.text for one in reader.checkpoints() if one.tree_size == len(tree)]
    root = _written(tree)
    text = _signed(
        {
            "at": rfc3339(now, milliseconds=True),
            "checkpoint_version": _VERSION,
            "heads": heads,
            "root": root,
            "tree_size": len(tree),
        },
        signer,
    )
    return Checkpoint(tree_size=len(tree), root=root, text=text), earlier


def _readable(texts: Iterable[str]) -> Iterator[Checkpoint]:
    """Yield those that are checkpoints; of what is none, `verify` tells."""
    for text in texts:
        with contextlib.suppress(MalformedCheckpointError):
            yield read_checkpoint(text)


def _is_signed_by(signer: Signer, checkpoint: Checkpoint) -> bool:
    keys = Jwks(keys={signer.kid: PublicKey(x=signer.jwk["x"], kid=signer.kid)})
    try:
        verify_jws(checkpoint.text, keys, typ=CHECKPOINT_TYPE)
    except JwsRefusedError:
        return False
    return True


def _signed(payload: Mapping[str, Any], signer: Signer | None) -> str:
    written = canonical(payload)
    return written.decode() if signer is None else compact(written, signer, typ=CHECKPOINT_TYPE)


def _store(path: Path, checkpoint: Checkpoint) -> None:
    """Put the checkpoint into the file, and onto the disk.

    Raises:
        LedgerUnavailableError: it cannot be written.
    """
    try:
        connection = connected(place_of(path), durability="full")
        try:
            connection.execute(
                "INSERT OR IGNORE INTO checkpoints VALUES (?, ?)", (checkpoint.tree_size, checkpoint.text)
            )
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LedgerUnavailableError(reason_of(error)) from None


def _written(tree: MerkleTree) -> str:
    return f"sha-256:{tree.root().hex()}"


def _payload(text: str) -> _Payload:
    try:
        written = text.encode() if text.startswith("{") else read_jws(text).payload
        return msgspec.json.decode(written, type=_Payload)
    except (MalformedJwsError, msgspec.DecodeError, UnicodeError, RecursionError):
        raise MalformedCheckpointError from None
