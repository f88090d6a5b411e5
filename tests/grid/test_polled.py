"""A polled service: what each answer tells, when a refresh ends early, which address is asked, what the breaker lets by."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.samples import NOW, signal
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.schedule import OPENS_AFTER, Pace
from vetted_mw.grid.signal import GridSignal
from vetted_mw.grid.sources.fetching import Answer, Failure
from vetted_mw.grid.sources.polled import PolledSource
from vetted_mw.grid.sources.request import Question, Request
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime

    from vetted_mw.grid.sources.fetching import Get
    from vetted_mw.grid.sources.request import Parsed

pytestmark = pytest.mark.anyio

Reason = NoSignalReason
LABEL = "entsoe_derived_live"
HOME, BACKUP, THIRD = "https://grid.example/api", "https://backup.example/api", "https://third.example/api"
DOWN = Failure(reason=Reason.UNREACHABLE)
GOOD = Answer(status=200, body=b"good")


class ScriptedSession:
    """Answers each GET from a script by the URL's last part, else by `default`, and writes down what was asked."""

    def __init__(self, default: Answer | Failure = GOOD) -> None:
        self.default = default
        self.by_url: dict[str, Answer | Failure] = {}
        self.next: deque[Answer | Failure] = deque()
        self.urls: list[str] = []
        self.opened = 0
        self.open = 0

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[Get]:
        self.opened += 1
        self.open += 1
        try:
            yield self._get
        finally:
            self.open -= 1

    async def _get(self, request: Request) -> Answer | Failure:
        self.urls.append(request.url)
        if self.next:
            return self.next.popleft()
        return next((self.by_url[part] for part in self.by_url if part in request.url), self.default)

    def asked(self) -> list[str]:
        """Return the zones asked for since the last call, in order."""
        zones, self.urls = [url.rsplit("/", 1)[1] for url in self.urls], []
        return zones


def no(zone: str = "FR", reason: NoSignalReason = Reason.INCOMPLETE, **members: Any) -> NoSignal:
    return NoSignal(source=LABEL, zone=zone, reason=reason, **members)


def reads(zone: str) -> Callable[[bytes, datetime], Sequence[Parsed]]:
    """Return a parser: `good` is a signal, every other body the reason it names."""
    return lambda data, at: [
        signal(21.0, zone=zone, fetched_at=at) if data == b"good" else no(zone, NoSignalReason(data.decode()))
    ]


def question(zone: str = "FR", **members: Any) -> Question:
    told: dict[str, Any] = {
        "source": LABEL,
        "zones": (zone,),
        "request": lambda base, _now: Request(url=f"{base}/{zone}"),
        "parse": reads(zone),
    }
    return Question(**(told | members))


