"""The caller leaves while the app's own handler waits for its call: the call ends, and the handler keeps its `receive`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import anyio
import openai
import pytest
from openai import AsyncOpenAI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request

import vetted_mw.testing
from frameworks.place import asked, gateway_over, until
from support import HELLO
from vetted_mw import VettedMiddleware
from vetted_mw.testing import Exchange, FakeAnswer, FakeUpstream, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import httpx
    from starlette.types import Message, Receive, Scope, Send

    from vetted_mw import Gateway
    from vetted_mw.in_app.route import Route

pytestmark = pytest.mark.anyio

URL = "http://vetted/v1/chat/completions"
DISCONNECT: Message = {"type": "http.disconnect"}
LIMIT = 60.0
SILENT = FakeAnswer(delay=600.0)
HALF = FakeAnswer(headers=(("content-type", "application/json"), ("content-length", "100")), ending="stall")
BEGUN = FakeAnswer.stream(chat_frames()[:2], ending="stall")
SLOW = FakeAnswer(headers=(("content-type", "application/json"),), body=(chat_completion(),), delay=0.05)


class Asking:
    """One request to a handler, by messages. Its `receive` gives each message once, as hypercorn's does.

    Attributes:
        asked_for: how often the server's `receive` was called.
        cancelled: how often such a call was cancelled.
        leaves_at_the_end: whether the server says that the caller left once it has the answer.
    """

    def __init__(
        self,
        gateway: Gateway,
        handle: Callable[[Request, Receive], Awaitable[None]],
        *,
        inside: Callable[[Any], Any] = lambda app: app,
        outside: Callable[[Any], Any] = lambda app: app,
    ) -> None:
        self.asked_for = 0
        self.cancelled = 0
        self.leaves_at_the_end = False
        self.sent: list[Message] = []
        self._messages: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self._messages.put_nowait({"type": "http.request", "body": json.dumps(asked()).encode(), "more_body": False})
        self._app = outside(VettedMiddleware(inside(self._handler(handle)), gateway=gateway, mode="in_app"))

    @staticmethod
    def _handler(handle: Callable[[Request, Receive], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await handle(Request(scope, receive), receive)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        return app

    def says(self, *messages: Message | Exception) -> None:
        """Let the server say something more."""
        for message in messages:
            self._messages.put_nowait(message)

    def leave(self) -> None:
        """Let the caller leave."""
        self.says(DISCONNECT)

    def start(self) -> asyncio.Task[Exchange]:
        """Send the request in a task of its own."""
        return asyncio.ensure_future(self._exchange())

    async def _exchange(self) -> Exchange:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
        }
        await self._app(scope, self._receive, self._send)
        return Exchange(messages=tuple(self.sent))

    async def _receive(self) -> Message:
        self.asked_for += 1
        try:
            message = await self._messages.get()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(message, Exception):
            raise message
        return message

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        if self.leaves_at_the_end and message["type"] == "http.response.body":
            self.leave()
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def over(paris: FakeUpstream) -> AsyncIterator[Gateway]:
    """Open a gateway over one upstream; afterwards nothing is in flight."""
    async with asyncio.timeout(LIMIT), paris, gateway_over(paris) as gateway:
        before = asyncio.all_tasks()
        yield gateway
        assert gateway.fleet.in_flight == 0
        assert [task for task in asyncio.all_tasks() - before if not _is_upstreams(task)] == []


def _is_upstreams(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename == vetted_mw.testing.__file__


async def called(gateway: Gateway, **body: Any) -> httpx.Response:
    answered: httpx.Response = await gateway.http_client.post(URL, json=asked(**body))
    return answered


# ---- the call in flight ends


@pytest.mark.parametrize("upstream_is", ["silent", "half"])
async def test_a_json_call_in_flight_ends_when_the_caller_leaves(upstream_is: str) -> None:
    """The upstream's connection closes, the lease is back and the trace is honest, all while the handler still runs."""
    go_on = asyncio.Event()
    answers: list[httpx.Response] = []
    routes: list[Route] = []

    async def handle(request: Request, _receive: Receive) -> None:
        routes.append(request.state.vetted)
        answers.append(await called(gateway))
        await go_on.wait()

    paris = FakeUpstream().then(SILENT if upstream_is == "silent" else HALF)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        answering = asking.start()
        await until(lambda: paris.requests)
        asking.leave()
        await paris.requests[0].left.wait()
        await until(lambda: answers)
        assert gateway.fleet.in_flight == 0
        assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (499, "client_disconnect")
        (attempt,) = routes[0].attempts()
        assert (attempt.outcome, attempt.sent) == ("client_disconnect", True)
        go_on.set()
        await answering
    assert len(paris.requests) == 1


