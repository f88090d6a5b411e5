"""The exact span tree of a request whose caller leaves, in each phase of it: no error, and nothing left open."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from evidence.memory_ledger import MemoryLedger
from servers.upstreams import BlackHole
from streams.wall import content, finish, role, until
from telemetry.sites import site
from telemetry.spans import GRAVELINES, PARIS, asked, upstream
from telemetry.trees import drawn
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from telemetry.sites import Sdk, Site
    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.own.answer import Answer
    from vetted_mw.proxy.transport import UpstreamRequest

pytestmark = pytest.mark.anyio

either = pytest.mark.parametrize("how", ["close", "reset"])
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])

UNBEGUN = drawn("""
    POST /v1/chat/completions SERVER UNSET
      chat mistral-medium-3 CLIENT UNSET attempts=1 receipt=none
        vetted.route INTERNAL UNSET region=scaleway-par-1
        vetted.attempt CLIENT UNSET region=scaleway-par-1
""")
HEADED = UNBEGUN.replace("attempt CLIENT UNSET region", "attempt CLIENT UNSET status=200 region")
BEGUN = drawn("""
    POST /v1/chat/completions SERVER UNSET status=200
      chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 outcome=client_disconnect receipt=none
        ! vetted.first_chunk
        vetted.route INTERNAL UNSET region=scaleway-par-1
        vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
""")


def _half_json() -> FakeAnswer:
    whole = chat_completion()
    headers = (("content-type", "application/json"), ("content-length", str(len(whole))))
    return FakeAnswer(headers=headers, body=(whole[:30],), ending="stall")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Where a request stands when its caller leaves.

    Attributes:
        stream: whether it asked for a stream.
        answer: what its upstream does.
        sees: what the caller has got by then.
        tree: what is exported.
    """

    stream: bool
    answer: Callable[[], FakeAnswer]
    tree: str
    sees: bytes = b""


PHASES = {
    "before the first byte, json": Phase(stream=False, answer=lambda: FakeAnswer(delay=600), tree=UNBEGUN),
    "before the first byte, sse": Phase(stream=True, answer=lambda: FakeAnswer(delay=600), tree=UNBEGUN),
    "in the middle of the answer": Phase(stream=False, answer=_half_json, tree=HEADED),
    "before the first content": Phase(
        stream=True, answer=lambda: FakeAnswer.stream([role()], ending="stall"), tree=HEADED
    ),
    "between contents": Phase(
        stream=True, answer=lambda: FakeAnswer.stream([role(), content()], ending="stall"), tree=BEGUN, sees=b"Hel"
    ),
    "at the held end": Phase(
        stream=True,
        answer=lambda: FakeAnswer.stream([role(), content(), finish()], ending="stall"),
        tree=BEGUN,
        sees=b"Hel",
    ),
}


def _outcomes(place: Site) -> dict[str, int]:
    """Return how many requests ended in which way."""
    return {of["vetted.outcome"]: value for of, value in place.sdk.metric("vetted.requests")}


class _Door(OwnTransport):
    """Counts the heads of answers that have come."""

    def __init__(self, upstream: Upstream, doors: list[_Door]) -> None:
        super().__init__(upstream)
        self.heads = 0
        doors.append(self)

    async def send(self, request: UpstreamRequest) -> Answer:
        """Send, and count the head that came."""
        response = await super().send(request)
        self.heads += 1
        return response


@either
@pytest.mark.parametrize("phase", PHASES)
async def test_a_caller_that_leaves_is_no_error_anywhere(phase: str, how: Literal["close", "reset"]) -> None:
    """Every span ends, unset, once; a stream that had begun says who left."""
    stands = PHASES[phase]
    doors: list[_Door] = []
    options = {"transport": lambda upstream: _Door(upstream, doors)}
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, options=options) as place:
        paris.then(stands.answer())
        caller = await place.caller(asked(stream=stands.stream))
        await until(lambda: paris.requests)
        if stands.tree != UNBEGUN:
            await until(lambda: doors[0].heads)
        await caller.read_until(stands.sees)
        caller.leave(how)
        assert await place.tree() == stands.tree
        assert _outcomes(place) == {"client_disconnect": 1}


