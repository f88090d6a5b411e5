"""The threads that look receipts up: a few, and none that keeps a process from ending while a disk hangs."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from vetted_mw.receipts.sealed import StoredReceipt

__all__ = ["Readers"]

_MOST = 2

_Read: TypeAlias = "Callable[[], StoredReceipt | None]"


class Readers:
    """Runs reads on daemon threads, which a `ThreadPoolExecutor` has not: its own are waited for at the exit."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[_Read, Future[StoredReceipt | None]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, read: _Read) -> Future[StoredReceipt | None]:
        """Have `read` run; cancelled before it begins, it does not. Called on one thread."""
        future: Future[StoredReceipt | None] = Future()
        self._queue.put((read, future))
        if len(self._threads) < _MOST:
            thread = threading.Thread(target=self._run, name="vetted-ledger-reader", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def stop(self) -> None:
        """Let the threads end once what is queued is read, without waiting."""
        for _ in self._threads:
            self._queue.put(None)

    def _run(self) -> None:
        while (taken := self._queue.get()) is not None:
            read, future = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(read())
            except BaseException as error:  # noqa: BLE001 (whoever asked hears of it, whatever it is)
                future.set_exception(error)
