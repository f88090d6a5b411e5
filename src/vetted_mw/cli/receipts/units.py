"""A receipt's fields in the order a person reads them, with units; `docs/receipt.md` says what each means."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GROUPS", "UNITS"]

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "What it cost": (
            *("gco2e", "gco2e_ci90_lo", "gco2e_ci90_hi", "gco2e_operational", "gco2e_embodied"),
            *("energy_wh", "energy_wh_ci90_lo", "energy_wh_ci90_hi", "accelerator_wh"),
            *("ml_water", "ml_water_ci90_lo", "ml_water_ci90_hi"),
        ),
        "How sure that is": (
            *("tier", "boundary", "energy_source", "usage_source", "pedigree_score"),
            *("sigma_gco2e", "sigma_energy", "sigma_water", "interval_method"),
        ),
        "What ran, and where": (
            *("query_id", "request_id", "model", "upstream_model", "upstream_response_id", "region", "route_taken"),
            *("prompt_tokens", "cached_tokens", "completion_tokens", "calls", "completion_status"),
        ),
        "The grid": (
            *("grid_intensity_gco2_per_kwh", "grid_zone", "grid_intensity_source", "grid_temporal_match"),
            *("grid_intensity_observed_at", "grid_intensity_requested_at", "grid_intensity_age_minutes"),
            *("grid_intensity_basis", "grid_intensity_accounting", "grid_resolution_minutes"),
            *("grid_factor_set", "grid_proxy_share"),
        ),
        "What the figures were made from": (
            *("params_active_b", "params_total_b", "params_range_lo_b", "params_range_hi_b", "bytes_per_param"),
            *("batch_size", "batch_known", "hardware", "pue", "pue_quality", "wue_l_per_kwh", "ewif_l_per_kwh"),
            *("water_basis", "embodied_g_per_gpu_second"),
        ),
        "The same request in the default region (attributional comparison, not avoided emissions)": (
            *("default_region", "default_region_gco2e", "default_region_grid_gco2_per_kwh", "default_region_pue"),
        ),
        "Who says so": (
            *("issuer", "software", "issued_at", "ledger_id", "seq", "receipt_version", "response_digest"),
            *("methodology_version", "methodology_digest", "methodology_hash", "coefficients_digest"),
        ),
    }
)

_GRAMS = ("gco2e", "gco2e_ci90_lo", "gco2e_ci90_hi", "gco2e_operational", "gco2e_embodied", "default_region_gco2e")
_WATT_HOURS = ("energy_wh", "energy_wh_ci90_lo", "energy_wh_ci90_hi", "accelerator_wh")
_MILLILITRES = ("ml_water", "ml_water_ci90_lo", "ml_water_ci90_hi")
_PER_KWH = ("grid_intensity_gco2_per_kwh", "default_region_grid_gco2_per_kwh")
_BILLIONS = ("params_active_b", "params_total_b", "params_range_lo_b", "params_range_hi_b")

UNITS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_GRAMS, "g CO2e"),
        **dict.fromkeys(_WATT_HOURS, "Wh"),
        **dict.fromkeys(_MILLILITRES, "mL"),
        **dict.fromkeys(_PER_KWH, "g CO2e/kWh"),
        **dict.fromkeys(_BILLIONS, "1e9"),
        **dict.fromkeys(("sigma_gco2e", "sigma_energy", "sigma_water"), "ln"),
        **dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"), "tokens"),
        **dict.fromkeys(("wue_l_per_kwh", "ewif_l_per_kwh"), "L/kWh"),
        **dict.fromkeys(("grid_intensity_age_minutes", "grid_resolution_minutes"), "min"),
        "pedigree_score": "1 best to 5 worst",
        "calls": "upstream calls",
        "bytes_per_param": "bytes",
        "batch_size": "requests together",
        "grid_proxy_share": "of 1",
        "embodied_g_per_gpu_second": "g CO2e/GPU-second",
    }
)
