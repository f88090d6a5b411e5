"""From what was observed to what figures are made from: tokens, size, site, grid. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from vetted_mw.receipts.coefficients import Site
from vetted_mw.receipts.figures import GridQuality, Inputs
from vetted_mw.receipts.observation import estimated_tokens
from vetted_mw.rounding import significant
from vetted_mw.routing.options import Boundary

if TYPE_CHECKING:
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.models import ModelSize
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.routing.regions import Region

__all__ = ["FITTED_HARDWARE", "Tokens", "inputs_of", "quality_of", "site_of", "tokens_of"]

FITTED_HARDWARE = "H100"
"""The accelerator the parametric model was fitted on."""


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """Counts, and who counted.

    Attributes:
        prompt: read, cached ones included.
        cached: those of them the server had cached.
        completion: written.
        source: `upstream`, a handler's `reported` word, or `estimated` from characters.
    """

    prompt: int
    cached: int
    completion: int
    source: Literal["upstream", "estimated", "reported"]


def tokens_of(seen: Observation) -> Tokens:
    """Return the tokens that count, estimated from characters where the upstream's own cannot be used."""
    if seen.prompt_tokens and seen.completion_tokens and not seen.reported:
        prompt, completion = seen.prompt_tokens, seen.completion_tokens
        cached = min(seen.cached_tokens, prompt)
        return Tokens(prompt, cached, completion, "upstream")
    prompt = seen.prompt_tokens or estimated_tokens(seen.prompt_characters)
    completion = seen.completion_tokens or estimated_tokens(seen.completion_characters)
    if not seen.is_counted:
        return Tokens(prompt, 0, completion, "estimated")
    return Tokens(prompt, min(seen.cached_tokens, prompt), completion, "reported" if seen.reported else "upstream")


def inputs_of(
    seen: Observation, size: ModelSize, tokens: Tokens, reading: SignalReading, coefficients: Coefficients
) -> Inputs:
    """Return what the figures are made from, each number as the receipt shows it."""
    region = seen.region
    site = site_of(region, coefficients)
    ewif = coefficients.ewif(region.country) if region.ewif_l_per_kwh is None else region.ewif_l_per_kwh
    return Inputs(
        prompt_tokens=tokens.prompt,
        cached_tokens=tokens.cached,
        completion_tokens=tokens.completion,
        size=_as_told(size),
        hardware_known=region.hardware == FITTED_HARDWARE,
        pue=significant(site.pue),
        pue_published=site.published,
        wue_l_per_kwh=significant(site.wue_l_per_kwh),
        ewif_l_per_kwh=significant(ewif),
        grid_gco2_per_kwh=significant(reading.signal.gco2_per_kwh),
        grid_quality=quality_of(reading),
        narrow=seen.boundary is Boundary.NARROW,
        usage_estimated=tokens.source == "estimated",
    )


def site_of(region: Region, coefficients: Coefficients) -> Site:
    """Return the overheads of a region, the operator's own figures over the shipped ones."""
    site = coefficients.site(region.code)
    if region.pue is None and region.wue_l_per_kwh is None:
        return site
    # The operator's own PUE is taken, but nothing here shows that anyone published it: it counts as assumed.
    return Site(
        pue=site.pue if region.pue is None else region.pue,
        wue_l_per_kwh=site.wue_l_per_kwh if region.wue_l_per_kwh is None else region.wue_l_per_kwh,
        published=site.published and region.pue is None,
        pedigree=site.pedigree,
    )


def quality_of(reading: SignalReading) -> GridQuality:
    """Return how well the figure of a reading is known."""
    if reading.live_eligible:
        return GridQuality(reading.temporal_match.value)
    return GridQuality.ANNUAL_UNKNOWN_BASIS if reading.signal.method.basis == "unknown" else GridQuality.ANNUAL


def _as_told(size: ModelSize) -> ModelSize:
    """Round a size to what the receipt shows of it, so that its figures can be recomputed from that."""
    return msgspec.structs.replace(
        size,
        active_params_b=significant(size.active_params_b),
        total_params_b=significant(size.total_params_b),
        bytes_per_param=significant(size.bytes_per_param),
        batch_size=None if size.batch_size is None else significant(size.batch_size),
    )
