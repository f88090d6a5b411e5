"""Public Ed25519 keys as they are published: JWK, JWKS (RFC 7517, 8037), thumbprint (RFC 7638), PEM. Pure values."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.instants import parse_rfc3339
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.exact_json import NotExactJsonError, read_json
from vetted_mw.receipts.jws import ALGORITHMS, MalformedJwsError, b64url, from_b64url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vetted_mw.configuration import RetiredKey
    from vetted_mw.receipts.jws import Signer

__all__ = [
    "Jwks",
    "PublicKey",
    "PublicKeyError",
    "jwks",
    "parse_jwks",
    "public_jwk",
    "read_public_key",
    "spki_pem",
    "thumbprint",
]

_KEY_BYTES = 32
_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes in the one form that RFC 8410 gives an Ed25519 public key."""
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")
_KIND = {"kty": "OKP", "crv": "Ed25519"}
_MEMBERS = ("kty", "crv", "x", "kid", "use", "alg", "not_before", "not_after")
_PRIVATE_MEMBERS = frozenset({"d", "k", "p", "q", "dp", "dq", "qi", "oth"})
_SHOW_PUBLIC = "Write its public half there instead: vetted-mw keys show FILE --public prints it."
_ONE_KEY = "Name a file with one Ed25519 public key: PEM (BEGIN PUBLIC KEY), or a JWK."


class PublicKeyError(ValueError):
    """No public Ed25519 key, or no JWKS of such. Content-free.

    Attributes:
        problem: what is wrong, the end of a sentence.
        remedy: what to do, a sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a JWKS.

    Attributes:
        x: its 32 bytes, base64url.
        kid: its thumbprint.
        not_before: RFC 3339; empty when nobody said.
        not_after: RFC 3339; empty when nobody said.
    """

    x: str
    kid: str
    not_before: str = ""
    not_after: str = ""


