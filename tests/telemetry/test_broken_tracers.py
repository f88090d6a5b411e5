"""Telemetry fails open: whatever a tracer does, the caller gets its answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

from support import proxied
from telemetry.spans import GRAVELINES, PARIS, asked, told, tracers_of, upstream
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

CANARY = "canary in an exporter's message"


class _RaisingTracer(trace.NoOpTracer):
    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        """Fail as an exporter with a broken queue may."""
        raise RuntimeError(CANARY)


class _RaisingSpan(trace.NonRecordingSpan):
    """A span that records and fails at everything."""

    def is_recording(self) -> bool:
        """Say that it wants everything."""
        return True

    def end(self, end_time: int | None = None) -> None:
        """Fail."""
        raise RuntimeError(CANARY)

    def set_attributes(self, attributes: Any) -> None:
        """Fail."""
        raise RuntimeError(CANARY)

    def set_attribute(self, key: str, value: Any) -> None:
        """Fail."""
        raise RuntimeError(CANARY)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Fail."""
        raise RuntimeError(CANARY)


class _TracerOfRaisingSpans(trace.NoOpTracer):
    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        """Return such a span."""
        return _RaisingSpan(trace.INVALID_SPAN_CONTEXT)


class _RaisingProcessor(SpanProcessor):
    def __init__(self, when: str) -> None:
        self._when = when

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Fail at the start, if it is to."""
        if self._when == "start":
            raise RuntimeError(CANARY)

    def on_end(self, span: Any) -> None:
        """Fail at the end, if it is to."""
        if self._when == "end":
            raise RuntimeError(CANARY)


def _with_processor(when: str) -> Callable[..., trace.Tracer]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_RaisingProcessor(when))
    return tracers_of(provider)


TRACERS: dict[str, Callable[[], Callable[..., trace.Tracer]]] = {
    "a tracer that raises": lambda: lambda *args, **kwargs: _RaisingTracer(),
    "spans that raise": lambda: lambda *args, **kwargs: _TracerOfRaisingSpans(),
    "a processor that raises at the start": lambda: _with_processor("start"),
    "a processor that raises at the end": lambda: _with_processor("end"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tracer", TRACERS)
async def test_a_broken_tracer_costs_spans_and_no_answer(
    tracer: str, stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Failover, answer, receipt and trace are what they are without telemetry; the log says so without the text."""
    monkeypatch.setattr(trace, "get_tracer", TRACERS[tracer]())
    async with FakeUpstream() as paris, FakeUpstream(text="Bonjour") as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        with caplog.at_level(logging.DEBUG, "vetted_mw"):
            async with proxied(urls) as app:
                exchange = await asgi_exchange(app, json=asked(stream=stream))
    answer = told(exchange)
    assert exchange.status == 200
    assert b"Bonjour" in exchange.body
    assert answer["receipt"]["region"] == answer["routing_trace"]["region"] == GRAVELINES
    ours = [record for record in caplog.records if record.name == "vetted_mw"]
    assert "telemetry could not be recorded" in {record.getMessage() for record in ours}
    assert all(CANARY not in str(vars(record)) for record in ours)


async def test_a_broken_tracer_does_not_hide_an_error_from_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error answer stays the error it is."""
    monkeypatch.setattr(trace, "get_tracer", TRACERS["spans that raise"]())
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        exchange = await asgi_exchange(app, json=asked(vetted={"region": GRAVELINES}))
    assert (exchange.status, exchange.json()["error"]["code"]) == (503, "service_unavailable")


def test_making_a_gateway_sets_no_global_provider() -> None:
    """A library never decides where its host's telemetry goes."""
    from vetted_mw.telemetry.recorder import Recorder

    before = trace.get_tracer_provider()
    Recorder(version="0", propagate=True)
    assert trace.get_tracer_provider() is before
    assert not isinstance(before, TracerProvider)
    assert issubclass(Span, trace.Span)
