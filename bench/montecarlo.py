"""Analytic intervals beside sampled ones: each term of a receipt's interval drawn at random, 400,000 times.

The sampling takes a receipt's own fields and the shipped standard deviations, and shares no formula of the interval
with the gateway. It prints, for each figure, the analytic lower bound, median and upper bound over the sampled ones:
1 is agreement. Run apart from the test suite: it takes minutes.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import structs

from vetted_mw.grid.signal import GridSignal, Method, SignalKind, read_at
from vetted_mw.receipts.coefficients import load_coefficients
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.maker import ReceiptMaker
from vetted_mw.receipts.measured import MeasuredReading
from vetted_mw.receipts.observation import Observation
from vetted_mw.routing.options import Boundary, Tier
from vetted_mw.routing.regions import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vetted_mw.receipts.coefficients import Coefficients, Spread
    from vetted_mw.receipts.receipt import Receipt

FIGURES = ("energy_wh", "gco2e", "ml_water")
LIMIT = 0.10
"""How far an analytic number may be from the sampled one."""
HELD = ("A", "C", "C narrow", "C gpu", "C gpu narrow", "C node", "C annual")
"""Receipts that are held to it. The others are shown: a wide term in one part of a sum makes the bounds low."""
_AT = datetime(2026, 11, 22, 10, 31, 7, tzinfo=UTC)


def main() -> int:
    """Print one table; 1 when a number that is held to the limit is farther off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=20261122)
    arguments = parser.parse_args()
    print(f"{arguments.draws} draws, seed {arguments.seed}; analytic over sampled")
    print(f"{'receipt':<14} {'figure':<10} {'lower':>7} {'median':>7} {'upper':>7}")
    worst = dict.fromkeys(receipts(), 0.0)
    for name, receipt in receipts().items():
        for figure, ratios in compared(receipt, arguments.draws, arguments.seed).items():
            worst[name] = max(worst[name], *(abs(ratio - 1) for ratio in ratios))
            print(f"{name:<14} {figure:<10} {ratios[0]:>7.3f} {ratios[1]:>7.3f} {ratios[2]:>7.3f}", flush=True)
    held = max(worst[name] for name in HELD)
    print(f"farthest from 1: {held:.3f} of {', '.join(HELD)} (limit {LIMIT:.2f}); {max(worst.values()):.3f} of all")
    return 0 if held <= LIMIT else 1


def receipts() -> Mapping[str, Receipt]:
    """Return the receipts to sample: the contract's vectors A and C, and C at its other boundaries and sources."""
    a = structs.replace(
        _observed("scaleway-par-2", "llama-3.1-8b", 150, 300),
        region=replace(load_catalogue()["scaleway-par-2"], hardware="H100"),
    )
    c = _observed("scaleway-par-1", "mistral-medium-3", 24, 78)
    gpu = MeasuredReading(value_wh=0.05, scope="gpu")
    maker = ReceiptMaker(issuer="", software="vetted-mw/0.0.0", sizes={})
    observations = {
        "A": a,
        "C": c,
        "C narrow": structs.replace(c, boundary=Boundary.NARROW),
        "C gpu": structs.replace(c, measured=gpu),
        "C gpu narrow": structs.replace(c, measured=gpu, boundary=Boundary.NARROW),
        "C node": structs.replace(c, measured=MeasuredReading(value_wh=0.06, scope="node")),
        "C proxy": structs.replace(c, completion_tokens=None, completion_characters=312),
        "C annual": structs.replace(c, reading=None),
        "C long prompt": structs.replace(c, prompt_tokens=2_000),
        "unknown size": structs.replace(c, model="nobody-knows"),
    }
    found = {name: maker.make(seen) for name, seen in observations.items()}
    return found | {"C ecologits": replace(maker, engine=engine_named("ecologits")).make(c)}


def compared(receipt: Receipt, draws: int, seed: int) -> dict[str, tuple[float, float, float]]:
    """Return, for each figure, lower bound, median and upper bound of the receipt over those of the draws."""
    sampled: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for draw in _draws(receipt, draws, random.Random(seed)):  # noqa: S311 (a fixed sequence is the point)
        for figure in FIGURES:
            sampled[figure].append(draw[figure])
    return {figure: _ratios(receipt, figure, sorted(sampled[figure])) for figure in FIGURES}