async def test_an_sdk_hears_of_it_at_once_and_repeats_nothing() -> None:
    """The SDK's error comes without a retry, its later calls are refused too, and the upstream has seen one request."""
    errors: list[openai.APIStatusError] = []

    async def handle(_request: Request, _receive: Receive) -> None:
        client = AsyncOpenAI(base_url="http://vetted/v1", api_key="-", http_client=gateway.http_client, max_retries=5)
        for stream in (False, False, True):
            with pytest.raises(openai.APIStatusError) as raised:
                await client.chat.completions.create(model="m", messages=[], stream=stream)
            errors.append(raised.value)

    paris = FakeUpstream().then(SILENT)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        answering = asking.start()
        await until(lambda: paris.requests)
        asking.leave()
        await answering
    assert [error.status_code for error in errors] == [499, 499, 499]
    assert [error.response.headers["x-should-retry"] for error in errors] == ["false"] * 3
    assert len(paris.requests) == 1


async def test_a_stream_being_read_ends_with_an_error_event() -> None:
    """The upstream's connection closes and the SDK raises what the event says; it is the attempt's honest outcome."""
    routes: list[Route] = []
    texts: list[str] = []

    async def handle(request: Request, _receive: Receive) -> None:
        routes.append(request.state.vetted)
        client = AsyncOpenAI(base_url="http://vetted/v1", api_key="-", http_client=gateway.http_client)
        chunks = await client.chat.completions.create(model="m", messages=[], stream=True)
        texts.append((await anext(chunks.__aiter__())).choices[0].delta.content or "")
        with pytest.raises(openai.APIError, match="has left"):
            texts.extend([chunk.choices[0].delta.content or "" async for chunk in chunks])

    paris = FakeUpstream().then(BEGUN)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        answering = asking.start()
        await until(lambda: texts)
        asking.leave()
        await paris.requests[0].left.wait()
        await answering
    assert [attempt.outcome for attempt in routes[0].attempts()] == ["client_disconnect"]
    assert routes[0].account.calls[0].account.observation().completion_status == "client_abort"
    assert len(paris.requests) == 1


async def test_a_stream_nobody_reads_at_the_moment_is_closed_as_well() -> None:
    """A handler that waits for something else between two chunks: the upstream is freed while it waits."""
    go_on = asyncio.Event()
    read: list[bytes] = []

    async def handle(_request: Request, _receive: Receive) -> None:
        async with gateway.http_client.stream("POST", URL, json=asked(stream=True)) as answer:
            async for part in answer.aiter_raw():
                read.append(part)
                await go_on.wait()

    paris = FakeUpstream().then(BEGUN)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        answering = asking.start()
        await until(lambda: read)
        asking.leave()
        await paris.requests[0].left.wait()
        await until(lambda: not gateway.fleet.in_flight)
        assert not answering.done()
        go_on.set()
        await answering
    assert b"client_disconnect" in read[-1]


async def test_every_call_in_flight_ends_and_one_that_waits_its_turn_is_not_sent() -> None:
    """Calls side by side: those under way are cancelled, one that waits for the first is refused."""
    answers: list[httpx.Response] = []

    async def handle(_request: Request, _receive: Receive) -> None:
        answers.extend(await asyncio.gather(*(called(gateway) for _ in range(3))))

    paris = FakeUpstream().then(SILENT)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        answering = asking.start()
        await until(lambda: paris.requests)
        asking.leave()
        await answering
    assert [answer.status_code for answer in answers] == [499] * 3
    assert len(paris.requests) == 1


