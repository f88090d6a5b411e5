"""What telemetry costs: gateways without any, with the API alone, with the log's line, and with an SDK, in one run."""

from __future__ import annotations

import argparse
import logging
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import uvicorn
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from bench.measuring import Load, process
from bench.processes import unused_port
from bench.table import compared
from vetted_mw import Gateway, VettedProxy, load_configuration
from vetted_mw.lifecycle import rooms
from vetted_mw.middleware import responder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["telemetry_measured"]

_REGION = "scaleway-par-1"
_LOADS = (
    Load("JSON, 2 callers", 1_000, concurrency=2),
    Load("JSON, 16", 1_000, concurrency=16),
    Load("SSE, 2 callers", 1_000, stream=True, concurrency=2),
)


def main() -> None:
    """Serve one of the gateways, or the receiver of what they export."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=[*_GATEWAYS, "receiver"])
    parser.add_argument("port", type=int)
    parser.add_argument("--upstream", type=int)
    parser.add_argument("--receiver", type=int)
    arguments = parser.parse_args()
    if arguments.kind == "receiver":
        ThreadingHTTPServer(("127.0.0.1", arguments.port), _Receiver).serve_forever()
        return
    _GATEWAYS[arguments.kind](arguments.receiver)
    configuration = load_configuration(
        environ={},
        overrides={"regions": {_REGION: {"base_url": f"http://127.0.0.1:{arguments.upstream}/v1"}}},
    )
    app = VettedProxy(Gateway(configuration))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, access_log=False, log_level="warning")


async def telemetry_measured(seconds: float) -> None:
    """Compare them; the CPU of an SDK's threads counts, that of the receiver does not."""
    async with AsyncExitStack() as stack:
        upstream, receiver = unused_port(), unused_port()
        await stack.enter_async_context(process(upstream, "-m", "bench.run", "--serve-upstream", str(upstream)))
        await stack.enter_async_context(process(receiver, "-m", "bench.telemetry", "receiver", str(receiver)))
        gateways = {}
        for name in _GATEWAYS:
            port = unused_port()
            served = ("-m", "bench.telemetry", name, str(port), "--upstream", str(upstream))
            gateways[name] = (
                port,
                await stack.enter_async_context(process(port, *served, "--receiver", str(receiver))),
            )
        await compared(_LOADS, seconds, gateways, ("load", "telemetry"))


class _Receiver(BaseHTTPRequestHandler):
    """Takes what is exported and looks at none of it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take one export."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


class _Nothing:
    """Stands in for everything of the telemetry package, to show what its calls cost without an SDK."""

    headers: tuple[()] = ()
    context = None

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        return _nothing

    def __enter__(self) -> None:
        """Begin nothing."""

    def __exit__(self, *_error: object) -> None:
        """End nothing."""


_NOTHING: Any = _Nothing()


def _nothing(*_arguments: Any, **_options: Any) -> Any:
    return _NOTHING


def _without(_receiver: int) -> None:
    """Take recorder, meters and the log's line out of the gateway."""
    for name in ("Recorder", "Meters"):
        setattr(rooms, name, _nothing)
    setattr(responder.Responder, "_tell_end", _nothing)  # noqa: B010 (what is measured is not there)


def _without_log(_receiver: int) -> None:
    logging.getLogger("vetted_mw").setLevel(logging.WARNING)


def _with_log(_receiver: int) -> None:
    """Write the line as `vetted-mw serve` does, to where nobody reads it."""
    from vetted_mw.cli.logs import configure_logging  # noqa: PLC0415 (this gateway's alone)

    configure_logging(logging.INFO)


def _sampled_out(receiver: int) -> None:
    _without_log(receiver)
    trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))


def _with_spans(receiver: int) -> None:
    _without_log(receiver)
    provider = TracerProvider(sampler=ALWAYS_ON)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"http://127.0.0.1:{receiver}/v1/traces")))
    trace.set_tracer_provider(provider)


def _with_metrics(receiver: int) -> None:
    _without_log(receiver)
    exporter = OTLPMetricExporter(f"http://127.0.0.1:{receiver}/v1/metrics")
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=5_000)]))


class _Dropped(SpanExporter):
    """Takes spans and looks at none of them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 (its contract)
        """Take one batch."""
        return SpanExportResult.SUCCESS


def _unsent(receiver: int) -> None:
    """Record everything and write and send nothing: what remains is what requests themselves pay."""
    _without_log(receiver)
    provider = TracerProvider(sampler=ALWAYS_ON)
    provider.add_span_processor(BatchSpanProcessor(_Dropped()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))


def _with_both(receiver: int) -> None:
    _with_spans(receiver)
    _with_metrics(receiver)


_GATEWAYS: dict[str, Callable[[int], None]] = {
    "none": _without,
    "none, too": _without,
    "API alone": _without_log,
    "log's line": _with_log,
    "sampled out": _sampled_out,
    "spans": _with_spans,
    "metrics": _with_metrics,
    "both, unsent": _unsent,
    "both": _with_both,
}
"""Between the first two nothing differs: how far apart they are is the noise."""


if __name__ == "__main__":
    main()
