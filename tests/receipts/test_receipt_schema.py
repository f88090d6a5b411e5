"""The receipt's fields: exactly those of the contract's schema, of the right kind, and nothing about content."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from receipts.making import ISSUED_AT, QUERY_ID, made, maker, observed, reading, recomputed, region
from vetted_mw.receipts.measured import MeasuredReading
from vetted_mw.receipts.models import ModelSize
from vetted_mw.receipts.receipt import Receipt, encode_receipt
from vetted_mw.routing.options import Boundary

if TYPE_CHECKING:
    from collections.abc import Callable

RFC3339 = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{3})?Z"
DIGEST = r"sha-256:[0-9a-f]{64}"


def _number(least: float = 0.0, most: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _count(least: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _text(pattern: str = r".+") -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _one_of(*words: str) -> Callable[[Any], bool]:
    return lambda value: value in words


def _or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


HOSTED = {  # the first nineteen keep the hosted service's names, in its order
    "query_id": lambda value: uuid.UUID(value).version == 4,
    "tier": _one_of("proxy", "parametric", "telemetry"),
    "gco2e": _number(),
    "gco2e_ci90_lo": _number(),
    "gco2e_ci90_hi": _number(),
    "ml_water": _number(),
    "ml_water_ci90_lo": _number(),
    "ml_water_ci90_hi": _number(),
    "methodology_version": _text(r"\d+\.\d+\.\d+"),
    "methodology_hash": _text(r"[0-9a-f]{16}"),
    "pedigree_score": _number(1, 5),
    "route_taken": _text(r"[a-z0-9]+:[a-z0-9-]+"),
    "grid_zone": _text(r"[A-Z]{2}(?:_[A-Z0-9]+)?"),
    "grid_intensity_gco2_per_kwh": _number(),
    "grid_intensity_source": _text(r"[a-z0-9_]+"),
    "grid_intensity_observed_at": _text(RFC3339),
    "grid_intensity_requested_at": _text(RFC3339),
    "grid_intensity_age_minutes": _number(),
    "grid_temporal_match": _one_of("live_window", "fresh", "annual_fallback"),
}
ADDED = {  # marked `y` in the contract, the members of signed and ledgered receipts left out
    "receipt_version": _one_of("1"),
    "region": _text(r"[a-z0-9-]+"),
    "model": _text(),
    "prompt_tokens": _count(),
    "cached_tokens": _count(),
    "completion_tokens": _count(),
    "usage_source": _one_of("upstream", "estimated", "reported"),
    "completion_status": _one_of("complete", "client_abort", "upstream_error", "shutting_down", "abandoned"),
    "calls": _count(1),
    "boundary": _one_of("comprehensive", "narrow"),
    "energy_wh": _number(),
    "energy_wh_ci90_lo": _number(),
    "energy_wh_ci90_hi": _number(),
    "accelerator_wh": _or_null(_number()),
    "embodied_g_per_gpu_second": _number(),
    "energy_source": _one_of(
        "parametric", "ecologits", "upstream_gpu", "upstream_node", "parametric_rejected_upstream"
    ),
    "gco2e_operational": _number(),
    "gco2e_embodied": _number(),
    "params_active_b": _number(),
    "params_total_b": _number(),
    "bytes_per_param": _number(),
    "batch_size": _number(1),
    "batch_known": lambda value: isinstance(value, bool),
    "params_range_lo_b": _or_null(_number()),
    "params_range_hi_b": _or_null(_number()),
    "hardware": _one_of("H100", "unknown"),
    "pue": _number(1),
    "wue_l_per_kwh": _number(),
    "ewif_l_per_kwh": _number(),
    "pue_quality": _one_of("published", "assumed"),
    "grid_factor_set": _or_null(_text()),
    "grid_intensity_basis": _one_of("lifecycle", "direct", "unknown"),
    "grid_intensity_accounting": _one_of("production", "consumption", "unknown"),
    "water_basis": _one_of("consumption_wri2020"),
    "sigma_gco2e": _number(),
    "sigma_water": _number(),
    "sigma_energy": _number(),
    "interval_method": _one_of("lognormal_delta_v1"),
    "methodology_digest": _text(DIGEST),
    "coefficients_digest": _text(DIGEST),
    "issued_at": _text(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z"),
    "issuer": _text(),
    "software": _text(r"vetted-mw/\d+\.\d+\.\d+"),
}
OPTIONAL = {  # marked `n`
    "upstream_model": _or_null(_text()),
    "upstream_response_id": _or_null(_text()),
    "grid_proxy_share": _or_null(_number(0, 1)),
    "grid_resolution_minutes": _or_null(_count(1)),
    "default_region": _or_null(_text(r"[a-z0-9-]+")),
    "default_region_grid_gco2_per_kwh": _or_null(_number()),
    "default_region_pue": _or_null(_number(1)),
    "default_region_gco2e": _or_null(_number()),
    "response_digest": _or_null(_text(r"(?:hmac-)?sha-256:[0-9a-f]{64}")),
    "request_id": lambda value: uuid.UUID(value).version == 4,
}
DIGEST_OF_CONTENT = "hmac-sha-256:" + "0" * 64
RECEIPTS = {
    "live": observed(),
    "abandoned": observed(completion_status="abandoned", request_id=QUERY_ID),
    "bound": observed(response_digest=DIGEST_OF_CONTENT),
    "compared": observed(default_region=region("scaleway-par-2"), default_reading=reading(70.0)),
    "gpu measured": observed(measured=MeasuredReading(value_wh=0.04, scope="gpu")),
    "node measured": observed(measured=MeasuredReading(value_wh=0.06, scope="node")),
    "nonsense measured": observed(measured=MeasuredReading(value_wh=-1.0, scope="node")),
    "annual": observed(reading=None),
    "narrow": observed(boundary=Boundary.NARROW),
    "estimated": observed(prompt_tokens=None, completion_tokens=None, prompt_characters=9, completion_characters=9),
    "unknown model": observed(model="nobody-knows", upstream_model=None, upstream_response_id=None),
    "reported": observed(reported=True),
    "cut": observed(completion_status="upstream_error"),
    "left": observed(completion_status="client_abort"),
    "several calls": observed(calls=3),
    "known hardware": observed(region=region(hardware="H100"), reading=reading(proxy_share=0.2)),
    "no tokens": observed(prompt_tokens=0, completion_tokens=0),
    "an ordinary French site": observed(region=region("ovh-rbx-1"), reading=None),
}


@pytest.mark.parametrize("kind", RECEIPTS)
def test_a_receipt_has_the_contracts_fields_and_no_others(kind: str) -> None:
    """Every required field is there, with a value of its kind; what else is there is optional in the contract."""
    told = json.loads(encode_receipt(maker().make(RECEIPTS[kind])))
    checks = HOSTED | ADDED | OPTIONAL
    assert set(told) - set(OPTIONAL) == set(HOSTED | ADDED)
    assert set(told) <= set(checks)
    assert ("request_id" in told) is (kind == "abandoned")
    assert {name: told[name] for name in told if not checks[name](told[name])} == {}


def test_the_first_nineteen_fields_are_the_hosted_services_in_its_order() -> None:
    """Who reads the hosted service's receipts finds its fields under its names, first and in order."""
    assert list(json.loads(encode_receipt(made())))[:19] == list(HOSTED)
    assert len(HOSTED) == 19


