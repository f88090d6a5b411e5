"""What the caller is told when no region served: the error table of the wire, row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.samples import NOW
from routing.cases import (
    CARBON_AWARE,
    DEFAULT,
    GRA,
    ISL,
    MODEL,
    OTHER_MODEL,
    PAR_1,
    PAR_2,
    RULES,
    SERVING,
    STO,
    attempt,
    candidates,
)
from vetted_mw.chat.response import retry_headers
from vetted_mw.routing.decision import decide
from vetted_mw.routing.options import Options
from vetted_mw.routing.refusal import refusal_for
from vetted_mw.routing.values import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.errors import AnswerError

PIN = Options(region=STO)
PAIR = Options(region=STO, secondary_region=ISL)
DOWN = {"degraded": True}
FULL = {"saturated": True}
ELSEWHERE = {"models": frozenset({OTHER_MODEL})}

# status, type, code, param
MODEL_NOT_AVAILABLE = (400, "validation_error", "model_not_available", "model")
PINNED = (503, "region_unavailable", "service_unavailable", "vetted.region")
SATURATED = (429, "rate_limit_error", "all_regions_saturated", None)
NONE_AVAILABLE = (503, "region_unavailable", "no_region_available", None)
TIMEOUT = (504, "inference_error", "upstream_timeout", None)
FAILED = (502, "inference_error", "upstream_error", None)
INVALID = (502, "inference_error", "upstream_invalid_response", None)


def refused(
    options: Options = DEFAULT,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    *outcomes: str,
    retry_after: float | None = None,
) -> AnswerError:
    """Return the error of a request that met these facts and, at the regions of its order, these outcomes."""
    decision = decide(options, MODEL, candidates(facts), NOW, rules=RULES)
    codes = decision.order or (PAR_1,)
    records = [attempt(codes[min(n, len(codes) - 1)], outcome) for n, outcome in enumerate(outcomes)]
    return refusal_for(decision, records, options=options, retry_after=retry_after)


def told(error: AnswerError) -> tuple[int, str, str, str | None]:
    """Return what the envelope and the status line say."""
    return error.status, error.type, error.code, error.param


# ---- nothing was sent


@pytest.mark.parametrize(
    ("options", "facts", "expected"),
    [
        (Options(), dict.fromkeys(SERVING, ELSEWHERE), MODEL_NOT_AVAILABLE),
        (CARBON_AWARE, dict.fromkeys(SERVING, ELSEWHERE), MODEL_NOT_AVAILABLE),
        (PIN, {STO: ELSEWHERE}, MODEL_NOT_AVAILABLE),
        (PAIR, {STO: ELSEWHERE, ISL: ELSEWHERE}, MODEL_NOT_AVAILABLE),
        (PAIR, {STO: ELSEWHERE, ISL: DOWN}, PINNED),
        (PIN, {STO: DOWN}, PINNED),
        (PIN, {STO: FULL}, PINNED),
        (PAIR, {STO: FULL, ISL: FULL}, PINNED),
        (PIN, {STO: {"configured": False}}, PINNED),
        (PIN, {STO: {"inference": False}}, PINNED),
        (Options(region=STO, latency_budget_ms=1), {}, PINNED),
        (Options(), dict.fromkeys(SERVING, FULL), SATURATED),
        (CARBON_AWARE, dict.fromkeys(SERVING, FULL), SATURATED),
        (Options(), {PAR_1: FULL, PAR_2: ELSEWHERE, GRA: FULL}, SATURATED),
        (Options(), {PAR_1: FULL, PAR_2: DOWN, GRA: FULL}, NONE_AVAILABLE),
        (Options(), dict.fromkeys(SERVING, DOWN), NONE_AVAILABLE),
        (CARBON_AWARE, dict.fromkeys(SERVING, DOWN), NONE_AVAILABLE),
        (Options(latency_budget_ms=1), {}, NONE_AVAILABLE),
    ],
)
def test_a_request_that_nothing_was_sent_for(
    options: Options, facts: dict[str, dict[str, Any]], expected: tuple[int, str, str, str | None]
) -> None:
    """A model nobody lists is 400, a pin is 503, all full is 429, everything else 503."""
    assert told(refused(options, facts)) == expected


def test_a_model_served_elsewhere_is_answered_with_where() -> None:
    """The text names the regions that serve the model, not the model itself."""
    facts = dict.fromkeys((PAR_1, PAR_2, GRA), ELSEWHERE) | {STO: {"models": frozenset({MODEL})}, ISL: ELSEWHERE}
    message = refused(Options(), facts).message
    assert STO in message
    assert ISL not in message
    assert MODEL not in message


def test_a_model_served_nowhere_is_answered_with_where_to_look() -> None:
    """Without any region to name the text points to the list of models."""
    assert "/v1/models" in refused(Options(), dict.fromkeys(SERVING, ELSEWHERE)).message


# ---- attempts were made


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        # all saturated or not admitted
        (("saturated",), SATURATED),
        (("not_admitted",), SATURATED),
        (("not_admitted", "not_admitted", "not_admitted"), SATURATED),
        (("saturated", "not_admitted", "saturated"), SATURATED),
        # the last that was sent timed out
        (("first_byte_timeout",), TIMEOUT),
        (("idle_timeout",), TIMEOUT),
        (("answer_timeout",), TIMEOUT),
        (("upstream_error", "answer_timeout"), TIMEOUT),
        (("invalid_response", "idle_timeout"), TIMEOUT),
        (("first_byte_timeout", "connect_error"), TIMEOUT),
        (("first_byte_timeout", "not_admitted"), TIMEOUT),
        (("connect_timeout",), TIMEOUT),
        (("connect_error", "connect_timeout"), TIMEOUT),
        (("connect_timeout", "not_admitted"), TIMEOUT),
        # otherwise
        (("upstream_error",), FAILED),
        (("connect_error",), FAILED),
        (("tls_error",), FAILED),
        (("upstream_cut",), FAILED),
        (("saturated", "upstream_error"), FAILED),
        (("upstream_error", "saturated"), FAILED),
        (("upstream_error", "not_admitted"), FAILED),
        (("first_byte_timeout", "upstream_error"), FAILED),
        (("upstream_error", "connect_timeout"), FAILED),
        (("connect_error", "not_admitted"), FAILED),
        (("invalid_response",), INVALID),
        (("upstream_error", "invalid_response"), INVALID),
        (("invalid_response", "not_admitted"), INVALID),
        (("invalid_response", "upstream_error"), FAILED),
    ],
)
@pytest.mark.parametrize("options", [Options(), CARBON_AWARE], ids=["default", "carbon_aware"])
def test_a_request_that_every_attempt_failed(
    options: Options, outcomes: tuple[str, ...], expected: tuple[int, str, str, str | None]
) -> None:
    """All full is 429; else the last one that was sent tells 504 or 502."""
    assert told(refused(options, None, *outcomes)) == expected


@pytest.mark.parametrize("outcome", [o.value for o in AttemptOutcome if o.value not in {"success", "caller_error"}])
@pytest.mark.parametrize("options", [PIN, PAIR])
def test_a_pinned_request_is_503_whatever_the_cause(options: Options, outcome: str) -> None:
    """A pin, or it and its secondary, that failed in any way: 503, never 429, 502 or 504."""
    outcomes = (outcome,) if options is PIN else (outcome, outcome)
    assert told(refused(options, None, *outcomes)) == PINNED


def test_a_walk_whose_time_ran_out_before_it_began_is_a_timeout() -> None:
    """There was an order and no time for it."""
    assert told(refused(Options(), None)) == TIMEOUT


# ---- when to come back


def _headers(error: AnswerError) -> dict[bytes, bytes]:
    return dict(retry_headers(error))


def test_a_pin_is_never_to_be_retried_and_tells_the_wait_it_knows() -> None:
    """Always `x-should-retry: false`, and `Retry-After` only when known."""
    silent = _headers(refused(PIN, {STO: DOWN}))
    window = _headers(refused(PIN, {STO: FULL | {"retry_after": 12.2}}))
    asked = _headers(refused(PIN, None, "saturated", retry_after=30.0))
    assert silent == {b"x-should-retry": b"false"}
    assert window == {b"x-should-retry": b"false", b"retry-after": b"13"}
    assert asked == {b"x-should-retry": b"false", b"retry-after": b"30"}


def test_a_pin_does_not_tell_another_regions_wait() -> None:
    """Paris' window is no reason to come back to a pinned Stockholm."""
    assert refused(PIN, {STO: DOWN, PAR_1: FULL | {"retry_after": 5.0}}).retry_after is None


