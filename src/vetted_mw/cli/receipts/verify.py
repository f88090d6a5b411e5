"""`vetted-mw receipts verify`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vetted_mw.audit.verify.checkpoint_check import KeptApart
from vetted_mw.audit.verify.findings import shown
from vetted_mw.audit.verify.keys import jwks_file, own_jwks
from vetted_mw.audit.verify.telling import JsonTeller, TextTeller
from vetted_mw.audit.verify.verifying import Verification
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.ledger.checkpoints import MalformedCheckpointError, read_checkpoint
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from vetted_mw.audit.verify.telling import Teller
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["verify"]

_MOST_BYTES = 67_108_864


def verify(arguments: argparse.Namespace) -> int:
    """Print one line per finding; exit code 0 without problems, 1 with, 2 where something cannot be read as receipts.

    Raises:
        ConfigurationError: an option cannot be used.
    """
    teller: Teller = JsonTeller(sys.stdout) if arguments.json else TextTeller(sys.stdout)
    checkpoints = [_checkpoint(path) for path in arguments.checkpoint]
    run = Verification(
        keys=_keys(arguments),
        checkpoints=checkpoints,
        tell=teller.tell,
        trusts_packed_keys=arguments.trust_packed_keys,
    )
    run.verify(arguments.path)
    teller.conclude(run.outcome)
    if arguments.json:
        for reason in run.refused:
            print(f"vetted-mw: {reason}", file=sys.stderr)
    if run.refused:
        return 2
    return 1 if teller.problems else 0


def _keys(arguments: argparse.Namespace) -> Jwks | None:
    if arguments.jwks is not None:
        return jwks_file(arguments.jwks)
    if arguments.config is None:
        return None
    keys = parse_jwks(own_jwks(load_configuration(arguments.config)))
    return keys if keys.keys else None


def _checkpoint(path: Path) -> KeptApart:
    try:
        with path.open("rb") as stream:
            text = stream.read(_MOST_BYTES).decode().strip()
        read_checkpoint(text)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, MalformedCheckpointError):
        raise _refused(path, "holds no checkpoint.") from None
    return KeptApart(file=str(path), text=text)


def _refused(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{shown(path)} {what}", field="--checkpoint", remedy="Name a file that `vetted-mw receipts checkpoint` wrote."
    )
