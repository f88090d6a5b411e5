"""What the receipt tests share: regions, readings, observations and a maker, and the contract's own formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vetted_mw.grid.signal import GridSignal, Method, SignalKind, SignalReading, read_at
from vetted_mw.receipts.maker import ReceiptMaker
from vetted_mw.receipts.observation import Observation
from vetted_mw.routing.options import Boundary, Tier
from vetted_mw.routing.regions import Region, load_catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.receipts.receipt import Receipt

REQUESTED_AT = datetime(2026, 11, 22, 10, 31, 7, tzinfo=UTC)
ISSUED_AT = REQUESTED_AT + timedelta(milliseconds=1250)
QUERY_ID = "7d4a1c52-2f0e-4c1b-9d0b-3c1f6a5f7e11"
LIVE_METHOD = Method(accounting="production", basis="lifecycle", kind="average", factor_set="ipcc-2014")


def region(like: str = "scaleway-par-1", /, **facts: Any) -> Region:
    """Return a shipped region with some facts replaced."""
    return replace(load_catalogue()[like], **facts)


def reading(gco2_per_kwh: float = 58.0, *, age_minutes: float = 10.0, **facts: Any) -> SignalReading:
    """Return a French live reading as it stands at the decision; `facts` replace members of its signal."""
    signal = GridSignal(
        source="rte_mix_derived_live",
        zone="FR",
        area="FR",
        kind=SignalKind.MEASURED,
        gco2_per_kwh=gco2_per_kwh,
        observed_at=REQUESTED_AT - timedelta(minutes=age_minutes),
        fetched_at=REQUESTED_AT,
        max_age_minutes=180.0,
        method=LIVE_METHOD,
        resolution_minutes=15,
    )
    return read_at(replace(signal, **facts), REQUESTED_AT)


def observed(**facts: Any) -> Observation:
    """Return an ordinary observation: a known model in Paris, counted by the upstream, a live reading."""
    ordinary: dict[str, Any] = {
        "query_id": QUERY_ID,
        "region": region(),
        "model": "mistral-medium-3",
        "upstream_model": "mistral-medium-2508",
        "upstream_response_id": "chatcmpl-1",
        "prompt_tokens": 24,
        "cached_tokens": 0,
        "completion_tokens": 78,
        "prompt_characters": 0,
        "completion_characters": 0,
        "reported": False,
        "completion_status": "complete",
        "tier": Tier.AUTO,
        "boundary": Boundary.COMPREHENSIVE,
        "reading": reading(),
        "requested_at": REQUESTED_AT,
        "issued_at": ISSUED_AT,
    }
    return Observation(**(ordinary | facts))


def maker(**facts: Any) -> ReceiptMaker:
    """Return a maker as the gateway builds it, with some members replaced."""
    return ReceiptMaker(**({"issuer": "Example Ltd", "software": "vetted-mw/0.1.0", "sizes": {}} | facts))


def made(**facts: Any) -> Receipt:
    """Make the receipt of an ordinary observation with some facts replaced."""
    return maker().make(observed(**facts))


def recomputed(told: Mapping[str, Any]) -> dict[str, float]:
    """Compute every figure from a receipt's own fields alone, by the formulas of the contract."""
    comprehensive = told["boundary"] == "comprehensive"
    active, batch = told["params_active_b"], told["batch_size"]
    weights = told["params_total_b"] * told["bytes_per_param"]
    per_output = math.exp(-2.1816) * active**0.1954 * weights**0.7359 * batch**-0.5278
    per_input = 2 * active * 1e9 / (0.40 * 989e12) * 700
    joule = told["completion_tokens"] * per_output + (told["prompt_tokens"] - told["cached_tokens"]) * per_input
    accelerator = joule / 3600
    it = accelerator * 1.29 * 1.12 if comprehensive else accelerator
    energy = it * told["pue"] if comprehensive else it
    operational = energy / 1000 * told["grid_intensity_gco2_per_kwh"]
    embodied = joule / 520 * 1.12 * told["embodied_g_per_gpu_second"] if comprehensive else 0.0
    figures = {
        "accelerator_wh": accelerator,
        "energy_wh": energy,
        "gco2e_operational": operational,
        "gco2e_embodied": embodied,
        "gco2e": operational + embodied,
        "ml_water": it * (told["wue_l_per_kwh"] + told["pue"] * told["ewif_l_per_kwh"]),
    }
    for name, sigma in (("energy_wh", "sigma_energy"), ("gco2e", "sigma_gco2e"), ("ml_water", "sigma_water")):
        figures[f"{name}_ci90_lo"] = figures[name] * math.exp(-1.6449 * told[sigma])
        figures[f"{name}_ci90_hi"] = figures[name] * math.exp(1.6449 * told[sigma])
    return figures
