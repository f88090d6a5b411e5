"""ASGI messages at the rim: bodies in pieces, callers that leave, servers of either generation that say so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support import proxied
from vetted_mw.asgi.intake import CallerLeftError, Inflow, read_body
from vetted_mw.asgi.leaving import UntilCallerLeaves
from vetted_mw.asgi.sending import Sender
from vetted_mw.configuration import Limits
from vetted_mw.errors import BodyTooLargeError, BodyTooSlowError, InvalidJSONError
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames
from wire.clients import COMPLETIONS, PARIS, chat

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from starlette.types import Message, Receive

pytestmark = pytest.mark.anyio

DISCONNECT = {"type": "http.disconnect"}


def part(body: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def received(*messages: Message, then_wait: bool = False) -> Receive:
    """A server that has these messages, and then nothing more to say or to wait for."""
    left = list(messages)

    async def receive() -> Message:
        if left:
            return left.pop(0)
        if then_wait:
            await asyncio.Event().wait()
        raise AssertionError("read after the end")

    return receive


def scope_with(*headers: tuple[bytes, bytes], version: str = "1.1") -> dict[str, Any]:
    return {"type": "http", "http_version": version, "headers": list(headers)}


# ---- reading


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([part(b"abcdef")], id="one"),
        pytest.param([part(b"abc", more=True), part(b"def")], id="two"),
        pytest.param([part(more=True), part(b"abcdef", more=True), part()], id="empty ones around"),
        pytest.param([{"type": "http.request", "body": b"abcdef"}], id="more_body left out"),
        pytest.param([part(b"abcdef", more=True), {"type": "http.request"}], id="both left out"),
    ],
)
async def test_a_body_is_the_sum_of_its_messages(messages: list[Message]) -> None:
    """However a server cuts a body, it is read once and to its end, and nothing is asked for after that."""
    body = await read_body(Inflow(scope_with(), received(*messages), Limits()), Limits())
    assert body.raw == body.content == b"abcdef"


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    """Not one message is taken for a body that says it is too large."""
    limits = Limits(max_body_bytes=10)
    for length in (b"11", b"9" * 300):
        with pytest.raises(BodyTooLargeError):
            await read_body(Inflow(scope_with((b"content-length", length)), received(), limits), limits)


async def test_reading_stops_at_the_message_that_passes_the_limit() -> None:
    """What comes after the limit is not asked for."""
    limits = Limits(max_body_bytes=10)
    with pytest.raises(BodyTooLargeError):
        await read_body(
            Inflow(scope_with(), received(part(b"x" * 6, more=True), part(b"x" * 6, more=True)), limits), limits
        )


async def test_the_limit_holds_on_the_wire_too() -> None:
    """A packed body that decodes to nothing, block after empty block, still ends at the limit."""
    limits = Limits(max_body_bytes=1000)
    empty_blocks = part(b"\x00\x00\x00\xff\xff" * 50, more=True)
    with pytest.raises(BodyTooLargeError):
        await read_body(
            Inflow(scope_with((b"content-encoding", b"deflate")), received(*[empty_blocks] * 5), limits), limits
        )


async def test_a_body_that_does_not_go_on_is_given_up() -> None:
    """`body_read_seconds` bounds the whole body."""
    limits = Limits(body_read_seconds=0.05)
    with pytest.raises(BodyTooSlowError, match=r"0\.05 seconds"):
        await read_body(Inflow(scope_with(), received(part(b"x", more=True), then_wait=True), limits), limits)


async def test_a_body_that_never_begins_is_given_up() -> None:
    """`body_read_seconds` counts from the first wait on."""
    limits = Limits(body_read_seconds=0.05)
    with pytest.raises(BodyTooSlowError):
        await read_body(Inflow(scope_with(), received(then_wait=True), limits), limits)


async def test_a_body_at_hand_is_measured_too() -> None:
    """A body that came whole with its headers, and said nothing of its length, is still refused over the limit."""
    limits = Limits(max_body_bytes=10)
    with pytest.raises(BodyTooLargeError):
        await read_body(Inflow(scope_with(), received(part(b"x" * 11)), limits), limits)


async def test_a_body_is_bytes_whatever_the_server_gives() -> None:
    """A server's own buffer, which it may fill again, is not held on to."""
    for first in ([part(bytearray(b"ab"))], [part(bytearray(b"a"), more=True), part(memoryview(b"b"))]):  # type: ignore[arg-type]
        body = await read_body(Inflow(scope_with(), received(*first), Limits()), Limits())
        assert type(body.content) is bytes
        assert body.content == b"ab"