class Polled:
    """A source over a script, with the pauses it made."""

    def __init__(self, *questions: Question, base_urls: tuple[str, ...] = (HOME,), **pace: float) -> None:
        self.session = ScriptedSession()
        self.clock = ManualClock(NOW)
        self.slept: list[float] = []
        self.source = PolledSource(
            "entsoe",
            base_urls=base_urls,
            questions=questions or (question(),),
            session=self.session,
            now=self.clock.now,
            monotonic=self.clock.monotonic,
            pace=Pace(refresh_seconds=600.0, **pace),
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def refresh(self) -> dict[str, Any]:
        """Return the reason, or the word `signal`, by zone."""
        told: dict[str, Any] = {}
        for one in await self.source.readings():
            told[one.zone] = "signal" if isinstance(one, GridSignal) else one.reason.value
        return told


def three(*, spacing_seconds: float = 0.0) -> Polled:
    return Polled(question("FR"), question("SE_3"), question("FI"), spacing_seconds=spacing_seconds)


# ---- what one answer tells


async def test_a_document_gives_its_signals() -> None:
    """Parsed from the body and the instant it came at, whatever they are, zone by zone."""
    seen: list[tuple[bytes, datetime]] = []

    def parse(data: bytes, at: datetime) -> Sequence[Parsed]:
        seen.append((data, at))
        return [signal(1.0), no("SE_3")]

    polled = Polled(question(zones=("FR", "SE_3"), parse=parse))
    assert list(await polled.source.readings()) == [signal(1.0), no("SE_3")]
    assert seen == [(b"good", NOW)]
    assert (polled.session.opened, polled.session.open) == (1, 0)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (204, Reason.NO_DATA),
        *((status, Reason.OUTAGE) for status in (300, 301, 302, 303, 304, 307, 308, 404, 408, 410, 500, 502, 503, 504)),
        *((status, Reason.UNAUTHORIZED) for status in (401, 403, 407)),
        (429, Reason.RATE_LIMITED),
        *((status, Reason.BAD_REQUEST) for status in (201, 206, 400, 405, 406, 409, 418, 422, 451)),
        (999, Reason.OUTAGE),
    ],
)
async def test_every_status_has_its_reason_and_its_body_is_not_looked_at(status: int, reason: NoSignalReason) -> None:
    """Even a body that reads well is no document under a status that says it is none."""
    polled = Polled(question(zones=("FR", "SE_3")), ban_seconds=60.0)
    polled.session.default = Answer(status=status, body=b"good")
    wait = 60.0 if status == 429 else None
    assert list(await polled.source.readings()) == [
        no(zone, reason, status=status, retry_after_seconds=wait) for zone in ("FR", "SE_3")
    ]


@pytest.mark.parametrize("status", [200, None])
@pytest.mark.parametrize("reason", [Reason.UNREACHABLE, Reason.TIMEOUT, Reason.TOO_LARGE, Reason.NOT_UNDERSTOOD])
async def test_a_failure_is_told_of_every_zone_of_its_question(reason: NoSignalReason, status: int | None) -> None:
    """With its status, if there was one."""
    polled = Polled(question(zones=("FR", "SE_3")))
    polled.session.default = Failure(reason=reason, status=status)
    assert list(await polled.source.readings()) == [no(zone, reason, status=status) for zone in ("FR", "SE_3")]


@pytest.mark.parametrize("body", ["no_data", "bad_request", "forbidden_markup"])
async def test_a_400_is_read_where_a_service_answers_documents_with_it(body: str) -> None:
    """What the document says is the reason."""
    polled = Polled(question(reads_400=True))
    polled.session.default = Answer(status=400, body=body.encode())
    assert await polled.refresh() == {"FR": body}


async def test_a_400_never_gives_a_signal() -> None:
    """A document under a refusal is not believed, for any of its zones."""
    polled = Polled(question(reads_400=True, zones=("FR", "SE_3")))
    polled.session.default = Answer(status=400, body=b"good")
    assert list(await polled.source.readings()) == [no(zone, Reason.BAD_REQUEST, status=400) for zone in ("FR", "SE_3")]


@pytest.mark.parametrize(
    ("status", "told", "wait"),
    [(429, None, 600.0), (429, 7.0, 7.0), (429, 0.0, 0.0), (503, 90.0, 90.0), (503, None, None), (401, 30.0, 30.0)],
)
async def test_a_refusal_carries_how_long_to_wait(status: int, told: float | None, wait: float | None) -> None:
    """What the service said, else the ban it is known for after a 429."""
    polled = Polled(ban_seconds=600.0)
    polled.session.default = Answer(status=status, body=b"", retry_after_seconds=told)
    (one,) = await polled.source.readings()
    assert isinstance(one, NoSignal)
    assert one.retry_after_seconds == wait


# ---- what is said for all