async def _passed_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


@pytest.mark.parametrize("where", ["outside", "inside"])
async def test_starlettes_own_middleware_around_or_within_hides_nothing(where: str) -> None:
    """`BaseHTTPMiddleware` wraps `receive` in its own: the call ends, whichever side of ours it stands on."""
    answers: list[httpx.Response] = []

    async def handle(request: Request, _receive: Receive) -> None:
        await request.body()
        answers.append(await called(gateway))

    paris = FakeUpstream().then(SILENT)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle, **{where: lambda app: BaseHTTPMiddleware(app, dispatch=_passed_on)})
        answering = asking.start()
        await until(lambda: paris.requests)
        asking.leave()
        await paris.requests[0].left.wait()
        await answering
    assert [answer.status_code for answer in answers] == [499]


# ---- what is not the caller's leaving


async def test_a_handlers_own_limit_on_its_call_stays_its_own() -> None:
    """`asyncio.timeout` around a call raises `TimeoutError`, and the next call is served: the caller is still there."""
    answers: list[httpx.Response] = []

    async def handle(_request: Request, _receive: Receive) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await called(gateway)
        answers.append(await called(gateway))

    paris = FakeUpstream().then(SILENT)
    async with over(paris) as gateway:
        await Asking(gateway, handle).start()
    assert [answer.status_code for answer in answers] == [200]


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("steps", range(8))
async def test_a_server_that_cancels_the_request_gets_its_cancel_back(steps: int, leaves: bool) -> None:
    """With the caller gone or not, cancelled once more at any moment: `CancelledError`, and nothing is left."""

    async def handle(_request: Request, _receive: Receive) -> None:
        await called(gateway)
        await asyncio.Event().wait()

    paris = FakeUpstream().then(SILENT)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        answering = asking.start()
        await until(lambda: paris.requests)
        if leaves:
            asking.leave()
            await asyncio.sleep(0)
        for _ in range(2):
            answering.cancel()
            for _ in range(steps):
                await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await answering
        await paris.requests[0].left.wait()


async def test_a_receive_that_raises_says_nothing_of_the_caller() -> None:
    """The call is answered, and whoever asks for the next message gets the server's error."""
    seen: list[object] = []

    async def handle(request: Request, receive: Receive) -> None:
        await request.body()
        seen.append((await called(gateway)).status_code)
        with pytest.raises(LookupError):
            await receive()

    async with over(FakeUpstream().then(SLOW)) as gateway:
        asking = Asking(gateway, handle)
        asking.says(LookupError())
        await asking.start()
    assert seen == [200]


async def test_a_receive_that_never_waits_cannot_starve_the_call() -> None:
    """A hand-written `receive` that gives an empty body for ever: the call is served all the same."""
    statuses: list[int] = []

    async def handle(_request: Request, _receive: Receive) -> None:
        statuses.append((await called(gateway)).status_code)

    async with over(FakeUpstream()) as gateway:
        asking = Asking(gateway, handle)
        asking.says(*({"type": "http.request", "body": b"", "more_body": False} for _ in range(1000)))
        await asking.start()
        assert asking.asked_for < 5
    assert statuses == [200]


# ---- what the handler sees of its `receive`


async def test_without_a_call_nothing_is_read_but_what_the_handler_reads() -> None:
    """A handler that calls no model sees the body, then the server's own messages; nobody reads ahead."""
    seen: list[Message] = []
    counts: list[int] = []

    async def handle(_request: Request, receive: Receive) -> None:
        seen.append(await receive())
        counts.append(asking.asked_for)
        seen.append(await receive())

    async with over(FakeUpstream()) as gateway:
        asking = Asking(gateway, handle)
        asking.leave()
        await asking.start()
    assert (json.loads(seen[0]["body"])["messages"], seen[1]) == (HELLO, DISCONNECT)
    assert counts == [1]


