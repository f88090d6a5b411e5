"""What must hold between the fields of any honest receipt, whatever its figures. Pure."""

from __future__ import annotations

import math
import re
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.audit.verify.findings import shown
from vetted_mw.grid.signal import LIVE_WINDOW_MINUTES, MAX_SKEW_MINUTES
from vetted_mw.instants import parse_rfc3339
from vetted_mw.receipts.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

__all__ = ["LARGEST", "broken_invariants", "field_faults"]

_KNOWN = frozenset(Receipt.__struct_fields__)
_SINCE_1_1 = {"batch_known": True, "params_range_lo_b": None, "params_range_hi_b": None}
"""What receipts of methodology 1.0.0 did not have yet."""
LARGEST = 2**53
"""The largest integer that every reader of JSON takes alike."""
_YEAR_MINUTES = 525_600
_TOLERANCE = 1e-5
_AGE_TOLERANCE_MINUTES = 0.051
"""Ages are told to a tenth of a minute."""
_MEASURED = frozenset({"upstream_gpu", "upstream_node"})
_WORDS = {
    "boundary": frozenset({"comprehensive", "narrow"}),
    "completion_status": frozenset({"complete", "client_abort", "upstream_error", "shutting_down", "abandoned"}),
    "energy_source": _MEASURED | {"parametric", "ecologits", "parametric_rejected_upstream"},
    "grid_intensity_accounting": frozenset({"production", "consumption", "unknown"}),
    "grid_intensity_basis": frozenset({"lifecycle", "direct", "unknown"}),
    "grid_temporal_match": frozenset({"live_window", "fresh", "annual_fallback"}),
    "hardware": frozenset({"H100", "unknown"}),
    "interval_method": frozenset({"lognormal_delta_v1"}),
    "receipt_version": frozenset({"1"}),
}
_MILLISECONDS = re.compile(r"\.[0-9]{3}Z\Z")
_INSTANTS = ("grid_intensity_observed_at", "grid_intensity_requested_at", "issued_at")
_INTERVALS = {"gco2e": "sigma_gco2e", "ml_water": "sigma_water", "energy_wh": "sigma_energy"}
_DEFAULT_REGION = (
    "default_region",
    "default_region_grid_gco2_per_kwh",
    "default_region_pue",
    "default_region_gco2e",
)
_DIGEST = re.compile(r"(?:hmac-)?sha-256:[0-9a-f]{64}")
_FROM_ONE = ("calls", "seq", "pue", "default_region_pue", "pedigree_score")
_ABOVE_ZERO = ("params_active_b", "params_total_b", "bytes_per_param", "batch_size")


def field_faults(members: Mapping[str, Any]) -> list[str]:
    """Say which fields are unknown, missing or of another type; a receipt with such has no figures to check."""
    faults = [f"the field {shown(name)} is in no receipt" for name in sorted(members.keys() - _KNOWN)]
    faults += [
        f"{name} is beyond 2**53: no receipt has such a number"
        for name, value in members.items()
        if name in _KNOWN and isinstance(value, int) and abs(value) > LARGEST
    ]
    is_first = members.get("methodology_version") == "1.0.0"
    try:
        msgspec.convert({**_SINCE_1_1, **members} if is_first else members, Receipt, strict=True)
    except msgspec.ValidationError as error:
        faults.append(f"a field is missing or of another type: {shown(error)}")
    return faults


def broken_invariants(receipt: Mapping[str, Any]) -> Iterator[str]:
    """Say what does not hold in a receipt whose fields are of their types.

    Args:
        receipt: its members, as signed.
    """
    yield from _of_numbers(receipt)
    yield from _of_words(receipt)
    yield from _of_names(receipt)
    yield from _of_intervals(receipt)
    yield from _of_parts(receipt)
    yield from _of_sources(receipt)
    yield from _of_grid(receipt)
    yield from _of_times(receipt)
    yield from _of_pairs(receipt)


