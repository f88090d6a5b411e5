"""Which ledger, and which keys, a command works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.audit.verify.findings import shown
from vetted_mw.errors import ConfigurationError
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse

    from vetted_mw.configuration import Configuration

__all__ = ["Chosen", "chosen", "unreadable"]

_REASONS = {
    "missing": "is not there",
    "not_a_ledger": "is no ledger of this software, and holds no receipt",
    "newer_version": "was written by a newer version of this software",
    "corrupt": "is damaged",
    "locked": "is locked by another process",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What the options name.

    Attributes:
        path: the ledger file.
        configuration: the settings, for their keys.
    """

    path: Path
    configuration: Configuration


def chosen(arguments: argparse.Namespace) -> Chosen:
    """Return the ledger that `--ledger` or else the settings name, and the settings: `--config`, or found as ever.

    Raises:
        ConfigurationError: none is named.
    """
    configuration = load_configuration(arguments.config)
    if arguments.ledger is not None:
        return Chosen(path=arguments.ledger, configuration=configuration)
    if not configuration.ledger.path:
        raise ConfigurationError(
            "the settings name no ledger.", field="ledger.path", remedy="Set it, or name the file with --ledger."
        )
    return Chosen(path=Path(configuration.ledger.path), configuration=configuration)


def unreadable(path: Path, reason: str) -> ConfigurationError:
    """Return the error for a ledger that cannot be read."""
    return ConfigurationError(
        f"{shown(path)} {_REASONS.get(reason, 'cannot be read (' + reason.replace('_', ' ') + ')')}.",
        field="ledger",
        remedy="Name the ledger's file; vetted-mw receipts verify tells more of one that is damaged.",
    )