async def test_messages_that_come_during_a_call_reach_the_handler_in_their_order() -> None:
    """Body first, then all the server said meanwhile, none lost and none twice, and `http.disconnect` from then on."""
    extra: list[Message] = [{"type": "http.request", "body": b"%d" % number, "more_body": True} for number in range(3)]
    seen: list[Message] = []

    async def handle(_request: Request, receive: Receive) -> None:
        await called(gateway)
        seen.extend([await receive() for _ in range(6)])

    async with over(FakeUpstream().then(SLOW)) as gateway:
        asking = Asking(gateway, handle)
        asking.says(*extra, DISCONNECT)
        await asking.start()
    assert seen[0]["type"] == "http.request"
    assert seen[1:] == [*extra, DISCONNECT, DISCONNECT]


@pytest.mark.parametrize("when", ["before a call", "after a call"])
async def test_is_disconnected_answers_at_once_and_loses_nothing(when: str) -> None:
    """Starlette's look at the next message, cancelled as soon as it would wait: False while there, True once gone."""
    told: list[bool] = []

    async def handle(request: Request, _receive: Receive) -> None:
        await request.body()
        if when == "after a call":
            await called(gateway)
        for _ in range(3):
            told.append(await request.is_disconnected())
            await asyncio.sleep(0)
        asking.leave()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        told.append(await request.is_disconnected())

    async with over(FakeUpstream()) as gateway:
        asking = Asking(gateway, handle)
        await asking.start()
    assert told == [False, False, False, True]


async def test_a_handler_that_listens_while_it_calls_hears_it_and_so_do_we() -> None:
    """As `StreamingResponse` does: the only `http.disconnect` of the server ends the call and reaches the listener."""
    heard: list[Message] = []
    answers: list[httpx.Response] = []

    async def handle(_request: Request, receive: Receive) -> None:
        await receive()
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                heard.append(await receive())

            group.start_soon(listen)
            await anyio.lowlevel.checkpoint()  # the listener waits before the call begins
            answers.append(await called(gateway))

    paris = FakeUpstream().then(SILENT)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        answering = asking.start()
        await until(lambda: paris.requests)
        asking.leave()
        await answering
    assert heard == [DISCONNECT]
    assert [answer.status_code for answer in answers] == [499]


async def test_a_listener_that_gives_up_leaves_the_watch_to_us() -> None:
    """A handler stops listening while its call is in flight; that the caller leaves is noticed all the same."""
    answers: list[httpx.Response] = []

    async def handle(_request: Request, receive: Receive) -> None:
        await receive()
        listening = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        calling = asyncio.ensure_future(called(gateway))
        await until(lambda: paris.requests)
        listening.cancel()
        answers.append(await calling)

    paris = FakeUpstream().then(SILENT)
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        answering = asking.start()
        await until(lambda: asking.cancelled)
        asking.leave()
        await answering
    assert [answer.status_code for answer in answers] == [499]


async def test_a_call_after_the_handler_has_heard_of_it_is_refused() -> None:
    """`http.disconnect` read by the handler before its first call: nothing is sent for a caller that has left."""
    answers: list[httpx.Response] = []

    async def handle(_request: Request, receive: Receive) -> None:
        await receive()
        await receive()
        answers.append(await called(gateway))

    paris = FakeUpstream()
    async with over(paris) as gateway:
        asking = Asking(gateway, handle)
        asking.leave()
        await asking.start()
    assert [answer.status_code for answer in answers] == [499]
    assert paris.requests == []


async def test_the_end_of_the_answer_is_no_leaving() -> None:
    """A server that says `http.disconnect` once the answer is whole, as uvicorn does, changes nothing about it."""
    routes: list[Route] = []

    async def handle(request: Request, _receive: Receive) -> None:
        routes.append(request.state.vetted)
        await called(gateway)

    async with over(FakeUpstream()) as gateway:
        asking = Asking(gateway, handle)
        asking.leaves_at_the_end = True
        exchange = await asking.start()
    assert exchange.complete
    assert [attempt.outcome for attempt in routes[0].attempts()] == ["success"]
