"""What must hold between a receipt's fields: each rule broken once, and any nonsense survived."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.auditing import KEYS, payload_of, signed
from audit.test_tampering import MEMBERS
from receipts.ledgers import made_receipt
from vetted_mw.audit.verify.checker import Checker
from vetted_mw.audit.verify.findings import Finding, Place, shown
from vetted_mw.audit.verify.invariants import broken_invariants, field_faults
from vetted_mw.receipts.canonical import NotCanonicalError
from vetted_mw.receipts.sealed import seal
from vetted_mw.routing.options import Boundary

NARROW = payload_of(seal(made_receipt(boundary=Boundary.NARROW), None).text)
ANNUAL = payload_of(seal(made_receipt(reading=None), None).text)


def broken(members: dict[str, Any]) -> list[str]:
    assert not field_faults(members)
    return list(broken_invariants(members))


@pytest.mark.parametrize("members", [MEMBERS, NARROW, ANNUAL], ids=["whole", "narrow", "annual"])
def test_an_honest_receipt_breaks_none(members: dict[str, Any]) -> None:
    """What the rules start from."""
    assert not broken(members)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt_tokens": -1}, "prompt_tokens is -1: no such number is finite and at least 0"),
        ({"pue": 0.5}, "pue is 0.5, and is at least 1"),
        ({"calls": 0}, "calls is 0, and is at least 1"),
        ({"seq": 0}, "seq is 0, and is at least 1"),
        ({"default_region_pue": 0.9}, "default_region_pue is 0.9, and is at least 1"),
        ({"bytes_per_param": 0.0}, "bytes_per_param is 0"),
        ({"pedigree_score": 5.5}, "pedigree_score is 5.5, and 5 is the worst"),
        ({"grid_proxy_share": 1.5}, "grid_proxy_share is 1.5, and is a share"),
        ({"cached_tokens": 25}, "more tokens were cached"),
        ({"boundary": "other"}, "boundary is 'other', which is none of comprehensive, narrow"),
        ({"query_id": "x"}, "query_id is no UUID"),
        ({"query_id": "93AB9591-8D48-4A25-8BCD-E2DA95265FF0"}, "query_id is no UUID"),
        ({"request_id": MEMBERS["query_id"]}, "request_id names the receipt itself"),
        ({"ledger_id": None}, "ledger_id and seq belong together"),
        ({"seq": None}, "ledger_id and seq belong together"),
        ({"gco2e": 0.0}, "gco2e is 0 and its interval is not"),
        ({"energy_wh_ci90_lo": 0.04}, "energy_wh does not lie within its interval"),
        ({"ml_water_ci90_lo": 0.0}, "ml_water does not lie within its interval"),
        ({"gco2e": 0.004}, "gco2e is 0.004, and its parts add up to"),
        ({"gco2e_operational": 0.002}, "gco2e_operational is 0.002, and energy_wh at this grid intensity is"),
        ({"accelerator_wh": 0.1}, "accelerator_wh is 0.1, more than the energy_wh"),
        ({"tier": "telemetry"}, "measured energy is telemetry, nothing else is"),
        ({"energy_source": "upstream_gpu"}, "measured energy is telemetry, nothing else is"),
        ({"tier": "proxy"}, "estimated tokens are proxy, others are not"),
        ({"usage_source": "estimated"}, "estimated tokens are proxy, others are not"),
        (
            {"energy_source": "upstream_node", "tier": "telemetry"},
            "accelerator_wh is told though only the whole server",
        ),
        ({"grid_intensity_source": "energy_charts_forecast"}, "a forecast never backs a receipt"),
        ({"grid_temporal_match": "forecast"}, "grid_temporal_match is 'forecast', which is none of"),
        ({"grid_temporal_match": "annual_fallback"}, "one is annual, one not"),
        ({"grid_intensity_source": "annual_declared"}, "one is annual, one not"),
        ({"grid_resolution_minutes": 525_600}, "grid_resolution_minutes is a year's for a live figure"),
        ({"grid_intensity_age_minutes": 11.0}, "grid_intensity_age_minutes is not requested less observed"),
        (
            {"grid_intensity_age_minutes": 40.0, "grid_intensity_observed_at": "2026-11-22T09:51:07Z"},
            "grid_temporal_match is live_window, and the figure was 40 minutes old",
        ),
        ({"grid_temporal_match": "fresh"}, "grid_temporal_match is fresh, and the figure was 10 minutes old"),
        (
            {"grid_intensity_age_minutes": 0.0, "grid_intensity_observed_at": "2026-11-22T11:31:07Z"},
            "a value from the future is a forecast",
        ),
        ({"issued_at": "2026-11-22T09:31:07.000Z"}, "issued_at lies before the request it is for"),
        ({"issued_at": "2026-11-22T10:31:07+00:00"}, "issued_at is no instant in UTC"),
        ({"issued_at": "2026-11-22T10:31:07Z"}, "issued_at has no milliseconds"),
        ({"response_digest": "sha-256:0"}, "response_digest is no digest as the gateway makes one"),
        ({"issued_at": "yesterdayZ"}, "issued_at is no instant in UTC"),
        ({"params_range_lo_b": None}, "are no range"),
        ({"params_range_hi_b": 0.5}, "are no range"),
        ({"default_region": None}, "the comparison with the default region (default_region*) is told in part only"),
        ({"methodology_hash": "0" * 16}, "methodology_hash is not the beginning of methodology_digest"),
    ],
)
def test_each_rule_is_told_in_words(changes: dict[str, Any], words: str) -> None:
    """One rule broken is one finding that says which."""
    optional = {"ledger_id", "seq"}
    members = {name: value for name, value in (MEMBERS | changes).items() if not (name in optional and value is None)}
    assert any(words in one for one in broken(members)), broken(members)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gco2e_embodied": 0.001}, "gco2e_embodied is not 0 at boundary narrow"),
        ({"accelerator_wh": None}, "energy_wh is not accelerator_wh at boundary narrow"),
        ({"energy_source": "upstream_node", "tier": "telemetry"}, "is no figure at boundary narrow"),
    ],
)
def test_rules_of_the_narrow_boundary(changes: dict[str, Any], words: str) -> None:
    """Accelerators alone: nothing embodied, nothing around them."""
    assert any(words in one for one in broken(NARROW | changes))


def test_an_annual_figure_has_no_factor_set() -> None:
    """It is not made from a mix."""
    assert any("grid_factor_set is told" in one for one in broken(ANNUAL | {"grid_factor_set": "ar5_v1"}))


@pytest.mark.parametrize("name", ["calls", "seq", "gco2e", "prompt_tokens", "params_range_lo_b"])
@pytest.mark.parametrize("digits", [20, 400, 4000])
def test_numbers_beyond_reason_are_told(name: str, digits: int) -> None:
    """An integer that is no number to most readers is a fault of its field, and stops no check."""
    text = json.dumps(MEMBERS | {name: None}).replace(f'"{name}": null', f'"{name}": {"9" * digits}')
    found: list[Finding] = []
    Checker(keys=KEYS, tell=found.append).check_text(text, Place(file="f"))
    assert any(one.text == f"{name} is beyond 2**53: no receipt has such a number" for one in found)
    assert all(len(str(one.place)) < 200 for one in found)


def test_a_receipt_of_the_first_methodology_is_still_one() -> None:
    """Receipts of 1.0.0 did not tell what their spread was made of; those of today have to."""
    later = {"batch_known", "params_range_lo_b", "params_range_hi_b"}
    members = {name: value for name, value in MEMBERS.items() if name not in later}
    assert field_faults(members)
    assert not broken(members | {"methodology_version": "1.0.0"})


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**53), max_value=2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["0", "2026-11-22T10:31:07Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "narrow", "fresh"]),
    st.sampled_from(
        ["ecologits", "upstream_node", "upstream_gpu", "annual_fallback", "telemetry", "proxy", "estimated"]
    ),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(MEMBERS)), ODD, max_size=6))
def test_any_signed_nonsense_is_told_and_nothing_fails(changes: dict[str, Any]) -> None:
    """Whatever values whoever holds the key signs, checking ends, and every finding stays on its line."""
    try:
        text = signed(MEMBERS | changes)
    except NotCanonicalError:
        return
    found: list[Finding] = []
    Checker(keys=KEYS, tell=found.append).check_text(text, Place(file="f"))
    assert all(one.text.isprintable() and str(one.place).isprintable() for one in found)


@given(st.text())
def test_what_is_shown_stays_on_its_line(text: str) -> None:
    """Nothing out of a file can end a line, move the cursor or fill the screen."""
    told = shown(text)
    assert told.isprintable()
    assert len(told) <= 83 * 10
