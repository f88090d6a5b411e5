"""Why an answer of a grid service gave no signal. A closed vocabulary; nothing of the answer's own text is kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["NoSignal", "NoSignalReason"]


class NoSignalReason(StrEnum):
    """Why there is no signal, in one word."""

    NO_DATA = "no_data"
    """The service has nothing for this zone and time. Not a failure."""
    UNREACHABLE = "unreachable"
    """No connection, or it broke before the answer ended."""
    TIMEOUT = "timeout"
    OUTAGE = "outage"
    """5xx, 404 or a redirect: the service is not there now."""
    HTML_PAGE = "html_page"
    """A page for people, as maintenance is told, with whatever status."""
    UNAUTHORIZED = "unauthorized"
    """The key is refused."""
    RATE_LIMITED = "rate_limited"
    BAD_REQUEST = "bad_request"
    """The service does not accept what we ask; asking again soon is no use."""
    TOO_LARGE = "too_large"
    NOT_UNDERSTOOD = "not_understood"
    """Not the document that was asked for, cut short, or not in the shape it is documented in."""
    FORBIDDEN_MARKUP = "forbidden_markup"
    """XML with a document type or entities, which no such service sends."""
    WRONG_AREA = "wrong_area"
    """The answer is about another place than was asked for."""
    INCOMPLETE = "incomplete"
    """No interval for which every expected fuel has a value."""
    IMPLAUSIBLE = "implausible"
    """The total is zero or below what the zone always makes: fuels have vanished from the data."""
    NO_OFFSET = "no_offset"
    """Its time names no offset, so that its age is not known."""
    NOT_A_NUMBER = "not_a_number"
    """Where the value should stand is none: null, a word, infinite or negative."""

    @property
    def is_failure(self) -> bool:
        """Whether the service is at fault, so that it is asked again sooner, and counts as failing."""
        return self is not NoSignalReason.NO_DATA

    @property
    def is_transient(self) -> bool:
        """Whether asking again soon may help."""
        return self in _TRANSIENT


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
        status: the HTTP status, where there was an answer and it matters.
        retry_after_seconds: how long the service wants not to be asked; None when it did not say.
    """

    source: str
    zone: str
    reason: NoSignalReason
    status: int | None = None
    retry_after_seconds: float | None = None
