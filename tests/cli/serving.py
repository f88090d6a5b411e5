"""A running `vetted-mw serve` for async tests: where it listens, questions to it, and an orderly end whatever happens."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx

from cli.commands import LIMIT_SECONDS, Running, await_answer, started
from support import HELLO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

__all__ = ["BODY", "asked", "completed", "hidden", "serving", "write_settings"]

BODY: dict[str, Any] = {"model": "m", "messages": HELLO}


def write_settings(folder: Path, url: str, more: str = "") -> None:
    (folder / "vetted.toml").write_text(f'{more}\n[regions.scaleway-par-1]\nbase_url = "{url}"\nhealth_path = ""\n')


@contextlib.asynccontextmanager
async def serving(
    folder: Path, *, workers: int = 1, environ: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Running, str]]:
    """Yield the process and its origin; at the end it is told to stop and does so in order.

    Never killed: a parent that is killed leaves its workers behind.
    """
    with started(folder, "serve", "--port", 0, "--workers", workers, environ=environ) as running:
        try:
            yield running, await anyio.to_thread.run_sync(_origin, running)
        finally:
            code = await anyio.to_thread.run_sync(running.stopped_by, signal.SIGTERM)
    assert code == 0
    assert [line for line in running.lines if "Traceback" in line] == []


def _origin(running: Running) -> str:
    url = running.line_with("serving ").rpartition(" on ")[2]
    assert await_answer(f"{url}/healthz").status_code == 200
    return url


async def asked(url: str, method: str = "GET", **options: Any) -> httpx.Response:
    """Ask on a connection of its own, so that any worker may answer."""
    async with httpx.AsyncClient(trust_env=False, timeout=LIMIT_SECONDS) as client:
        return await client.request(method, url, **options)


async def completed(url: str, *, key: str = "") -> None:
    """Have one completion answered; it may not have been counted yet."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    assert (await asked(f"{url}/v1/chat/completions", "POST", json=BODY, headers=headers)).status_code == 200


def hidden(folder: Path, *modules: str) -> dict[str, str]:
    """Return an environment in which `modules` are not installed, for a process and those it starts."""
    lines = [f"sys.modules[{module!r}] = None" for module in modules]
    (folder / "sitecustomize.py").write_text("\n".join(["import sys", *lines]))
    return {"PYTHONPATH": str(folder)}
