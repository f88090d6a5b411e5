"""Where the keys come from that signatures are checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.jwks import Jwks, PublicKey, PublicKeyError, jwks, parse_jwks, read_public_key
from vetted_mw.receipts.signing import load_signer

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.configuration import Configuration
    from vetted_mw.receipts.signing import Ed25519Signer

__all__ = ["jwks_bytes", "jwks_file", "own_jwks", "own_signer"]

_MOST_BYTES = 1_048_576


def jwks_file(path: Path) -> Jwks:
    """Read a JWKS file, or the file of one public key: PEM, or a JWK.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    data = _read(path)
    try:
        keys = _single(data) if _is_single(data) else parse_jwks(data)
    except PublicKeyError as error:
        raise ConfigurationError(str(error.args[0]), field="--jwks", remedy=_GATEWAYS) from None
    if not keys.keys:
        raise ConfigurationError("holds no key.", field="--jwks", remedy=_GATEWAYS)
    return keys


_GATEWAYS = "Take what the gateway gives at /.well-known/vetted/jwks.json."


def jwks_bytes(path: Path) -> bytes:
    """Return a JWKS file as it is, once it was found to be one; of a file of one key, its JWKS.

    Raises:
        ConfigurationError: as of `jwks_file`.
    """
    jwks_file(path)
    data = _read(path)
    return msgspec.json.encode({"keys": [read_public_key(data)]}) if _is_single(data) else data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"cannot be read: {error.strerror}.", field="--jwks", remedy="Name the issuer's JWKS file."
        ) from None


def _is_single(data: bytes) -> bool:
    """Whether a file is of one key, and no set of keys."""
    return b"-----BEGIN " in data or (b'"kty"' in data and b'"keys"' not in data)


def _single(data: bytes) -> Jwks:
    jwk = read_public_key(data)
    return Jwks(keys={jwk["kid"]: PublicKey(x=jwk["x"], kid=jwk["kid"])})


def own_signer(configuration: Configuration) -> Ed25519Signer | None:
    """Return the signer of the settings; None where they name no key.

    Raises:
        ConfigurationError: the key cannot be used.
    """
    signing = configuration.signing
    return None if signing.key is None else load_signer(signing.key, alg=signing.alg)


def own_jwks(configuration: Configuration) -> bytes:
    """Return the JWKS that a gateway with these settings publishes.

    Raises:
        ConfigurationError: a key cannot be used.
    """
    return msgspec.json.encode(jwks(own_signer(configuration), configuration.signing.retired))