def _of_numbers(receipt: Mapping[str, Any]) -> Iterator[str]:
    for name, value in receipt.items():
        if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= 0):
            yield f"{name} is {value}: no such number is finite and at least 0"
    for name in _FROM_ONE:
        value = receipt.get(name)
        if value is not None and 0 <= value < 1:
            yield f"{name} is {value:g}, and is at least 1 by its meaning"
    for name in _ABOVE_ZERO:
        if receipt[name] == 0:
            yield f"{name} is 0"
    if receipt["pedigree_score"] > 5:  # noqa: PLR2004 (1 best to 5 worst)
        yield f"pedigree_score is {receipt['pedigree_score']:g}, and 5 is the worst"
    if (receipt["grid_proxy_share"] or 0) > 1:
        yield f"grid_proxy_share is {receipt['grid_proxy_share']:g}, and is a share"
    if receipt["cached_tokens"] > receipt["prompt_tokens"]:
        yield "more tokens were cached (cached_tokens) than the prompt has (prompt_tokens)"


def _of_words(receipt: Mapping[str, Any]) -> Iterator[str]:
    for name, words in _WORDS.items():
        if receipt[name] not in words:
            yield f"{name} is {shown(receipt[name])!r}, which is none of {', '.join(sorted(words))}"


def _of_names(receipt: Mapping[str, Any]) -> Iterator[str]:
    for name in ("query_id", "request_id", "ledger_id"):
        if name in receipt and not _is_uuid(receipt[name]):
            yield f"{name} is no UUID"
    if receipt.get("request_id") == receipt["query_id"]:
        yield "request_id names the receipt itself"
    if ("ledger_id" in receipt) != ("seq" in receipt):
        yield "ledger_id and seq belong together, and one of them is missing"


def _of_intervals(receipt: Mapping[str, Any]) -> Iterator[str]:
    for name, sigma in _INTERVALS.items():
        low, value, high = receipt[f"{name}_ci90_lo"], receipt[name], receipt[f"{name}_ci90_hi"]
        if value == 0:
            if low != 0 or high != 0:
                yield f"{name} is 0 and its interval is not"
        elif receipt[sigma] == 0:  # as measured at the very boundary: nothing was estimated
            if not low == value == high:
                yield f"{name} has an interval, and {sigma} is 0"
        elif not 0 < low < value < high:
            yield f"{name} does not lie within its interval: {low:g}, {value:g}, {high:g}"


def _of_parts(receipt: Mapping[str, Any]) -> Iterator[str]:
    operational, embodied = receipt["gco2e_operational"], receipt["gco2e_embodied"]
    if not _near(receipt["gco2e"], operational + embodied):
        yield f"gco2e is {receipt['gco2e']:g}, and its parts add up to {operational + embodied:g}"
    electricity = receipt["energy_wh"] / 1000 * receipt["grid_intensity_gco2_per_kwh"]
    if not _near(operational, electricity):
        yield f"gco2e_operational is {operational:g}, and energy_wh at this grid intensity is {electricity:g}"
    accelerator = receipt["accelerator_wh"]
    if accelerator is not None and receipt["energy_wh"] < accelerator * (1 - _TOLERANCE):
        yield f"accelerator_wh is {accelerator:g}, more than the energy_wh it is part of"
    if receipt["boundary"] == "narrow":
        if embodied != 0:
            yield "gco2e_embodied is not 0 at boundary narrow"
        if accelerator is None or not _near(receipt["energy_wh"], accelerator):
            yield "energy_wh is not accelerator_wh at boundary narrow"


def _of_sources(receipt: Mapping[str, Any]) -> Iterator[str]:
    source, tier, is_estimated = receipt["energy_source"], receipt["tier"], receipt["usage_source"] == "estimated"
    if (tier == "telemetry") != (source in _MEASURED):
        yield f"tier is {tier} and energy_source {shown(source)}: measured energy is telemetry, nothing else is"
    elif tier != "telemetry" and (tier == "proxy") != is_estimated:
        yield f"tier is {tier} and usage_source {receipt['usage_source']}: estimated tokens are proxy, others are not"
    if source == "upstream_node" and receipt["boundary"] == "narrow":
        yield "the energy of a whole server (upstream_node) is no figure at boundary narrow"
    if source == "upstream_node" and receipt["accelerator_wh"] is not None:
        yield "accelerator_wh is told though only the whole server was measured (upstream_node)"