class Later:
    """What some servers' `receive` returns: an awaitable that is no coroutine."""

    def __init__(self, message: Message) -> None:
        self.message = message

    def __await__(self) -> Generator[Any, None, Message]:
        yield from asyncio.sleep(0).__await__()
        return self.message


@pytest.mark.parametrize("first_at_hand", [True, False])
async def test_a_body_is_read_through_whatever_can_be_awaited(*, first_at_hand: bool) -> None:
    """A future and an awaitable of the server's own do as well as a coroutine, first or later."""
    future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    future.set_result(part(b"b", more=True))
    left: list[Any] = [Later(part(b"a", more=True)), future, Later(part(b"c"))]
    if first_at_hand:
        left.insert(0, received(part(b"0", more=True))())
    body = await read_body(Inflow(scope_with(), lambda: left.pop(0), Limits()), Limits())
    assert body.content == b"0abc"[0 if first_at_hand else 1 :]


@pytest.mark.parametrize("waits", [1, 3])
async def test_a_body_may_come_after_any_number_of_waits(waits: int) -> None:
    """What a server waits for before its first message is waited for in its own `receive`, in our task and context."""
    seen: list[asyncio.Task[Any] | None] = []

    async def receive() -> Message:
        for _ in range(waits):
            await asyncio.sleep(0.001)
            seen.append(asyncio.current_task())
        return part(b"abc")

    assert (await read_body(Inflow(scope_with(), receive, Limits()), Limits())).content == b"abc"
    assert seen == [asyncio.current_task()] * waits


@pytest.mark.parametrize("waits_again", [True, False])
async def test_a_server_hears_of_a_cancel_in_its_first_wait(*, waits_again: bool) -> None:
    """A cancel goes to what waits, and what that makes of it counts: one that goes on is let go on."""
    heard: list[str] = []
    begun = asyncio.Event()

    async def receive() -> Message:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            if waits_again:
                await asyncio.sleep(0)
        return part(b"late")

    reading = asyncio.ensure_future(read_body(Inflow(scope_with(), receive, Limits()), Limits()))
    await begun.wait()
    reading.cancel()
    assert (await reading).content == b"late"
    assert heard == ["cancelled"]


async def test_a_cancelled_read_ends_in_its_first_wait() -> None:
    """Where the server does nothing about it, the cancel ends the read as at any other wait."""
    begun = asyncio.Event()

    async def receive() -> Message:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    reading = asyncio.ensure_future(read_body(Inflow(scope_with(), receive, Limits()), Limits()))
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_what_a_server_raises_in_its_first_wait_is_raised() -> None:
    """An error of the server's comes through as its own, before and after the first wait."""

    async def receive() -> Message:
        await asyncio.sleep(0)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await read_body(Inflow(scope_with(), receive, Limits()), Limits())


async def test_a_caller_that_leaves_in_its_body_is_not_answered() -> None:
    """A disconnect in the middle of a body ends the request: nothing is sent, to nobody."""
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        for path in (COMPLETIONS, "/v1/vetted/explain"):
            scope = scope_with((b"content-type", b"application/json")) | {"method": "POST", "path": path}
            await app(scope, received(part(b"{", more=True), DISCONNECT), never_sent)
    assert paris.requests == []


async def never_sent(message: Message) -> None:
    raise AssertionError(message)


# ---- what is left of a body that was turned away


@pytest.mark.parametrize(
    ("headers", "version", "ended"),
    [
        pytest.param([], "1.1", True, id="no body announced"),
        pytest.param([(b"content-length", b"0")], "1.1", True, id="an empty one"),
        pytest.param([(b"content-length", b"5")], "1.1", False, id="a length"),
        pytest.param([(b"transfer-encoding", b"chunked")], "1.1", False, id="chunks"),
        pytest.param([(b"content-length", b"5")], "2", True, id="HTTP/2"),
    ],
)
async def test_a_body_may_be_on_its_way_only_where_it_was_announced(
    headers: list[tuple[bytes, bytes]], version: str, *, ended: bool
) -> None:
    """Only an HTTP/1 connection has to be closed over an unread body."""
    assert Inflow(scope_with(*headers, version=version), received(), Limits()).ended is ended


