"""What stands beside a receipt unsigned, held against what is signed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from audit.auditing import SIGNER, codes, findings_in, payload_of, problems
from receipts.ledgers import made_receipt
from vetted_mw.audit.verify.beside import answer_faults, stream_faults, trace_faults
from vetted_mw.audit.verify.findings import Code
from vetted_mw.receipts.jws import detached
from vetted_mw.receipts.sealed import seal

if TYPE_CHECKING:
    from pathlib import Path

RECEIPT: dict[str, Any] = payload_of(seal(made_receipt(), None).text) | {
    "default_region": "ovh-gra-1",
    "default_region_gco2e": 0.0099,
}
SIGNAL = {
    "source": RECEIPT["grid_intensity_source"],
    "signal_kind": "fallback",
    "gco2_per_kwh": RECEIPT["grid_intensity_gco2_per_kwh"],
    "observed_at": RECEIPT["grid_intensity_observed_at"],
    "requested_at": RECEIPT["grid_intensity_requested_at"],
    "age_minutes": RECEIPT["grid_intensity_age_minutes"],
    "temporal_match": RECEIPT["grid_temporal_match"],
}
COMPARISON = {"region": "ovh-gra-1", "gco2e": 0.0099, "lower_by_gco2e": 0.0099 - RECEIPT["gco2e"]}
TRACE: dict[str, Any] = {
    "region": RECEIPT["region"],
    "receipt_signal": SIGNAL,
    "default_region": COMPARISON,
}
ANSWER: dict[str, Any] = {
    "id": RECEIPT["upstream_response_id"],
    "model": RECEIPT["upstream_model"],
    "choices": [],
    "usage": {
        "prompt_tokens": RECEIPT["prompt_tokens"],
        "completion_tokens": RECEIPT["completion_tokens"],
        "prompt_tokens_details": {"cached_tokens": RECEIPT["cached_tokens"]},
    },
}


def test_what_the_gateway_wrote_contradicts_nothing() -> None:
    """The trace, the usage and the names of the very answer pass, and so does what is not told."""
    assert not list(trace_faults(TRACE, RECEIPT))
    assert not list(answer_faults(ANSWER, RECEIPT))
    nothing: list[Any] = [None, {}, [], {"receipt_signal": {}, "default_region": {}}]
    for told in nothing:
        assert not list(trace_faults(told, RECEIPT))
    assert not list(answer_faults({"choices": []}, RECEIPT))
    assert not list(trace_faults({"default_region": None}, RECEIPT | {"default_region": None}))


def test_instants_count_and_not_the_way_they_are_written() -> None:
    """An instant with another number of digits is the same one."""
    told = SIGNAL | {"observed_at": RECEIPT["grid_intensity_observed_at"].replace("Z", ".000Z")}
    receipt = RECEIPT | {"grid_intensity_observed_at": RECEIPT["grid_intensity_observed_at"]}
    assert not list(trace_faults({"receipt_signal": told}, receipt))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"region": "ovh-gra-1"}, "routing_trace.region is ovh-gra-1"),
        ({"region": None}, "routing_trace.region is None"),
        ({"receipt_error": "usage_missing"}, "receipt_error is usage_missing, and there is a receipt"),
        ({"receipt_signal": None}, "routing_trace.receipt_signal is None, and the receipt has its figures"),
        ({"receipt_signal": {"source": "rte"}}, "receipt_signal.source is rte"),
        ({"receipt_signal": {"gco2_per_kwh": 12.0}}, "receipt_signal.gco2_per_kwh is 12.0"),
        ({"receipt_signal": {"gco2_per_kwh": True}}, "receipt_signal.gco2_per_kwh is True"),
        ({"receipt_signal": {"age_minutes": 1.0}}, "receipt_signal.age_minutes is 1.0"),
        ({"receipt_signal": {"observed_at": "2026-11-22T10:31:07Z"}}, "receipt_signal.observed_at"),
        ({"receipt_signal": {"requested_at": "now"}}, "receipt_signal.requested_at is now"),
        ({"receipt_signal": {"temporal_match": "stale"}}, "receipt_signal.temporal_match is stale"),
        ({"default_region": None}, "routing_trace.default_region is None"),
        ({"default_region": "x"}, "routing_trace.default_region is x"),
        ({"default_region": {"region": "x"}}, "default_region.region is x"),
        ({"default_region": {"gco2e": 1.0}}, "default_region.gco2e is 1.0"),
        ({"default_region": {"lower_by_gco2e": 1.0}}, "default_region.lower_by_gco2e is 1.0"),
        ({"default_region": {"lower_by_gco2e": "x"}}, "default_region.lower_by_gco2e is x"),
    ],
)
def test_a_trace_that_tells_otherwise_is_told(changes: dict[str, Any], word: str) -> None:
    """Whatever the receipt can say of the trace is compared, one fault for one change."""
    (fault,) = trace_faults(TRACE | changes, RECEIPT)
    assert word in fault.text
    assert fault.is_sure


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model": "gpt"}, "model is gpt, and upstream_model in the signed receipt is"),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 78}}, "usage: prompt_tokens is 9"),
        ({"usage": {"prompt_tokens": 24, "completion_tokens": 9}}, "usage: completion_tokens is 9"),
        (
            {"usage": {"prompt_tokens": 24, "completion_tokens": 78, "prompt_tokens_details": {"cached_tokens": 9}}},
            "usage: cached_tokens is 9",
        ),
    ],
)
def test_an_upstreams_members_that_were_edited_are_told(changes: dict[str, Any], word: str) -> None:
    """The answer's own names and counts are those that the receipt signs, in JSON and in a stream."""
    (fault,) = answer_faults(ANSWER | changes, RECEIPT)
    assert word in fault.text
    assert fault.is_sure
    chunk = ANSWER | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]} | changes
    (fault,) = stream_faults(f"data: {json.dumps(chunk)}\n\n".encode(), RECEIPT)
    assert word in fault.text
    assert fault.is_sure


