"""The account of one in-app request: every call of the handler, and the one receipt its answer carries."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.completion.observing import unobserved, untold_receipts
from vetted_mw.completion.sealing import keep_later, sealed
from vetted_mw.errors import LedgerRefusedError
from vetted_mw.receipts.binding import new_nonce
from vetted_mw.receipts.observation import summed
from vetted_mw.receipts.receipt import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vetted_mw.completion.asked import Asked
    from vetted_mw.completion.completion import Completion
    from vetted_mw.core import Core, Receipted
    from vetted_mw.in_app.report import Report
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.receipt import Receipt

__all__ = ["RouteAccount"]


class RouteAccount:
    """What the handler of one request used, by calls that were seen and by its own word.

    Args:
        core: the gateway's rooms.
        asked: the outer request.
        region: code of the region that what the handler reports is counted for.

    Attributes:
        calls: those of the handler that were sent, in order.
        reports: what it says its own client used.
        nonce: what the digest of the handler's answer is keyed with.
        receipted: what became of the answer's receipt; None before `seal`.
    """

    def __init__(self, core: Core, asked: Asked, *, region: Callable[[], str]) -> None:
        self.calls: list[Completion] = []
        self.reports: list[Report] = []
        self.nonce = new_nonce()
        self.receipted: Receipted | None = None
        self._core = core
        self._asked = asked
        self._region = region
        self._is_kept = False
        self._answer_id = ""
        self._late: list[Completion] = []
        self._ended: list[Completion] | None = None

    @property
    def told_calls(self) -> list[Completion]:
        """The calls that the answer tells of: all so far, and once it has ended those that ended before it."""
        return self.calls if self._ended is None else self._ended

    async def seal(self, digest: str | None) -> LedgerRefusedError | None:
        """Make the receipt of what was observed, sign it and keep it; call it once the handler's answer has ended.

        Args:
            digest: of the handler's answer, by `nonce`; None where it could not be read.

        Returns:
            What the caller is told instead of its answer, where a receipt had to be kept and could not.
        """
        if not self._is_kept:
            self._is_kept = True  # what is handed over now is written, whoever waits for it or not
            made, beside = self._made(digest)
            self.receipted = await sealed(self._core, made, beside=beside, caller=self._asked.caller)
        is_refused = self.receipted is not None and self.receipted.error == ReceiptError.LEDGER_UNAVAILABLE
        return LedgerRefusedError.told() if is_refused else None

    def keep_the_rest(self) -> None:
        """Keep what was observed where no answer tells it: the handler answered something else, or nothing."""
        if self._is_kept:
            return
        self._is_kept = True
        if self._core.ledger is not None and (self.calls or self.reports):
            made, beside = self._made(None)
            own = [] if made.receipt is None else [made.receipt]
            keep_later(self._core, [*beside, *own], caller=self._asked.caller)

    def reported(self) -> list[Receipt]:
        """Make a receipt of each use that the handler has told, for the meters; its calls tell their own."""
        seen = [self._reported(report) for report in self.reports]
        return [receipt for one in seen for receipt in self._rows_of(one, level=logging.DEBUG)]

    def keep_late(self, call: Completion) -> None:
        """Keep what a call used that was still under way when the answer ended, beside what the answer's receipt tells.

        Args:
            call: has ended now.
        """
        if self._core.ledger is None or call not in self._late:
            return
        self._late.remove(call)
        receipts = call.account.spent(self._answer_id)
        if call.has_served:
            receipts += self._parts([call.account.observation()], self._answer_id)
        keep_later(self._core, receipts, caller=self._asked.caller)

    def _made(self, digest: str | None) -> tuple[Receipted, list[Receipt]]:
        """Make the answer's receipt, and those that stand beside it in the ledger.

        One call: its receipt. Several with one model and region: one over the summed tokens, each call beside it. Of
        different ones: none, each call beside it. One that is still under way tells what it used when it has ended.
        """
        self._late = [call for call in self.calls if call.attempts.is_under_way]
        self._ended = ended = [call for call in self.calls if not call.attempts.is_under_way]
        observations = [call.account.observation() for call in ended if call.has_served]
        observations += [self._reported(report) for report in self.reports]
        alone = observations[0] if len(observations) == 1 else None
        self._answer_id = answer_id = self._core.new_id() if alone is None else alone.query_id
        beside = [receipt for call in ended for receipt in call.account.spent(answer_id)]
        if alone is None:
            beside += self._parts(observations, answer_id)
        if not observations:
            return self._core.withheld("no_observed_call"), beside
        if len({(one.region.code, one.model, one.reported) for one in observations}) > 1:
            return self._core.withheld("several_calls"), beside
        own = msgspec.structs.replace(summed(observations), query_id=answer_id, response_digest=digest)
        made = self._core.receipted(own)
        if alone is not None:
            beside += untold_receipts(self._core, own, made)
        return msgspec.structs.replace(made, nonce=self.nonce), beside

    def _parts(self, observations: Sequence[Observation], answer_id: str) -> list[Receipt]:
        """Make the receipt of each call, for the ledger alone."""
        if self._core.ledger is None:
            return []
        parts = [msgspec.structs.replace(one, request_id=answer_id) for one in observations]
        return [receipt for part in parts for receipt in self._rows_of(part, level=logging.WARNING)]

    def _rows_of(self, observation: Observation, *, level: int) -> list[Receipt]:
        """Make the receipt of one use, or the row of one that cannot be told as the caller asked for it."""
        made = self._core.receipted(observation, level=level)
        return untold_receipts(self._core, observation, made) if made.receipt is None else [made.receipt]

    def _reported(self, report: Report) -> Observation:
        core, asked = self._core, self._asked
        blank = unobserved(
            core,
            decision=asked.decision,
            options=asked.options,
            region=core.configuration.regions[self._region()],
            model=report.model,
            query_id=core.new_id(),
        )
        return msgspec.structs.replace(
            blank,
            prompt_tokens=report.prompt_tokens,
            cached_tokens=report.cached_tokens,
            completion_tokens=report.completion_tokens,
            reported=True,
        )
