"""Why an answer of a grid service gave no signal. A closed vocabulary; nothing of the answer's own text is kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Cause", "NoSignal", "NoSignalReason"]


class Cause(StrEnum):
    """What lies behind a reason: why there was no connection, or which of the described places is wrong."""

    NAME_NOT_RESOLVED = "name_not_resolved"
    CONNECTION_REFUSED = "connection_refused"
    TLS = "tls"
    PROXY = "proxy"
    CUT = "cut"
    VALUE = "value"
    OBSERVED_AT = "observed_at"
    ESTIMATED = "estimated"


class NoSignalReason(StrEnum):
    """Why there is no signal, in one word."""

    NO_DATA = "no_data"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    OUTAGE = "outage"
    HTML_PAGE = "html_page"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    BAD_REQUEST = "bad_request"
    TOO_LARGE = "too_large"
    NOT_UNDERSTOOD = "not_understood"
    FORBIDDEN_MARKUP = "forbidden_markup"
    WRONG_AREA = "wrong_area"
    INCOMPLETE = "incomplete"
    IMPLAUSIBLE = "implausible"
    NO_OFFSET = "no_offset"
    NOT_A_NUMBER = "not_a_number"
    OUTDATED = "outdated"
    FUTURE_DATED = "future_dated"
    ESTIMATED = "estimated"

    @property
    def sentence(self) -> str:
        """Say it in a sentence."""
        return _SENTENCES[self]

    @property
    def is_failure(self) -> bool:
        """Whether the service is at fault, so that it is asked again sooner, and counts as failing.

        It is not when it has nothing, nor when it has a value that is no better than the one already known.
        """
        return self not in _ANSWERS

    @property
    def is_transient(self) -> bool:
        """Whether asking again soon may help."""
        return self in _TRANSIENT


_SENTENCES = {
    NoSignalReason.NO_DATA: "The service has nothing for this zone and time.",
    NoSignalReason.UNREACHABLE: "No connection, or it broke before the answer ended. Behind an egress proxy set "
    "signals.proxy: HTTPS_PROXY is not read.",
    NoSignalReason.TIMEOUT: "The answer did not end within signals.timeout_seconds.",
    NoSignalReason.OUTAGE: "The service is not there now: a 5xx, 404 or redirect.",
    NoSignalReason.HTML_PAGE: "A page for people came, as maintenance is told.",
    NoSignalReason.UNAUTHORIZED: "The service refuses the key: check the source's token.",
    NoSignalReason.RATE_LIMITED: "The service was asked too often, and is left alone for as long as it says.",
    NoSignalReason.BAD_REQUEST: "The service does not accept what was asked.",
    NoSignalReason.TOO_LARGE: "The answer is larger than any real one.",
    NoSignalReason.NOT_UNDERSTOOD: "The answer is not the document that was asked for, or is cut short; of a service "
    "you described, try the description on a saved answer: --from-file.",
    NoSignalReason.FORBIDDEN_MARKUP: "The XML declares a document type or entities, which no such service sends.",
    NoSignalReason.WRONG_AREA: "The answer is about another place than was asked for.",
    NoSignalReason.INCOMPLETE: "There is no interval in which every fuel that must be there has a value.",
    NoSignalReason.IMPLAUSIBLE: "The total or the value is beyond what a grid can have: fuels have vanished from the "
    "data, or the unit is another.",
    NoSignalReason.NO_OFFSET: "The value's time names no offset, so that its age is not known.",
    NoSignalReason.NOT_A_NUMBER: "Where the value should stand is none.",
    NoSignalReason.OUTDATED: "The answer is older than what is known.",
    NoSignalReason.FUTURE_DATED: "The answer is dated ahead of our clock.",
    NoSignalReason.ESTIMATED: "The value is the service's own estimate, which takes the place of no measured one.",
}
_ANSWERS = frozenset(
    {NoSignalReason.NO_DATA, NoSignalReason.OUTDATED, NoSignalReason.FUTURE_DATED, NoSignalReason.ESTIMATED}
)
_TRANSIENT = frozenset(
    {
        NoSignalReason.UNREACHABLE,
        NoSignalReason.TIMEOUT,
        NoSignalReason.OUTAGE,
        NoSignalReason.HTML_PAGE,
        NoSignalReason.NOT_UNDERSTOOD,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSignal:
    """One answer, or missing answer, that gave no signal.

    Attributes:
        source: label of the signals it would have given, `entsoe_derived_live`.
        zone: the zone it was asked for.
        reason: why there is none.
        cause: what lies behind the reason, where more is known.
        status: the HTTP status, where there was an answer and it matters.
        retry_after_seconds: how long the service wants not to be asked; None when it did not say.
    """

    source: str
    zone: str
    reason: NoSignalReason
    cause: Cause | None = None
    status: int | None = None
    retry_after_seconds: float | None = None