@pytest.mark.parametrize(
    ("facts", "outcomes", "asked", "wait"),
    [
        (dict.fromkeys(SERVING, FULL | {"retry_after": 7.0}), (), None, b"7"),
        ({PAR_1: FULL | {"retry_after": 40.0}, PAR_2: FULL | {"retry_after": 3.5}, GRA: FULL}, (), None, b"4"),
        (None, ("saturated",), 9.0, b"9"),
        ({PAR_1: FULL | {"retry_after": 40.0}}, ("saturated", "saturated"), 9.0, b"9"),
        ({PAR_1: FULL | {"retry_after": 3.0}}, ("saturated", "saturated"), 9.0, b"3"),
        ({PAR_1: FULL | {"retry_after": 40.0}}, ("not_admitted", "not_admitted"), None, b"40"),
    ],
)
def test_a_saturated_answer_tells_the_soonest_wait(
    facts: dict[str, dict[str, Any]] | None, outcomes: tuple[str, ...], asked: float | None, wait: bytes
) -> None:
    """429 tells when the first may be free again: of those that were tried, and of those that were passed over."""
    error = refused(Options(), facts, *outcomes, retry_after=asked)
    assert told(error) == SATURATED
    assert _headers(error) == {b"retry-after": wait}


@pytest.mark.parametrize(("facts", "outcomes"), [(dict.fromkeys(SERVING, FULL), ()), (None, ("not_admitted",))])
def test_a_saturated_answer_always_tells_a_wait(
    facts: dict[str, dict[str, Any]] | None, outcomes: tuple[str, ...]
) -> None:
    """A full in-flight cap has no known end, and still 429 says when to try again."""
    headers = _headers(refused(Options(), facts, *outcomes))
    assert set(headers) == {b"retry-after"}
    assert int(headers[b"retry-after"]) >= 1


