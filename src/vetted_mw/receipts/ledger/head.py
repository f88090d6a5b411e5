"""The head of a ledger: its writer's own word on which row is the newest. Pure."""

from __future__ import annotations

import hashlib

from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jws import HEAD_TYPE, Signer, compact

__all__ = ["head_text"]

_VERSION = "1"


def head_text(ledger_id: str, seq: int, newest: str, *, at: str, not_kept: int, signer: Signer | None) -> str:
    """Write the head after a commit.

    Args:
        ledger_id: of the writer.
        seq: of the newest row.
        newest: that row's text.
        at: RFC 3339 with milliseconds.
        not_kept: receipts that the writer was given under this id and could not keep: no number of theirs is missing.
        signer: signs it; None: it stays canonical JSON.
    """
    payload = canonical(
        {
            "at": at,
            "head_version": _VERSION,
            "ledger_id": ledger_id,
            "not_kept": not_kept,
            "row_digest": f"sha-256:{hashlib.sha256(newest.encode()).hexdigest()}",
            "seq": seq,
        }
    )
    return payload.decode() if signer is None else compact(payload, signer, typ=HEAD_TYPE)
