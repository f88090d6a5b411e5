"""A grid service that is polled: its questions one after another, each answer a signal or the reason for none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.schedule import OPENS_AFTER
from vetted_mw.grid.signal import GridSignal
from vetted_mw.grid.sources.fetching import Answer, Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from vetted_mw.grid.schedule import Pace
    from vetted_mw.grid.sources.fetching import Get, Session
    from vetted_mw.grid.sources.request import Parsed, Question

__all__ = ["PolledSource"]

_SAID_FOR_ALL = frozenset(
    {NoSignalReason.UNAUTHORIZED, NoSignalReason.RATE_LIMITED, NoSignalReason.UNREACHABLE, NoSignalReason.TIMEOUT}
)
_ELSEWHERE = frozenset(
    {NoSignalReason.UNREACHABLE, NoSignalReason.TIMEOUT, NoSignalReason.OUTAGE, NoSignalReason.HTML_PAGE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What came of one question: signals and reasons, the first failure among them, how long to leave it alone."""

    parsed: Sequence[Parsed] = ()
    failure: Failure | None = None
    wait: float | None = None


class PolledSource:
    """A `SignalSource` on one service.

    A refusal that holds for every question to a service (a key, a limit, no connection) ends the refresh: the other
    zones get the same reason unasked, and the next refresh begins with them. When three refreshes in a row failed the
    breaker is open: one question is sent per refresh, and the others follow only if the service answers it.

    Args:
        name: the service's word in the settings.
        base_urls: the next one is tried when one is down, and stays until it is down.
        questions: what is asked, in this order.
        session: opens connections.
        now: wall clock, aware UTC.
        pace: how often it is asked.
        sleep: waits between two questions.
    """

    is_complete = False
    is_local = False

    def __init__(
        self,
        name: str,
        *,
        base_urls: tuple[str, ...],
        questions: Sequence[Question],
        session: Session,
        now: Callable[[], datetime],
        pace: Pace,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.refresh_seconds = pace.refresh_seconds
        self.least_pause_seconds = pace.least_seconds
        self._base_urls = base_urls
        self._questions = tuple(questions)
        self._session = session
        self._now = now
        self._pace = pace
        self._sleep = sleep
        self._base = 0
        self._first = 0
        self._fruitless = 0

    async def readings(self) -> Sequence[GridSignal | NoSignal]:
        """Ask every question and return what came of each, zone by zone. It never raises."""
        found: list[Parsed] = []
        ended: dict[str, tuple[Failure, float | None]] = {}
        asked = 0
        async with self._session() as get:
            for question in self._in_turn():
                if question.service in ended:
                    found += _refused(question, *ended[question.service])
                    continue
                if asked:
                    await self._sleep(self._pace.spacing_seconds)
                asked += 1
                told = await self._asked(question, get)
                found += told.parsed
                if told.failure is not None and self._is_said_for_all(told.failure):
                    ended[question.service] = told.failure, told.wait
                    self._first = (self._questions.index(question) + 1) % len(self._questions)
        has_signal = any(isinstance(one, GridSignal) for one in found)
        has_failure = any(isinstance(one, NoSignal) and one.reason.is_failure for one in found)
        self._fruitless = self._fruitless + 1 if has_failure and not has_signal else 0
        return found

    def _in_turn(self) -> Sequence[Question]:
        """Return the questions, first the one after that which ended a refresh: one bad zone must not starve others."""
        return self._questions[self._first :] + self._questions[: self._first]

    def _is_said_for_all(self, failure: Failure) -> bool:
        if failure.status == 403:  # noqa: PLR2004 (of one zone: a plan that does not hold it)
            return False
        is_open = self._fruitless >= OPENS_AFTER
        return failure.reason in _SAID_FOR_ALL or (is_open and failure.reason.is_transient)

    async def _asked(self, question: Question, get: Get) -> _Told:
        """Ask at the base URL that answered last, then at the others."""
        told = _Told(failure=Failure(reason=NoSignalReason.UNREACHABLE))
        for _ in self._base_urls:
            answer = await get(question.request(self._base_urls[self._base], self._now()))
            told = await self._told(question, answer)
            if told.failure is None or told.failure.reason not in _ELSEWHERE:
                break
            self._base = (self._base + 1) % len(self._base_urls)
        return told

    async def _told(self, question: Question, answer: Answer | Failure) -> _Told:
        if isinstance(answer, Failure):
            return _Told(parsed=_refused(question, answer, None), failure=answer)
        refusal = _refusal(answer, question)
        if refusal is not None:
            wait = self._wait(refusal, answer)
            return _Told(parsed=_refused(question, refusal, wait), failure=refusal, wait=wait)
        try:
            # In a thread: a body of a few megabytes takes longer than requests should stand still for.
            parsed = await asyncio.to_thread(question.parse, answer.body, self._now())
        except Exception:  # noqa: BLE001 (a fault of one parser costs its own zones; its text could repeat the answer)
            failure = Failure(reason=NoSignalReason.NOT_UNDERSTOOD, status=answer.status)
            return _Told(parsed=_refused(question, failure, None), failure=failure)
        is_document = answer.status == 200  # noqa: PLR2004
        if not is_document and any(isinstance(one, GridSignal) for one in parsed):
            failure = Failure(reason=NoSignalReason.BAD_REQUEST, status=answer.status)
            return _Told(parsed=_refused(question, failure, None), failure=failure)
        failed = next((one for one in parsed if isinstance(one, NoSignal) and one.reason.is_failure), None)
        return _Told(
            parsed=parsed, failure=None if failed is None else Failure(reason=failed.reason, status=answer.status)
        )

    def _wait(self, refusal: Failure, answer: Answer) -> float | None:
        if answer.retry_after_seconds is None and refusal.reason is NoSignalReason.RATE_LIMITED:
            return self._pace.ban_seconds
        return answer.retry_after_seconds


def _refused(question: Question, refusal: Failure, wait: float | None) -> list[NoSignal]:
    return [
        NoSignal(
            source=question.source,
            zone=zone,
            reason=refusal.reason,
            cause=refusal.cause,
            status=refusal.status,
            retry_after_seconds=wait,
        )
        for zone in question.zones
    ]


def _refusal(answer: Answer, question: Question) -> Failure | None:
    """Say what a status means; None when its body is to be read."""
    status = answer.status
    if status == 200 or (status == 400 and question.reads_400):  # noqa: PLR2004
        return None
    if status == 204:  # noqa: PLR2004
        return Failure(reason=NoSignalReason.NO_DATA, status=status)
    if status in {401, 403, 407}:
        return Failure(reason=NoSignalReason.UNAUTHORIZED, status=status)
    if status == 429:  # noqa: PLR2004
        return Failure(reason=NoSignalReason.RATE_LIMITED, status=status)
    if status in {300, 301, 302, 303, 304, 307, 308, 404, 408, 410} or status >= 500:  # noqa: PLR2004
        return Failure(reason=NoSignalReason.OUTAGE, status=status)
    return Failure(reason=NoSignalReason.BAD_REQUEST, status=status)