def test_an_unavailable_answer_tells_when_a_breaker_may_close() -> None:
    """503 with nothing sent says when to come back, if any region knows."""
    assert _headers(refused(Options(), dict.fromkeys(SERVING, DOWN))) == {}
    facts = dict.fromkeys(SERVING, DOWN) | {PAR_2: DOWN | {"retry_after": 21.0}}
    assert _headers(refused(Options(), facts)) == {b"retry-after": b"21"}


@pytest.mark.parametrize("outcome", ["upstream_error", "answer_timeout", "invalid_response"])
def test_a_failed_answer_may_be_retried_at_once(outcome: str) -> None:
    """502 and 504 name no wait: another region, or the same one, may answer now."""
    assert _headers(refused(Options(), None, outcome)) == {}


_FAILURES = st.sampled_from([o.value for o in AttemptOutcome if o.value not in {"success", "caller_error"}])


@settings(max_examples=150, deadline=None)
@given(
    options=st.sampled_from([Options(), CARBON_AWARE, PIN, PAIR, Options(latency_budget_ms=50)]),
    facts=st.dictionaries(st.sampled_from(SERVING), st.sampled_from([DOWN, FULL, ELSEWHERE, {"configured": False}])),
    outcomes=st.lists(_FAILURES, max_size=3),
)
def test_every_refusal_is_a_row_of_the_error_table_in_words(
    options: Options, facts: dict[str, dict[str, Any]], outcomes: list[str]
) -> None:
    """Whatever happened, the answer is one of the seven rows, tells what to do, and names neither model nor upstream."""
    error = refused(options, facts, *outcomes)
    rows = {MODEL_NOT_AVAILABLE, SATURATED, PINNED, NONE_AVAILABLE, TIMEOUT, FAILED, INVALID}
    assert told(error) in rows
    assert error.retryable == (told(error) != PINNED)
    assert error.message.endswith(".")
    assert MODEL not in error.message
    if options.region is not None:
        assert told(error) in {PINNED, MODEL_NOT_AVAILABLE}


def test_policy_narrows_the_regions_named_in_a_refusal() -> None:
    """A caller is not told of a region that its policy excludes."""
    facts = dict.fromkeys((PAR_1, PAR_2, GRA), ELSEWHERE)
    rules = replace(RULES, allowed_countries=frozenset({"FR"}))
    decision = decide(Options(), MODEL, candidates(facts), NOW, rules=rules)
    message = refusal_for(decision, (), options=Options()).message
    assert STO not in message
    assert ISL not in message
