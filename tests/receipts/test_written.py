"""A receipt written by a template is, byte by byte, the one that is made the long way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.making import REQUESTED_AT, maker, observed, region
from vetted_mw.grid.signal import DECLARED, GridSignal, Method, SignalKind, read_at
from vetted_mw.receipts import kinds
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.measured import MeasuredReading
from vetted_mw.receipts.models import ModelSize
from vetted_mw.receipts.parametric import ParametricModel
from vetted_mw.receipts.receipt import ReceiptError, ReceiptWithheldError, encode_receipt
from vetted_mw.receipts.written import Filled, Made
from vetted_mw.routing.options import Boundary, Tier

if TYPE_CHECKING:
    from vetted_mw.receipts.maker import ReceiptMaker
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.written import Written

LIFECYCLE = Method(accounting="production", basis="lifecycle", kind="average", factor_set='100%-own "set"')
REGIONS = (
    region("scaleway-par-1"),
    region("atnorth-sto-1", hardware="H100"),
    region("ovh-gra-1", annual_gco2_per_kwh=None),
    region(
        "hetzner-fsn-1", inference=True, pue=1.0, wue_l_per_kwh=0.0, ewif_l_per_kwh=0.0, shipped=False, annual_year=None
    ),
)
SIZES = {
    "own": ModelSize(active_params_b=7.0, total_params_b=7.0, bytes_per_param=2.0),
    "tiny": ModelSize(active_params_b=1e-6, total_params_b=1e-6, bytes_per_param=0.5, batch_size=4096.0),
    "vast": ModelSize(active_params_b=1e6, total_params_b=1e7, bytes_per_param=2.0, batch_size=1.0),
}
SIGNALS = tuple(
    GridSignal(
        source=source,
        zone="FR",
        area="FR",
        kind=kind,
        gco2_per_kwh=value,
        observed_at=REQUESTED_AT - timedelta(minutes=age),
        fetched_at=REQUESTED_AT - timedelta(minutes=age),
        max_age_minutes=180.0,
        method=method,
        resolution_minutes=minutes,
        proxy_share=share,
    )
    for source, kind, value, age, method, minutes, share in (
        ("rte_mix_derived_live", SignalKind.MEASURED, 58.0, 1.0, LIFECYCLE, 15, 0.123456789),
        ("of %b and %s", SignalKind.MEASURED, 1e-9, 20.0, LIFECYCLE, 15, None),
        ("zéro", SignalKind.MEASURED, 0.0, 14.99, DECLARED, None, 0.0),
        ("huge", SignalKind.MEASURED, 1e15, 0.0, DECLARED, None, None),
        ("a forecast", SignalKind.FORECAST, 58.0, 1.0, LIFECYCLE, 15, None),
    )
)
TOKENS = st.sampled_from((0, 1, 7, 60, 200, 10**6, 2**53 - 1)) | st.integers(0, 5_000)
WORDS = st.sampled_from(("mistral-medium-3", "own", "tiny", "vast", 'nobody\'s "own" 100%s', "ünbekannt")) | st.text(
    max_size=8
)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Whatever may be observed of a request."""
    at = REQUESTED_AT + timedelta(milliseconds=draw(st.sampled_from((0, 1, 2_900, 3_000, 3_001, 840_000, 10**9))))
    here, there = draw(st.sampled_from(REGIONS)), draw(st.none() | st.sampled_from(REGIONS))
    one, other = draw(st.none() | st.sampled_from(SIGNALS)), draw(st.none() | st.sampled_from(SIGNALS))
    prompt = draw(st.none() | TOKENS)
    facts: dict[str, Any] = {
        "query_id": draw(st.uuids().map(str)),
        "region": here,
        "model": draw(WORDS),
        "upstream_model": draw(st.none() | WORDS | st.just("n" * 2_000)),
        "upstream_response_id": draw(st.none() | WORDS),
        "prompt_tokens": prompt,
        "cached_tokens": draw(st.integers(0, prompt or 0)),
        "completion_tokens": draw(st.none() | TOKENS),
        "prompt_characters": draw(st.integers(0, 9_999)),
        "completion_characters": draw(st.integers(0, 9_999)),
        "reported": draw(st.booleans()),
        "completion_status": draw(st.sampled_from(("complete", "client_abort", "abandoned"))),
        "tier": draw(st.sampled_from((Tier.AUTO, Tier.AUTO, Tier.PARAMETRIC, Tier.TELEMETRY))),
        "boundary": draw(st.sampled_from(Boundary)),
        "reading": None if one is None else read_at(one, draw(st.sampled_from((at, at, at, REQUESTED_AT)))),
        "requested_at": at,
        "issued_at": at + timedelta(milliseconds=draw(st.integers(0, 5_000))),
        "calls": draw(st.sampled_from((1, 1, 3))),
        "measured": draw(st.sampled_from((None, None, None, MeasuredReading(value_wh=0.05, scope="gpu")))),
        "request_id": draw(st.none() | st.uuids().map(str)),
        "response_digest": draw(st.none() | st.just("hmac-sha-256:" + "0a" * 32)),
        "default_region": there,
        "default_reading": None if other is None or there is None else read_at(other, at),
    }
    return observed(**facts)


