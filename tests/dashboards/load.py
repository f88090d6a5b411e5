"""Everything a gateway can go through, once a round: each outcome, mode and receipt that a dashboard has a place for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from streams.wall import LIMIT, until
from support import HELLO
from vetted_mw.testing import FakeAnswer, chat_frames

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

    from vetted_mw.testing import FakeUpstream

__all__ = ["DOWN", "MODELS", "ZONES", "Load", "settings_text"]

PARIS, GRAVELINES, STOCKHOLM, ICELAND = "scaleway-par-1", "ovh-gra-1", "atnorth-sto-1", "atnorth-isl-1"
DOWN = "ovh-rbx-1"
"""Nobody listens there."""

MODELS = {
    PARIS: ("demo-8b", "unheard-of"),
    GRAVELINES: ("demo-8b",),
    STOCKHOLM: ("demo-8b",),
    ICELAND: ("island-8b",),
    DOWN: ("down-8b",),
}
ZONES = {"FR": 60.0, "SE_3": 20.0}
"""Iceland's grid is not measured: its receipts use the annual average, and carbon-aware finds nothing to go by."""


def settings_text(base_urls: Mapping[str, str], *, signals: Path, ledger: Path) -> str:
    """Return the settings of a gateway over these upstreams, with a live grid signal for France and Sweden."""
    known = sorted({model for models in MODELS.values() for model in models} - {"unheard-of"})
    sizes = "active_params_b = 8.0\ntotal_params_b = 8.0\nbytes_per_param = 2\n"
    return "\n".join(
        [
            f"default_order = {json.dumps([PARIS, GRAVELINES, ICELAND, DOWN])}",
            '[receipts]\nissuer = "test"\nunknown_model = "null"',
            f'[ledger]\npath = {json.dumps(str(ledger))}\npolicy = "fail_closed"',
            f"[signals.sources.file]\npath = {json.dumps(str(signals))}\nmax_age_minutes = 180",
            *(f'[models."{model}"]\n{sizes}' for model in known),
            *(
                f'[regions.{code}]\nbase_url = "{url}"\nmodels = {json.dumps(MODELS[code])}'
                for code, url in base_urls.items()
            ),
            "",
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Sends rounds of requests to gateways over the same upstreams.

    Attributes:
        upstreams: by region.
        client: what sends them.
    """

    upstreams: Mapping[str, FakeUpstream]
    client: httpx.AsyncClient

    async def round(self, base_url: str) -> None:
        """Send one request of each kind, one after another, and check that each ended as it should."""
        carbon_aware = {"routing": "carbon_aware"}
        await self._ask(base_url, status=200)
        await self._ask(base_url, status=200, stream=True)
        await self._ask(base_url, status=200, vetted={"region": GRAVELINES})
        await self._ask(base_url, status=200, vetted=carbon_aware, mode="live")
        await self._ask(base_url, status=200, vetted=carbon_aware, mode="degraded", model="island-8b")
        await self._ask(base_url, status=200, model="unheard-of")
        await self._ask(base_url, status=400, vetted={"region": "nowhere-1"})
        await self._ask(base_url, status=(502, 503), model="down-8b", mode="unavailable")  # tried, or known to be down
        await self._ask(base_url, status=503, model="down-8b", vetted={"region": DOWN}, mode="unavailable")
        self.upstreams[PARIS].then(FakeAnswer.json({}, status=500))
        await self._ask(base_url, status=200, mode="failover")
        self.upstreams[GRAVELINES].then(FakeAnswer.stream(chat_frames(done=False)[:3], ending="cut"))
        await self._ask(base_url, status=200, vetted={"region": GRAVELINES}, stream=True)
        self.upstreams[PARIS].then(FakeAnswer.stream(chat_frames()[:3], ending="stall"))
        await self._leave(base_url)

    async def lose_a_receipt(self, base_url: str, ledger: Path) -> None:
        """Let the ledger be locked while an answer is on its way: paid for, and its receipt cannot be kept."""
        may_answer = asyncio.Event()
        frames = chat_frames()
        self.upstreams[PARIS].then(FakeAnswer.stream([may_answer, *frames]))
        seen = len(self.upstreams[PARIS].requests)
        asking = asyncio.create_task(self._ask(base_url, status=200, stream=True))
        await until(lambda: len(self.upstreams[PARIS].requests) > seen)
        with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            may_answer.set()
            answer = await asking
            other.execute("ROLLBACK")
        assert "ledger_unavailable" in answer
        async with asyncio.timeout(LIMIT):
            while not await self._is_ready(base_url):  # noqa: ASYNC110 (it looks again by itself, and says so when asked)
                await asyncio.sleep(0.05)

    async def _is_ready(self, base_url: str) -> bool:
        answer = await self.client.get(base_url.removesuffix("/v1") + "/readyz")
        return answer.status_code == HTTPStatus.OK

    async def _ask(
        self,
        base_url: str,
        *,
        status: int | tuple[int, ...],
        model: str = "demo-8b",
        vetted: Mapping[str, str] | None = None,
        stream: bool = False,
        mode: str | None = None,
    ) -> str:
        answer = await self.client.post(f"{base_url}/chat/completions", json=_body(model, vetted, stream=stream))
        assert answer.status_code in (status if isinstance(status, tuple) else (status,)), answer.text
        if mode is not None:
            assert answer.json()["routing_trace"]["decision_mode"] == mode, answer.text
        return answer.text

    async def _leave(self, base_url: str) -> None:
        """Go away after the first content of a stream that never ends, and wait until the upstream has noticed."""
        body = _body("demo-8b", None, stream=True)
        async with self.client.stream("POST", f"{base_url}/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            await anext(answer.aiter_lines())
        async with asyncio.timeout(LIMIT):
            await self.upstreams[PARIS].requests[-1].left.wait()


def _body(model: str, vetted: Mapping[str, str] | None, *, stream: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": HELLO, "stream": stream}
    return body if vetted is None else body | {"vetted": dict(vetted)}