async def test_a_zone_that_the_plan_does_not_hold_is_its_own_matter() -> None:
    """A 403 is of one zone, as when a key's plan has another: the zones after it are asked all the same."""
    polled = three(spacing_seconds=2.0)
    polled.session.by_url = {"SE_3": Answer(status=403, body=b"")}
    told = await polled.source.readings()
    assert polled.session.asked() == ["FR", "SE_3", "FI"]
    assert [one.reason for one in told if isinstance(one, NoSignal)] == [Reason.UNAUTHORIZED]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=401, body=b""), "unauthorized"),
        (Answer(status=429, body=b"", retry_after_seconds=30.0), "rate_limited"),
        (Failure(reason=Reason.UNREACHABLE), "unreachable"),
        (Failure(reason=Reason.TIMEOUT), "timeout"),
    ],
)
async def test_a_refusal_for_all_ends_the_refresh(answer: Answer | Failure, reason: str) -> None:
    """Later zones are told the same, with the same wait, unasked; what came before it counts."""
    polled = three(spacing_seconds=2.0)
    polled.session.by_url = {"SE_3": answer}
    told = await polled.source.readings()
    assert polled.session.asked() == ["FR", "SE_3"]
    assert polled.slept == [2.0]
    assert isinstance(told[0], GridSignal)
    wait = answer.retry_after_seconds if isinstance(answer, Answer) else None
    status = answer.status
    assert list(told[1:]) == [
        no(zone, NoSignalReason(reason), status=status, retry_after_seconds=wait) for zone in ("SE_3", "FI")
    ]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404, body=b""),
        Answer(status=500, body=b""),
        Answer(status=400, body=b""),
        Answer(status=204, body=b""),
        Failure(reason=Reason.TOO_LARGE),
        Failure(reason=Reason.NOT_UNDERSTOOD),
        *(Answer(status=200, body=reason.value.encode()) for reason in (Reason.HTML_PAGE, Reason.INCOMPLETE)),
    ],
)
async def test_another_refusal_concerns_its_own_zone_only(answer: Answer | Failure) -> None:
    """The others are asked all the same."""
    polled = three()
    polled.session.by_url = {"FR": answer}
    told = await polled.refresh()
    assert polled.session.asked() == ["FR", "SE_3", "FI"]
    assert (told["SE_3"], told["FI"]) == ("signal", "signal")
    assert told["FR"] != "signal"


async def test_a_zone_that_ends_every_refresh_starves_no_other() -> None:
    """The next refresh begins with the zones that had not their turn."""
    polled = three()
    polled.session.by_url = {"FR": Failure(reason=Reason.TIMEOUT)}
    assert await polled.refresh() == {"FR": "timeout", "SE_3": "timeout", "FI": "timeout"}
    for _ in range(3):
        assert await polled.refresh() == {"SE_3": "signal", "FI": "signal", "FR": "timeout"}


async def test_a_refusal_of_one_service_is_no_word_of_another() -> None:
    """Where one source asks several services, each has its own keys, limits and connections."""
    polled = Polled(question("FR", service="a"), question("SE_3", service="b"), question("FI", service="a"))
    polled.session.by_url = {"FR": Answer(status=401, body=b"")}
    assert await polled.refresh() == {"FR": "unauthorized", "SE_3": "signal", "FI": "unauthorized"}
    assert polled.session.asked() == ["FR", "SE_3"]


# ---- the breaker


async def test_after_three_failed_refreshes_one_question_is_sent_until_it_is_answered() -> None:
    """Each outage costs the service one request per refresh, and its end is seen at the first answer."""
    polled = three()
    polled.session.default = Answer(status=503, body=b"")
    for _ in range(3):
        await polled.refresh()
        assert len(polled.session.asked()) == 3
    for _ in range(4):
        assert set((await polled.refresh()).values()) == {"outage"}
        assert len(polled.session.asked()) == 1
    polled.session.default = GOOD
    assert set((await polled.refresh()).values()) == {"signal"}
    assert len(polled.session.asked()) == 3
    polled.session.default = Answer(status=503, body=b"")
    await polled.refresh()
    assert len(polled.session.asked()) == 3  # closed again: one failure does not open it


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=204, body=b""),
        Answer(status=400, body=b""),
        Answer(status=404, body=b""),
        Answer(status=403, body=b""),
        *(Answer(status=200, body=body) for body in (b"no_data", b"incomplete", b"bad_request", b"not_understood")),
    ],
)
async def test_a_zone_that_never_has_a_signal_does_not_keep_the_breaker_open(answer: Answer) -> None:
    """After an outage the others all have a signal within a refresh per zone, though the first one's word stays bad."""
    polled = three()
    polled.session.default = Answer(status=503, body=b"")
    for _ in range(5):
        await polled.refresh()
    polled.session.default = GOOD
    polled.session.by_url = {"FR": answer}
    told = [await polled.refresh() for _ in range(3)]
    for zone in ("SE_3", "FI"):
        assert "signal" in {one.get(zone) for one in told}


