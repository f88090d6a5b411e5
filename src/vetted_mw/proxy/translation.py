"""The one border where what httpx, ssl and the sockets raise becomes the outcome of an attempt."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

import httpx

from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["translated"]

_LOG = logging.getLogger("vetted_mw")
_OUTCOMES: tuple[tuple[type[httpx.HTTPError], AttemptOutcome], ...] = (
    (httpx.ConnectTimeout, AttemptOutcome.CONNECT_TIMEOUT),
    (httpx.PoolTimeout, AttemptOutcome.CONNECT_TIMEOUT),
    (httpx.TimeoutException, AttemptOutcome.FIRST_BYTE_TIMEOUT),
    (httpx.ConnectError, AttemptOutcome.CONNECT_ERROR),
    (httpx.ProxyError, AttemptOutcome.CONNECT_ERROR),
    (httpx.UnsupportedProtocol, AttemptOutcome.CONNECT_ERROR),
)
_FOREIGN = (httpx.HTTPError, ssl.SSLError, OSError, AttributeError, RuntimeError)
"""What comes from below. An upstream that resets a connection as it accepts it leaves anyio, on uvloop, asking a socket
that is gone for its name (AttributeError), and uvloop refuses to touch a closed handle (RuntimeError)."""

_NOTHING_SENT = frozenset({AttemptOutcome.CONNECT_TIMEOUT, AttemptOutcome.CONNECT_ERROR, AttemptOutcome.TLS_ERROR})


class translated:  # noqa: N801 (reads as the statement it is)
    """Translate httpx's exceptions at this one border; `from None`, since their text can hold a URL.

    Attributes:
        sent: whether any of the request has left for the upstream, as it has where there is a status.
    """

    def __init__(self, *, status: int | None = None) -> None:
        self.sent = status is not None
        self._status = status

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, _FOREIGN):
            outcome = _outcome_of(error)
            _LOG.debug("a connection failed", extra={"error": type(error).__name__, "outcome": outcome.value})
            if not self.sent and isinstance(error, (AttributeError, RuntimeError)):
                outcome = AttemptOutcome.CONNECT_ERROR
            elif self.sent and outcome in _NOTHING_SENT:
                outcome = AttemptOutcome.UPSTREAM_CUT  # what broke then is not the way there
            raise AttemptFailedError(Fault(outcome=outcome, sent=self.sent, status=self._status)) from None


def _outcome_of(error: Exception) -> AttemptOutcome:
    if _is_tls(error):
        return AttemptOutcome.TLS_ERROR
    return next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), AttemptOutcome.UPSTREAM_CUT)


def _is_tls(error: BaseException) -> bool:
    if not isinstance(error, (httpx.ConnectError, ssl.SSLError)):
        return False
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 8:  # noqa: PLR2004 (httpx wraps httpcore wraps anyio wraps ssl)
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
