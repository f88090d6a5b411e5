"""The attributes of every point on a metric: closed sets only, so that no caller can make a series. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.routing.values import AttemptOutcome
from vetted_mw.telemetry import names

if TYPE_CHECKING:
    from vetted_mw.receipts.receipt import Receipt
    from vetted_mw.routing.values import AttemptRecord
    from vetted_mw.telemetry.ended import EndedOperation, EndedRequest, ReceiptOutcome

    Point = dict[str, str | bool]

__all__ = [
    "NOT_AN_ERROR",
    "attempt_point",
    "clamped",
    "failover_point",
    "operation_point",
    "receipt_point",
    "request_point",
    "work_point",
]

NOT_AN_ERROR = frozenset({AttemptOutcome.SUCCESS, AttemptOutcome.CLIENT_DISCONNECT, AttemptOutcome.NOT_ADMITTED})
"""Outcomes that say nothing against a region."""


def clamped(model: str | None, known: frozenset[str]) -> str:
    """Return a model's name where the configuration has it: callers and upstreams choose that string."""
    return model if model is not None and model in known else names.OTHER


def operation_point(ended: EndedOperation, known: frozenset[str]) -> Point:
    """Return what `gen_ai.*` metrics have in common; `error.type` is for the caller of this to add."""
    point: Point = {
        names.OPERATION_NAME: names.CHAT,
        names.PROVIDER_NAME: ended.provider,
        names.REQUEST_MODEL: clamped(ended.model, known),
    }
    if ended.region is not None:
        point[names.REGION] = ended.region
    return point


def attempt_point(record: AttemptRecord) -> Point:
    """Return the attributes of one attempt."""
    point: Point = {names.REGION: record.region, names.OUTCOME: record.outcome.value}
    if record.outcome not in NOT_AN_ERROR:
        point[names.ERROR_TYPE] = record.outcome.value
    return point


def failover_point(record: AttemptRecord, next_region: str) -> Point:
    """Return the attributes of one failover: from where, to where, and why."""
    return {
        names.REGION: record.region,
        names.NEXT_REGION: next_region,
        names.ERROR_TYPE: record.outcome.value,
    }


def work_point(receipt: Receipt, known: frozenset[str]) -> Point:
    """Return the attributes of energy and water: where, for which model, on what ground."""
    return {
        names.REGION: receipt.region,
        names.REQUEST_MODEL: clamped(receipt.model, known),
        names.TIER: receipt.tier,
    }


def receipt_point(receipt: Receipt | None, outcome: ReceiptOutcome) -> Point:
    """Return the attributes of one answer's receipt; one that there is not has no tier."""
    point: Point = {names.OUTCOME: outcome.value}
    if receipt is not None:
        point[names.TIER] = receipt.tier
    return point


def request_point(ended: EndedRequest) -> Point:
    """Return the attributes of one request; before a decision there is neither policy nor mode."""
    point: Point = {names.OUTCOME: ended.outcome.value}
    if ended.region is not None:
        point[names.REGION] = ended.region
    if ended.policy is not None:
        point[names.ROUTE_POLICY] = ended.policy.value
    if ended.mode is not None:
        point[names.DECISION_MODE] = ended.mode.value
    return point
