"""`vetted-mw serve` under orders: SIGTERM drains, SIGHUP reloads, Ctrl-C twice stops at once."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx
import pytest

from cli.commands import LIMIT_SECONDS, Running, await_answer, started
from streams.wall import until
from support import HELLO
from vetted_mw.cli.orders import _Orders
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"model": "m", "messages": HELLO}
STREAM = BODY | {"stream": True}
STOPS = (signal.SIGINT, signal.SIGTERM)


def settings(folder: Path, code: str, url: str, more: str = "") -> None:
    (folder / "vetted.toml").write_text(
        f'default_order = ["{code}"]\n{more}\n[regions.{code}]\nbase_url = "{url}"\nhealth_path = ""\n'
    )


async def origin(serving: Running) -> str:
    """Return where a started gateway listens, once it does."""

    def waited() -> str:
        url = serving.line_with("serving ").rpartition(" on ")[2]
        assert await_answer(f"{url}/healthz").status_code == 200
        return url

    return await anyio.to_thread.run_sync(waited)


async def exit_code(serving: Running) -> int:
    """Wait for its end."""
    return await anyio.to_thread.run_sync(lambda: serving.process.wait(timeout=LIMIT_SECONDS))


async def said(serving: Running, text: str) -> str:
    """Wait until it says something."""
    return await anyio.to_thread.run_sync(serving.line_with, text)


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=LIMIT_SECONDS)


async def lines_of(answer: httpx.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        if line:
            yield line


async def test_told_to_stop_it_refuses_new_requests_and_finishes_those_inside(tmp_path: Path) -> None:
    """SIGTERM in the middle of a stream: a new request gets 503 `shutting_down`, the stream its end; exit code 0."""
    go_on = asyncio.Event()
    first, second, *rest = chat_frames(words=("one", "two"))
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.stream([first, second, go_on, *rest]))
        settings(tmp_path, "scaleway-par-1", paris.base_url)
        with started(tmp_path, "serve", "--port", 0) as serving:
            url = await origin(serving)
            async with client() as one, one.stream("POST", f"{url}/v1/chat/completions", json=STREAM) as answer:
                lines = lines_of(answer)
                received = [await anext(lines)]
                serving.process.send_signal(signal.SIGTERM)
                await said(serving, "shutting down")
                async with client() as other:
                    refused = await other.post(f"{url}/v1/chat/completions", json=BODY)
                    ready = await other.get(f"{url}/readyz")
                go_on.set()
                received += [line async for line in lines]
            code = await exit_code(serving)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
    assert ready.status_code == 503
    assert received[-1] == "data: [DONE]"
    assert code == 0
    assert [line for line in serving.lines if "Traceback" in line] == []


async def test_what_does_not_end_in_time_is_ended_honestly(tmp_path: Path) -> None:
    """After `drain_seconds` a stream gets an error event and a well-formed end, never a cut; exit code 0."""
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        settings(tmp_path, "scaleway-par-1", paris.base_url, "[server]\ndrain_seconds = 0.3")
        with started(tmp_path, "serve", "--port", 0) as serving:
            url = await origin(serving)
            async with client() as one, one.stream("POST", f"{url}/v1/chat/completions", json=STREAM) as answer:
                lines = lines_of(answer)
                received = [await anext(lines)]
                serving.process.send_signal(signal.SIGTERM)
                received += [line async for line in lines]
            code = await exit_code(serving)
    assert '"code":"shutting_down"' in received[-1]
    assert "choices" not in received[-1].partition('"receipt"')[0]
    assert "data: [DONE]" not in received
    assert code == 0


async def test_interrupted_twice_it_stops_at_once(tmp_path: Path) -> None:
    """Ctrl-C, and again: nobody waits for `drain_seconds`, and the stream still gets its honest end."""
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        settings(tmp_path, "scaleway-par-1", paris.base_url, "[server]\ndrain_seconds = 3600")
        with started(tmp_path, "serve", "--port", 0) as serving:
            url = await origin(serving)
            async with client() as one, one.stream("POST", f"{url}/v1/chat/completions", json=STREAM) as answer:
                lines = lines_of(answer)
                await anext(lines)
                serving.process.send_signal(signal.SIGINT)
                await said(serving, "shutting down")
                serving.process.send_signal(signal.SIGINT)
                rest = [line async for line in lines]
            assert await exit_code(serving) == 0
    assert '"code":"shutting_down"' in rest[-1]


@pytest.mark.parametrize("workers", [1, 2])
async def test_hang_up_reloads_and_streams_go_on(workers: int, tmp_path: Path) -> None:
    """SIGHUP with other settings: the next request goes the new way, a stream that was open ends well, by worker."""
    go_on = asyncio.Event()
    first, second, *rest = chat_frames(words=("one", "two"))
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(FakeAnswer.stream([first, second, go_on, *rest]))
        settings(tmp_path, "scaleway-par-1", paris.base_url)
        with started(tmp_path, "serve", "--port", 0, "--workers", workers) as serving:
            url = await origin(serving)
            async with client() as one, one.stream("POST", f"{url}/v1/chat/completions", json=STREAM) as answer:
                lines = lines_of(answer)
                received = [await anext(lines)]
                settings(tmp_path, "ovh-gra-1", gravelines.base_url)
                serving.process.send_signal(signal.SIGHUP)
                await until(lambda: sum("the settings were reloaded" in line for line in serving.lines) >= workers)
                regions = set()
                async with client() as other:
                    for _ in range(6):
                        told = await other.post(
                            f"{url}/v1/chat/completions", json=BODY, headers={"connection": "close"}
                        )
                        regions.add(told.json()["routing_trace"]["region"])
                go_on.set()
                received += [line async for line in lines]
            serving.process.send_signal(signal.SIGTERM)
            assert await exit_code(serving) == 0
    assert regions == {"ovh-gra-1"}
    assert received[-1] == "data: [DONE]"
    assert len(paris.requests) == 1


@pytest.mark.parametrize(
    ("more", "why"),
    [("receipt_kee = 'x'", "receipt_kee"), ("[server]\nport = 'x'", "server.port")],
    ids=["unknown key", "wrong type"],
)
async def test_settings_that_cannot_be_used_change_nothing(more: str, why: str, tmp_path: Path) -> None:
    """SIGHUP with a mistake in the file: the log names the key, and the old settings serve on."""
    async with FakeUpstream() as paris:
        settings(tmp_path, "scaleway-par-1", paris.base_url)
        with started(tmp_path, "serve", "--port", 0) as serving:
            url = await origin(serving)
            settings(tmp_path, "ovh-gra-1", "http://127.0.0.1:9/v1", more)
            serving.process.send_signal(signal.SIGHUP)
            line = await said(serving, "the settings were not reloaded, nothing has changed")
            async with client() as one:
                told = await one.post(f"{url}/v1/chat/completions", json=BODY)
    assert why in line
    assert told.json()["routing_trace"]["region"] == "scaleway-par-1"


async def test_a_reload_never_opens_the_door(tmp_path: Path) -> None:
    """Callers taken out of the settings of a gateway that others can reach: refused, and the lock stays on."""
    async with FakeUpstream() as paris:
        locked = '[callers.team]\nkey = { env = "TEAM_KEY" }'
        settings(tmp_path, "scaleway-par-1", paris.base_url, locked)
        environ = {"TEAM_KEY": "team-key"}
        with started(tmp_path, "serve", "--host", "0.0.0.0", "--port", 0, environ=environ) as serving:
            url = (await anyio.to_thread.run_sync(serving.line_with, "serving ")).rpartition(" on ")[2]
            url = url.replace("0.0.0.0", "127.0.0.1")
            await anyio.to_thread.run_sync(await_answer, f"{url}/healthz")
            settings(tmp_path, "scaleway-par-1", paris.base_url)
            serving.process.send_signal(signal.SIGHUP)
            line = await said(serving, "the settings were not reloaded")
            async with client() as one:
                refused = await one.post(f"{url}/v1/chat/completions", json=BODY)
    assert "server.host" in line
    assert refused.status_code == 401


async def test_a_file_that_is_written_anew_is_read_without_an_order(tmp_path: Path) -> None:
    """The settings file is watched: no signal is needed."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        settings(tmp_path, "scaleway-par-1", paris.base_url)
        with started(tmp_path, "serve", "--port", 0) as serving:
            url = await origin(serving)
            settings(tmp_path, "ovh-gra-1", gravelines.base_url)
            await said(serving, "the settings were reloaded")
            async with client() as one:
                told = await one.post(f"{url}/v1/chat/completions", json=BODY)
    assert told.json()["routing_trace"]["region"] == "ovh-gra-1"


