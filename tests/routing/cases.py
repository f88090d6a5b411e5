"""Candidates of the tests: the shipped catalogue with facts changed by name, and random ones for properties."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from grid.samples import DIRECT, LIFECYCLE, reading
from vetted_mw.grid.signal import DECLARED, SignalKind, SignalReading
from vetted_mw.routing.options import Options, Routing
from vetted_mw.routing.regions import SHIPPED_DEFAULT_ORDER, Region, load_catalogue
from vetted_mw.routing.values import AttemptOutcome, AttemptRecord, Candidate, Rules

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "mistral-medium-3"
OTHER_MODEL = "another-model"

PAR_1, PAR_2, GRA = SHIPPED_DEFAULT_ORDER
STO, ISL, RBX, FSN = "atnorth-sto-1", "atnorth-isl-1", "ovh-rbx-1", "hetzner-fsn-1"
SERVING = (PAR_1, PAR_2, STO, ISL, GRA, RBX)

RULES = Rules(default_order=SHIPPED_DEFAULT_ORDER)
DEFAULT = Options()
CARBON_AWARE = Options(routing=Routing.CARBON_AWARE)

# The contract's table: route policy, decision mode, decision reason.
TABLE = (
    ("eu_preferred", "preferred", "preferred_available"),
    ("eu_preferred", "failover", "preferred_degraded"),
    ("eu_preferred", "failover", "preferred_saturated"),
    ("eu_preferred", "failover", "preferred_model_unavailable"),
    ("eu_preferred", "failover", "preferred_over_latency_budget"),
    ("eu_preferred", "failover", "preferred_not_configured"),
    ("eu_preferred", "failover", "preferred_not_allowed"),
    ("eu_preferred", "failover", "attempt_failed"),
    ("pinned", "pinned", "pinned_region_available"),
    ("pinned", "failover", "documented_secondary"),
    ("lowest_carbon", "live", "lowest_live_intensity"),
    ("lowest_carbon", "live", "within_tie_band"),
    ("lowest_carbon", "live", "only_live_candidate"),
    ("lowest_carbon", "failover", "attempt_failed"),
    ("lowest_carbon", "failover", "live_candidates_exhausted"),
    ("lowest_carbon", "degraded", "degraded_no_operational_live_signal"),
    ("any", "unavailable", "pinned_region_unavailable"),
    ("any", "unavailable", "no_region_available"),
    ("any", "unavailable", "all_regions_saturated"),
    ("any", "unavailable", "attempts_exhausted"),
    ("any", "unavailable", "model_not_available"),
)

UNSENT = frozenset({"connect_error", "tls_error", "connect_timeout", "not_admitted"})


def candidates(
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    signals: Mapping[str, float | SignalReading | None] | None = None,
    everywhere: Mapping[str, Any] | None = None,
) -> tuple[Candidate, ...]:
    """Return the shipped catalogue, every region but the gateway-only ones with an upstream.

    Args:
        facts: code -> members of `Candidate` (or `inference`) that differ.
        signals: zone -> the reading all its regions see; a number is a fresh measured value.
        everywhere: members that differ in every region.
    """
    found = []
    for code, region in load_catalogue().items():
        changed = {"configured": region.inference, "network_p95_ms": region.network_p95_ms}
        changed |= dict(everywhere or {}) | dict((facts or {}).get(code, {}))
        inference = bool(changed.pop("inference", region.inference))
        value = (signals or {}).get(region.zone)
        seen = reading(value, zone=region.zone) if isinstance(value, (int, float)) else value
        members: dict[str, Any] = {"region": replace(region, inference=inference), "reading": seen} | changed
        found.append(Candidate(**members))
    return tuple(found)


def attempt(code: str, outcome: str, **members: Any) -> AttemptRecord:
    """Return an attempt as the proxy records it: what cannot connect has sent nothing."""
    return AttemptRecord(region=code, outcome=AttemptOutcome(outcome), **({"sent": outcome not in UNSENT} | members))


# ---- random ones

CODES = tuple(f"region-{number}" for number in range(6))
COUNTRY_OF = {"FR": "FR", "SE_3": "SE", "IS": "IS", "DE_LU": "DE"}
_MANY_OK: tuple[Mapping[str, Any], ...] = ({},) * 10
_FAULTS: tuple[Mapping[str, Any], ...] = (
    {"configured": False},
    {"inference": False},
    {"models": frozenset({OTHER_MODEL})},
    {"degraded": True},
    {"saturated": True},
    {"saturated": True, "retry_after": 7.5},
    {"configured": False, "inference": False, "degraded": True},
    {"models": frozenset(), "degraded": True, "saturated": True},
    {"degraded": True, "saturated": True, "retry_after": 30.0},
    {"inference": False, "models": frozenset({OTHER_MODEL}), "saturated": True},
)
_USELESS: tuple[Mapping[str, Any], ...] = (
    {"age": 180.01},
    {"age": 9999.0},
    {"age": -5.01},
    {"kind": SignalKind.FORECAST},
    {"kind": SignalKind.FALLBACK},
    {"estimated": True},
    {"proxy_share": 0.2501},
)
_AGES: tuple[Mapping[str, Any], ...] = ({}, {"age": 179.9}, {"age": 60.0}, {"age": -4.9})


@st.composite
def readings(draw: st.DrawFn, zone: str) -> SignalReading | None:
    """A zone's reading: live, one of every sort that may not decide, or none."""
    useful = draw(st.integers(0, 9)) < 6
    members = draw(st.sampled_from(_AGES if useful else (*_USELESS, None)))
    if members is None:
        return None
    gco2 = draw(st.sampled_from((0.0, 12.0, 18.0, 20.0, 58.0)) | st.floats(0, 1000, allow_nan=False))
    method = draw(st.sampled_from((LIFECYCLE, LIFECYCLE, LIFECYCLE, DIRECT, DECLARED)))
    return reading(gco2, zone=zone, method=method, **members)


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[Candidate, ...]:
    """Some regions in several zones, mostly fit to serve, regions of one zone seeing one reading."""
    seen: dict[str, SignalReading | None] = {}
    found = []
    for code in CODES[: draw(st.integers(1, len(CODES)))]:
        zone = draw(st.sampled_from(tuple(COUNTRY_OF)))
        if zone not in seen:
            seen[zone] = draw(readings(zone))
        facts: dict[str, Any] = dict(draw(st.sampled_from((*_MANY_OK, *_FAULTS))))
        region = Region(
            code=code,
            provider="Own",
            site=code,
            location="Somewhere",
            country=COUNTRY_OF[zone],
            zone=zone,
            annual_gco2_per_kwh=30.0,
            inference=facts.pop("inference", True),
        )
        p95 = draw(st.sampled_from((20.0, 20.0, 45.0, 110.0, None)))
        members: dict[str, Any] = {
            "region": region,
            "configured": True,
            "network_p95_ms": p95,
            "reading": seen[zone],
        } | facts
        found.append(Candidate(**members))
    return tuple(found)


