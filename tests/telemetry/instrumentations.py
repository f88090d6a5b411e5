"""The contrib instrumentations of ASGI, FastAPI and httpx, set up as their users do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.metrics import NoOpMeterProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from telemetry.sites import Sdk

__all__ = ["traced_asgi", "traced_fastapi", "traced_httpx"]


def traced_asgi(app: ASGIApp, sdk: Sdk) -> ASGIApp:
    """Stand the ASGI instrumentation around an app, as its users do."""
    instrumented: Any = OpenTelemetryMiddleware(
        app, tracer_provider=sdk.tracers, meter_provider=NoOpMeterProvider(), exclude_spans=["send", "receive"]
    )
    return instrumented  # type: ignore[no-any-return]


def traced_fastapi(app: Any, sdk: Sdk) -> ASGIApp:
    """Instrument an app of FastAPI, as its users do."""
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=sdk.tracers, meter_provider=NoOpMeterProvider(), exclude_spans=["send", "receive"]
    )
    return app  # type: ignore[no-any-return]


@contextlib.contextmanager
def traced_httpx(sdk: Sdk) -> Iterator[None]:
    """Instrument httpx, as its users do: for the whole process."""
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=sdk.tracers, meter_provider=NoOpMeterProvider())
    try:
        yield
    finally:
        instrumentor.uninstrument()
