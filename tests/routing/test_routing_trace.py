"""`routing_trace` on the wire: its members, their order, and when the optional ones are there."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from grid.samples import NOW, reading, signal
from routing.cases import CARBON_AWARE, DEFAULT, GRA, ISL, MODEL, PAR_1, PAR_2, RBX, RULES, STO, attempt, candidates
from vetted_mw.grid.signal import SignalKind, read_at
from vetted_mw.routing.decision import decide, settle
from vetted_mw.routing.options import Options
from vetted_mw.routing.trace import build_trace, encode_trace, told_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.routing.values import AttemptRecord, Rules

ALWAYS = ["route_policy", "decision_mode", "decision_reason", "region", "operational_signal", "receipt_signal"]
SIGNAL = [
    "source",
    "signal_kind",
    "gco2_per_kwh",
    "observed_at",
    "requested_at",
    "age_minutes",
    "temporal_match",
    "live_eligible",
]
DOWN = {"degraded": True}
CANDIDATE = ["region", "eligible", "rejected", "gco2_per_kwh", "signal_age_minutes", "network_p95_ms"]
ATTEMPT = ["region", "outcome", "status", "duration_ms"]


def traced(
    options: Options = DEFAULT,
    *,
    serving: str | None = PAR_1,
    records: list[AttemptRecord] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    signals: Mapping[str, Any] | None = None,
    rules: Rules = RULES,
    receipt_reading: SignalReading | None = None,
    **told: Any,
) -> dict[str, Any]:
    """Decide, settle and decode what goes on the wire; without records one success at `serving`."""
    decision = decide(options, MODEL, candidates(facts, signals=signals), NOW, rules=rules)
    if records is None:
        records = [] if serving is None else [attempt(serving, "success", status=200, duration_ms=3.14159)]
    settled = settle(decision, records, serving=serving)
    trace = build_trace(
        decision,
        settled,
        records,
        receipt_signal=None if receipt_reading is None else told_signal(receipt_reading),
        **told,
    )
    decoded: dict[str, Any] = msgspec.json.decode(encode_trace(trace))
    return decoded


def test_the_contracts_own_example_comes_out_as_it_stands_there() -> None:
    """A signal of 09:45:00Z seen at 10:31:07Z is 46.1 minutes old, fresh, measured and live-eligible."""
    seen = read_at(signal(22.4, zone="SE_3", observed_at=datetime.fromisoformat("2026-11-22T09:45:00Z")), NOW)
    told = traced(CARBON_AWARE, serving=STO, signals={"SE_3": seen, "FR": 58.0}, receipt_reading=seen)
    assert [told[name] for name in ALWAYS[:4]] == ["lowest_carbon", "live", "lowest_live_intensity", STO]
    assert told["operational_signal"] == {
        "source": "entsoe_derived_live",
        "signal_kind": "measured",
        "gco2_per_kwh": 22.4,
        "observed_at": "2026-11-22T09:45:00Z",
        "requested_at": "2026-11-22T10:31:07Z",
        "age_minutes": 46.1,
        "temporal_match": "fresh",
        "live_eligible": True,
    }
    assert told["receipt_signal"] == told["operational_signal"]


def test_members_stand_in_the_contracts_order() -> None:
    """The six that are always there, then candidates and attempts, each row with its own members in order."""
    told = traced(CARBON_AWARE, serving=STO, signals={"SE_3": 12.0}, receipt_reading=reading(12.0, zone="SE_3"))
    assert list(told) == [*ALWAYS, "candidates", "attempts", "method"]
    assert list(told["operational_signal"]) == list(told["receipt_signal"]) == SIGNAL
    assert all(list(row) == CANDIDATE for row in told["candidates"])
    assert all(list(row) == ATTEMPT for row in told["attempts"])


def test_short_detail_leaves_candidates_and_attempts_out_and_nothing_else() -> None:
    """`trace_detail = "short"` keeps every other member as it is."""
    full = traced(CARBON_AWARE, serving=STO, signals={"SE_3": 12.0})
    short = traced(CARBON_AWARE, serving=STO, signals={"SE_3": 12.0}, detail="short")
    assert short == {name: value for name, value in full.items() if name not in {"candidates", "attempts"}}
    assert {"candidates", "attempts"} <= set(full)


def test_every_region_of_the_catalogue_is_a_candidate_row_in_its_order() -> None:
    """Each with its verdict, the value seen, its age and the p95 it is judged on; unknown is null."""
    old = reading(18.0, zone="IS", age=200.04)
    told = traced(
        CARBON_AWARE,
        serving=STO,
        facts={PAR_1: {"saturated": True}},
        signals={"FR": reading(58.123456789, age=12.04), "SE_3": 12.0, "IS": old},
    )
    rows = {row["region"]: row for row in told["candidates"]}
    assert list(rows) == [PAR_1, PAR_2, STO, ISL, GRA, RBX, "hetzner-fsn-1", "hetzner-hel-1"]
    assert rows[PAR_1] == {
        "region": PAR_1,
        "eligible": False,
        "rejected": "saturated",
        "gco2_per_kwh": 58.1235,
        "signal_age_minutes": 12.0,
        "network_p95_ms": 45.0,
    }
    assert (rows[STO]["eligible"], rows[STO]["rejected"]) == (True, None)
    assert (rows[ISL]["rejected"], rows[ISL]["signal_age_minutes"]) == ("stale_signal", 200.0)
    assert (rows[RBX]["gco2_per_kwh"], rows[RBX]["network_p95_ms"]) == (58.1235, None)
    unknown = rows["hetzner-fsn-1"]
    assert (unknown["rejected"], unknown["gco2_per_kwh"], unknown["signal_age_minutes"]) == (
        "not_configured",
        None,
        None,
    )


def test_attempts_are_listed_in_order_with_what_the_upstream_said() -> None:
    """Failed ones first, the serving one last; no status where there was none, milliseconds to a tenth."""
    records = [
        attempt(PAR_1, "connect_error", duration_ms=3.149),
        attempt(PAR_2, "not_admitted"),
        attempt(GRA, "success", status=200, duration_ms=1234.56),
    ]
    told = traced(serving=GRA, records=records)
    assert told["attempts"] == [
        {"region": PAR_1, "outcome": "connect_error", "status": None, "duration_ms": 3.1},
        {"region": PAR_2, "outcome": "not_admitted", "status": None, "duration_ms": 0.0},
        {"region": GRA, "outcome": "success", "status": 200, "duration_ms": 1234.6},
    ]


def test_an_abandoned_attempt_shows_the_energy_it_may_have_cost() -> None:
    """`estimated_energy_wh` stands on the attempt that was given up after its request was sent, and on no other."""
    records = [
        attempt(PAR_1, "first_byte_timeout", estimated_energy_wh=0.123456789),
        attempt(PAR_2, "connect_error"),
        attempt(GRA, "success", status=200),
    ]
    first, *others = traced(serving=GRA, records=records)["attempts"]
    assert first["estimated_energy_wh"] == 0.123457
    assert all("estimated_energy_wh" not in row for row in others)


@pytest.mark.parametrize(
    "error",
    ["unknown_model", "usage_missing", "engine_failed", "tier_unavailable", "no_observed_call", "several_calls"],
)
def test_a_withheld_receipt_says_why(error: str) -> None:
    """`receipt_error` is there exactly when there is no receipt, and the receipt signal is null then."""
    told = traced(receipt_error=error)
    assert told["receipt_error"] == error
    assert told["receipt_signal"] is None
    assert "receipt_error" not in traced(receipt_reading=reading())


def test_the_method_is_there_when_signals_took_part() -> None:
    """A live decision names its method; the default order, a pin and a degraded decision have none."""
    live = {"SE_3": 12.0, "FR": 58.0}
    assert traced(CARBON_AWARE, serving=STO, signals=live)["method"] == "production/lifecycle/average/ar5_v1"
    assert "method" not in traced(signals=live)
    assert "method" not in traced(Options(region=STO), serving=STO, signals=live)
    assert "method" not in traced(CARBON_AWARE)


def test_the_tie_band_is_there_when_one_is_set() -> None:
    """The band in force is shown, also one that comes to zero, and never where none is set or no signal took part."""
    live = {"SE_3": 12.0, "IS": 18.0}
    band = replace(RULES, tie_band_ratio=0.15)
    assert traced(CARBON_AWARE, serving=STO, signals=live, rules=band)["tie_band_gco2_per_kwh"] == 1.8
    assert traced(CARBON_AWARE, serving=STO, signals={"SE_3": 0.0}, rules=band)["tie_band_gco2_per_kwh"] == 0.0
    assert "tie_band_gco2_per_kwh" not in traced(CARBON_AWARE, serving=STO, signals=live)
    assert "tie_band_gco2_per_kwh" not in traced(CARBON_AWARE, rules=band)
    assert "tie_band_gco2_per_kwh" not in traced(signals=live, rules=band)


@pytest.mark.parametrize(
    ("options", "serving", "signals", "failed", "mode"),
    [
        (Options(), PAR_1, {"FR": 58.0}, [], "preferred"),
        (Options(), PAR_2, {"FR": 58.0}, [PAR_1], "failover"),
        (Options(region=STO), STO, {"SE_3": 12.0}, [], "pinned"),
        (Options(region=STO, secondary_region=ISL), ISL, {"IS": 12.0}, [STO], "failover"),
        (CARBON_AWARE, PAR_1, {"SE_3": reading(12.0, zone="SE_3", age=999)}, [], "degraded"),
        (CARBON_AWARE, PAR_1, {"SE_3": 12.0}, [STO], "failover"),
        (Options(), None, {"FR": 58.0}, [PAR_1, PAR_2, GRA], "unavailable"),
        (CARBON_AWARE, None, {"SE_3": 12.0}, [STO, PAR_1, PAR_2], "unavailable"),
    ],
)
def test_the_operational_signal_is_null_where_no_signal_chose(
    options: Options, serving: str | None, signals: dict[str, Any], failed: list[str], mode: str
) -> None:
    """Default, pinned, degraded, exhausted and unavailable: no signal is claimed, though one was there to see."""
    records = [attempt(code, "upstream_error", status=500) for code in failed]
    if serving is not None:
        records.append(attempt(serving, "success", status=200))
    told = traced(options, serving=serving, records=records, signals=signals)
    assert (told["decision_mode"], told["region"]) == (mode, serving)
    assert told["operational_signal"] is None


def test_after_a_failover_among_live_candidates_the_new_regions_signal_is_told() -> None:
    """Not the signal of the region that failed: the one by which the serving region was next."""
    records = [attempt(STO, "upstream_error", status=500), attempt(ISL, "success", status=200)]
    told = traced(CARBON_AWARE, serving=ISL, records=records, signals={"SE_3": 12.0, "IS": 18.0})
    assert told["operational_signal"]["gco2_per_kwh"] == 18.0
    assert (told["decision_mode"], told["decision_reason"]) == ("failover", "attempt_failed")


@pytest.mark.parametrize(
    ("members", "age", "kind", "match", "eligible"),
    [
        ({}, 15, "measured", "live_window", True),
        ({}, 15.1, "measured", "fresh", True),
        ({}, 180.1, "measured", "stale", False),
        ({"kind": SignalKind.FORECAST}, 0, "forecast", "forecast", False),
        ({"kind": SignalKind.FALLBACK}, 0, "fallback", "annual_fallback", False),
    ],
)
def test_the_receipt_signal_is_told_as_what_it_is(
    members: dict[str, Any], age: float, kind: str, match: str, eligible: bool
) -> None:
    """A receipt may rest on a signal that could not decide; its kind, match and eligibility say so."""
    told = traced(receipt_reading=reading(58.0, age=age, **members))["receipt_signal"]
    assert (told["signal_kind"], told["temporal_match"], told["live_eligible"]) == (kind, match, eligible)


def test_times_are_utc_with_z_whatever_zone_the_source_wrote() -> None:
    """An instant at another offset is told as the same instant in UTC, fractions to the millisecond."""
    oslo = datetime(2026, 11, 22, 11, 15, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))
    told = traced(receipt_reading=read_at(signal(observed_at=oslo), NOW))["receipt_signal"]
    assert told["observed_at"] == "2026-11-22T10:15:00.250Z"


def test_a_decision_without_a_region_is_traced_too() -> None:
    """The trace beside an error tells why every region was out, and claims no region and no signal."""
    told = traced(serving=None, facts=dict.fromkeys((PAR_1, PAR_2, GRA), DOWN))
    assert [told[name] for name in ALWAYS] == ["eu_preferred", "unavailable", "no_region_available", None, None, None]
    assert [row["region"] for row in told["candidates"] if row["rejected"] == "degraded"] == [PAR_1, PAR_2, GRA]
    assert told["attempts"] == []
