"""Words that nobody else writes, one for each place a caller or an upstream can write to, and everything that is searched."""

from __future__ import annotations

import base64
import contextlib
import logging
import secrets
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from telemetry.sites import sdk
from wire.test_wire_silence import LOGGERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from telemetry.sites import Sdk

__all__ = ["Canaries", "Listening", "listening"]

_LOGGERS = (*LOGGERS, "opentelemetry")
_EXPORTERS = ("urllib3", "requests", "opentelemetry.exporter", "opentelemetry.sdk")


class Canaries:
    """Gives each place a word of its own, and finds in what was written which places it came from."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}

    def __getitem__(self, place: str) -> str:
        """Return the word of a place: lower-case letters and digits, the same each time."""
        return self._words.setdefault(place, f"canary{secrets.token_hex(8)}")

    @property
    def places(self) -> list[str]:
        """Every place that was given a word."""
        return sorted(self._words)

    def found_in(self, written: bytes | str) -> set[str]:
        """Return the places whose words are in a text, in letters of either case or in base64."""
        data = (written.encode("utf-8", "surrogateescape") if isinstance(written, str) else written).lower()
        exact = written.encode("utf-8", "surrogateescape") if isinstance(written, str) else written
        return {
            place
            for place, word in self._words.items()
            if word.encode() in data or any(coded in exact for coded in _in_base64(word))
        }


def _in_base64(word: str) -> list[bytes]:
    """Return what base64 makes of a word at each of the three places it can begin, its uncertain ends cut off."""
    return [base64.b64encode(b"-" * lead + word.encode())[4 if lead else 0 : -4] for lead in range(3)]


class _Heard(logging.Handler):
    """Keeps every word of every record: message, arguments, extra, and the text of an exception."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        formatted = logging.Formatter().format(record)
        whole = f"{formatted} {record.args} {sorted(map(str, vars(record).items()))}"
        self.texts.append((record.name, whole))


def _is_no_exporters(record: logging.LogRecord) -> bool:
    """Whether a record is not about the export of records, which would go on for ever."""
    return not record.name.startswith(_EXPORTERS)


@dataclass(slots=True, kw_only=True)
class Listening:
    """Everything that telemetry writes, and what callers were told in place of an answer.

    Attributes:
        sdk: traces and metrics go out by it.
        registry: what a Prometheus scrapes.
        heard: logger and text of every log record.
        refusals: heads and bodies of error answers.
    """

    sdk: Sdk
    registry: CollectorRegistry
    heard: list[tuple[str, str]]
    logs: LoggerProvider
    refusals: list[bytes] = field(default_factory=list)

    def page(self) -> bytes:
        """Return the page that a Prometheus scrapes."""
        return generate_latest(self.registry)

    def flush(self) -> None:
        """Export what is still waiting."""
        self.sdk.tracers.force_flush()
        self.sdk.meters.force_flush()
        self.logs.force_flush()

    def leaks(self, canaries: Canaries) -> dict[str, set[str]]:
        """Return place -> where its word was found; logs are named by their logger."""
        found: dict[str, set[str]] = defaultdict(set)
        for export in self.sdk.receiver.exports:
            for place in canaries.found_in(export.body) | canaries.found_in(repr(export.headers)):
                found[place].add(export.path)
        for place in canaries.found_in(self.page()):
            found[place].add("/metrics")
        for name, text in self.heard:
            for place in canaries.found_in(text):
                found[place].add(f"log {name}")
        for body in self.refusals:
            for place in canaries.found_in(body):
                found[place].add("error answer")
        return dict(found)


@contextlib.contextmanager
def listening() -> Iterator[Listening]:
    """Listen to everything: OTLP of all three signals, a Prometheus page, and every logger at DEBUG."""
    registry = CollectorRegistry()
    with contextlib.ExitStack() as held:
        telemetry = held.enter_context(
            sdk(
                readers=lambda receiver: [
                    PrometheusMetricReader(registry=registry),
                    PeriodicExportingMetricReader(
                        OTLPMetricExporter(endpoint=f"{receiver.endpoint}/v1/metrics"), export_interval_millis=500
                    ),
                ]
            )
        )
        logs = LoggerProvider(shutdown_on_exit=False)
        held.callback(logs.shutdown)
        exporter = OTLPLogExporter(endpoint=f"{telemetry.receiver.endpoint}/v1/logs")
        logs.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=200))
        heard = _Heard()
        held.enter_context(_handled(heard, _exporting(logs)))
        yield Listening(sdk=telemetry, registry=registry, heard=heard.texts, logs=logs)


def _exporting(logs: LoggerProvider) -> logging.Handler:
    with warnings.catch_warnings():  # the SDK's own handler moves to a contrib package
        warnings.simplefilter("ignore", DeprecationWarning)
        return LoggingHandler(logger_provider=logs)


@contextlib.contextmanager
def _handled(*handlers: logging.Handler) -> Iterator[None]:
    """Put handlers on every logger that matters, also on those that uvicorn keeps from the root, at DEBUG."""
    for handler in handlers:
        handler.addFilter(_is_no_exporters)
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
        for handler in handlers:
            logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
            for handler in handlers:
                logging.getLogger(name).removeHandler(handler)
