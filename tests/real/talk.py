"""Talk to a gateway as a plain HTTP client does, tell it what the grid is like, and compare with the servers' own logs."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from real.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from real.processes import GatewayProcess, LlamaServer

__all__ = ["Grid", "Told", "World", "ask"]

PROMPT = [{"role": "user", "content": "Where does the power come from?"}]
TOKENS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a caller was told, streamed or not.

    Attributes:
        status: HTTP status.
        headers: the answer's.
        text: what the model wrote.
        receipt: None where there is none.
        trace: the routing trace.
        error: the `error` member, None in a good answer.
        usage: what the server counted, as the caller saw it.
        frames: the data of each event of a stream, in order.
    """

    status: int
    headers: httpx.Headers
    text: str
    receipt: dict[str, Any] | None
    trace: dict[str, Any]
    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    frames: Sequence[str] = field(default=())

    @property
    def attempts(self) -> list[tuple[str, str]]:
        """Region and outcome of each attempt the trace tells."""
        return [(attempt["region"], attempt["outcome"]) for attempt in self.trace["attempts"]]

    @property
    def decision(self) -> tuple[str, str, str | None]:
        """Mode, reason and region."""
        return self.trace["decision_mode"], self.trace["decision_reason"], self.trace["region"]


def ask(
    gateway: GatewayProcess,
    *,
    stream: bool,
    vetted: Mapping[str, object] | None = None,
    prompt: Sequence[Mapping[str, str]] = PROMPT,
    max_tokens: int = TOKENS,
) -> Told:
    """Send one chat completion and read the whole answer."""
    body: dict[str, object] = {"model": "tiny", "messages": list(prompt), "max_tokens": max_tokens}
    if vetted is not None:
        body["vetted"] = vetted
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = httpx.post(f"{gateway.base_url}/chat/completions", json=body, trust_env=False, timeout=60)
    if answer.headers["content-type"].startswith("text/event-stream"):
        return _streamed(answer)
    told = answer.json()
    return Told(
        status=answer.status_code,
        headers=answer.headers,
        text=told["choices"][0]["message"]["content"] if "choices" in told else "",
        receipt=told.get("receipt"),
        trace=told.get("routing_trace", {}),
        error=told.get("error"),
        usage=told.get("usage"),
    )


def _streamed(answer: httpx.Response) -> Told:
    frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    chunks = [json.loads(frame) for frame in frames if frame != "[DONE]"]
    members = [chunk for chunk in chunks if "routing_trace" in chunk]
    assert len(members) == 1, "receipt and trace stand on one chunk"
    return Told(
        status=answer.status_code,
        headers=answer.headers,
        text="".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices", ())),
        receipt=members[0]["receipt"],
        trace=members[0]["routing_trace"],
        error=members[0].get("error"),
        usage=next((chunk["usage"] for chunk in chunks if chunk.get("usage")), None),
        frames=frames,
    )


class Grid:
    """The readings file that a gateway watches."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, intensities: Mapping[str, float], *, age_minutes: float = 0.0) -> None:
        """Write readings observed `age_minutes` ago, whole or not at all."""
        observed = (datetime.now(UTC) - timedelta(minutes=age_minutes)).isoformat()
        draft = self.path.with_suffix(".draft")
        draft.write_text(
            "".join(
                f'[[reading]]\nzone = "{zone}"\ngco2_per_kwh = {value}\nkind = "measured"\nobserved_at = "{observed}"\n'
                for zone, value in intensities.items()
            ),
            encoding="utf-8",
        )
        draft.replace(self.path)

    def settings(
        self, path: Path, regions: Mapping[str, str], *, order: Sequence[str], max_age_minutes: float = 180
    ) -> Path:
        """Write the settings of a gateway that watches this file; probes are off, so that every count is ours."""
        lines = [
            f"default_order = {json.dumps(list(order))}",
            "[models.tiny]\nactive_params_b = 0.0001\ntotal_params_b = 0.0001\nbytes_per_param = 4",
            f"[signals.sources.file]\npath = {json.dumps(str(self.path))}\nmax_age_minutes = {max_age_minutes}",
        ]
        lines += [
            f'[regions.{code}]\nbase_url = "{base_url}"\nmodels = ["tiny"]\nhealth_path = ""'
            for code, base_url in regions.items()
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A gateway, the grid it watches, and the servers behind it by region."""

    gateway: GatewayProcess
    grid: Grid
    servers: Mapping[str, LlamaServer]

    def set_grid(self, intensities: Mapping[str, float], *, age_minutes: float = 0.0) -> None:
        """Change the readings and wait until the gateway has seen them."""
        self.grid.write(intensities, age_minutes=age_minutes)
        old = age_minutes > 0

        def seen() -> bool:
            signals = {zone: self._signal(zone) for zone in intensities}
            return all(
                signal is not None
                and signal["gco2_per_kwh"] == intensities[zone]
                and (signal["temporal_match"] == "stale") == old
                for zone, signal in signals.items()
            )

        eventually("the gateway sees the new readings", seen)

    def _signal(self, zone: str) -> dict[str, Any] | None:
        told = httpx.get(f"{self.gateway.base_url}/regions", trust_env=False).json()["data"]
        signal: dict[str, Any] | None = next(region["signal"] for region in told if region["zone"] == zone)
        return signal

    @contextlib.contextmanager
    def computing(self, **expected: int) -> Iterator[None]:
        """Hold the block's requests against the servers' own logs: `scaleway_par_1=1` completions, none elsewhere."""
        before = {code: server.completions() for code, server in self.servers.items()}
        yield
        ran = {code: server.completions() - before[code] for code, server in self.servers.items()}
        assert ran == {code: expected.get(code.replace("-", "_"), 0) for code in self.servers}
