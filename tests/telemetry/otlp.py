"""An OTLP/HTTP receiver on a loopback socket: it keeps what exporters send, raw and decoded.

    with OtlpReceiver() as receiver:
        exporter = OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces")
        ...
        receiver.wait_for(lambda: len(receiver.spans) == 3)

A process of its own is pointed at it by `receiver.environment`.
"""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from telemetry.decoded import LogLine, Point, ReceivedSpan, log_lines, points, spans

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

__all__ = ["Export", "LogLine", "OtlpReceiver", "Point", "ReceivedSpan"]

_LIMIT = 30.0
_REQUESTS: Mapping[str, tuple[Any, Any]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One request of an exporter.

    Attributes:
        path: `/v1/traces`, `/v1/metrics` or `/v1/logs`.
        headers: request headers, names in lower case.
        body: the protobuf bytes, decompressed.
        wire: the same as they came.
        message: the same, decoded.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    wire: bytes
    message: Any


@dataclass(slots=True)
class _Kept:
    exports: list[Export] = field(default_factory=list)
    refused: int = 0


class OtlpReceiver:
    """Takes OTLP/HTTP protobuf, gzip too. What it refuses or holds back it does not keep.

    Attributes:
        endpoint: its origin, what `OTEL_EXPORTER_OTLP_ENDPOINT` wants.
    """

    def __init__(self) -> None:
        self._kept = _Kept()
        self._lock = threading.Lock()
        self._mood: Literal["take", "refuse", "hang"] = "take"
        self._released = threading.Event()
        receiver = self

        class Handler(_Handler):
            taker = receiver

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to send all three signals here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_BLRP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }

    # ---- how it answers

    def take(self) -> None:
        """Take what comes, from now on; whoever was left hanging gets a 503."""
        self._mood = "take"
        self._released.set()

    def refuse(self) -> None:
        """Answer 503 from now on."""
        self._mood = "refuse"
        self._released.set()

    def hang(self) -> None:
        """Read and never answer, from now on."""
        self._released.clear()
        self._mood = "hang"

    # ---- what it has got

    @property
    def exports(self) -> Sequence[Export]:
        """What was taken, in order."""
        with self._lock:
            return tuple(self._kept.exports)

    @property
    def refused(self) -> int:
        """How many requests were refused or left hanging."""
        with self._lock:
            return self._kept.refused

    @property
    def raw(self) -> bytes:
        """Every byte of every export that was taken, headers included, decompressed and as it came."""
        return b"\0".join(
            part
            for export in self.exports
            for part in (repr(export.headers).encode("utf-8", "surrogateescape"), export.wire, export.body)
        )

    @property
    def spans(self) -> list[ReceivedSpan]:
        """Every span, in the order they came."""
        return [one for export in self._of("/v1/traces") for one in spans(export.message)]

    @property
    def points(self) -> list[Point]:
        """Every point of every metric export, in the order they came; sums are cumulative unless told otherwise."""
        return [one for export in self._of("/v1/metrics") for one in points(export.message)]

    @property
    def latest_points(self) -> list[Point]:
        """The latest point of each metric and attribute set: where cumulative series stand now."""
        latest = {one.series: one for one in self.points}
        return list(latest.values())

    @property
    def log_lines(self) -> list[LogLine]:
        """Every log record, in the order they came."""
        return [one for export in self._of("/v1/logs") for one in log_lines(export.message)]

    def wait_for(self, predicate: Callable[[], object], *, limit: float = _LIMIT) -> None:
        """Wait until `predicate` holds; it is asked again and again.

        Raises:
            AssertionError: it does not come about within `limit` seconds; says what has come.
        """
        give_up = time.monotonic() + limit
        while not predicate():
            if time.monotonic() > give_up:
                raise AssertionError(f"not within {limit:g} s; here are {self._summary()}")
            time.sleep(0.01)

    def _of(self, path: str) -> list[Export]:
        return [export for export in self.exports if export.path == path]

    def _summary(self) -> str:
        names = [span.name for span in self.spans]
        metrics = sorted({point.metric for point in self.points})
        return f"spans {names}, metrics {metrics}, {len(self.log_lines)} log lines, {self.refused} refused"

    # ---- inside

    def _answer(self, path: str, headers: Mapping[str, str], wire: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer to one request."""
        if path not in _REQUESTS:
            return 404, b""
        mood = self._mood
        if mood == "hang":
            self._released.wait()
        if mood != "take":
            with self._lock:
                self._kept.refused += 1
            return 503, b""
        request, response = _REQUESTS[path]
        body = gzip.decompress(wire) if headers.get("content-encoding") == "gzip" else wire
        export = Export(path=path, headers=headers, body=body, wire=wire, message=request.FromString(body))
        with self._lock:
            self._kept.exports.append(export)
        return 200, response().SerializeToString()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    taker: OtlpReceiver

    def do_POST(self) -> None:
        """Read one export and answer it; a client that has gone meanwhile is no matter."""
        with contextlib.suppress(ConnectionError):
            wire = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = self.taker._answer(self.path, headers, wire)
            self.send_response_only(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name http.server gives it)
        """Say nothing."""
