"""What the telemetry tests share: finished spans by name, and the requests that make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from support import HELLO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import Tracer

    from vetted_mw.testing import Exchange

KNOWN = "mistral-medium-3"
PARIS = "scaleway-par-1"
GRAVELINES = "ovh-gra-1"
SERVER = "POST /v1/chat/completions"


def tracers_of(provider: TracerProvider) -> Callable[..., Tracer]:
    """Return what takes the place of `trace.get_tracer`, so that gateways made meanwhile go by `provider`."""

    def get_tracer(name: str, version: str, *, tracer_provider: object = None, schema_url: str | None = None) -> Tracer:
        assert tracer_provider is None
        return provider.get_tracer(name, version, schema_url=schema_url)

    return get_tracer


class Spans:
    """The finished spans, oldest first."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> Sequence[ReadableSpan]:
        """Every span that has ended."""
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        """Their names, in the order they ended."""
        return [span.name for span in self.all]

    def named(self, name: str) -> list[ReadableSpan]:
        """Return those of one name."""
        return [span for span in self.all if span.name == name]

    def chat(self) -> ReadableSpan:
        """Return the one span of the logical request."""
        (span,) = [span for span in self.all if span.name.startswith("chat ")]
        return span

    def server(self) -> ReadableSpan:
        """Return the one span of the HTTP request that is ours."""
        (span,) = self.named(SERVER)
        return span

    def attempts(self) -> list[ReadableSpan]:
        """Return the spans of the attempts, in order."""
        return self.named("vetted.attempt")

    def route(self) -> ReadableSpan:
        """Return the one span of the decision."""
        (span,) = self.named("vetted.route")
        return span


def asked(**members: Any) -> dict[str, Any]:
    """Return a chat request."""
    return {"model": KNOWN, "messages": HELLO} | members


def upstream(base_url: str, **facts: Any) -> Mapping[str, Any]:
    """Return a region table whose list holds the model of `asked`."""
    return {"base_url": base_url, "models": [KNOWN]} | facts


def told(exchange: Exchange) -> dict[str, Any]:
    """Return the members of a JSON answer, or those of the frame of a stream that carries them."""
    if exchange.headers["content-type"].startswith("application/json"):
        members: dict[str, Any] = exchange.json()
        return members
    frames = [frame.removeprefix(b"data: ") for frame in exchange.body.split(b"\n\n")]
    decoded = [msgspec.json.decode(frame) for frame in frames if frame.startswith(b"{")]
    return next(frame for frame in decoded if "routing_trace" in frame)


def at(told: Mapping[str, Any], path: str) -> Any:
    """Return the member of an answer that a dotted path names; None where the path ends early."""
    found: Any = told
    for name in path.split("."):
        found = None if found is None else found.get(name)
    return found
