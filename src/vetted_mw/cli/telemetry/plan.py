"""What of the telemetry is on: found once from variables and installed extras, told at the start, then done."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vetted_mw.cli.telemetry.asked import SIGNALS, Asked, asking_variables, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["METRICS_PATH", "TelemetryPlan", "has_page", "is_page_served", "planned"]

METRICS_PATH = "/metrics"

_TURNED_ON = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryPlan:
    """What is on.

    Attributes:
        exporters: by signal (`traces`, `metrics`, `logs`), the exporters' names; none: it is not exported.
        targets: by exported signal, how and where to, without anything secret.
        is_by_file: whether OTEL_CONFIG_FILE says everything instead.
        has_page: whether there is something to answer `GET /metrics` with.
        faults: what was asked for and cannot be had, a sentence each, naming variable and remedy.
        off: why nothing is on, where nothing is.
    """

    exporters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    is_by_file: bool = False
    has_page: bool = False
    faults: tuple[str, ...] = ()
    off: str = ""

    @property
    def is_exporting(self) -> bool:
        """Whether the SDK is to be set up for more than the page."""
        return self.is_by_file or any(self.exporters.values())

    def told(self, *, is_page_served: bool = True) -> Iterator[str]:
        """Say in a line what is on, and each fault in one of its own; `is_page_served` as in `outcome`."""
        yield f"telemetry: {self.outcome(is_page_served=is_page_served)}"
        yield from (f"telemetry: {fault}" for fault in self.faults)

    def outcome(self, *, is_page_served: bool = True) -> str:
        """Say what is on, without the faults.

        Args:
            is_page_served: whether `has_page` comes to anything: the settings may have another use for its path.
        """
        on = ["as OTEL_CONFIG_FILE says"] if self.is_by_file else []
        for target in dict.fromkeys(self.targets.values()):
            signals = [signal for signal, its in self.targets.items() if its == target]
            on.append(f"{listed(signals)} by {target}")
        if self.has_page and is_page_served:
            on.append(f"GET {METRICS_PATH}")
        return ", ".join(on) or f"off ({self.off})"


def planned(environ: Mapping[str, str], *, workers: int) -> TelemetryPlan:
    """Read what is asked for, and look whether it can be had. Nothing is exported unless a variable says where to.

    Args:
        environ: the process's environment.
        workers: how many processes serve.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return TelemetryPlan(off="OTEL_SDK_DISABLED")
    page = has_page() and (workers == 1 or sys.platform != "win32")  # their pages are made one over Unix sockets
    if not _is_installed("opentelemetry.distro"):
        return _without_sdk(environ, page=page)
    off = f"{_TURNED_ON} turns it on"
    if environ.get("OTEL_CONFIG_FILE"):
        return _by_file(page=page, off=off)
    asked = Asked(environ, workers=workers)
    exporters = {signal: asked.exporters(signal) for signal in SIGNALS}
    faults = [*asked.faults, *(_shared_identity(environ, workers) if exporters["metrics"] else ())]
    return TelemetryPlan(
        exporters=exporters,
        targets={signal: asked.target(signal, names) for signal, names in exporters.items() if names},
        has_page=page,
        faults=tuple(faults),
        off=off,
    )


def is_page_served(paths: Iterable[str]) -> bool:
    """Whether the settings, whose `paths` for completions come first, leave `/metrics` to the page."""
    return METRICS_PATH not in {path.removesuffix("/") for path in paths}


def has_page() -> bool:
    """Whether the extra `prometheus` is installed."""
    return _is_installed("opentelemetry.exporter.prometheus")


def _without_sdk(environ: Mapping[str, str], *, page: bool) -> TelemetryPlan:
    asking = next(asking_variables(environ), None)
    remedy = "install the extra otel (pip install '.[otel]' in the clone)"
    faults = () if asking is None else (f"{asking} asks for export, and nothing is exported: {remedy}",)
    return TelemetryPlan(has_page=page, faults=faults, off=f"the extra otel and {_TURNED_ON} turn it on")


def _by_file(*, page: bool, off: str) -> TelemetryPlan:
    if _is_installed("opentelemetry.configuration"):
        return TelemetryPlan(is_by_file=True, has_page=page)
    fault = "OTEL_CONFIG_FILE is set, and nothing is exported: install opentelemetry-configuration"
    return TelemetryPlan(has_page=page, faults=(fault,), off=off)


def _shared_identity(environ: Mapping[str, str], workers: int) -> Iterator[str]:
    """Say that the workers' numbers cannot be told apart, where they cannot."""
    given = environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    if workers > 1 and any(one.partition("=")[0].strip() == "service.instance.id" for one in given):
        yield "OTEL_RESOURCE_ATTRIBUTES gives all workers one service.instance.id: leave it out, each has its own then"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package it would be in
        return False