def _ratios(receipt: Receipt, figure: str, drawn: list[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(drawn, n=20)
    told = (getattr(receipt, f"{figure}_ci90_lo"), getattr(receipt, figure), getattr(receipt, f"{figure}_ci90_hi"))
    low, middle, high = (one / cut for one, cut in zip(told, (cuts[0], cuts[9], cuts[18]), strict=True))
    return low, middle, high


def _draws(receipt: Receipt, count: int, chance: random.Random) -> Iterator[dict[str, float]]:
    """Draw every term of the chain that is in this receipt's figures, each log-normal."""
    spread = load_coefficients().spread
    narrow, source = receipt.boundary == "narrow", receipt.energy_source
    base = receipt.energy_wh / (1.0 if narrow else receipt.pue)
    pue_sigma = spread.pue_published if receipt.pue_quality == "published" else spread.pue_assumed
    grid_sigma = _grid_sigma(receipt, spread)
    work = _work(receipt, load_coefficients(), chance)
    has_idle = not narrow and source not in {"upstream_node", "ecologits"}
    has_host = not narrow and source != "upstream_node"

    def times(sigma: float) -> float:
        return math.exp(chance.gauss(0.0, sigma))

    for _ in range(count):
        shared = next(work) * (times(spread.idle) if has_idle else 1.0)
        it = base * shared * (times(spread.host) if has_host else 1.0)
        pue = receipt.pue * times(pue_sigma)
        energy = it if narrow else it * pue
        made = receipt.gco2e_embodied * shared * times(spread.embodied)
        water = receipt.wue_l_per_kwh * times(spread.wue) + pue * receipt.ewif_l_per_kwh * times(spread.ewif)
        grid = receipt.grid_intensity_gco2_per_kwh * times(grid_sigma)
        yield {"energy_wh": energy, "gco2e": energy / 1000 * grid + made, "ml_water": it * water}


def _work(receipt: Receipt, coefficients: Coefficients, chance: random.Random) -> Iterator[float]:
    """Draw what the accelerators took, over its median."""
    spread, constants = coefficients.spread, coefficients.parametric
    source = receipt.energy_source
    if source.startswith("upstream_"):
        yield from itertools.repeat(1.0)
    is_estimated = receipt.usage_source == "estimated"
    model = spread.ecologits if source == "ecologits" else spread.estimated_usage if is_estimated else spread.model
    decode = 1.0 if source == "ecologits" else _decode_share(receipt, coefficients)
    ends = (receipt.params_range_lo_b or 1.0, receipt.params_range_hi_b or 1.0)
    size = math.log(ends[1] / ends[0]) / (2 * 1.645) * (constants.active_exponent + constants.weights_exponent)

    def times(sigma: float) -> float:
        return math.exp(chance.gauss(0.0, sigma))

    while True:
        written = decode * times(model)
        if not receipt.batch_known:
            written *= times(spread.batch_unknown) ** -constants.batch_exponent
        drawn = written + (1 - decode) * times(spread.prefill)
        yield drawn * (times(spread.hardware_unknown) if receipt.hardware == "unknown" else 1.0) * times(size)


def _decode_share(receipt: Receipt, coefficients: Coefficients) -> float:
    constants = coefficients.parametric
    weights = receipt.params_total_b * receipt.bytes_per_param
    written: float = math.exp(constants.intercept) * receipt.params_active_b**constants.active_exponent
    written *= weights**constants.weights_exponent * receipt.batch_size**constants.batch_exponent
    written *= receipt.completion_tokens
    read = 2 * receipt.params_active_b * 1e9 / (constants.utilisation * constants.peak_flops) * constants.prefill_watt
    return float(written / (written + read * (receipt.prompt_tokens - receipt.cached_tokens)))


def _grid_sigma(receipt: Receipt, spread: Spread) -> float:
    if receipt.grid_temporal_match == "live_window":
        return spread.grid_live_window
    if receipt.grid_temporal_match == "fresh":
        return spread.grid_fresh
    return spread.grid_annual_unknown_basis if receipt.grid_intensity_basis == "unknown" else spread.grid_annual


def _observed(region: str, model: str, prompt: int, completion: int) -> Observation:
    signal = GridSignal(
        source="rte_mix_derived_live",
        zone="FR",
        area="FR",
        kind=SignalKind.MEASURED,
        gco2_per_kwh=58.0,
        observed_at=_AT - timedelta(minutes=10),
        fetched_at=_AT,
        max_age_minutes=180.0,
        method=Method(accounting="production", basis="lifecycle", kind="average", factor_set="ar5_v1"),
        resolution_minutes=15,
    )
    return Observation(
        query_id="",
        region=load_catalogue()[region],
        model=model,
        upstream_model=None,
        upstream_response_id=None,
        prompt_tokens=prompt,
        cached_tokens=0,
        completion_tokens=completion,
        prompt_characters=0,
        completion_characters=0,
        reported=False,
        completion_status="complete",
        tier=Tier.AUTO,
        boundary=Boundary.COMPREHENSIVE,
        reading=read_at(signal, _AT),
        requested_at=_AT,
        issued_at=_AT,
    )


if __name__ == "__main__":
    sys.exit(main())