def told(ours: ReceiptMaker, seen: Observation) -> tuple[object, ...]:
    """Make a receipt by `written`, and tell everything that is asked of one."""
    try:
        written = ours.written(seen)
    except ReceiptWithheldError as error:
        return (error.reason,)
    return everything(written)


def made(seen: Observation, **facts: Any) -> tuple[object, ...]:
    """Make the same the long way."""
    ours = maker(sizes=SIZES, **facts)
    try:
        return everything(ours.made(seen))
    except ReceiptWithheldError as error:
        return (error.reason,)


def everything(written: Written) -> tuple[object, ...]:
    trace = [written.told_signal, written.told_comparison]
    return written.text, encode_receipt(written.receipt), written.receipt, msgspec.json.encode(trace), written.reading


def test_a_figure_beyond_all_numbers_is_withheld_as_it_is_the_long_way() -> None:
    """A grid figure that no board lets in, and more tokens than there are: neither way makes a number of it."""
    endless = read_at(replace(SIGNALS[0], gco2_per_kwh=1e308), REQUESTED_AT)
    ours = maker(sizes=SIZES)
    few = observed(region=REGIONS[0], model="own", reading=endless, prompt_tokens=1, completion_tokens=1)
    many = msgspec.structs.replace(few, completion_tokens=2**53 - 1)
    for seen in (few, many):
        assert told(ours, seen) == made(seen)


@pytest.mark.parametrize("tokens", [{"prompt_tokens": 2**53}, {"completion_tokens": 2**53}])
def test_more_tokens_than_every_reader_of_json_holds_are_withheld_as_they_are_the_long_way(
    tokens: dict[str, int],
) -> None:
    """Counts of several calls may come to that; a template that is kept makes no receipt of them either."""
    ours = maker(sizes=SIZES)
    few = observed(region=REGIONS[0])
    ours.written(few)
    assert type(ours.written(few)) is Filled
    many = msgspec.structs.replace(few, **tokens)
    assert told(ours, many) == made(many) == (ReceiptError.ENGINE_FAILED,)


@given(st.lists(observations(), min_size=1, max_size=4), observations())
@settings(max_examples=300, deadline=None)
def test_a_receipt_by_a_template_is_the_one_made_the_long_way(before: list[Observation], last: Observation) -> None:
    ours = maker(sizes=SIZES)
    alike = [
        msgspec.structs.replace(last, prompt_tokens=one.prompt_tokens, cached_tokens=0, query_id=one.query_id)
        for one in before
    ]
    for seen in (*before, *alike, last, last):
        assert told(ours, seen) == made(seen)


@pytest.mark.parametrize("completion", range(1, 400, 7))
def test_every_size_of_figure_is_written_as_its_number_is(completion: int) -> None:
    ours = maker(sizes=SIZES)
    for model in SIZES:
        for tokens in (3, completion, completion * 1_000, completion * 10**9):
            seen = observed(model=model, prompt_tokens=tokens, completion_tokens=completion)
            assert told(ours, seen) == made(seen)


def test_only_the_first_receipt_of_a_kind_is_made_the_long_way() -> None:
    ours = maker()
    place = {"region": REGIONS[0], "reading": read_at(SIGNALS[0], REQUESTED_AT)}
    first, second = observed(**place), observed(**place, prompt_tokens=300, query_id="another")
    assert type(ours.written(first)) is Made
    assert type(ours.written(second)) is Filled


class Own(ParametricModel):
    """An engine of someone who builds on the parametric one."""

    name = "own"


@pytest.mark.parametrize("engine", [Own(), engine_named("ecologits")], ids=["own", "ecologits"])
def test_another_engine_is_asked_for_every_receipt(engine: Any) -> None:
    ours = maker(engine=engine)
    seen = observed()
    for _ in range(2):
        assert type(ours.written(seen)) is Made


def test_what_was_measured_is_never_written_by_a_template() -> None:
    ours, seen = maker(), observed()
    measured = msgspec.structs.replace(seen, measured=MeasuredReading(value_wh=0.05, scope="gpu"))
    for _ in range(2):
        assert ours.written(seen).receipt.energy_source == "parametric"
        assert ours.written(measured).receipt.energy_source == "upstream_gpu"


def test_new_signals_bring_new_templates_and_no_more_than_a_bound_of_them_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kinds, "_MOST", 3)
    ours = maker()
    for value in range(50, 60):
        heard = replace(SIGNALS[0], gco2_per_kwh=float(value))
        for _ in range(2):
            receipt = ours.written(observed(reading=read_at(heard, REQUESTED_AT))).receipt
            assert receipt.grid_intensity_gco2_per_kwh == value
    assert len(ours._templates) == 3


def test_the_templates_that_were_used_last_are_the_ones_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_MOST", 2)
    ours = maker()
    one, two, three = (observed(reading=read_at(replace(SIGNALS[0], zone=zone), REQUESTED_AT)) for zone in "ABC")
    for seen in (one, two, one, one, three):
        ours.written(seen)
    assert type(ours.written(one)) is Filled
    assert type(ours.written(two)) is Made
