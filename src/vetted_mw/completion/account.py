"""The account of one completion: its receipt, made of what was observed, sealed before the answer ends, told once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vetted_mw.completion.observing import abandoned_receipts, measured_of, observed, untold_receipts
from vetted_mw.completion.sealing import keep_later, sealed, signed
from vetted_mw.errors import LedgerRefusedError
from vetted_mw.receipts.receipt import ReceiptError
from vetted_mw.routing.values import AttemptOutcome
from vetted_mw.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.chat.response import Answer
    from vetted_mw.chat.sse import AnswerStream
    from vetted_mw.completion.asked import Asked
    from vetted_mw.completion.attempts import Attempts
    from vetted_mw.completion.delivery import Delivery
    from vetted_mw.core import Core, Receipted
    from vetted_mw.proxy.attempt import Answered
    from vetted_mw.proxy.streamed import StreamedAnswer
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.receipt import Receipt
    from vetted_mw.telemetry.spans import ChatSpan

__all__ = ["Account"]

_LEDGER_UNAVAILABLE = ReceiptError.LEDGER_UNAVAILABLE.value
_COMPLETION_STATUS = {
    AttemptOutcome.SUCCESS: "complete",
    AttemptOutcome.CLIENT_DISCONNECT: "client_abort",
    AttemptOutcome.SHUTTING_DOWN: "shutting_down",
}


class Account:
    """What one completion used, from its first attempt to its row in the ledger.

    Args:
        core: the gateway's rooms.
        asked: what was asked for.
        attempts: what was tried.
        delivery: where a stream is seen; None for an answer that is none.
        span: the completion's.
        nonce: what the digest of the delivered content is keyed with; None for a call of in-app mode, whose receipt is
            the route's to keep, and bound to what the handler answers.

    Attributes:
        query_id: of its receipt.
        answered: a whole answer, once there is one.
        receipted: what became of the receipt; None before anybody asked for it.
        is_told: whether the receipt, or why there is none, belongs to an answer that the caller gets.
        rows: what it used, receipt by receipt, as a ledger has them: set when it is sealed, or kept without an answer.
    """

    __slots__ = (
        *("_asked", "_attempts", "_core", "_delivery", "_is_kept", "_is_route_kept", "_nonce", "_span"),
        *("answered", "is_told", "query_id", "receipted", "rows"),
    )

    def __init__(
        self,
        core: Core,
        asked: Asked,
        *,
        attempts: Attempts,
        delivery: Delivery | None,
        span: ChatSpan,
        nonce: bytes | None,
    ) -> None:
        self.query_id = core.new_id()
        self.answered: Answered | None = None
        self._core = core
        self._asked = asked
        self._attempts = attempts
        self._delivery = delivery
        self._span = span
        self._nonce = nonce
        self.receipted: Receipted | None = None
        self.is_told = False
        self.rows: Sequence[Receipt] = ()
        self._is_route_kept = nonce is None
        self._is_kept = False

    @property
    def seen(self) -> Answer | AnswerStream | None:
        """What was observed of the answer; None when nothing was."""
        if self.answered is not None:
            return self.answered.answer
        streamed = self._streamed
        return None if streamed is None else streamed.stream

    @property
    def _streamed(self) -> StreamedAnswer | None:
        return None if self._delivery is None else self._delivery.streamed

    def made(self, *, level: int = logging.WARNING) -> Receipted:
        """Make the receipt of what was observed, once.

        Args:
            level: at which the log tells that there is none.
        """
        if self.receipted is None:
            seen = self.seen
            if seen is None:  # begun early and broken before any content: the attempt has told its own trouble
                self.receipted = self._core.withheld("no_observed_call", level=logging.INFO)
            else:
                self.receipted = self._core.receipted(self._observed(seen), nonce=self._nonce, level=level)
        return self.receipted

    async def seal(self) -> LedgerRefusedError | None:
        """Sign the receipt and keep it; returns what the caller is told where it had to be kept and could not."""
        if self._is_route_kept:
            return None
        if not self._is_kept:
            self._is_kept = self.is_told = True  # what is handed over now is written, whoever waits for it or not
            made, core = self.made(), self._core
            beside: list[Receipt] = []
            if self._are_rows_wanted():
                beside = [*self._spent(), *self._untold(made)]
                self.rows = [*beside, *_own(made)]
            if core.ledger is not None:
                self.receipted = await sealed(core, made, beside=beside, caller=self._asked.caller)
            elif core.signer is not None:
                self.receipted = signed(core, made)
            if self._span.is_recording:
                self._tell_event(self.made())
        error = None if self.receipted is None else self.receipted.error
        return LedgerRefusedError.told() if error == _LEDGER_UNAVAILABLE else None

    def keep_the_rest(self) -> None:
        """Keep what was spent on an answer that nobody waits for any more, or that there is none of.

        What a call of an in-app handler used is the route's to keep; it is made here all the same, for its span and for
        the meters.
        """
        if self._is_kept:
            return
        self._is_kept = True
        if self._is_route_kept and not self._are_rows_wanted():
            return
        receipts = self._spent()
        if self._attempts.serving is not None and self.seen is not None:
            made = self.made(level=self._level)
            receipts += self._untold(made) or _own(made)
        self.rows = receipts
        if not self._is_route_kept:
            keep_later(self._core, receipts, caller=self._asked.caller)

    def observation(self) -> Observation:
        """Return what was observed of the serving region's answer; only when one served."""
        seen = self.seen
        if seen is None:
            message = "no answer was observed"
            raise RuntimeError(message)
        return self._observed(seen)

    def _observed(self, seen: Answer | AnswerStream) -> Observation:
        core, answered, nonce, code = self._core, self.answered, self._nonce, self._attempts.serving or ""
        outcome = self._attempts.records[-1].outcome
        digest = measured = None
        if answered is None:
            digest = self._digest_of_stream(outcome)
        elif nonce is not None:
            digest = answered.answer.transcript_digest(nonce)
        if core.configuration.upstreams[code].measured_energy is not None:
            measured = measured_of(core, code, answered=answered, streamed=self._streamed)
        status = _COMPLETION_STATUS.get(outcome, "upstream_error")
        return observed(core, self._asked, seen, code, self.query_id, status=status, digest=digest, measured=measured)

    def spent(self, request_id: str, *, level: int = logging.WARNING) -> list[Receipt]:
        """Make the receipts of the attempts that were given up, for the ledger.

        Args:
            request_id: the `query_id` of the answer they were tried for.
            level: at which the log tells that one cannot be made.
        """
        asked = self._asked
        return abandoned_receipts(
            self._core,
            self._attempts.spent,
            request=asked.request,
            options=asked.options,
            decision=asked.decision,
            request_id=request_id,
            level=level,
        )

    @property
    def _has_ledger(self) -> bool:
        return self._core.ledger is not None and not self._is_route_kept

    def _are_rows_wanted(self) -> bool:
        """Whether anybody wants what no answer tells: each row costs as much as a receipt."""
        return self._has_ledger or self._span.is_recording or not self._core.meters.are_asleep

    @property
    def _level(self) -> int:
        """At which the log tells of work without a receipt: where no ledger lacks it, nobody misses it."""
        return logging.WARNING if self._has_ledger else logging.DEBUG

    def _spent(self) -> list[Receipt]:
        return self.spent(self.query_id, level=self._level)

    def _untold(self, made: Receipted) -> list[Receipt]:
        """Make the row of an answer that was seen and carries no receipt, where there is one to make."""
        is_whole = made.has_receipt or self.seen is None
        return [] if is_whole else untold_receipts(self._core, self.observation(), made)

    def _tell_event(self, receipted: Receipted) -> None:
        if receipted.error is None:
            self._span.event(names.RECEIPT_EMITTED_EVENT)
        else:
            self._span.event(names.RECEIPT_FAILED_EVENT, {names.REASON: receipted.error})

    def _digest_of_stream(self, outcome: AttemptOutcome) -> str | None:
        """Return the digest of the content that was delivered; None where the route tells it."""
        streamed = self._streamed
        if self._nonce is None or streamed is None or streamed.stream.transcript is None:
            return None
        is_whole = outcome is AttemptOutcome.SUCCESS
        if not is_whole and self._delivery is not None and self._delivery.is_behind:
            return None  # the last part may not have reached the caller
        return streamed.stream.transcript.digest(whole=is_whole)


def _own(made: Receipted) -> list[Receipt]:
    receipt = made.receipt
    return [] if receipt is None else [receipt]
