"""Keys for tests: the same seed is the same key, in every run and on every machine."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Literal

from vetted_mw.receipts import jwks as published
from vetted_mw.receipts.signing import load_signer

if TYPE_CHECKING:
    from vetted_mw.receipts.signing import Ed25519Signer

__all__ = ["jwks", "private_pem", "signer"]

_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


def private_pem(seed: int | bytes = 0) -> str:
    """Return the private key of a seed: of its 32 bytes, or of a number; 0 is the documented vector's, bytes 0 to 31."""
    secret = seed if isinstance(seed, bytes) else bytes((number + seed) % 256 for number in range(32))
    der = base64.b64encode(_PKCS8 + secret).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n"


def signer(seed: int = 0, *, alg: Literal["Ed25519", "EdDSA"] = "Ed25519") -> Ed25519Signer:
    """Return the signer of a seed."""
    return load_signer(private_pem(seed), alg=alg)


def jwks(*signers: Ed25519Signer) -> dict[str, Any]:
    """Return the JWKS that lists these signers' keys."""
    return {"keys": [key for one in signers for key in published.jwks(one, ())["keys"]]}
