"""JSON Web Signatures (RFC 7515) as receipts carry them: written, detached, taken apart. Pure; keys are elsewhere."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Protocol

import msgspec

from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.exact_json import NotExactJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ALGORITHMS",
    "CHECKPOINT_TYPE",
    "HEAD_TYPE",
    "RECEIPT_TYPE",
    "Jws",
    "MalformedJwsError",
    "Signer",
    "b64url",
    "compact",
    "detached",
    "from_b64url",
    "read_jws",
    "reattached",
]

ALGORITHMS = frozenset({"Ed25519", "EdDSA"})
"""What a verifier takes: the name of RFC 9864, and the one before it. Never what a header alone says."""
RECEIPT_TYPE = "vetted-receipt+jws"
HEAD_TYPE = "vetted-head+jws"
CHECKPOINT_TYPE = "vetted-checkpoint+jws"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class MalformedJwsError(ValueError):
    """No compact JWS of ours. Content-free."""


class Signer(Protocol):
    """Signs with one private key. Called from any thread, for every receipt: it may not wait for anything."""

    @property
    def kid(self) -> str:
        """The key's RFC 7638 thumbprint."""
        ...

    @property
    def alg(self) -> str:
        """`Ed25519`, or `EdDSA` for older verifiers."""
        ...

    @property
    def jwk(self) -> Mapping[str, str]:
        """The public key, with the same `kid` and `alg`."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the Ed25519 signature over `data`."""
        ...


class Jws(msgspec.Struct, frozen=True, kw_only=True):
    """A compact JWS taken apart; nothing about it is verified.

    Attributes:
        header: the protected header.
        payload: what was signed.
        signature: its bytes.
        signing_input: what the signature is over, `header.payload` as it was written.
    """

    header: Mapping[str, str]
    payload: bytes
    signature: bytes
    signing_input: bytes


def b64url(data: bytes) -> str:
    """Write base64url without padding."""
    return binascii.b2a_base64(data).translate(_URL_SAFE, b"=\n").decode()


def from_b64url(text: str) -> bytes:
    """Read base64url without padding; only the one way in which `b64url` writes a value is taken.

    Raises:
        MalformedJwsError: it is not that.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedJwsError from None
    if b64url(data) != text:
        raise MalformedJwsError
    return data


def compact(payload: bytes, signer: Signer, *, typ: str = RECEIPT_TYPE) -> str:
    """Sign `payload` and return `header.payload.signature`."""
    header = f'{{"alg":"{signer.alg}","kid":"{signer.kid}","typ":"{typ}"}}'
    signing_input = f"{b64url(header.encode())}.{b64url(payload)}"
    return f"{signing_input}.{b64url(signer.sign(signing_input.encode()))}"


def detached(jws: str) -> str:
    """Return `header..signature` (RFC 7515, appendix F): the payload is what it stands beside."""
    header, _payload, signature = jws.split(".")
    return f"{header}..{signature}"


def reattached(signature: str, payload: Mapping[str, object]) -> str:
    """Put `payload` back into a detached signature; whoever does so needs the canonical form, and nothing else.

    Raises:
        MalformedJwsError: it is no detached signature.
        NotCanonicalError: the payload has no canonical form.
    """
    header, separator, rest = signature.partition("..")
    if not separator or "." in header + rest:
        raise MalformedJwsError
    return f"{header}.{b64url(canonical(payload))}.{rest}"


def read_jws(text: str) -> Jws:
    """Take a compact JWS apart.

    Raises:
        MalformedJwsError: it is none, its header is no JSON object of texts, or names one of them twice; or it wants
            understood what we do not know (`crit`, `b64`).
    """
    parts = text.split(".", maxsplit=3)
    if len(parts) != 3:  # noqa: PLR2004 (header, payload, signature)
        raise MalformedJwsError
    try:
        header = read_json(from_b64url(parts[0]))
    except NotExactJsonError:
        raise MalformedJwsError from None
    if not isinstance(header, dict) or "crit" in header or "b64" in header:
        raise MalformedJwsError
    if not all(isinstance(value, str) for value in header.values()):
        raise MalformedJwsError
    return Jws(
        header=header,
        payload=from_b64url(parts[1]),
        signature=from_b64url(parts[2]),
        signing_input=f"{parts[0]}.{parts[1]}".encode(),
    )