async def test_a_reload_order_while_workers_start_ends_none(tmp_path: Path) -> None:
    """SIGHUP before the workers have come so far: each reloads once it has started, none is ended and started anew."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        settings(tmp_path, "scaleway-par-1", paris.base_url)
        with started(tmp_path, "serve", "--port", 0, "--workers", 2) as serving:
            await said(serving, "serving ")
            settings(tmp_path, "ovh-gra-1", gravelines.base_url)
            serving.process.send_signal(signal.SIGHUP)
            try:
                await until(lambda: sum("the settings were reloaded" in line for line in serving.lines) >= 2)
            finally:  # whatever became of it, no worker outlives its parent
                serving.process.send_signal(signal.SIGTERM)
                code = await exit_code(serving)
            assert code == 0


async def test_a_reload_order_during_a_reload_is_carried_out_after_it(caplog: pytest.LogCaptureFixture) -> None:
    """What was written after the first reload had read the file is read by the second, however many orders came."""
    go_on = asyncio.Event()
    reloads: list[int] = []

    class Slow:
        in_flight = 0

        async def reload_or_tell(self) -> bool:
            reloads.append(len(reloads))
            if len(reloads) == 1:
                await go_on.wait()
                raise OSError
            return True

    orders = _Orders(Slow(), hurry=lambda: None)  # type: ignore[arg-type]
    with orders.taken():
        signal.raise_signal(signal.SIGHUP)
        await until(lambda: reloads)
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
            await asyncio.sleep(0.01)
        go_on.set()
        await until(lambda: len(reloads) == 2)
        await asyncio.sleep(0.05)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    assert reloads == [0, 1]
    assert [record.__dict__["error"] for record in caplog.records] == ["OSError"]


async def test_a_second_interrupt_hurries_what_is_waited_for() -> None:
    """Ctrl-C again is somebody who cannot wait; SIGTERM again may be a worker's parent, and hurries nobody."""
    hurried: list[str] = []
    passed_on: list[int] = []

    class Drained:
        in_flight = 0

        async def drain(self, _seconds: float | None) -> None:
            return

    servers = {number: signal.signal(number, lambda number, _: passed_on.append(number)) for number in STOPS}
    try:
        with _Orders(Drained(), hurry=lambda: hurried.append("now")).taken():  # type: ignore[arg-type]
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: len(passed_on) == 1)
            assert hurried == []
            signal.raise_signal(signal.SIGINT)
            await until(lambda: hurried == ["now"] and len(passed_on) == 2)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            await until(lambda: hurried == ["now", "now"])
    finally:
        for number, handler in servers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
