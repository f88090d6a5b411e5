"""A tracer provider for the tests of this folder alone: the global one stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from telemetry.spans import Spans, tracers_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """Return an SDK whose tracers a gateway made in this test gets."""
    made = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer", tracers_of(made))
    yield made
    made.shutdown()


@pytest.fixture
def spans(provider: TracerProvider) -> Spans:
    """Return what ends under `provider`, in the order it ended."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(exporter)
