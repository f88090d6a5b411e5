"""`vetted-mw check`: would these settings start, and if not, which key is at fault."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.cli.signal_warnings import signal_warnings
from vetted_mw.cli.telemetry import TelemetryPlan, has_page, is_page_served, planned
from vetted_mw.cli.told import signing_kid, source_paces, sources_told
from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.services import require_sources
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.ledger.reading import LedgerReader, LedgerUnreadableError
from vetted_mw.routing.regions import SHIPPED_DEFAULT_ORDER
from vetted_mw.settings import forbid_open_host, load_configuration, require_ledger_folder, require_upstream

if TYPE_CHECKING:
    import argparse

    from vetted_mw.configuration import Configuration

__all__ = ["check"]

_NO_LEDGER = {
    "not_a_ledger": "is another file, not a ledger",
    "newer_version": "is a ledger of a newer release",
    "corrupt": "is a ledger that is damaged",
    "locked": "is locked by another program",
}


def check(arguments: argparse.Namespace) -> int:
    """Print what the settings amount to, or the key at fault and its remedy (exit code 1)."""
    try:
        configuration = load_configuration(arguments.file or arguments.config)
        require_upstream(configuration)
        forbid_open_host(configuration.server.host, callers=bool(configuration.callers), is_open=arguments.open)
        require_ledger_folder(configuration)
        _require_ledger(configuration.ledger.path)
        engine_named(configuration.receipts.engine)
        if not arguments.own_sources:
            require_sources(configuration.signals.chains, [one["name"] for one in source_paces(configuration.signals)])
    except ConfigurationError as error:
        told = {"ok": False, "field": error.field, "message": str(error), "remedy": error.remedy}
        print(msgspec.json.encode(told).decode() if arguments.json else f"not usable: {error}")
        return 1
    telemetry = planned(os.environ, workers=configuration.server.workers)
    if arguments.json:
        print(msgspec.json.encode(_told(configuration, telemetry)).decode())
    else:
        print(_readable(configuration, telemetry))
    return 0


def _require_ledger(path: str) -> None:
    """Refuse a file that is there and is no ledger. It is only read: a new one is made by the gateway itself.

    Raises:
        ConfigurationError: it is something else, or cannot be read.
    """
    file = Path(path)
    if not path or not os.path.lexists(path) or (file.is_file() and not file.stat().st_size):
        return
    if not file.is_file():
        raise _no_ledger(path, "is no file that can be kept: a link that leads nowhere, a device, or the like")
    try:
        with LedgerReader(file):
            return
    except LedgerUnreadableError as error:
        reason = error.reason
    raise _no_ledger(path, _NO_LEDGER.get(reason, f"cannot be read ({reason.replace('_', ' ')})"))


def _no_ledger(path: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} ({path}).",
        field="ledger.path",
        remedy="Name a file that is not there yet, or a ledger that the gateway's user may read and write.",
    )


def _told(configuration: Configuration, telemetry: TelemetryPlan) -> dict[str, object]:
    return {
        "ok": True,
        "file": configuration.source,
        "upstreams": list(configuration.upstreams),
        "default_order": list(configuration.rules.default_order),
        "callers": [caller.name for caller in configuration.callers],
        "sources": source_paces(configuration.signals),
        "signing_key": signing_kid(configuration),
        "ledger": configuration.ledger.path or None,
        "telemetry": _outcome(configuration, telemetry),
        "warnings": _warnings(configuration, telemetry),
    }


def _outcome(configuration: Configuration, telemetry: TelemetryPlan) -> str:
    return telemetry.outcome(is_page_served=is_page_served(configuration.paths))


def _warnings(configuration: Configuration, telemetry: TelemetryPlan) -> list[str]:
    """Say what starts and yet will hardly be what was meant."""
    rules, upstreams = configuration.rules, configuration.upstreams
    # In the shipped order regions without a server are as they come; in one of the operator's own they are a slip.
    is_shipped = rules.default_order == SHIPPED_DEFAULT_ORDER
    idle = [code for code in rules.default_order if code not in upstreams and not is_shipped]
    found = [f"{code} is in default_order and has no base_url: it will never serve" for code in idle]
    found += [f"{code} is drained: it takes no requests" for code, one in upstreams.items() if one.drained]
    early = configuration.limits.commit_after_seconds
    found += [
        f"limits.commit_after_seconds ({early:g}) is late for {code}: its first_byte_seconds are over by then"
        for code, one in upstreams.items()
        if early >= one.limits.first_byte_seconds
    ]
    if has_page() and not is_page_served(configuration.paths):
        found.append("paths has /metrics: serve answers no scrapes there")
    return [*found, *signal_warnings(configuration), *_evidence_warnings(configuration), *telemetry.faults]


def _evidence_warnings(configuration: Configuration) -> list[str]:
    """Say where receipts are less evidence than they look."""
    ledger, is_signed = configuration.ledger, configuration.signing.key is not None
    found = [] if is_signed else ["receipts are not signed: set signing.key (vetted-mw keys new makes one)"]
    if ledger.path and not is_signed:
        found.append("ledger.path is set without signing.key: whoever can write that file can change it unseen")
    beside = Path(ledger.path).parent
    if ledger.path and not (
        os.access(beside, os.W_OK) and (os.access(ledger.path, os.W_OK) or not Path(ledger.path).exists())
    ):
        found.append("ledger.path cannot be written by the user who runs this: file and folder must be, by the gateway")
    if ledger.durability == "full" and not ledger.path:
        found.append("ledger.durability does nothing without ledger.path")
    return found


def _readable(configuration: Configuration, telemetry: TelemetryPlan) -> str:
    callers = ", ".join(caller.name for caller in configuration.callers)
    return "\n".join(
        [
            f"ok: {configuration.source or 'settings from the environment'}",
            f"upstreams      {', '.join(configuration.upstreams)}",
            f"default order  {', '.join(configuration.rules.default_order)}",
            f"callers        {callers or 'none: whoever reaches the gateway may use it'}",
            f"sources        {sources_told(configuration.signals)}",
            f"signing key    {signing_kid(configuration) or 'none: receipts are not signed'}",
            f"ledger         {configuration.ledger.path or 'none: receipts are not kept'}",
            f"telemetry      {_outcome(configuration, telemetry)}",
            *(f"warning        {warning}" for warning in _warnings(configuration, telemetry)),
        ]
    )
