"""Turn a trace and a receipt into span attributes. Pure; numbers, enumerations, configured names and ids only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

__all__ = ["receipt_attributes", "trace_attributes"]


def receipt_attributes(receipt: Mapping[str, object]) -> dict[str, AttributeValue]:
    """Return `vetted.receipt.*` for the fields dashboards show; the attribute's name is the field's path."""
    return {
        names.RECEIPT_PREFIX + name: value
        for name in names.RECEIPT_FIELDS
        if isinstance(value := receipt.get(name), (str, int, float))
    }


def trace_attributes(trace: Mapping[str, object]) -> dict[str, AttributeValue]:
    """Return `vetted.routing_trace.*` for the decision and both signals."""
    found: dict[str, AttributeValue] = {}
    for name in ("route_policy", "decision_mode", "decision_reason"):
        value = trace.get(name)
        if isinstance(value, str):
            found[names.TRACE_PREFIX + name] = value
    for member in ("operational_signal", "receipt_signal"):
        signal = trace.get(member)
        if isinstance(signal, dict):
            for name in names.SIGNAL_FIELDS:
                value = signal.get(name)
                if isinstance(value, (str, int, float)):
                    found[f"{names.TRACE_PREFIX}{member}.{name}"] = value
    return found