async def test_a_service_that_has_nothing_is_not_failing() -> None:
    """However often it says so, every zone is asked every time."""
    polled = three()
    polled.session.default = Answer(status=200, body=b"no_data")
    for _ in range(5):
        await polled.refresh()
        assert len(polled.session.asked()) == 3
    polled.session.default = Answer(status=503, body=b"")
    await polled.refresh()
    assert len(polled.session.asked()) == 3


async def test_one_signal_keeps_the_breaker_closed() -> None:
    """A service that serves one zone of three is not down."""
    polled = three()
    polled.session.default = Answer(status=500, body=b"")
    polled.session.by_url = {"FI": GOOD}
    for _ in range(6):
        assert (await polled.refresh())["FI"] == "signal"
        assert polled.session.asked() == ["FR", "SE_3", "FI"]


# ---- several addresses


@pytest.mark.parametrize(
    "down",
    [
        Failure(reason=Reason.UNREACHABLE),
        Failure(reason=Reason.TIMEOUT),
        Answer(status=302, body=b""),
        Answer(status=404, body=b""),
        Answer(status=503, body=b""),
        Answer(status=200, body=b"html_page"),
    ],
)
async def test_a_service_that_is_down_is_asked_at_its_next_address_which_then_stays(down: Answer | Failure) -> None:
    """The next refresh begins where the last one was answered; nothing of the dead address is told."""
    polled = Polled(question("FR"), question("SE_3"), base_urls=(HOME, BACKUP))
    polled.session.by_url = {HOME: down}
    told = await polled.source.readings()
    assert all(isinstance(one, GridSignal) for one in told)
    assert polled.session.urls == [f"{HOME}/FR", f"{BACKUP}/FR", f"{BACKUP}/SE_3"]
    polled.session.urls = []
    await polled.refresh()
    assert polled.session.urls == [f"{BACKUP}/FR", f"{BACKUP}/SE_3"]
    polled.session.urls, polled.session.by_url = [], {BACKUP: down}
    await polled.refresh()
    assert polled.session.urls == [f"{BACKUP}/FR", f"{HOME}/FR", f"{HOME}/SE_3"]


@pytest.mark.parametrize(
    "word",
    [
        Answer(status=401, body=b""),
        Answer(status=429, body=b""),
        Answer(status=400, body=b""),
        Answer(status=204, body=b""),
        Answer(status=200, body=b"incomplete"),
        Answer(status=200, body=b"no_data"),
        Failure(reason=Reason.TOO_LARGE),
    ],
)
async def test_a_word_that_holds_everywhere_is_asked_for_once(word: Answer | Failure) -> None:
    """A refused key is not tried at another address."""
    polled = Polled(base_urls=(HOME, BACKUP))
    polled.session.default = word
    await polled.refresh()
    assert polled.session.urls == [f"{HOME}/FR"]