async def test_what_is_left_of_a_body_is_thrown_away_up_to_its_end() -> None:
    """The rest of a body that was turned away is taken until its last message, and no further."""
    scope = scope_with((b"content-length", b"30"))
    inflow = Inflow(scope, received(part(b"x" * 10, more=True), part(b"x" * 10, more=True), part(b"x" * 10)), Limits())
    await inflow.discard()
    assert inflow.ended


async def test_a_body_without_end_is_thrown_away_for_a_while_only() -> None:
    """The rest of an endless body is bounded by bytes, that of a silent caller by time."""
    taken = 0

    async def endless() -> Message:
        nonlocal taken
        taken += 1
        return part(b"x" * 1_048_576, more=True)

    scope = scope_with((b"transfer-encoding", b"chunked"))
    await Inflow(scope, endless, Limits()).discard()
    assert 16 <= taken <= 64
    silent = Inflow(scope, received(then_wait=True), Limits(body_read_seconds=0.05))
    await silent.discard()
    assert not silent.ended


async def test_an_error_is_whole_before_the_rest_of_the_body_is_awaited() -> None:
    """The caller has the complete answer in hand while its unread body is thrown away."""
    sent: list[Message] = []

    async def receive() -> Message:
        assert b"".join(message.get("body", b"") for message in sent)  # the answer's bytes are out
        return part(b"x")

    async def send(message: Message) -> None:
        sent.append(message)

    inflow = Inflow(scope_with((b"content-length", b"1")), receive, Limits())
    await Sender(send).error(InvalidJSONError("no"), headers=[], trace=None, inflow=inflow)
    headers = dict(sent[0]["headers"])
    assert headers[b"connection"] == b"close"
    body = b"".join(message.get("body", b"") for message in sent[1:])
    assert int(headers[b"content-length"]) == len(body)
    assert sent[-1]["more_body"] is False


async def test_an_error_after_a_whole_body_keeps_the_connection() -> None:
    """Where nothing is left to read, the next request may use the connection."""
    async with proxied({PARIS: "http://127.0.0.1:9/v1"}) as app:
        exchange = await asgi_exchange(app, body=b"{", headers=[("content-length", "1")])
    assert exchange.status == 400
    assert "connection" not in exchange.headers


# ---- a caller that leaves


async def test_the_block_is_cancelled_when_the_caller_leaves() -> None:
    """`http.disconnect` ends the wait at once and shows as `CallerLeftError`; other messages before it do not."""
    async with asyncio.timeout(20):
        with pytest.raises(CallerLeftError):
            async with UntilCallerLeaves(received(part(), DISCONNECT)):
                await asyncio.Event().wait()


async def test_a_block_that_ends_before_the_caller_leaves_is_left_alone() -> None:
    """Without a disconnect the block's end, or its exception, is its own, and the watch is over with it."""
    before = asyncio.all_tasks()
    async with UntilCallerLeaves(received(then_wait=True)):
        pass
    with pytest.raises(KeyError):
        async with UntilCallerLeaves(received(then_wait=True)):
            raise KeyError
    assert asyncio.all_tasks() == before


async def test_a_cancel_from_outside_goes_its_own_way() -> None:
    """Cancelling the request's task is not mistaken for a caller that left."""
    inside = asyncio.Event()

    async def work() -> None:
        async with UntilCallerLeaves(received(then_wait=True)):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    async with asyncio.timeout(20):
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelled()


async def test_a_cancel_from_outside_wins_over_a_caller_that_left() -> None:
    """Both at once: the task ends as cancelled, since somebody above asked for it."""
    gone = asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return DISCONNECT

    async def work() -> None:
        async with UntilCallerLeaves(receive):
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    gone.set()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_exception_of_the_block_wins_over_a_caller_that_left() -> None:
    """What the block makes of its cancel is kept, and the cancel is taken back."""

    async def work() -> None:
        async with UntilCallerLeaves(received(DISCONNECT)):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError from None

    task = asyncio.current_task()
    assert task is not None
    async with asyncio.timeout(20):
        with pytest.raises(KeyError):
            await work()
    assert task.cancelling() == 0