@either
@both
async def test_a_caller_that_leaves_in_its_own_body_is_a_server_span_alone(
    stream: bool, how: Literal["close", "reset"]
) -> None:
    """Nothing was decided, nothing was answered: no operation, no status, no error."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        caller = await place.caller(asked(stream=stream), withheld=5)
        caller.leave(how)
        assert await place.tree() == "POST /v1/chat/completions SERVER UNSET\n"
        assert _outcomes(place) == {"client_disconnect": 1}


@both
async def test_a_caller_that_leaves_while_we_connect_is_an_attempt_that_was_not_sent(stream: bool) -> None:
    """The attempt ends unset, and nothing is counted as having left for the upstream."""
    with BlackHole() as hole:
        table: dict[str, Any] = upstream(f"http://127.0.0.1:{hole.port}/v1") | {"limits": {"connect_seconds": 600}}  # type: ignore[operator]
        async with site({PARIS: table}) as place:
            caller = await place.caller(asked(stream=stream))
            await until(lambda: place.sdk.counted.open == 3)
            caller.leave()
            tree = await place.tree()
            assert _outcomes(place) == {"client_disconnect": 1}
    assert tree == UNBEGUN.replace("attempts=1", "attempts=0")


@both
async def test_a_caller_that_leaves_during_a_failover_leaves_the_first_attempt_an_error(stream: bool) -> None:
    """What failed before stays failed; the attempt under way and the operation are unset."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        gravelines.then(FakeAnswer(delay=600))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls) as place:
            caller = await place.caller(asked(stream=stream))
            await until(lambda: gravelines.requests)
            caller.leave()
            tree = await place.tree()
            assert _outcomes(place) == {"client_disconnect": 1}
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET
          chat mistral-medium-3 CLIENT UNSET attempts=2 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=upstream_error status=500 region=scaleway-par-1
            vetted.attempt CLIENT UNSET resend=1 region=ovh-gra-1
    """)


def _noticing(noticed: threading.Event) -> Callable[[ASGIApp, Sdk], ASGIApp]:
    """Return what tells when the server has told the app that its caller is gone."""

    def around(app: ASGIApp, _sdk: Sdk) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def received() -> Message:
                message = await receive()
                if message["type"] == "http.disconnect":
                    noticed.set()
                return message

            await app(scope, received, send)

        return watched

    return around


class _Waiting(MemoryLedger):
    """Keeps a receipt only once `go_on` is called, from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Make the gate in the loop it is used in."""
        self.gate = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        await super().open()

    def go_on(self) -> None:
        """Open the gate."""
        assert self._loop is not None
        assert self.gate is not None
        self._loop.call_soon_threadsafe(self.gate.set)


@both
async def test_a_caller_that_leaves_while_its_receipt_is_kept_got_none(stream: bool) -> None:
    """The upstream's answer was whole and its attempt went well; the caller has seen neither end nor receipt."""
    ledger, noticed = _Waiting(), threading.Event()
    options = {"ledger": ledger}
    async with (
        FakeUpstream() as paris,
        site({PARIS: upstream(paris.base_url)}, options=options, outside=_noticing(noticed)) as place,
    ):
        caller = await place.caller(asked(stream=stream))
        with contextlib.ExitStack() as ending:
            ending.callback(ledger.go_on)
            await until(ledger.waiting.is_set)
            caller.leave()
            await until(noticed.is_set)
        tree = await place.tree()
        assert _outcomes(place) == {"client_disconnect": 1}
    outcome, first_chunk = (" outcome=client_disconnect", "\n            ! vetted.first_chunk") if stream else ("", "")
    assert tree == drawn(f"""
        POST /v1/chat/completions SERVER UNSET{" status=200" if stream else ""}
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1{outcome} receipt=none{first_chunk}
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)