async def test_when_every_address_is_down_each_was_asked_once_and_the_last_word_is_told() -> None:
    """No address is asked twice for one question."""
    polled = Polled(question("FR"), question("SE_3"), base_urls=(HOME, BACKUP, THIRD))
    polled.session.default = DOWN
    polled.session.by_url = {THIRD: Answer(status=503, body=b"", retry_after_seconds=9.0)}
    told = await polled.source.readings()
    assert polled.session.urls == [
        *(f"{base}/FR" for base in (HOME, BACKUP, THIRD)),
        *(f"{base}/SE_3" for base in (HOME, BACKUP)),  # the third has asked for time
    ]
    # No wait is told: two addresses may be asked again as soon as the pace has it.
    assert [(one.reason, one.retry_after_seconds) for one in told if isinstance(one, NoSignal)] == [
        (Reason.OUTAGE, None),
        (Reason.UNREACHABLE, None),
    ]


# ---- time that an address asks for


@pytest.mark.parametrize(("named", "seconds"), [(None, 600.0), (5.0, 600.0), (900.0, 900.0)])
async def test_a_service_with_a_ban_is_left_alone_for_all_of_it(named: float | None, seconds: float) -> None:
    """ENTSO-E lifts its ban after ten minutes, whatever a 429 on the way says."""
    polled = Polled(ban_seconds=600.0, least_ban_seconds=600.0)
    polled.session.default = Answer(status=429, body=b"", retry_after_seconds=named)
    told = await polled.source.readings()
    assert [one.retry_after_seconds for one in told if isinstance(one, NoSignal)] == [seconds]


async def test_an_address_that_asked_for_time_is_left_alone_though_the_next_one_fails() -> None:
    """A 503 with `Retry-After` holds across refreshes and addresses, to the second."""
    polled = Polled(question("FR"), base_urls=(HOME, BACKUP))
    polled.session.by_url = {HOME: Answer(status=503, body=b"", retry_after_seconds=3600.0)}
    await polled.refresh()
    assert polled.session.urls == [f"{HOME}/FR", f"{BACKUP}/FR"]
    polled.session.default = DOWN
    polled.session.by_url = {}
    for _ in range(2):
        polled.session.urls = []
        polled.clock.tick(600)
        await polled.refresh()
        assert polled.session.urls == [f"{BACKUP}/FR"]
    polled.clock.tick(2400)
    polled.session.urls = []
    await polled.refresh()
    assert f"{HOME}/FR" in polled.session.urls


async def test_one_address_that_asked_for_time_keeps_no_other_from_being_asked_when_the_breaker_is_open() -> None:
    """One address bans for a day, the other has an outage and comes back: it is asked, and heard."""
    polled = Polled(question("FR"), base_urls=(HOME, BACKUP))
    polled.session.by_url = {
        HOME: Answer(status=503, body=b"", retry_after_seconds=86_400.0),
        BACKUP: Failure(reason=Reason.TIMEOUT),
    }
    for _ in range(5):
        told = await polled.source.readings()
        assert [one.retry_after_seconds for one in told if isinstance(one, NoSignal)] == [None]
    polled.session.by_url = {HOME: DOWN}
    assert await polled.refresh() == {"FR": "signal"}


async def test_an_open_breaker_tells_no_zone_a_reason_that_is_not_its_own() -> None:
    """Of a zone that was not asked the old word stands, but where the reason holds for all."""
    polled = Polled(question("FR"), question("FI"))
    polled.session.by_url = {"FR": Answer(status=200, body=b"incomplete"), "FI": Answer(status=200, body=b"wrong_area")}
    for _ in range(3):
        assert await polled.refresh() == {"FR": "incomplete", "FI": "wrong_area"}
    assert [await polled.refresh() for _ in range(3)] == [
        {"FR": "incomplete"},
        {"FI": "wrong_area"},
        {"FR": "incomplete"},
    ]
    polled.session.default, polled.session.by_url = DOWN, {}
    assert await polled.refresh() == {"FR": "unreachable", "FI": "unreachable"}


