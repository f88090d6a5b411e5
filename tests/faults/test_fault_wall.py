"""The fault wall: every fault, for JSON and for streams, under every policy, on real sockets.

All of it runs over one transport, and a part over the others. What is measured is measured once in a process, so the
table of docs/resilience.md is held against it here too.
"""

from __future__ import annotations

import json

import pytest

from faults.course import PROMPT, Measured, cases_of, measured
from faults.due import Case, said, says_that_it_failed
from faults.fault import Fault, Stage
from faults.page import PAGE, committed, table
from faults.playing import said_by
from faults.policies import STRANGER, Policy
from faults.refusals import CANARY
from faults.site import TRAP
from faults.stage import FAULTS, KEY, OTHERS, TRANSPORT

TRANSPORTS = (TRANSPORT, *OTHERS)
CASES = [case for transport in TRANSPORTS for fault in FAULTS for case in cases_of(fault, transport)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_fault = pytest.mark.parametrize(
    ("fault", "transport"), [(fault, transport) for transport in TRANSPORTS for fault in FAULTS], ids=str
)


def _seen(case: Case) -> Measured:
    return measured(case.fault, case.transport).cases[case.stream, case.policy]


def test_each_fault_has_a_model_of_its_own() -> None:
    """The model's name selects the fault, so no two faults may share one."""
    assert len({fault.model for fault in FAULTS}) == len(FAULTS)


# ---- 1


@every_case
def test_only_hosts_the_policy_allows_are_contacted_and_in_its_order(case: Case) -> None:
    """No connection goes anywhere but where the policy looks, a redirect's target least of all."""
    contacted = _seen(case).contacted
    assert set(contacted) <= set(case.policy.value.order)
    assert not {TRAP, STRANGER} & set(contacted)
    listening = [region for region, *_ in case.attempts if not (case.fault.refusing and case.is_faulty(region))]
    assert list(dict.fromkeys(contacted)) == listening


# ---- 2


@every_case
def test_no_caller_takes_a_part_for_the_whole(case: Case) -> None:
    """An answer without its whole text ends in an error; one with it, from an upstream that finished, ends well."""
    told = _seen(case).told
    if case.is_whole:
        assert (told.status, told.complete, told.errors) == (200, True, [])
        assert said(told) == case.text
    else:
        assert says_that_it_failed(told)
        assert not told.complete


@every_case
def test_the_caller_is_told_what_the_error_table_says(case: Case) -> None:
    """Status, code, and whether a retry can help follow from the fault and the policy."""
    told = _seen(case).told
    if case.is_whole or case.due.stage is Stage.AFTER:
        assert told.status == 200
        assert [error["code"] for error in told.errors] == ([] if case.is_whole else [case.due.code])
        assert told.receipt is not None or told.trace["receipt_error"] == "no_observed_call"
        return
    assert (told.status, told.errors[0]["code"]) == case.refusal
    assert isinstance(told.errors[0]["message"], str)
    assert told.receipt is None
    if case.policy.is_pin and case.due.stage is Stage.BEFORE:
        assert (told.errors[0]["type"], told.errors[0]["param"]) == ("region_unavailable", "vetted.region")
        assert told.headers["x-should-retry"] == "false"
    if case.fault.retry_after is not None:
        assert float(told.headers["retry-after"]) == pytest.approx(case.fault.retry_after, abs=1)


# ---- 3


@every_case
def test_nothing_is_left_of_it(case: Case) -> None:
    """No lease, no connection in use, no open span, and at the end no connection at all."""
    seen = _seen(case)
    assert seen.in_flight == (0, 0)
    assert seen.busy == ([], [])
    assert seen.open_spans == 0
    assert seen.open_connections == 0


@every_fault
def test_no_task_is_left_of_it(fault: Fault, transport: str) -> None:
    """Once the gateways are closed, no task of theirs is alive."""
    assert measured(fault, transport).tasks == ()


@every_case
def test_the_faulty_region_answers_the_next_request_with_its_own_answer(case: Case) -> None:
    """Nothing of a broken exchange is taken for the next answer, and a fault alone closes no region."""
    told = _seen(case).follow_up
    region = case.policy.value.faulty[0]
    if told is None:
        assert not case.fault.follow_up
    elif case.due.outcome == "saturated":
        assert (told.status, told.attempts) == (503, [])
        assert int(told.headers["retry-after"]) >= 1
    else:
        assert (told.status, told.complete, told.errors) == (200, True, [])
        assert told.attempts == [(region, "success", 200)]
        assert set(said(told).values()) == {said_by(region)}


@every_fault
def test_the_breaker_counts_what_it_should(fault: Fault, transport: str) -> None:
    """Faults open it; the caller's own errors, a full region and whole answers do not; a full region is left alone."""
    for (stream, policy), seen in measured(fault, transport).cases.items():
        due = fault.due(stream=stream)
        assert due is not None
        counts = due.outcome not in {"success", "saturated", "caller_error"} and not fault.once
        assert seen.breaker == (("open" if counts else "closed") if policy is Policy.PINNED else None)
        assert seen.saturated is (due.outcome == "saturated")


# ---- 4


@every_case
def test_the_trace_tells_what_the_upstreams_logs_show(case: Case) -> None:
    """Attempts in order, region and status, are those of the logs; the headers and the serving region agree."""
    seen = _seen(case)
    told = seen.told
    assert told.attempts == case.attempts
    assert told.trace["region"] == told.headers.get("x-vetted-region") == case.region
    assert (told.trace["decision_mode"], told.trace["decision_reason"]) == case.reason
    requests = {region: case.due.logged if case.is_faulty(region) else 1 for region, *_ in told.attempts}
    assert [(one.region, one.method, one.path) for one in seen.log] == [
        (region, "POST", "/v1/chat/completions") for region, count in requests.items() for _ in range(count)
    ]
    logged = {one.region: None if _is_unreadable(case, one.region) else one.status for one in seen.log}
    assert logged == {region: status for region, _outcome, status in told.attempts if requests[region]}
    sent = [region for region, *_ in told.attempts if case.due.sent or not case.is_faulty(region)]
    assert told.headers["x-vetted-attempts"] == str(len(sent))


def _is_unreadable(case: Case, region: str) -> bool:
    return case.fault.unreadable_head and case.is_faulty(region)


@every_case
def test_the_spans_tell_what_the_trace_tells(case: Case) -> None:
    """One span for the request and its decision, one for each attempt with its region, status and outcome."""
    seen = _seen(case)
    names = [span.name for span in seen.spans]
    attempts = ["vetted.attempt"] * len(seen.told.attempts)
    assert sorted(names) == sorted(["POST /v1/chat/completions", "chat _OTHER", "vetted.route", *attempts])
    spans = [dict(span.attributes or {}) for span in seen.spans if span.name == "vetted.attempt"]
    assert [
        (span["vetted.region"], span.get("error.type", "success"), span.get("http.response.status_code"))
        for span in spans
    ] == seen.told.attempts


@every_fault
def test_no_word_of_a_prompt_a_key_or_an_upstreams_error_is_logged_or_in_a_span(fault: Fault, transport: str) -> None:
    """Whatever breaks, logs at every level and spans hold none of them."""
    run = measured(fault, transport)
    spans = [span.to_json() for seen in run.cases.values() for span in seen.spans]
    told = "".join([*run.logs, *spans])
    assert [canary for canary in (PROMPT, KEY, CANARY) if canary in told] == []
    assert spans


def test_the_canaries_are_where_they_must_not_leave() -> None:
    """What the test above looks for was really there: the caller is told an upstream's words about its own error."""
    (fault,) = [fault for fault in FAULTS if fault.name == "400, code as a number"]
    (told, *_) = [seen.told for seen in measured(fault).cases.values()]
    assert CANARY in json.dumps(told.errors)


# ---- the page


def test_the_table_of_the_page_is_what_the_wall_measures_now() -> None:
    """What a reader is promised is what happened; `scripts/resilience` writes the table anew."""
    assert committed(PAGE.read_text(encoding="utf-8")) == table()