@pytest.mark.parametrize("left", [False, True], ids=["cancelled from outside", "the caller left"])
async def test_whatever_comes_while_the_watch_is_ending_is_told_apart(*, left: bool) -> None:
    """A server's `receive` may be slow to let go; a cancel meanwhile is the outside's, a disconnect the caller's."""
    ending = asyncio.Event()

    async def receive() -> Message:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ending.set()
            if left:
                return DISCONNECT
            await asyncio.sleep(0.05)
            raise
        raise AssertionError

    async def work() -> None:
        async with UntilCallerLeaves(receive):
            await asyncio.sleep(0)

    task = asyncio.ensure_future(work())
    async with asyncio.timeout(20):
        await ending.wait()
        if not left:
            task.cancel()
        with pytest.raises(CallerLeftError if left else asyncio.CancelledError):
            await task


async def test_a_caller_that_leaves_at_the_very_end_is_still_noticed() -> None:
    """A disconnect that comes while the block is already ending never cancels what follows the block."""
    gone = asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return DISCONNECT

    async with asyncio.timeout(20):
        try:
            async with UntilCallerLeaves(receive):
                gone.set()
                await asyncio.sleep(0)
        except CallerLeftError:
            pass
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


# ---- servers that say it by an exception


def refusing(at: int) -> tuple[list[Message], Callable[[Message], Any]]:
    """A `send` of an ASGI 2.4 server whose caller is gone from the n-th message on."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if len(sent) >= at:
            raise OSError("the peer is gone")
        sent.append(message)

    return sent, send


async def driven(app: Any, body: bytes, send: Any) -> None:
    scope = scope_with((b"content-type", b"application/json")) | {
        "method": "POST",
        "path": COMPLETIONS,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    async with asyncio.timeout(20):
        await app(scope, received(part(body), then_wait=True), send)


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("stream", [b"true", b"false"], ids=["stream", "json"])
async def test_a_server_that_refuses_to_send_ends_the_request_quietly(
    at: int, stream: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """`OSError` from `send` is a caller that left: no exception reaches the server, no error is logged."""
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        paris.then(FakeAnswer.stream([*chat_frames()[:2], 0.02, *chat_frames()[2:]])) if stream == b"true" else None
        sent, send = refusing(at)
        await driven(app, b'{"model":"m","messages":[],"stream":%s}' % stream, send)
    assert len(sent) == at
    told = [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}]
    assert not [record for record in told if "not signed" not in record.message]  # that was at the start


@pytest.mark.parametrize("at", [0, 1])
async def test_an_error_answer_nobody_takes_is_dropped(at: int) -> None:
    """The same holds for error answers, of completions and of the endpoints."""
    async with proxied({PARIS: "http://127.0.0.1:9/v1"}) as app:
        sent, send = refusing(at)
        await driven(app, b"{", send)
        assert len(sent) == at
        sent, send = refusing(at)
        await app(scope_with() | {"method": "GET", "path": "/nowhere"}, received(then_wait=True), send)
        assert len(sent) == at


async def test_a_fault_after_the_answer_has_begun_leaves_it_unfinished(caplog: pytest.LogCaptureFixture) -> None:
    """Once bytes are out there is no honest error answer: the response stays unfinished, and the log says where it broke."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if len(sent) == 1:
            raise LookupError("canary")
        sent.append(message)

    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        await driven(app, b'{"model":"m","messages":[]}', send)
    assert [message["type"] for message in sent] == ["http.response.start"]
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert record.__dict__["error"] == "LookupError"
    assert "canary" not in str(record.__dict__)


async def test_a_completion_is_answered_once_even_if_its_receive_goes_on() -> None:
    """Messages a server repeats after the body do not disturb the answer."""
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        exchange = await asgi_exchange(app, json=chat())
    assert [message["type"] for message in exchange.messages] == ["http.response.start", "http.response.body"]
    assert exchange.complete