async def test_too_many_requests_at_one_address_are_too_many_at_all() -> None:
    """The key's limit is no address's own: no other is tried, and none is asked before the time is over."""
    polled = Polled(question("FR"), base_urls=(HOME, BACKUP))
    polled.session.by_url = {HOME: Answer(status=429, body=b"", retry_after_seconds=60.0)}
    await polled.refresh()
    await polled.refresh()
    assert polled.session.urls == [f"{HOME}/FR"]
    polled.clock.tick(61)
    await polled.refresh()
    assert len(polled.session.urls) == 2


async def test_a_step_of_the_wall_clock_changes_no_wait() -> None:
    """A clock that is set right by years neither ends a wait nor makes one of it."""
    polled = Polled(question("FR"))
    wall = [NOW + timedelta(days=1000)]
    polled.source = PolledSource(
        "entsoe",
        base_urls=(HOME,),
        questions=[question("FR")],
        session=polled.session,
        now=lambda: wall[0],
        monotonic=polled.clock.monotonic,
        pace=Pace(refresh_seconds=600.0),
    )
    polled.session.default = Answer(status=429, body=b"", retry_after_seconds=60.0)
    await polled.refresh()
    wall[0] = NOW
    polled.session.default = GOOD
    polled.clock.tick(61)
    assert await polled.refresh() == {"FR": "signal"}


async def test_while_every_address_has_asked_for_time_nothing_is_asked_and_the_rest_of_it_is_told() -> None:
    """Whoever asks the source early gets the reason again, with what is left of the wait."""
    polled = Polled(question("FR"), question("SE_3"))
    polled.session.default = Answer(status=429, body=b"", retry_after_seconds=100.0)
    await polled.refresh()
    polled.session.urls = []
    polled.clock.tick(40)
    told = await polled.source.readings()
    assert polled.session.urls == []
    assert [(one.reason, one.retry_after_seconds) for one in told if isinstance(one, NoSignal)] == [
        (Reason.RATE_LIMITED, 60.0)
    ] * 2


@pytest.mark.parametrize(
    "answer",
    [
        Failure(reason=Reason.TOO_LARGE, status=200),
        Answer(status=404, body=b""),
        Answer(status=418, body=b""),
        Answer(status=200, body=b"incomplete"),
        Answer(status=200, body=b"wrong_area"),
    ],
    ids=["huge", "404", "418", "incomplete", "wrong area"],
)
async def test_an_open_breaker_sends_one_question_to_one_address(answer: Answer | Failure) -> None:
    """Whatever kind of fault opened it; the next refresh begins with another zone, so that none is starved."""
    polled = Polled(question("FR"), question("SE_3"), question("FI"), base_urls=(HOME, BACKUP))
    polled.session.default = answer
    for _ in range(3):
        await polled.refresh()
    probed = []
    for _ in range(4):
        polled.session.urls = []
        await polled.refresh()
        probed.append(polled.session.urls)
    assert {len(urls) for urls in probed} == {1}
    assert {urls[0].rpartition("/")[2] for urls in probed} == {"FR", "SE_3", "FI"}


# ---- several services of an operator's own


async def test_a_service_that_asks_for_time_holds_up_no_other_service() -> None:
    """Each service's wait is its own; the board is told none, for it would hold for all."""
    polled = Polled(question("FR", service="one"), question("SE_3", service="other"))
    polled.session.by_url = {"FR": Answer(status=429, body=b"", retry_after_seconds=86_400.0)}
    told = await polled.source.readings()
    assert [one.retry_after_seconds for one in told if isinstance(one, NoSignal)] == [None]
    polled.clock.tick(600)
    polled.session.urls = []
    assert await polled.refresh() == {"FR": "rate_limited", "SE_3": "signal"}
    assert polled.session.urls == [f"{HOME}/SE_3"]


