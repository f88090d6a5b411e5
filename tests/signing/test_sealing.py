"""A receipt that is final: what stands in the ledger, what stands in the answer, and that they are one."""

from __future__ import annotations

import json

import msgspec
import pytest
import rfc8785

from receipts.keys import jwks, signer
from receipts.ledgers import made_receipt
from vetted_mw.receipts.canonical import NotCanonicalError
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import detached, reattached
from vetted_mw.receipts.receipt import encode_receipt
from vetted_mw.receipts.sealed import LedgerUnavailableError, seal
from vetted_mw.receipts.signing import verify_jws

KEYS = parse_jwks(json.dumps(jwks(signer())).encode())


def test_a_sealed_receipt_verifies_and_is_the_receipt() -> None:
    """The full signature holds the receipt, field for field, in the form that another implementation writes."""
    receipt = made_receipt()
    sealed = seal(receipt, signer())
    payload = verify_jws(sealed.text, KEYS).payload
    assert msgspec.json.decode(payload, type=type(receipt)) == receipt == sealed.receipt
    assert payload == rfc8785.dumps(msgspec.to_builtins(receipt))
    assert sealed.signature == detached(sealed.text)


def test_the_answers_own_receipt_verifies_under_the_detached_signature() -> None:
    """A client that has only what was sent to it, as we write it on the wire, gets the full signature back."""
    sealed = seal(made_receipt(), signer())
    assert sealed.signature is not None
    sent = json.loads(encode_receipt(sealed.receipt))
    assert reattached(sealed.signature, sent) == sealed.text


def test_without_a_key_the_text_is_the_canonical_receipt() -> None:
    """Nothing that looks like a signature."""
    sealed = seal(made_receipt(), None)
    assert sealed.signature is None
    assert sealed.text.encode() == rfc8785.dumps(msgspec.to_builtins(sealed.receipt))


def test_what_is_not_there_is_not_signed() -> None:
    """A receipt outside a ledger has no `ledger_id`; one inside has, and it is signed."""
    bare = made_receipt(ledger_id=msgspec.UNSET, seq=msgspec.UNSET, request_id=msgspec.UNSET)
    kept = msgspec.structs.replace(bare, ledger_id="ledger", seq=7)
    assert {"ledger_id", "seq", "request_id"}.isdisjoint(
        json.loads(verify_jws(seal(bare, signer()).text, KEYS).payload)
    )
    assert json.loads(verify_jws(seal(kept, signer()).text, KEYS).payload)["seq"] == 7
    assert seal(bare, signer()).signature != seal(kept, signer()).signature


def test_a_figure_that_is_no_number_is_never_signed() -> None:
    """There is no form to sign it in, and no receipt with it."""
    with pytest.raises(NotCanonicalError):
        seal(made_receipt(gco2e=float("nan")), signer())


def test_a_ledgers_failure_tells_a_word_and_nothing_else() -> None:
    """For the log."""
    assert (LedgerUnavailableError("disk_full").reason, str(LedgerUnavailableError("disk_full"))) == ("disk_full",) * 2
