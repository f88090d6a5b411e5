"""Energy that an upstream measured: how it is read, when it is believed, and what the receipt then says."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.making import made, maker, observed, region
from vetted_mw.configuration import MeasuredEnergy
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.measured import MeasuredReading, read_measured
from vetted_mw.receipts.observation import summed
from vetted_mw.receipts.receipt import ReceiptError, ReceiptWithheldError
from vetted_mw.routing.options import Boundary, Tier

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER = MeasuredEnergy(header="x-energy", unit="J", scope="gpu")
PATH = MeasuredEnergy(json_path="usage.energy_joules", unit="J", scope="node")
GPU, NODE = (
    MeasuredReading(value_wh=0.05, scope="gpu"),
    MeasuredReading(value_wh=0.05, scope="node"),
)


def _from_header(*values: bytes) -> MeasuredReading | None:
    return read_measured(HEADER, headers=[(b"x-energy", value) for value in values], body=None)


def _from_json(value: Any, where: MeasuredEnergy = PATH) -> MeasuredReading | None:
    return read_measured(where, headers=[], body=value if isinstance(value, bytes) else json.dumps(value).encode())


# ---- reading


@pytest.mark.parametrize(
    ("text", "joule"), [(b"180", 180.0), (b" 1.8e2 ", 180.0), (b"+.5", 0.5), (b"7.", 7.0), (b"-3", -3.0), (b"0", 0.0)]
)
def test_a_number_in_a_header_is_read_as_text(text: bytes, joule: float) -> None:
    """A header's number is plain or with an exponent, in joules or watt-hours as the operator said."""
    assert _from_header(text) == MeasuredReading(value_wh=joule / 3600, scope="gpu")
    in_wh = MeasuredEnergy(header="x-energy", unit="Wh", scope="node")
    told = read_measured(in_wh, headers=[(b"other", b"1"), (b"x-energy", text)], body=None)
    assert told == MeasuredReading(value_wh=joule, scope="node")


@pytest.mark.parametrize(
    "text", [b"", b"nan", b"inf", b"1_000", b"0x10", b"1,5", b"12 J", b"\xff", "١٢".encode(), b"1" * 65, b"1e999"]
)
def test_what_is_no_number_in_a_header_is_a_reading_that_will_be_rejected(text: bytes) -> None:
    """Something stands in the place and cannot be a finite number: that is told, and not taken for silence."""
    found = _from_header(text)
    assert found is not None
    assert not math.isfinite(found.value_wh)


def test_a_header_that_says_two_things_says_nothing() -> None:
    """The same header twice is one number only where both agree; without it there is no reading."""
    twice = _from_header(b"180", b" 180")
    assert twice == MeasuredReading(value_wh=0.05, scope="gpu")
    two = _from_header(b"180", b"181")
    assert two is not None
    assert math.isnan(two.value_wh)
    assert _from_header() is None


def test_a_number_in_the_answer_is_found_by_its_path() -> None:
    """Names lead through objects and positions through lists to a JSON number."""
    assert _from_json({"usage": {"energy_joules": 180}}) == MeasuredReading(value_wh=0.05, scope="node")
    in_list = MeasuredEnergy(json_path="choices.1.energy", unit="Wh", scope="gpu")
    assert _from_json({"choices": [{}, {"energy": 0.25}]}, in_list) == MeasuredReading(value_wh=0.25, scope="gpu")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"usage": None},
        {"usage": 3},
        {"usage": {}},
        {"usage": {"energy_joules": None}},
        {"usage": [1]},
        {"usage": []},
        b"",
        b"true",
        b"[1, 2]",
    ],
)
def test_an_answer_without_the_number_tells_nothing(answer: Any) -> None:
    """Where the path ends early, or at null, nothing was told, and nothing is rejected."""
    assert _from_json(answer) is None


@pytest.mark.parametrize("position", ["1", "999999999", "x", "-1", "1.5"])
def test_a_position_a_list_does_not_have_tells_nothing(position: str) -> None:
    """A list has items by their number from 0 on, and no others."""
    where = MeasuredEnergy(json_path=f"a.{position}", unit="Wh", scope="gpu")
    assert _from_json({"a": [7.0]}, where) is None


