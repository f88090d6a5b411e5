"""The receipt as it stands on the wire, and the reasons why there is none."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

__all__ = ["Receipt", "ReceiptError", "ReceiptWithheldError", "encode_receipt"]


class ReceiptError(StrEnum):
    """Why there is no receipt."""

    UNKNOWN_MODEL = "unknown_model"
    USAGE_MISSING = "usage_missing"
    ENGINE_FAILED = "engine_failed"
    TIER_UNAVAILABLE = "tier_unavailable"
    NO_OBSERVED_CALL = "no_observed_call"
    SEVERAL_CALLS = "several_calls"
    LEDGER_UNAVAILABLE = "ledger_unavailable"


class ReceiptWithheldError(Exception):
    """There is no receipt; `reason` says why."""

    def __init__(self, reason: ReceiptError) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The receipt as it stands on the wire; every field is described in `docs/receipt.md`."""

    query_id: str
    tier: Literal["proxy", "parametric", "telemetry"]
    gco2e: float
    gco2e_ci90_lo: float
    gco2e_ci90_hi: float
    ml_water: float
    ml_water_ci90_lo: float
    ml_water_ci90_hi: float
    methodology_version: str
    methodology_hash: str
    pedigree_score: float
    route_taken: str
    grid_zone: str
    grid_intensity_gco2_per_kwh: float
    grid_intensity_source: str
    grid_intensity_observed_at: str
    grid_intensity_requested_at: str
    grid_intensity_age_minutes: float
    grid_temporal_match: str
    receipt_version: str
    region: str
    model: str
    upstream_model: str | None
    upstream_response_id: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usage_source: Literal["upstream", "estimated", "reported"]
    completion_status: str
    calls: int
    boundary: str
    energy_wh: float
    energy_wh_ci90_lo: float
    energy_wh_ci90_hi: float
    accelerator_wh: float | None
    embodied_g_per_gpu_second: float
    energy_source: str
    gco2e_operational: float
    gco2e_embodied: float
    params_active_b: float
    params_total_b: float
    bytes_per_param: float
    batch_size: float
    batch_known: bool
    params_range_lo_b: float | None
    params_range_hi_b: float | None
    hardware: str
    pue: float
    wue_l_per_kwh: float
    ewif_l_per_kwh: float
    pue_quality: Literal["published", "assumed"]
    grid_factor_set: str | None
    grid_proxy_share: float | None
    grid_intensity_basis: str
    grid_intensity_accounting: str
    grid_resolution_minutes: int | None
    water_basis: str
    sigma_gco2e: float
    sigma_water: float
    sigma_energy: float
    interval_method: str
    methodology_digest: str
    coefficients_digest: str
    default_region: str | None = None
    default_region_grid_gco2_per_kwh: float | None = None
    default_region_pue: float | None = None
    default_region_gco2e: float | None = None
    response_digest: str | None = None
    issued_at: str
    issuer: str
    software: str
    request_id: str | msgspec.UnsetType = msgspec.UNSET
    ledger_id: str | msgspec.UnsetType = msgspec.UNSET
    seq: int | msgspec.UnsetType = msgspec.UNSET


_ENCODE = msgspec.json.Encoder()


def encode_receipt(receipt: Receipt) -> bytes:
    """Write the receipt as JSON."""
    return _ENCODE.encode(receipt)
