"""`vetted-mw serve` with one more path, `GET /soak/gauges`: what the served process holds. Not a part of the product.

Run it as the command: `python -m soak.served serve --config FILE --port PORT`. The command itself, its server and its
app are the real ones; only the app's factory is wrapped.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from vetted_mw.cli import main
from vetted_mw.gateway import Gateway

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Watched", "gauges_of"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_EXECUTORS = ("asyncio_", "uvloop_")


class _Counted(SpanProcessor):
    """Counts spans and keeps none."""

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0

    def on_start(self, span: object, parent_context: object = None) -> None:  # noqa: ARG002 (OpenTelemetry's signature)
        self.started += 1

    def on_end(self, span: object) -> None:  # noqa: ARG002
        self.ended += 1


class Watched:
    """The app, with the path for its gauges."""

    def __init__(self, app: ASGIApp, spans: _Counted) -> None:
        self._app = app
        self._spans = spans
        self._gateway = _gateway_of(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for the gauges; everything else is the app's."""
        if scope["type"] != "http" or scope["path"] != "/soak/gauges":
            await self._app(scope, receive, send)
            return
        core = await self._gateway.core()
        if core.ledger is not None:  # its thread opens the file in its own time, and three descriptors stay
            await core.ledger.is_ready()
        told = gauges_of(self._gateway) | {"spans": self._spans.started - self._spans.ended}
        if scope["query_string"] == b"types":
            told["types"] = Counter(type(one).__qualname__ for one in gc.get_objects()).most_common(60)
        body = json.dumps(told | {"span_total": self._spans.started}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def gauges_of(gateway: Gateway) -> dict[str, Any]:
    """Return what the process holds now.

    Requests, former configurations, leases, busy slots (upstream connections in use) and idle ones; tasks by what they
    run, the asking one apart; open descriptors, threads by name, resident memory in bytes, objects the collector knows
    of after a collection.
    """
    gc.collect()
    core = gateway._core  # noqa: SLF001 (no public way to look inside, on purpose)
    former = gateway._former  # noqa: SLF001
    cores = [*former._cores, *(() if core is None else (core,))]  # noqa: SLF001
    transports: list[Any] = list({id(door): door for one in cores for door in one.transports.values()}.values())
    tasks = Counter(_coroutine(task) for task in asyncio.all_tasks() if task is not asyncio.current_task())
    return {
        "requests": gateway.in_flight,
        "former": len(former),
        "leases": gateway.fleet.in_flight,
        "slots": sum(len(transport._busy) for transport in transports),  # noqa: SLF001
        "idle": sum(len(transport._idle) for transport in transports),  # noqa: SLF001
        "tasks": dict(tasks),
        "descriptors": _descriptors(),
        # Threads of the loop's own executor come at need, up to a handful, and stay.
        "threads": dict(Counter(one.name for one in threading.enumerate() if not one.name.startswith(_EXECUTORS))),
        "rss": int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE,
        "objects": len(gc.get_objects()),
    }


def _descriptors() -> int:
    """Count open descriptors, one for a database that has two.

    SQLite keeps the descriptor of a closed connection for as long as another one to the same file is open, since to
    close it would drop the other's locks (POSIX), and gives it to the next: after a reload there may be one.
    """
    opened: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (names only)
        with contextlib.suppress(FileNotFoundError):  # the listing's own, closed by now
            opened[os.readlink(f"/proc/self/fd/{name}")] += 1  # noqa: PTH115 (a socket's is no path)
    return sum(1 if count == 2 and target.endswith(".sqlite3") else count for target, count in opened.items())  # noqa: PLR2004


def _coroutine(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", repr(task))


def _gateway_of(app: Any) -> Gateway:
    """Find the gateway under an app that wraps another."""
    while not isinstance(gateway := getattr(app, "_gateway", None), Gateway):
        app = app._app  # noqa: SLF001
    return gateway


def _watched(**options: Any) -> Watched:
    spans = _Counted()
    provider = TracerProvider()
    provider.add_span_processor(spans)
    trace.set_tracer_provider(provider)
    return Watched(_create_app(**options), spans)


# By name: the package's own attribute `serve` is the function.
_COMMAND: Any = importlib.import_module("vetted_mw.cli.serve")
_create_app = _COMMAND.create_app

if __name__ == "__main__":
    _COMMAND.create_app = _watched  # uvicorn looks it up by name
    sys.exit(main())