def test_no_answer_tells_nothing() -> None:
    """Where there is no body to look into, as in a stream cut short, there is no reading."""
    assert read_measured(PATH, headers=[(b"usage.energy_joules", b"1")], body=None) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"usage": {"energy_joules": "180"}},
        {"usage": {"energy_joules": True}},
        {"usage": {"energy_joules": {"value": 1}}},
        {"usage": {"energy_joules": 10**400}},
        {"usage": {"energy_joules": "x" * 70}},
        b'{"usage": {"energy_joules": 1e999}}',
        b'{"usage": {"energy_joules": NaN}}',
        b'{"usage": {"energy_joules": 1, "energy_joules": 2}}',
        b'{"usage": {"energy_joules": 1}, "usage": {}}',
        b'{"usage": {"energy_joules": \xff}}',
        b'{"usage": {"energy_joules": 1}',
        b'{"usage": {' + b",".join(b'"m%d": 0' % number for number in range(2_000)) + b"}}",
        b'{"usage": [' + b",".join([b"0"] * 60_000) + b"]}",
        b'{"usage": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"usage": [' + b"[" * 20_000 + b"]" * 20_000 + b"]}",
        b'{"usage": {"energy_joules": 180, "filling": "' + b"x" * 1_048_576 + b'"}}',
    ],
    ids=[
        "text",
        "true",
        "an object",
        "a huge integer",
        "a long text",
        "beyond a float",
        "not a number",
        "a name twice",
        "an outer name twice",
        "not UTF-8",
        "cut",
        "too many members",
        "too many items",
        "too sprawling",
        "too deep",
        "too large",
    ],
)
def test_an_answer_that_holds_nonsense_in_the_place_is_told_as_rejected(answer: Any) -> None:
    """Another type, a name that stands twice, broken or hostile JSON: a reading that is no finite number."""
    where = MeasuredEnergy(json_path="usage.0", unit="J", scope="node") if b'"usage": [' in _raw(answer) else PATH
    found = _from_json(answer, where)
    assert found is not None
    assert not math.isfinite(found.value_wh)


def _raw(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


@given(body=st.binary(max_size=200), path=st.sampled_from(["a", "a.b", "a.0", "usage.energy_joules"]))
@settings(deadline=None, max_examples=200)
def test_no_body_at_all_breaks_the_reading(body: bytes, path: str) -> None:
    """Whatever bytes an upstream sends, there is a reading or none."""
    where = MeasuredEnergy(json_path=path, unit="Wh", scope="gpu")
    for sent in (body, b'{"a": ' + body + b"}", b'{"a": {"b": ' + body + b"}}"):
        found = read_measured(where, headers=[], body=sent)
        assert found is None or found.scope == "gpu"


# ---- believing


@pytest.mark.parametrize("scope", ["gpu", "node"])
@pytest.mark.parametrize(
    ("factor", "is_believed"), [(0.0099, False), (0.0101, True), (1.0, True), (99.0, True), (101.0, False)]
)
def test_a_measurement_is_believed_within_a_hundred_times(
    scope: Literal["gpu", "node"], factor: float, is_believed: bool
) -> None:
    """A measurement counts where it is within 100 times of the parametric figure of the same thing, either way."""
    plain = made()
    assert plain.accelerator_wh is not None
    same = plain.accelerator_wh if scope == "gpu" else plain.energy_wh / plain.pue
    receipt = made(measured=MeasuredReading(value_wh=same * factor, scope=scope))
    believed, rejected = f"upstream_{scope}", "parametric_rejected_upstream"
    assert receipt.energy_source == (believed if is_believed else rejected)
    assert receipt.tier == ("telemetry" if is_believed else "parametric")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.05, 0.0])
def test_a_number_that_cannot_be_an_energy_is_rejected_and_said_so(value: float) -> None:
    """Not finite, negative or nothing: the figures are the parametric ones, and the receipt names the rejection."""
    plain = made()
    receipt = made(measured=MeasuredReading(value_wh=value, scope="node"))
    assert (receipt.energy_source, receipt.tier) == ("parametric_rejected_upstream", "parametric")
    for name in ("energy_wh", "energy_wh_ci90_hi", "gco2e", "ml_water", "accelerator_wh", "sigma_gco2e"):
        assert getattr(receipt, name) == getattr(plain, name)


def test_a_rejected_measurement_leaves_the_parametric_figure_whatever_the_engine() -> None:
    """The word for a rejection says whose figures stand instead, so it is the parametric model's and not the engine's."""
    receipt = maker(engine=engine_named("ecologits")).make(observed(measured=MeasuredReading(value_wh=-1, scope="gpu")))
    assert receipt.energy_source == "parametric_rejected_upstream"
    assert (receipt.energy_wh, receipt.batch_size) == (made().energy_wh, 32)
    assert receipt.coefficients_digest == made().coefficients_digest


def test_energy_for_no_tokens_at_all_is_not_believed() -> None:
    """Where the estimate is nothing, no measurement is within a hundred times of it."""
    receipt = made(prompt_tokens=0, completion_tokens=0, measured=GPU)
    assert (receipt.energy_source, receipt.energy_wh) == ("parametric_rejected_upstream", 0)


# ---- tiers and boundaries


def test_a_measurement_is_used_where_it_is_there() -> None:
    """Asked for automatically or by name, measured energy makes a receipt of the telemetry tier."""
    for tier in (Tier.AUTO, Tier.TELEMETRY):
        receipt = made(tier=tier, measured=GPU)
        assert (receipt.tier, receipt.energy_source, receipt.accelerator_wh) == ("telemetry", "upstream_gpu", 0.05)


def test_the_parametric_tier_ignores_what_was_measured() -> None:
    """Whoever asks for the parametric tier gets it, plausible measurement or not, at either boundary."""
    for boundary in Boundary:
        for measured in (GPU, NODE, MeasuredReading(value_wh=math.nan, scope="node")):
            receipt = made(tier=Tier.PARAMETRIC, measured=measured, boundary=boundary)
            assert (receipt.tier, receipt.energy_source) == ("parametric", "parametric")