@st.composite
def rule_sets(draw: st.DrawFn, codes: tuple[str, ...], *, banded: bool = True) -> Rules:
    """An operator's rules over `codes`; the order is never empty, as the settings see to."""
    order = draw(st.lists(st.sampled_from(codes), min_size=1, unique=True))
    regions = st.none() | st.none() | st.frozensets(st.sampled_from(codes))
    countries = st.none() | st.none() | st.frozensets(st.sampled_from(tuple(COUNTRY_OF.values())))
    bands = ((0.0, 0.0), (5.0, 0.0), (20.0, 0.15), (0.0, 0.5)) if banded else ((0.0, 0.0),)
    band, ratio = draw(st.sampled_from(bands))
    return Rules(
        default_order=tuple(order),
        allowed_regions=draw(regions),
        allowed_countries=draw(countries),
        require_region=draw(st.booleans()),
        carbon_aware=draw(st.booleans()),
        default_carbon_aware=draw(st.booleans()),
        tie_band_gco2_per_kwh=band,
        tie_band_ratio=ratio,
    )


@st.composite
def option_sets(draw: st.DrawFn, codes: tuple[str, ...]) -> Options:
    """Options as the parser lets them through."""
    budget = draw(st.sampled_from((None, None, 20, 45, 100)))
    pin = draw(st.none() | st.sampled_from(codes))
    if pin is None:
        routing = draw(st.sampled_from((None, Routing.DEFAULT, Routing.CARBON_AWARE, Routing.CARBON_AWARE)))
        return Options(routing=routing, latency_budget_ms=budget)
    others = [code for code in codes if code != pin]
    secondary = draw(st.none() | st.sampled_from(others)) if others else None
    routing = draw(st.sampled_from((None, Routing.DEFAULT)))
    return Options(region=pin, secondary_region=secondary, routing=routing, latency_budget_ms=budget)


@st.composite
def questions(draw: st.DrawFn, *, banded: bool = True) -> tuple[tuple[Candidate, ...], Options, Rules]:
    """Everything a decision is made of."""
    found = draw(catalogues())
    codes = tuple(candidate.region.code for candidate in found)
    return found, draw(option_sets(codes)), draw(rule_sets(codes, banded=banded))


@st.composite
def carbon_questions(draw: st.DrawFn, *, banded: bool = True) -> tuple[tuple[Candidate, ...], Options, Rules]:
    """The same for carbon-aware routing that policy allows."""
    found = draw(catalogues())
    codes = tuple(candidate.region.code for candidate in found)
    budget = draw(st.sampled_from((None, None, 20, 45, 100)))
    rules = replace(draw(rule_sets(codes, banded=banded)), carbon_aware=True)
    return found, Options(routing=Routing.CARBON_AWARE, latency_budget_ms=budget), rules
