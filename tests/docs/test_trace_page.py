"""docs/trace.md holds every word the trace can say, and none that it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vetted_mw.receipts.receipt import ReceiptError
from vetted_mw.routing.trace import ToldComparison, Trace
from vetted_mw.routing.values import AttemptOutcome, DecisionMode, DecisionReason, Rejection, RoutePolicy

PAGE = (Path(__file__).parents[2] / "docs" / "trace.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"`([a-z][a-z0-9_]+)`", PAGE))
VOCABULARIES = (RoutePolicy, DecisionMode, DecisionReason, Rejection, AttemptOutcome, ReceiptError)


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=lambda one: one.__name__)
def test_every_word_of_a_vocabulary_is_explained(vocabulary: type[RoutePolicy]) -> None:
    """A reader can look up whatever an answer says."""
    assert sorted({word.value for word in vocabulary} - WORDS) == []


def test_every_member_of_the_trace_is_explained() -> None:
    """No member of the trace is left out of the page."""
    assert sorted(set(Trace.__struct_fields__) - WORDS) == []


def test_the_page_explains_no_word_that_the_code_does_not_have() -> None:
    """What is explained exists: in a vocabulary, in the trace, or in what the page compares it with."""
    known = {word.value for vocabulary in VOCABULARIES for word in vocabulary} | set(Trace.__struct_fields__)
    beside = {"eligible", "rejected", "outcome", "status", "duration_ms", "receipt", "routing_trace", "base_url"}
    beside |= {"declared", "null", "trace_detail", "unavailable", "default_order", "ledger_id"}
    beside |= set(ToldComparison.__struct_fields__) | {"attributional"}
    assert sorted(WORDS - known - beside) == []