def _of_grid(receipt: Mapping[str, Any]) -> Iterator[str]:
    source, match = receipt["grid_intensity_source"], receipt["grid_temporal_match"]
    is_annual = source.startswith("annual_")
    if "forecast" in source:
        yield f"grid_intensity_source is {shown(source)}: a forecast never backs a receipt"
    if is_annual != (match == "annual_fallback"):
        yield f"grid_temporal_match is {shown(match)} and grid_intensity_source {shown(source)}: one is annual, one not"
    if is_annual != (receipt["grid_resolution_minutes"] == _YEAR_MINUTES):
        yield "grid_resolution_minutes is a year's for a live figure, or another one for an annual figure"
    if is_annual and receipt["grid_factor_set"] is not None:
        yield "grid_factor_set is told for an annual figure, which is not made from a mix"
    age = receipt["grid_intensity_age_minutes"]
    if match == "live_window" and age > LIVE_WINDOW_MINUTES + _AGE_TOLERANCE_MINUTES:
        yield f"grid_temporal_match is live_window, and the figure was {age:g} minutes old"
    if match == "fresh" and age < LIVE_WINDOW_MINUTES - _AGE_TOLERANCE_MINUTES:
        yield f"grid_temporal_match is fresh, and the figure was {age:g} minutes old: within the live window"


def _of_times(receipt: Mapping[str, Any]) -> Iterator[str]:
    times = {name: _instant(receipt[name]) for name in _INSTANTS}
    for name, moment in times.items():
        if moment is None:
            yield f"{name} is no instant in UTC as receipts write it (2026-11-22T10:31:07.250Z)"
    if times["issued_at"] is not None and not _MILLISECONDS.search(receipt["issued_at"]):
        yield "issued_at has no milliseconds, and so would not sort among others"
    observed, requested, issued = times.values()
    if observed is not None and requested is not None:
        minutes = (requested - observed).total_seconds() / 60
        if abs(max(0.0, minutes) - receipt["grid_intensity_age_minutes"]) > _AGE_TOLERANCE_MINUTES:
            yield f"grid_intensity_age_minutes is not requested less observed, which is {minutes:.1f}"
        if minutes < -MAX_SKEW_MINUTES and receipt["grid_temporal_match"] != "annual_fallback":
            yield "grid_intensity_observed_at lies after the request: a value from the future is a forecast"
    if issued is not None and requested is not None and (requested - issued).total_seconds() > MAX_SKEW_MINUTES * 60:
        yield "issued_at lies before the request it is for (grid_intensity_requested_at)"


def _of_pairs(receipt: Mapping[str, Any]) -> Iterator[str]:
    low, high = receipt.get("params_range_lo_b"), receipt.get("params_range_hi_b")
    if (low is None) != (high is None) or (low is not None and not 0 < low < high):
        yield "params_range_lo_b and params_range_hi_b are no range"
    told = [receipt.get(name) is not None for name in _DEFAULT_REGION]
    if any(told) and not all(told):
        yield "the comparison with the default region (default_region*) is told in part only"
    digest = receipt["methodology_digest"]
    if receipt["methodology_hash"] != digest.removeprefix("sha-256:")[:16]:
        yield "methodology_hash is not the beginning of methodology_digest"
    bound = receipt.get("response_digest")
    if bound is not None and not _DIGEST.fullmatch(bound):
        yield "response_digest is no digest as the gateway makes one (hmac-sha-256:, 64 hex digits)"


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=1e-12)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _instant(text: str) -> datetime | None:
    try:
        return parse_rfc3339(text) if text.endswith("Z") else None
    except ValueError:
        return None
