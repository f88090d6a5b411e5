"""The app the servers under test run, each in a process of its own: the gateway, and a page that tells its gauges.

`VETTED_TEST_TABLES` holds the regions as JSON, `VETTED_TEST_HOST` the framework of an in-app handler; without it the
stand-alone gateway runs.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vetted_mw
from streams.wall import busy_connections
from support import configured
from vetted_mw import Gateway, VettedProxy

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["app"]

_OURS = str(Path(vetted_mw.__file__).parent)


class _Gauged:
    """Runs an app, counts the requests it is answering, and answers `/gauges` itself."""

    def __init__(self, gateway: Gateway, app: ASGIApp) -> None:
        self._gateway = gateway
        self._app = app
        self._answering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == "/gauges":
            await _told(send, self._gauges(scope))
        else:
            self._answering += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._answering -= 1

    def _gauges(self, scope: Scope) -> dict[str, Any]:
        return {
            "in_flight": self._gateway.fleet.in_flight,
            "busy": len(busy_connections(self._gateway)),
            "answering": self._answering,
            "tasks": sum(_is_ours(task) for task in asyncio.all_tasks()),
            "spec_version": scope["asgi"].get("spec_version"),
        }


def _is_ours(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_OURS)


async def _told(send: Send, gauges: dict[str, Any]) -> None:
    body = json.dumps(gauges).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _made() -> ASGIApp:
    gateway = Gateway(configured(json.loads(os.environ["VETTED_TEST_TABLES"])))
    host = os.environ.get("VETTED_TEST_HOST")
    if not host:
        return _Gauged(gateway, VettedProxy(gateway))
    from frameworks.hosts import HOSTS, Spec  # three frameworks and an SDK: only where they are needed
    from frameworks.place import by_sdk

    build, _mount = HOSTS[host]
    return _Gauged(gateway, build(Spec(gateway=gateway, answer=by_sdk(gateway))))


app = _made()
