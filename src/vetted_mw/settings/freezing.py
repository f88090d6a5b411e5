"""Turn what was written into the frozen configuration, and refuse what does not fit together."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.chat.sse import Placement
from vetted_mw.configuration import (
    Configuration,
    Limits,
    ReceiptConfiguration,
    ServerConfiguration,
    TelemetryConfiguration,
)
from vetted_mw.receipts.models import ModelSize, size_for, unknown_size
from vetted_mw.settings.catalogue import catalogue_of
from vetted_mw.settings.evidence import ledger_of, signing_of
from vetted_mw.settings.policy import callers_of, order_of, require_serving_order, rules_of
from vetted_mw.settings.sources import signals_of
from vetted_mw.settings.upstreams import limits_with, upstreams_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.settings.reading import Written
    from vetted_mw.settings.schema import ModelSettings, TelemetrySettings

__all__ = ["frozen"]

_SEMCONV_VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""OpenTelemetry's own switch, shared with other instrumentations: tokens between commas."""


def frozen(written: Written, *, environ: Mapping[str, str]) -> Configuration:
    """Return the configuration `written` amounts to.

    Args:
        written: settings that passed key by key.
        environ: where `{ env = ... }` keys are read from.

    Raises:
        ConfigurationError: they do not fit together; the error names the key and the remedy.
    """
    settings = written.settings
    regions = catalogue_of(settings.regions)
    upstreams = upstreams_of(written, regions, environ)
    order = order_of(settings.default_order, regions, upstreams)
    rules = rules_of(written, regions, order)
    require_serving_order(rules, regions, upstreams)
    callers = callers_of(written, regions, upstreams, rules, environ)
    return Configuration(
        regions=regions,
        upstreams=upstreams,
        rules=rules,
        paths=tuple(settings.paths),
        receipt_key=settings.receipt_key,
        sse_placement=Placement(settings.sse_placement),
        trace_detail=settings.trace_detail,
        transport=settings.transport,
        forward_headers=frozenset(settings.forward_headers),
        limits=limits_with(Limits(), settings.limits),
        callers=callers,
        known_models=frozenset(settings.models) | frozenset().union(*(u.models or () for u in upstreams.values())),
        signals=signals_of(written, environ),
        receipts=ReceiptConfiguration(
            issuer=settings.receipts.issuer,
            engine=settings.receipts.engine,
            unknown_model=settings.receipts.unknown_model,
            missing_usage=settings.receipts.missing_usage,
            models=MappingProxyType(
                {name: size for name, model in settings.models.items() if (size := _size(name, model)) is not None}
            ),
        ),
        signing=signing_of(written, environ),
        ledger=ledger_of(written),
        server=ServerConfiguration(**settings.server.model_dump()),
        telemetry=_telemetry(settings.telemetry, environ),
        source="" if written.file is None else str(written.file),
    )


def _telemetry(settings: TelemetrySettings, environ: Mapping[str, str]) -> TelemetryConfiguration:
    chosen = {token.strip() for token in environ.get(_SEMCONV_VARIABLE, "").split(",")}
    return TelemetryConfiguration(
        propagate=settings.propagate != "off",
        genai_metrics=settings.metrics != "vetted",
        latest_genai="gen_ai_latest_experimental" in chosen,
    )


def _size(name: str, model: ModelSettings) -> ModelSize | None:
    """Return the operator's word on a model over the shipped table's; None when it says nothing of its size.

    Of active and total parameters, the one left out is the shipped table's where that fits, else the same as the other:
    a dense model.
    """
    known = size_for(name, {})
    active, total = model.active_params_b, model.total_params_b
    if active is None and total is not None:
        active = total if known is None else min(known.active_params_b, total)
    if active is not None:
        return ModelSize(
            active_params_b=active,
            total_params_b=total or max(active, 0.0 if known is None else known.total_params_b),
            bytes_per_param=model.bytes_per_param or (2.0 if known is None else known.bytes_per_param),
            batch_size=model.batch_size,
            source="operator",
        )
    if model.bytes_per_param is None and model.batch_size is None:
        return None
    base = known or unknown_size()
    return msgspec.structs.replace(
        base, bytes_per_param=model.bytes_per_param or base.bytes_per_param, batch_size=model.batch_size
    )