async def test_a_service_that_hangs_holds_up_the_asking_of_no_other_service() -> None:
    """They are asked side by side."""
    asked, release = [], asyncio.Event()

    class Session(ScriptedSession):
        async def _get(self, request: Request) -> Answer | Failure:
            asked.append(request.url)
            if request.url.endswith("/FR"):
                await release.wait()
            else:
                release.set()
            return GOOD

    polled = Polled()
    polled.source = PolledSource(
        "http_json",
        base_urls=(HOME,),
        questions=[question("FR", service="one"), question("SE_3", service="other")],
        session=Session(),
        now=polled.clock.now,
        pace=Pace(refresh_seconds=600.0),
    )
    assert await polled.refresh() == {"FR": "signal", "SE_3": "signal"}
    assert asked == [f"{HOME}/FR", f"{HOME}/SE_3"]


# ---- pauses


@pytest.mark.parametrize("spacing", [0.0, 1.5])
async def test_questions_are_spaced_and_the_first_is_not(spacing: float) -> None:
    """The pause stands between two questions only."""
    polled = three(spacing_seconds=spacing)
    await polled.refresh()
    assert polled.slept == [spacing, spacing]


async def test_a_source_says_how_often_it_is_asked_and_that_it_is_no_file() -> None:
    """What the board asks of it."""
    source = Polled().source
    assert (source.name, source.refresh_seconds, source.is_complete, source.is_local) == ("entsoe", 600.0, False, False)


# ---- it never raises


class BrokenParserError(Exception):
    """Raised by a parser; its text is of the answer."""


async def test_a_parser_that_raises_costs_its_own_zones_only() -> None:
    """The others have their signals, and nothing of its text is kept."""

    def broken(_data: bytes, _at: datetime) -> Sequence[Parsed]:
        raise BrokenParserError("securityToken=hunter2")

    polled = Polled(question("FR", parse=broken), question("SE_3"))
    told = await polled.source.readings()
    assert told[0] == no("FR", Reason.NOT_UNDERSTOOD, status=200)
    assert isinstance(told[1], GridSignal)
    assert "hunter2" not in repr(told)


async def test_a_source_without_questions_has_nothing_to_say() -> None:
    """No zone of its is in any chain."""
    polled = Polled()
    source = PolledSource(
        "entsoe",
        base_urls=(HOME,),
        questions=(),
        session=polled.session,
        now=lambda: NOW,
        pace=Pace(refresh_seconds=600.0),
    )
    assert list(await source.readings()) == []
    assert polled.session.urls == []


ANSWERS = st.builds(
    Answer,
    status=st.sampled_from([100, 200, 200, 200, 204, 302, 400, 401, 404, 429, 503, 0, -1, 999]),
    body=st.sampled_from([b"good", *(reason.value.encode() for reason in Reason), b"", b"\xff", b"no such reason"]),
    retry_after_seconds=st.none() | st.sampled_from([0.0, 60.0]),
) | st.builds(Failure, reason=st.sampled_from(list(Reason)), status=st.none() | st.sampled_from([200, 503]))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(ANSWERS, min_size=1, max_size=40),
    st.sampled_from([(HOME,), (HOME, BACKUP)]),
    st.booleans(),
)
async def test_whatever_comes_every_zone_is_told_of_once_and_nothing_is_raised(
    answers: list[Answer | Failure], base_urls: tuple[str, ...], reads_400: bool
) -> None:
    """Refresh after refresh, over any answers: a signal or one reason per zone, and signals from good documents only.

    Once the breaker is open nothing is told of a zone that was not asked, unless all know why.
    """
    zones = ("FR", "SE_3", "FI")
    polled = Polled(*(question(zone, reads_400=reads_400) for zone in zones), base_urls=base_urls)
    polled.session.next = deque(answers)
    polled.session.default = DOWN
    good = sum(isinstance(one, Answer) and one.status == 200 and one.body == b"good" for one in answers)
    for number in range(4):
        told = await polled.source.readings()
        of_zones = sorted(one.zone for one in told)
        assert of_zones == sorted(zones) or (number == OPENS_AFTER and of_zones == sorted(set(of_zones)) != [])
        good -= sum(isinstance(one, GridSignal) for one in told)
        assert good >= 0
        assert len(polled.session.urls) <= len(zones) * len(base_urls)
        polled.session.urls = []