def test_no_field_could_hold_content_or_a_caller() -> None:
    """No prompt, completion, key, address or end-user id is a field."""
    allowed = {"prompt_tokens", "completion_tokens", "completion_status"}
    suspicious = re.compile(r"prompt|completion|message|content|text|key|address|ip$|user|caller|secret|token$")
    assert {name for name in Receipt.__struct_fields__ if suspicious.search(name)} == allowed


def test_a_receipt_without_a_signature_does_not_look_signed() -> None:
    """No member of signed or ledgered receipts stands in one that is neither, and no digest of content that is not bound."""
    told = json.loads(encode_receipt(made()))
    assert told.keys().isdisjoint({"signature", "binding_nonce", "ledger_id", "seq", "request_id"})
    assert told["response_digest"] is None


def test_a_receipt_says_who_issued_it_and_when() -> None:
    """Issuer, software, id, route and instants are those of the observation and the configuration."""
    receipt = maker(issuer="Example Ltd", software="vetted-mw/9.9.9").make(observed(calls=2))
    assert (receipt.issuer, receipt.software, receipt.calls) == ("Example Ltd", "vetted-mw/9.9.9", 2)
    assert receipt.query_id == observed().query_id
    assert (receipt.region, receipt.route_taken) == ("scaleway-par-1", "scaleway:fr-par-1")
    assert datetime.fromisoformat(receipt.issued_at) == ISSUED_AT


def test_no_number_pretends_to_more_than_six_digits() -> None:
    """Whatever digits settings and signals bring, the receipt shows six, and its figures rest on those it shows."""
    third = 1 / 3
    size = ModelSize(active_params_b=third, total_params_b=10 * third, bytes_per_param=third, batch_size=10 * third)
    place = region(pue=1 + third, wue_l_per_kwh=third, ewif_l_per_kwh=10 * third)
    seen = observed(region=place, model="house", reading=reading(100 * third, age_minutes=third, proxy_share=third / 2))
    told = json.loads(encode_receipt(maker(sizes={"house": size}).make(seen)))
    numbers = {name: value for name, value in told.items() if isinstance(value, float)}
    assert len(numbers) > 20
    assert {name: value for name, value in numbers.items() if float(f"{value:.6g}") != value} == {}
    expected = recomputed(told)
    assert {name: told[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_equal_observations_have_equal_receipts() -> None:
    """Nothing in a receipt is left to chance: an auditor's second run gives the same bytes."""
    assert encode_receipt(made()) == encode_receipt(made())