@pytest.mark.parametrize("measured", [None, MeasuredReading(value_wh=math.nan, scope="gpu")])
def test_the_telemetry_tier_without_a_plausible_measurement_is_no_receipt(measured: MeasuredReading | None) -> None:
    """Another tier is never passed off as the one that was asked for."""
    assert _withheld(tier=Tier.TELEMETRY, measured=measured) is ReceiptError.TIER_UNAVAILABLE


@pytest.mark.parametrize("tier", [Tier.AUTO, Tier.TELEMETRY])
def test_accelerators_alone_cannot_be_told_where_the_server_was_measured(tier: Tier) -> None:
    """The narrow boundary is refused for node energy: what part of it the accelerators took is not known."""
    assert _withheld(tier=tier, measured=NODE, boundary=Boundary.NARROW) is ReceiptError.TIER_UNAVAILABLE


def test_measured_energy_needs_no_tokens_for_its_figures() -> None:
    """Estimated tokens are marked as such beside measured energy, and do not widen its interval."""
    counted = made(measured=NODE)
    estimated = made(measured=NODE, prompt_tokens=None, completion_tokens=None, completion_characters=312)
    assert (estimated.tier, estimated.usage_source) == ("telemetry", "estimated")
    assert (estimated.energy_wh, estimated.sigma_energy) == (counted.energy_wh, counted.sigma_energy)


def test_a_measurement_has_a_better_pedigree_than_an_estimate() -> None:
    """The whole server measured scores best, then the accelerators, then the model."""
    scores = [made(measured=measured).pedigree_score for measured in (NODE, GPU, None)]
    assert scores == sorted(scores)
    assert scores[0] < scores[2]


@pytest.mark.parametrize(
    ("tier", "boundary", "where", "is_promised"),
    [
        (Tier.AUTO, Boundary.COMPREHENSIVE, None, True),
        (Tier.AUTO, Boundary.COMPREHENSIVE, PATH, True),
        (Tier.AUTO, Boundary.NARROW, None, True),
        (Tier.AUTO, Boundary.NARROW, HEADER, True),
        (Tier.AUTO, Boundary.NARROW, PATH, False),
        (Tier.PARAMETRIC, Boundary.NARROW, PATH, True),
        (Tier.TELEMETRY, Boundary.COMPREHENSIVE, HEADER, False),
        (Tier.TELEMETRY, Boundary.NARROW, PATH, False),
    ],
)
def test_a_receipt_is_promised_only_where_no_measurement_can_withhold_it(
    tier: Tier, boundary: Boundary, where: MeasuredEnergy | None, is_promised: bool
) -> None:
    """A stream's headers name a receipt only where every complete answer gets one, whatever is measured at its end."""
    assert maker().promises(model="any", tier=tier, boundary=boundary, measured=where) is is_promised
    for measured in (None, MeasuredReading(value_wh=0.05, scope=where.scope if where else "gpu")):
        if is_promised:
            assert made(tier=tier, boundary=boundary, measured=measured if where else None).query_id


# ---- sums


@pytest.mark.parametrize(
    ("readings", "total"),
    [
        ((GPU, GPU), MeasuredReading(value_wh=0.1, scope="gpu")),
        ((NODE, NODE, NODE), MeasuredReading(value_wh=0.05 * 3, scope="node")),
        ((GPU, None), None),
        ((None, None), None),
        ((GPU, NODE), None),
    ],
)
def test_measurements_add_up_only_where_all_calls_have_the_same(
    readings: Sequence[MeasuredReading | None], total: MeasuredReading | None
) -> None:
    """A sum of calls is measured when each of them was, and all in one scope."""
    told = summed([observed(measured=reading) for reading in readings])
    if total is None:
        assert told.measured is None
    else:
        assert told.measured is not None
        assert told.measured.value_wh == pytest.approx(total.value_wh)
        assert told.measured.scope == total.scope


def test_a_sum_is_bound_to_no_content_and_no_other_answer() -> None:
    """Digest and id of one call are not those of several."""
    told = summed([observed(request_id="a", response_digest="b"), observed(request_id="a", response_digest="c")])
    assert (told.request_id, told.response_digest) == (None, None)
    alone = summed([observed(request_id="a", response_digest="b")])
    assert (alone.request_id, alone.response_digest) == ("a", "b")


def _withheld(**facts: Any) -> ReceiptError:
    with pytest.raises(ReceiptWithheldError) as caught:
        made(**facts)
    return caught.value.reason


def test_hardware_and_batch_nobody_knows_do_not_widen_what_was_measured() -> None:
    """Model, batch, prefill and hardware have no part in the interval of measured energy."""
    known, unknown = (made(region=region(hardware=name), measured=GPU) for name in ("H100", "unknown"))
    assert (
        known.sigma_energy
        == unknown.sigma_energy
        == pytest.approx(math.sqrt(math.log(1.2) ** 2 + math.log(1.15) ** 2 + math.log(1.05) ** 2), rel=1e-5)
    )
