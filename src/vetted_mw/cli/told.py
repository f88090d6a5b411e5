"""What several commands tell in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vetted_mw.grid.sources.file import FileSignals
from vetted_mw.receipts.signing import load_signer

if TYPE_CHECKING:
    from vetted_mw.configuration import Configuration
    from vetted_mw.signal_configuration import SignalConfiguration

__all__ = ["receipts_told", "signing_kid", "source_paces", "sources_told"]


def source_paces(signals: SignalConfiguration) -> list[dict[str, Any]]:
    """Return each configured source, in the order of the default chain, with the pace in force.

    `max_age_minutes` of services that the operator described is the shortest of their zones'.
    """
    paces = [_pace(one.name, one.refresh_seconds, one.max_age_minutes) for one in signals.services]
    if signals.http_json is not None:
        shortest = min(reading.max_age_minutes for reading in signals.http_json.readings)
        paces.append(_pace("http_json", signals.http_json.refresh_seconds, shortest))
    if signals.file is not None:
        paces.append(_pace("file", FileSignals.refresh_seconds, signals.file.max_age_minutes))
    return paces


def sources_told(signals: SignalConfiguration) -> str:
    """Say which sources are asked, and how often."""
    paces = [f"{one['name']} every {one['refresh_seconds']:g} s" for one in source_paces(signals)]
    return ", ".join(paces) or "none, so carbon-aware requests run in the default order and say so"


def receipts_told(configuration: Configuration) -> str:
    """Say whether receipts are signed, and where they are kept."""
    kid = signing_kid(configuration)
    signed = "not signed" if kid is None else f"signed by {kid}"
    return f"{signed}, {f'kept in {configuration.ledger.path}' if configuration.ledger.path else 'not kept'}"


def signing_kid(configuration: Configuration) -> str | None:
    """Return the thumbprint of the signing key; None without one."""
    signing = configuration.signing
    return None if signing.key is None else load_signer(signing.key, alg=signing.alg).kid


def _pace(name: str, refresh_seconds: float, max_age_minutes: float) -> dict[str, Any]:
    return {"name": name, "refresh_seconds": refresh_seconds, "max_age_minutes": max_age_minutes}
