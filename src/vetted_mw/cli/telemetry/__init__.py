"""Telemetry of `serve`: the SDK from the standard `OTEL_*` variables, and `GET /metrics` over all workers.

The library itself sets no provider and serves no page; the application around it does, and `serve` is one.
"""

from __future__ import annotations

from vetted_mw.cli.telemetry.app import ObservedApp
from vetted_mw.cli.telemetry.plan import METRICS_PATH, TelemetryPlan, has_page, is_page_served, planned
from vetted_mw.cli.telemetry.sdk import Sdk

__all__ = ["METRICS_PATH", "ObservedApp", "Sdk", "TelemetryPlan", "has_page", "is_page_served", "planned"]
