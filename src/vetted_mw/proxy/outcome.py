"""One classifier for how an attempt ended, and the exception that carries a failed one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.configuration import Auth
from vetted_mw.proxy.headers import header_value
from vetted_mw.retry_after import parse_retry_after
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from vetted_mw.chat.response import UpstreamMessage

__all__ = ["AttemptFailedError", "Fault", "fails_over", "is_success", "outcome_of_status", "retry_after_seconds"]

_NO_FAILOVER = frozenset(
    {
        AttemptOutcome.SUCCESS,
        AttemptOutcome.CALLER_ERROR,
        AttemptOutcome.CLIENT_DISCONNECT,
        AttemptOutcome.SHUTTING_DOWN,
    }
)


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt failed.

    Attributes:
        outcome: never `success`.
        sent: whether any of the request left for the upstream.
        status: the upstream's status, when it answered.
        retry_after: seconds of its `Retry-After`.
        message: its own words, for the caller of a `caller_error` only; never logged.
    """

    outcome: AttemptOutcome
    sent: bool = True
    status: int | None = None
    retry_after: float | None = None
    message: UpstreamMessage | None = None


class AttemptFailedError(Exception):
    """An attempt ended without an answer. Content-free: it carries the fault, not a text."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.outcome.value)
        self.fault = fault


def fails_over(outcome: AttemptOutcome) -> bool:
    """Whether the next region may be tried after this outcome, before commit."""
    return outcome not in _NO_FAILOVER


def is_success(status: int) -> bool:
    """Whether a status is 2xx; the answer is a success only when its body proves to be one."""
    return 200 <= status < 300  # noqa: PLR2004


def outcome_of_status(status: int, *, auth: Auth, has_retry_after: bool) -> AttemptOutcome:
    """Classify an upstream's status. 2xx is a success only when its body proves to be one."""
    if is_success(status):
        return AttemptOutcome.SUCCESS
    if status < 400:  # noqa: PLR2004 (1xx and redirects, which are never followed)
        return AttemptOutcome.INVALID_RESPONSE
    if status in {429, 529} or (status == 503 and has_retry_after):  # noqa: PLR2004
        return AttemptOutcome.SATURATED
    if status >= 500 or status == 408:  # noqa: PLR2004
        return AttemptOutcome.UPSTREAM_ERROR
    if status in {401, 403} and auth is not Auth.PASSTHROUGH:
        # The key is ours, so the fault is between us and the upstream, not the caller's.
        return AttemptOutcome.UPSTREAM_ERROR
    return AttemptOutcome.CALLER_ERROR


def retry_after_seconds(headers: Iterable[tuple[bytes, bytes]], *, now: datetime) -> float | None:
    """Return `Retry-After` in seconds (0 to 3600), from seconds or an HTTP date; None when absent or unreadable."""
    raw = header_value(headers, b"retry-after")
    return None if raw is None else parse_retry_after(raw.decode("latin-1"), now=now)
