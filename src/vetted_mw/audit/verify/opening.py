"""Open what the gateway wrote: a JWS or plain canonical JSON, its signature checked where a key is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.audit.verify.findings import Code, problem, shown
from vetted_mw.instants import parse_rfc3339
from vetted_mw.receipts.canonical import NotCanonicalError, canonical
from vetted_mw.receipts.jws import RECEIPT_TYPE, MalformedJwsError, read_jws
from vetted_mw.receipts.signing import JwsRefusal, JwsRefusedError, verify_jws

if TYPE_CHECKING:
    from vetted_mw.audit.verify.findings import Place, Tell
    from vetted_mw.receipts.jwks import Jwks, PublicKey

__all__ = ["MAX_TEXT_CHARACTERS", "Opened", "kid_of", "open_text", "outside_key_period", "typ_of"]

MAX_TEXT_CHARACTERS = 1_048_576
"""A receipt has about two thousand; a model's name may be long."""
_REASONS = {
    JwsRefusal.MALFORMED: (Code.SIGNATURE, "is no compact JWS as the gateway writes one (header alg, kid, typ)"),
    JwsRefusal.ALGORITHM: (Code.SIGNATURE, "names an algorithm that does not count: only Ed25519 (EdDSA) does"),
    JwsRefusal.TYPE: (Code.SIGNATURE, "is signed as something else than what it stands for here"),
    JwsRefusal.UNKNOWN_KEY: (Code.UNKNOWN_KEY, "is of a key that the JWKS does not hold"),
    JwsRefusal.SIGNATURE: (
        Code.SIGNATURE,
        "does not verify: it was changed after it was signed, or is of another text",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A text taken apart.

    Attributes:
        members: what it says.
        is_signed: whether it is a JWS.
        is_verified: whether a key at hand signed it.
        key: that key.
        kid: the key it names; None where it names none.
    """

    members: Mapping[str, Any]
    is_signed: bool
    is_verified: bool
    key: PublicKey | None = None
    kid: str | None = None


def open_text(
    text: str, keys: Jwks | None, place: Place, tell: Tell, *, typ: str = RECEIPT_TYPE, most: int = MAX_TEXT_CHARACTERS
) -> Opened | None:
    """Open one text and tell what is wrong with its form and signature.

    Args:
        text: a full JWS, or canonical JSON.
        keys: whose signatures count; None when no key is at hand, and then no signature is judged.
        place: where it stands.
        tell: takes what is found.
        typ: what a JWS must be signed as.
        most: characters of the longest text that is read.

    Returns:
        What it says, even where its signature is false; None when nothing can be made of it.
    """
    if len(text) > most:
        tell(
            problem(Code.TOO_LARGE, place, f"has {len(text):,} characters, too many to be what it stands for: not read")
        )
        return None
    if text.startswith("{"):
        members = _members(text.encode("utf-8", "surrogatepass"), place, tell)
        return None if members is None else Opened(members=members, is_signed=False, is_verified=False)
    is_verified = _is_verified(text, keys, place, tell, typ)
    try:
        jws = read_jws(text)
    except MalformedJwsError:
        if keys is None:
            tell(problem(Code.SIGNATURE, place, f"the signature {_REASONS[JwsRefusal.MALFORMED][1]}"))
        return None
    members = _members(jws.payload, place, tell)
    if members is None:
        return None
    kid = _kid_of(jws.header)
    key = keys.keys[kid] if keys is not None and is_verified and kid is not None else None
    return Opened(members=members, is_signed=True, is_verified=is_verified, key=key, kid=kid)


def kid_of(text: str) -> str | None:
    """Return the key that a JWS names. Nothing is verified."""
    try:
        return _kid_of(read_jws(text).header)
    except MalformedJwsError:
        return None


def typ_of(text: str) -> str | None:
    """Return what a JWS says it is; None where it says nothing. Nothing is verified."""
    try:
        typ = read_jws(text).header.get("typ")
    except MalformedJwsError:
        return None
    return typ if isinstance(typ, str) else None


def outside_key_period(key: PublicKey, instant: str) -> str:
    """Say how `instant` lies outside the time in which `key` signed; empty when it does not, or nothing is known."""
    try:
        moment = parse_rfc3339(instant)
    except ValueError:
        return ""  # the instant itself is told elsewhere
    if key.not_before and moment < parse_rfc3339(key.not_before):
        return f"is of {shown(instant)}, and its key signed from {shown(key.not_before)} on only"
    if key.not_after and moment > parse_rfc3339(key.not_after):
        return f"is of {shown(instant)}, and its key was retired at {shown(key.not_after)}"
    return ""


def _is_verified(text: str, keys: Jwks | None, place: Place, tell: Tell, typ: str) -> bool:
    if keys is None:
        return False
    try:
        verify_jws(text, keys, typ=typ)
    except JwsRefusedError as error:
        code, reason = _REASONS[error.reason]
        named = _kid_of(read_jws(text).header) if code is Code.UNKNOWN_KEY else None
        tell(problem(code, place, f"the signature {reason}" + (f": {shown(named)}" if named else "")))
        return False
    return True


def _kid_of(header: Mapping[str, Any]) -> str | None:
    kid = header.get("kid")
    return kid if isinstance(kid, str) else None


def _members(payload: bytes, place: Place, tell: Tell) -> Mapping[str, Any] | None:
    try:
        members = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        tell(problem(Code.CANONICAL, place, "what is signed is no JSON: nothing more can be checked of it"))
        return None
    if not isinstance(members, Mapping):
        tell(problem(Code.FIELDS, place, "what is signed is no JSON object"))
        return None
    if not _is_canonical(members, payload):
        what = (
            "is not in canonical form (RFC 8785): members twice or out of order, blanks, or numbers written otherwise"
        )
        tell(problem(Code.CANONICAL, place, what))
    return members


def _is_canonical(members: Mapping[str, Any], payload: bytes) -> bool:
    try:
        return canonical(members) == payload
    except (NotCanonicalError, RecursionError):
        return False
