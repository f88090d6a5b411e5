"""A grid service that is polled: its questions one after another, each answer a signal or the reason for none."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.schedule import OPENS_AFTER
from vetted_mw.grid.signal import GridSignal
from vetted_mw.grid.sources.fetching import Answer, Failure
from vetted_mw.grid.sources.own_loop import in_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from datetime import datetime

    from vetted_mw.grid.schedule import Pace
    from vetted_mw.grid.sources.fetching import Get, Session
    from vetted_mw.grid.sources.request import Parsed, Question

__all__ = ["PolledSource", "Run"]

_Result = TypeVar("_Result")


class Run(Protocol):
    """Runs one refresh somewhere; cancelled here, the refresh is cancelled there."""

    async def __call__(self, work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Return what `work` returns."""
        ...


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
    """A `SignalSource` on one service, or on several of an operator's own, which do not wait for each other.

    Args:
        name: the source's word in the settings.
        base_urls: the next one is tried when one is down, and stays until it is down.
        questions: what is asked, in this order.
        session: opens connections.
        now: wall clock, aware UTC.
        pace: how often it is asked.
        monotonic: seconds that never go back.
        sleep: waits between two questions.
        run: runs a refresh, in a thread of its own perhaps.
    """

    is_complete = False
    is_local = False

    def __init__(  # noqa: PLR0913 (what a test wants to put in another's place)
        self,
        name: str,
        *,
        base_urls: tuple[str, ...],
        questions: Sequence[Question],
        session: Session,
        now: Callable[[], datetime],
        pace: Pace,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        run: Run = in_place,
    ) -> None:
        self.name = name
        self.refresh_seconds = pace.refresh_seconds
        self.least_pause_seconds = pace.least_seconds
        self.is_idle = not questions
        self._questions = tuple(questions)
        self._base_urls = base_urls
        self._pace = pace
        self._session = session
        self._run = run
        of_service: dict[str, list[Question]] = {}
        for question in self._questions:
            of_service.setdefault(question.service, []).append(question)
        self._lines = [
            _Line(tuple(line), base_urls=base_urls, now=now, monotonic=monotonic, pace=pace, sleep=sleep)
            for line in of_service.values()
        ]

    async def readings(self) -> Sequence[GridSignal | NoSignal]:
        """Ask every question and return what came of each, zone by zone. It never raises."""
        return await self._run(self._refreshed)

    async def _refreshed(self) -> list[Parsed]:
        async with self._session() as get:
            lines = await asyncio.gather(*(line.asked(get) for line in self._lines))
        if len(lines) == 1:
            return lines[0]
        # Each line keeps its own waits: one service's must not hold up another's zones.
        return [one for line in lines for one in _without_wait(line)]


class _Line:
    """The questions to one service, asked one after another, and how it has fared.

    A refusal that holds for all of them (a key, a limit, no connection) ends the refresh: the other zones get the same
    reason unasked, and the next refresh begins after the question that ended this one, so that one bad zone starves no
    other. When three refreshes in a row failed the breaker is open: one question is sent per refresh, to one address,
    and the others follow only if it is answered. An address that asked for time is left alone until then.
    """

    def __init__(
        self,
        questions: tuple[Question, ...],
        *,
        base_urls: tuple[str, ...],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        pace: Pace,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._questions = questions
        self._base_urls = base_urls
        self._now = now
        self._monotonic = monotonic
        self._pace = pace
        self._sleep = sleep
        self._base = 0
        self._first = 0
        self._fruitless = 0
        self._left_alone: dict[int, tuple[float, Failure]] = {}

    async def asked(self, get: Get) -> list[Parsed]:
        """Ask every question and return what came of each; of one that was not asked nothing, unless all know why."""
        found: list[Parsed] = []
        ended: _Told | None = None
        in_turn = self._questions[self._first :] + self._questions[: self._first]
        for number, question in enumerate(in_turn):
            if ended is not None:
                if ended.failure is not None and _is_said_for_all(ended):
                    found += _refused(question, ended.failure, ended.wait)
                continue
            if number:
                await self._sleep(self._pace.spacing_seconds)
            told = await self._told(question, get)
            found += told.parsed
            if told.failure is not None and (self._is_open or _is_said_for_all(told)):
                ended = told
                self._first = (self._questions.index(question) + 1) % len(self._questions)
        has_signal = any(isinstance(one, GridSignal) for one in found)
        has_failure = any(isinstance(one, NoSignal) and one.reason.is_failure for one in found)
        self._fruitless = self._fruitless + 1 if has_failure and not has_signal else 0
        return found

    @property
    def _is_open(self) -> bool:
        return self._fruitless >= OPENS_AFTER

    async def _told(self, question: Question, get: Get) -> _Told:
        """Ask at the base URL that answered last, then at the others that may be asked; an open breaker tries one."""
        told: _Told | None = None
        for _ in self._base_urls:
            if self._may_be_asked(self._base):
                answer = await get(question.request(self._base_urls[self._base], self._now()))
                told = self._read(question, answer)
                if told.failure is None or told.failure.reason not in _ELSEWHERE:
                    break
            self._base = (self._base + 1) % len(self._base_urls)
            if told is not None and self._is_open:
                break
        return self._waiting(question, told)

    def _may_be_asked(self, base: int) -> bool:
        until, _failure = self._left_alone.get(base, (0.0, None))
        if self._monotonic() < until:
            return False
        self._left_alone.pop(base, None)
        return True

    def _waiting(self, question: Question, told: _Told | None) -> _Told:
        """Say how long the service is left alone: until the soonest of its addresses may be asked, if none may now."""
        if told is not None and told.wait is not None and len(self._base_urls) == 1:
            return told
        if len(self._left_alone) < len(self._base_urls):
            return _Told() if told is None else replace(told, wait=None, parsed=_without_wait(told.parsed))
        until, failure = min(self._left_alone.values(), key=lambda one: one[0])
        wait = max(0.0, until - self._monotonic())
        failure = failure if told is None or told.failure is None else told.failure
        return _Told(parsed=_refused(question, failure, wait), failure=failure, wait=wait)

    def _read(self, question: Question, answer: Answer | Failure) -> _Told:
        if isinstance(answer, Failure):
            return _Told(parsed=_refused(question, answer, None), failure=answer)
        refusal = _refusal(answer, question)
        if refusal is not None:
            wait = self._wait(refusal, answer)
            # Too many requests are too many of our key's, at whichever address.
            of_all = refusal.reason is NoSignalReason.RATE_LIMITED
            for base in range(len(self._base_urls)) if of_all else (self._base,):
                if wait is not None:
                    self._left_alone[base] = self._monotonic() + wait, refusal
            return _Told(parsed=_refused(question, refusal, wait), failure=refusal, wait=wait)
        try:
            parsed = question.parse(answer.body, self._now())
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
        if refusal.reason is not NoSignalReason.RATE_LIMITED:
            return answer.retry_after_seconds
        told = self._pace.ban_seconds if answer.retry_after_seconds is None else answer.retry_after_seconds
        return max(told, self._pace.least_ban_seconds)


def _is_said_for_all(told: _Told) -> bool:
    """Whether a failure holds for every zone, and may be told of those that were not asked."""
    if told.failure is None:
        return False
    # A 403 is of one zone: a plan that does not hold it.
    is_of_all = told.failure.reason in _SAID_FOR_ALL and told.failure.status != 403  # noqa: PLR2004
    return is_of_all or told.wait is not None


def _without_wait(parsed: Sequence[Parsed]) -> list[Parsed]:
    return [replace(one, retry_after_seconds=None) if isinstance(one, NoSignal) else one for one in parsed]


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
