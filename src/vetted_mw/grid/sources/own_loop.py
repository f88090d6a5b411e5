"""An event loop in a thread of its own, so that no name lookup, trickle or large body of a service holds up a request.

Name lookups run in daemon threads: one that hangs for minutes neither takes a thread that the application's own lookups
wait for nor keeps the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["OwnLoop", "in_place"]

_Result = TypeVar("_Result")


async def in_place(work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Run `work` where it stands."""
    return await work()


class OwnLoop:
    """Runs work in its thread, which starts at first use. May be closed and used again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run `work` there and return what it returns; cancelled here, it is cancelled there.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            if self._running is None:
                self._running = _started()
            future = asyncio.run_coroutine_threadsafe(work(), self._running.loop)
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        """End the thread once what runs in it has been cancelled; does not wait for a lookup that hangs."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.loop.call_soon_threadsafe(running.loop.stop)
            await asyncio.wrap_future(running.ended)
            running.thread.join()  # it has nothing left to do


class _Running(msgspec.Struct, frozen=True, kw_only=True):
    """A thread, its loop, and what is done when the thread has come to its end."""

    loop: asyncio.AbstractEventLoop
    ended: Future[None]
    thread: threading.Thread


def _started() -> _Running:
    loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
    loop.set_default_executor(_DaemonThreads())
    ended: Future[None] = Future()
    thread = threading.Thread(target=_serve, args=(loop, ended), name="vetted-mw-grid", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system has no thread left; the next refresh tries again
        loop.close()
        raise
    return _Running(loop=loop, ended=ended, thread=thread)


def _serve(loop: asyncio.AbstractEventLoop, ended: Future[None]) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
        ended.set_result(None)


class _DaemonThreads(ThreadPoolExecutor):
    """A thread per call, none of which the end of the process waits for; asyncio takes this kind of executor only."""

    def submit(self, call: Callable[..., _Result], /, *arguments: Any, **named: Any) -> Future[_Result]:
        future: Future[_Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call(*arguments, **named)
            except BaseException as error:  # noqa: BLE001 (whoever waits gets it)
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name="vetted-mw-grid-lookup", daemon=True).start()
        return future