class Jwks(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that signatures may be of.

    Attributes:
        keys: `kid` -> the key.
    """

    keys: Mapping[str, PublicKey]


def thumbprint(required: Mapping[str, str]) -> str:
    """Return the RFC 7638 thumbprint of a key, SHA-256.

    Args:
        required: the members that the RFC requires of that kind of key, and no other: `crv`, `kty` and `x` of ours.
    """
    return b64url(hashlib.sha256(canonical(required)).digest())


def public_jwk(key: bytes, *, alg: str = "") -> dict[str, str]:
    """Return the JWK of an Ed25519 public key.

    Args:
        key: its 32 bytes.
        alg: what its signatures name as their algorithm; empty where that is not known. Verifiers hold a signature to
            it, so that a guess would turn good ones away.
    """
    required = _KIND | {"x": b64url(key)}
    return required | {"kid": thumbprint(required), "use": "sig"} | ({"alg": alg} if alg else {})


def spki_pem(jwk: Mapping[str, str]) -> str:
    """Return a public key as PEM, which openssl reads."""
    der = base64.b64encode(_SPKI + from_b64url(jwk["x"])).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n"


def read_public_key(data: bytes) -> dict[str, str]:
    """Read the file of one public key, PEM or JWK, and return its JWK.

    Raises:
        PublicKeyError: it holds anything else, a private key above all.
    """
    if b"PRIVATE KEY-----" in data:
        raise PublicKeyError("holds a private key, which never belongs there.", _SHOW_PUBLIC)
    text = data.decode("ascii", "replace").strip()
    if text.startswith("{"):
        jwk = _jwk(data)
        return public_jwk(from_b64url(jwk["x"]), alg=jwk.get("alg", ""))
    found = _PEM.fullmatch(text)
    der = _base64(found[1]) if found is not None else b""
    if not der.startswith(_SPKI) or len(der) != len(_SPKI) + _KEY_BYTES:
        raise PublicKeyError("holds no Ed25519 public key.", _ONE_KEY)
    return public_jwk(der[len(_SPKI) :])


def jwks(signer: Signer | None, retired: Iterable[RetiredKey]) -> dict[str, Any]:
    """Return the JWKS to publish: the key that signs now, then those that once did.

    Raises:
        ConfigurationError: a key is listed twice.
    """
    keys = [] if signer is None else [dict(signer.jwk)]
    for number, one in enumerate(retired, start=1):
        if any(key["kid"] == one.jwk["kid"] for key in keys):
            raise ConfigurationError(
                f"entry {number} is listed twice, or is the key that signs now.",
                field="signing.retired",
                remedy="Name each retired key once, and not the one of signing.key.",
            )
        bounds = {"not_before": one.not_before, "not_after": one.not_after}
        keys.append(dict(one.jwk) | {name: instant for name, instant in bounds.items() if instant})
    return {"keys": keys}


def parse_jwks(data: bytes) -> Jwks:
    """Read a published JWKS, as an auditor who believes nothing.

    Raises:
        PublicKeyError: it is none, holds a key that is not a public Ed25519 one, names a key by another name than its
            thumbprint, or one twice.
    """
    try:
        document = read_json(data)
    except NotExactJsonError:
        raise PublicKeyError("is no JSON.", "Take the gateway's /.well-known/vetted/jwks.json.") from None
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise PublicKeyError('is no JWKS: it has no list "keys".', "Take the gateway's /.well-known/vetted/jwks.json.")
    keys: dict[str, PublicKey] = {}
    for member in listed:
        key = _published(member)
        if key.kid in keys:
            raise PublicKeyError("lists a key twice.", "Keep one of them.")
        keys[key.kid] = key
    return Jwks(keys=MappingProxyType(keys))


def _published(member: object) -> PublicKey:
    jwk = _checked(member)
    if jwk.get("kid") is None:
        raise PublicKeyError("lists a key without its kid.", "Take the gateway's own JWKS as it is.")
    bounds = {name: jwk.get(name, "") for name in ("not_before", "not_after")}
    for instant in filter(None, bounds.values()):
        try:
            parse_rfc3339(instant)
        except ValueError:
            raise PublicKeyError(
                "limits a key by what is no instant.", "Write not_before and not_after as 2026-11-22T09:45:00Z."
            ) from None
    return PublicKey(x=jwk["x"], kid=jwk["kid"], **bounds)


def _jwk(data: bytes) -> dict[str, str]:
    try:
        document = read_json(data)
    except NotExactJsonError:
        raise PublicKeyError("holds no JWK.", _ONE_KEY) from None
    return _checked(document)


def _checked(jwk: object) -> dict[str, str]:
    """Return the members of a JWK that is a public Ed25519 key for signatures and what it says of itself is true."""
    if not isinstance(jwk, dict):
        raise PublicKeyError("holds no JWK.", _ONE_KEY)
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise PublicKeyError("holds a private key, which never belongs there.", _SHOW_PUBLIC)
    known = {name: jwk[name] for name in _MEMBERS if name in jwk}
    if not all(isinstance(value, str) for value in known.values()) or not known.items() >= _KIND.items():
        raise PublicKeyError("holds a key that is no Ed25519 public key.", _ONE_KEY)
    if len(_bytes_of(known.get("x", ""))) != _KEY_BYTES:
        raise PublicKeyError("holds a key whose x is not 32 bytes in base64url.", _ONE_KEY)
    if known.get("use", "sig") != "sig" or known.get("alg", "Ed25519") not in ALGORITHMS:
        raise PublicKeyError("holds a key that is for something else.", 'Its use is "sig", its alg Ed25519 or EdDSA.')
    if known.get("kid", own := thumbprint(_KIND | {"x": known["x"]})) != own:
        raise PublicKeyError(
            "holds a key whose kid is not its RFC 7638 thumbprint.", "Take the key as the gateway publishes it."
        )
    return known


def _bytes_of(text: str) -> bytes:
    try:
        return from_b64url(text)
    except MalformedJwsError:
        return b""


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""
