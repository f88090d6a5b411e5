"""Where the keys come from that signatures are checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.jwks import PublicKeyError, jwks, parse_jwks
from vetted_mw.receipts.signing import load_signer

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.configuration import Configuration
    from vetted_mw.receipts.jwks import Jwks
    from vetted_mw.receipts.signing import Ed25519Signer

__all__ = ["jwks_file", "own_jwks", "own_signer"]

_MOST_BYTES = 1_048_576


def jwks_file(path: Path) -> Jwks:
    """Read a JWKS file.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"cannot be read: {error.strerror}.", field="--jwks", remedy="Name the issuer's JWKS file."
        ) from None
    try:
        keys = parse_jwks(data)
    except PublicKeyError as error:
        raise ConfigurationError(str(error.args[0]), field="--jwks", remedy=_GATEWAYS) from None
    if not keys.keys:
        raise ConfigurationError("holds no key.", field="--jwks", remedy=_GATEWAYS)
    return keys


_GATEWAYS = "Take what the gateway gives at /.well-known/vetted/jwks.json."


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
