"""The OpenTelemetry SDK of one worker process: set up before its gateway is made, shut down after that has closed.

The providers are the global ones, so that instrumentations an operator adds report to the same place. Telemetry fails
open: whatever goes wrong here is told, and the worker serves.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import uuid
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider

from vetted_mw.cli.telemetry.log_records import ExportedRecords, hide_header_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.util.types import AttributeValue

    from vetted_mw.cli.telemetry.page import MetricsPage
    from vetted_mw.cli.telemetry.plan import TelemetryPlan

__all__ = ["Sdk"]

_LOG = logging.getLogger("vetted_mw")
_SHUTDOWN_SECONDS = 5.0


class Sdk:
    """What was set up. The SDK reads the process's environment, so the exporters of the plan are written there first.

    Args:
        plan: what to set up.
        workers: how many processes serve.
        meeting: the folder where several of them find each other; None: they cannot, or there is this one alone.

    Attributes:
        page: what scrapes are answered with; None: there is nothing to answer with.
    """

    def __init__(self, plan: TelemetryPlan, *, workers: int = 1, meeting: Path | None = None) -> None:
        self._records: logging.Handler | None = None
        self._hurried: asyncio.Future[None] | None = None
        self.page: MetricsPage | None = None
        given = sorted(name for name in os.environ if name.startswith("OTEL_"))
        if plan.is_exporting:
            _tried("export", lambda: self._export(plan), given)
        if plan.has_page:
            _tried("the metrics page", lambda: self._collect(workers, meeting), given)
        for fault in plan.faults:  # after the set-up: whoever reads exported records alone sees them too
            _LOG.warning("telemetry that is asked for cannot be had", extra={"reason": fault})

    async def shut_down(self, seconds: float = _SHUTDOWN_SECONDS) -> None:
        """Send what is left and end; a destination that does not take it is waited for no longer than `seconds`."""
        if self._records is not None:
            _LOG.removeHandler(self._records)
        providers = [trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()]
        shutdowns = [provider.shutdown for provider in providers if hasattr(provider, "shutdown")]
        for shutdown in shutdowns:
            atexit.unregister(shutdown)  # the SDK would call it a second time, complain of that, and wait once more
        # Threads of its own: the loop's executor would be waited for at the end of the process, however long they hang.
        every = asyncio.gather(*map(_ended, shutdowns))
        loop = asyncio.get_running_loop()
        since, self._hurried = loop.time(), loop.create_future()
        await asyncio.wait((every, self._hurried), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not every.done():
            waited = round(loop.time() - since, 1)
            _LOG.warning("telemetry was not all sent before the end", extra={"waited_seconds": waited})

    def hurry(self) -> None:
        """Let `shut_down`, where it waits, wait no more; called in the event loop."""
        if self._hurried is not None and not self._hurried.done():
            self._hurried.set_result(None)

    def _export(self, plan: TelemetryPlan) -> None:
        if hasattr(trace.get_tracer_provider(), "shutdown"):
            _LOG.info("the SDK was set up before serve could: it is left as it is")
            return
        from opentelemetry.distro import OpenTelemetryConfigurator  # noqa: PLC0415 (an extra)

        configurator: Any = OpenTelemetryConfigurator()  # type: ignore[no-untyped-call]
        hide_header_values()
        if plan.is_by_file:
            configurator.configure()
            return
        for signal, exporters in plan.exporters.items():
            os.environ[f"OTEL_{signal.upper()}_EXPORTER"] = ",".join(exporters) or "none"
        configurator.configure(resource_attributes=_identity(), setup_logging_handler=False)
        if plan.exporters["logs"]:
            self._records = ExportedRecords(version("vetted-mw"))
            _LOG.addHandler(self._records)

    def _collect(self, workers: int, meeting: Path | None) -> None:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 (an extra)
        from prometheus_client import CollectorRegistry  # noqa: PLC0415

        from vetted_mw.cli.telemetry.page import MetricsPage  # noqa: PLC0415 (needs it)

        registry = CollectorRegistry()
        _read_by(PrometheusMetricReader(registry=registry))
        self.page = MetricsPage(registry, folder=meeting, workers=workers)


def _read_by(reader: MetricReader) -> None:
    """Let the one provider that there is, or else a new one, be read by `reader` too."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 (comes with either extra)
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    provider = metrics.get_meter_provider()
    if isinstance(provider, MeterProvider):
        provider.add_metric_reader(reader)
    else:
        metrics.set_meter_provider(MeterProvider(metric_readers=[reader], resource=Resource.create(_identity())))


def _identity() -> dict[str, AttributeValue]:
    """Return who this process is, less what the operator's variables and detectors say, which must win."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (comes with either extra)

    ours: dict[str, AttributeValue] = {
        "service.name": "vetted-mw",
        "service.version": version("vetted-mw"),
        "service.instance.id": str(uuid.uuid4()),
    }
    known = Resource.create().attributes
    given = {name for name in ours if known.get(name) and not str(known[name]).startswith("unknown_service")}
    return {name: value for name, value in ours.items() if name not in given}


def _tried(what: str, set_up: Callable[[], None], given: Sequence[str]) -> None:
    """Set something up, or say what cannot be and which variables may be why.

    An exception's text may quote a variable that is a secret, so only the names in it are told, or else all of them.
    """
    try:
        set_up()
    except Exception as error:  # noqa: BLE001 (exporters and their configuration are anybody's)
        named = [name for name in given if name in str(error)] or given
        told = {"what": what, "error": type(error).__name__, "variables": ", ".join(named)}
        _LOG.warning("telemetry could not be set up: look at the variables", extra=told)


def _ended(shutdown: Callable[[], object]) -> asyncio.Future[None]:
    """Call `shutdown` in a thread that the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        try:
            shutdown()
        except Exception as error:  # noqa: BLE001 (the end comes, whatever an exporter thinks of it)
            _LOG.warning("telemetry did not shut down well", extra={"error": type(error).__name__})
        try:
            loop.call_soon_threadsafe(_settle, ended)
        except RuntimeError:
            return  # nobody has waited this long: the loop is closed

    threading.Thread(target=end, name="telemetry-shutdown", daemon=True).start()
    return ended


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
