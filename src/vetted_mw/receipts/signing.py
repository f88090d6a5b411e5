"""Sign with Ed25519, and verify. The border to `cryptography`: imported where a key is used, and nowhere else."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.jwks import public_jwk
from vetted_mw.receipts.jws import ALGORITHMS, RECEIPT_TYPE, MalformedJwsError, from_b64url, read_jws
from vetted_mw.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from vetted_mw.receipts.jwks import Jwks

__all__ = [
    "Ed25519Signer",
    "JwsRefusal",
    "JwsRefusedError",
    "Verified",
    "load_signer",
    "new_private_pem",
    "verify_jws",
    "verify_signature",
]

_HEADER = frozenset({"alg", "kid", "typ"})


class JwsRefusal(StrEnum):
    """Why a signature does not count."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    TYPE = "type"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"


class JwsRefusedError(Exception):
    """A signature does not count; `reason` says why. Content-free."""

    def __init__(self, reason: JwsRefusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a key of the JWKS really signed.

    Attributes:
        payload: as it was signed.
        kid: of the key that signed it.
    """

    payload: bytes
    kid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ed25519Signer:
    """Signs with one private key, which it never shows. May be used from any thread.

    Attributes:
        kid: the key's RFC 7638 thumbprint.
        alg: what its signatures name as their algorithm.
        jwk: the public key.
        key: the private key.
    """

    kid: str
    alg: Literal["Ed25519", "EdDSA"]
    jwk: Mapping[str, str] = field(compare=False)
    key: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the signature over `data`."""
        return self.key.sign(data)


def load_signer(
    pem: Secret | str, *, alg: Literal["Ed25519", "EdDSA"] = "Ed25519", place: str = "signing.key"
) -> Ed25519Signer:
    """Read a private key.

    Args:
        pem: PKCS 8 in PEM, not encrypted.
        alg: what its signatures name as their algorithm.
        place: where the key was named, for messages.

    Raises:
        ConfigurationError: it is no such key, or `cryptography` is not installed. The text holds nothing of the key.
    """
    text = (pem.reveal() if isinstance(pem, Secret) else pem).strip()
    problem = _problem(text)
    with _library(place):
        key = None if problem else _private_key(text)
    if key is None:
        raise ConfigurationError(
            problem or "is no Ed25519 private key: it is of another kind, or damaged.",
            field=place,
            remedy="Make one: vetted-mw keys new --out signing-key.pem",
        )
    jwk = public_jwk(key.public_key().public_bytes_raw(), alg=alg)
    return Ed25519Signer(kid=jwk["kid"], alg=alg, jwk=MappingProxyType(jwk), key=key)


def new_private_pem() -> str:
    """Make a key, and return it as PKCS 8 PEM.

    Raises:
        ConfigurationError: `cryptography` is not installed.
    """
    with _library(""):
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 (an extra)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def verify_signature(jwk: Mapping[str, str], data: bytes, signature: bytes) -> bool:
    """Whether the Ed25519 key of `jwk` made this signature over `data`.

    Raises:
        ConfigurationError: `cryptography` is not installed.
    """
    with _library(""):
        verify = _verifier(jwk["x"])
    return verify(data, signature)


def verify_jws(text: str, jwks: Jwks, *, typ: str = RECEIPT_TYPE) -> Verified:
    """Return what was signed, if a key of `jwks` signed it as what we take it for.

    The header only ever narrows: it names one of the keys that are known, and the algorithm is Ed25519 because the key
    is such a key. Whether the key still counted at the time is another question, which `not_before` and `not_after` of
    the JWKS answer.

    Args:
        text: the full JWS.
        jwks: the keys that count.
        typ: what it must be: a receipt, a head or a checkpoint.

    Raises:
        JwsRefusedError: it does not count.
        ConfigurationError: `cryptography` is not installed.
    """
    try:
        jws = read_jws(text)
    except MalformedJwsError:
        raise JwsRefusedError(JwsRefusal.MALFORMED) from None
    header = jws.header
    if header.get("alg") not in ALGORITHMS:
        raise JwsRefusedError(JwsRefusal.ALGORITHM)
    if header.keys() != _HEADER:
        raise JwsRefusedError(JwsRefusal.MALFORMED)
    if header["typ"] != typ:
        raise JwsRefusedError(JwsRefusal.TYPE)
    key = jwks.keys.get(header["kid"])
    if key is None:
        raise JwsRefusedError(JwsRefusal.UNKNOWN_KEY)
    if not verify_signature({"x": key.x}, jws.signing_input, jws.signature):
        raise JwsRefusedError(JwsRefusal.SIGNATURE)
    return Verified(payload=jws.payload, kid=key.kid)


def _problem(text: str) -> str:
    """Say why a text is no key of ours, where that can be seen from the outside."""
    if not text:
        return "holds no key: it is empty."
    if "PUBLIC KEY-----" in text:
        return "holds a public key; receipts are signed with a private one."
    if "-----BEGIN ENCRYPTED PRIVATE KEY-----" in text or "Proc-Type:" in text:
        return "holds a key that is encrypted with a passphrase, which nobody could enter."
    if text.count("-----BEGIN ") != 1 or not text.startswith("-----BEGIN PRIVATE KEY-----"):
        return "holds no single private key in PKCS 8 PEM (BEGIN PRIVATE KEY)."
    return ""


def _private_key(text: str) -> Ed25519PrivateKey | None:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 (an extra)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Ed25519PrivateKey) else None


@functools.lru_cache(maxsize=64)
def _verifier(x: str) -> Callable[[bytes, bytes], bool]:
    """Return what verifies signatures of a key; an auditor asks for a few keys, each a million times."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (an extra)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    key = Ed25519PublicKey.from_public_bytes(from_b64url(x))

    def verify(data: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return verify


@contextlib.contextmanager
def _library(place: str) -> Iterator[None]:
    """Say what to install where `cryptography` is not there."""
    try:
        yield
    except ImportError:
        missing = True
    else:
        missing = False
    if missing:
        raise ConfigurationError(
            "needs the package cryptography, which is not installed.",
            field=place,
            remedy="Install the extra sign (pip install '.[sign]' in the clone).",
        )