def test_a_receipt_without_numbers_is_left_to_its_own_checks() -> None:
    """Where the receipt's figures are none, nothing can be said of their difference."""
    broken = RECEIPT | {"gco2e": "x"}
    assert not list(trace_faults({"default_region": {"lower_by_gco2e": 1.0}}, broken))


def test_sums_and_reports_are_not_held_against_one_answer() -> None:
    """An application's answer is its own: its receipt sums several calls, or tells what the application reported."""
    answer = ANSWER | {"model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 9}}
    assert not list(answer_faults(answer, RECEIPT | {"calls": 2}))
    assert not list(answer_faults(answer, RECEIPT | {"usage_source": "reported"}))
    assert len(list(answer_faults(answer, RECEIPT | {"usage_source": "estimated"}))) == 1
    (fault,) = answer_faults(answer | {"id": "z"}, RECEIPT)
    assert fault.text.startswith(
        "id is z, and upstream_response_id in the signed receipt is chatcmpl-1: an application's"
    )
    assert not fault.is_sure


def test_an_answer_with_an_id_of_its_own_is_a_note(tmp_path: Path) -> None:
    """A handler may answer something of its own, and its receipt is bound to that: nobody is accused."""
    sealed = seal(made_receipt(), SIGNER)
    receipt = payload_of(sealed.text) | {"signature": detached(sealed.text)}
    document = {"id": "own", "model": "own", "choices": [], "receipt": receipt}
    (tmp_path / "a").write_text(json.dumps(document))
    found = findings_in(tmp_path / "a")
    assert not problems(found)
    assert Code.CONTRADICTION in {one.code for one in found}


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_contradiction_is_a_problem_of_its_place(tmp_path: Path, *, is_stream: bool) -> None:
    """`verify` tells it by its receipt, of an answer as of a saved stream."""
    sealed = seal(made_receipt(), SIGNER)
    receipt = payload_of(sealed.text) | {"signature": detached(sealed.text)}
    document = {"choices": [], "receipt": receipt, "routing_trace": {"region": "ovh-gra-1"}}
    text = json.dumps(document)
    (tmp_path / "a").write_text(f"data: {text}\n\n" if is_stream else text)
    found = findings_in(tmp_path / "a")
    assert codes(found) == {Code.CONTRADICTION}
    assert [text for _, text in problems(found)] == [
        f"routing_trace.region is ovh-gra-1, and region in the signed receipt is {receipt['region']}"
    ]
