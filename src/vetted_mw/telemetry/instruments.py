"""The instruments of this package: names, units and buckets, made once and shared by every gateway on a provider."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec
from opentelemetry import metrics

import vetted_mw
from vetted_mw.errors import ConfigurationError
from vetted_mw.telemetry import names
from vetted_mw.telemetry.gauges import GLOBAL_WATCH, Watch, create_gauges, watch_over
from vetted_mw.telemetry.slumber import Slumber

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider

__all__ = ["GenaiInstruments", "Instruments", "LatestGenai", "PublishedGenai", "instruments_for"]

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))
_API = f"{metrics.__name__}."
"""Where the providers are defined that do nothing."""
_OVERHEAD_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25)


class PublishedGenai(msgspec.Struct, frozen=True, kw_only=True):
    """The GenAI metrics of semantic conventions v1.41, as libraries and dashboards know them.

    Attributes:
        duration: of one logical operation, s.
        time_to_first_chunk: of a stream, s.
        token_usage: tokens of one operation, by `gen_ai.token.type`.
    """

    duration: Histogram
    time_to_first_chunk: Histogram
    token_usage: Histogram


class LatestGenai(msgspec.Struct, frozen=True, kw_only=True):
    """The same by the names of the conventions' own repository, which has released none of them yet.

    Attributes:
        duration: of one logical operation, s.
        time_to_first_chunk: of a stream, s.
        used_input: tokens read in all, by `gen_ai.token.modality`.
        used_output: tokens written in all, likewise.
        operation_input: tokens read by one operation.
        operation_output: tokens written by one.
    """

    duration: Histogram
    time_to_first_chunk: Histogram
    used_input: Counter
    used_output: Counter
    operation_input: Histogram
    operation_output: Histogram


GenaiInstruments = PublishedGenai | LatestGenai


class Instruments(msgspec.Struct, frozen=True, kw_only=True):
    """What metrics are recorded with; without an SDK each is a no-op that wakes up when one is set.

    Attributes:
        genai: the conventions' own.
        requests: chat completions asked for.
        attempts: tries at a region.
        failovers: times another region was tried after one.
        energy: J of every receipt made.
        emissions: g CO2e of the same.
        water: mL of the same.
        receipts: of answers, by what became of them.
        overhead: s spent in us before the latest request left for an upstream.
        watch: what the observed gauges look at.
        slumber: of the global provider, which may not have been set yet; None where they are another's.
    """

    genai: GenaiInstruments
    requests: Counter
    attempts: Counter
    failovers: Counter
    energy: Counter
    emissions: Counter
    water: Counter
    receipts: Counter
    overhead: Histogram
    watch: Watch
    slumber: Slumber | None


def _is_unset() -> bool:
    return type(metrics.get_meter_provider()).__module__.startswith(_API)


def instruments_for(provider: MeterProvider | None, *, latest_genai: bool) -> Instruments:
    """Return the instruments on `provider`; None stands for the global one, whenever it is set.

    Args:
        provider: where metrics go.
        latest_genai: which names the GenAI metrics have.
    """
    if provider is None:
        return _global_instruments(latest_genai=latest_genai)
    return _made(_meter(provider), watch_over(provider), latest_genai=latest_genai, slumber=None)


@functools.cache
def _global_instruments(*, latest_genai: bool) -> Instruments:
    """Make them once: a proxy for a provider that may be set later is never let go of by the API."""
    return _made(_meter(None), GLOBAL_WATCH, latest_genai=latest_genai, slumber=Slumber(_is_unset))


def _meter(provider: MeterProvider | None) -> Meter:
    try:
        return metrics.get_meter(
            names.INSTRUMENTATION, vetted_mw.__version__, meter_provider=provider, schema_url=names.SCHEMA_URL
        )
    except StopIteration:  # all that the API says of a provider it cannot find
        raise ConfigurationError(
            "OTEL_PYTHON_METER_PROVIDER names a provider that is not installed.",
            remedy="Install what brings it, or unset the variable.",
        ) from None


def _made(meter: Meter, watch: Watch, *, latest_genai: bool, slumber: Slumber | None) -> Instruments:
    create_gauges(meter, watch)
    return Instruments(
        genai=_latest_genai(meter) if latest_genai else _published_genai(meter),
        requests=meter.create_counter(names.REQUESTS, "{request}", "Chat completions asked for, by how they ended."),
        attempts=meter.create_counter(names.ATTEMPTS, "{attempt}", "Tries at a region, by how they ended."),
        failovers=meter.create_counter(
            names.FAILOVERS, "{failover}", "Times another region was tried after one that did not serve."
        ),
        energy=meter.create_counter(names.ENERGY, "J", "Electricity of every receipt made."),
        emissions=meter.create_counter(names.EMISSIONS, "g", "CO2 equivalents of every receipt made."),
        water=meter.create_counter(names.WATER, "mL", "Water of every receipt made."),
        receipts=meter.create_counter(names.RECEIPTS, "{receipt}", "Receipts of answers, by what became of them."),
        overhead=meter.create_histogram(
            names.OVERHEAD,
            "s",
            "Time spent in the gateway before the request left for its upstream.",
            explicit_bucket_boundaries_advisory=_OVERHEAD_SECONDS,
        ),
        watch=watch,
        slumber=slumber,
    )


def _published_genai(meter: Meter) -> PublishedGenai:
    return PublishedGenai(
        duration=_seconds(meter, names.OPERATION_DURATION, "Duration of one chat completion."),
        time_to_first_chunk=_seconds(meter, names.OPERATION_TIME_TO_FIRST_CHUNK, "Time to a stream's first content."),
        token_usage=_tokens(meter, names.TOKEN_USAGE, "Tokens of one chat completion, as its upstream counted them."),
    )


def _latest_genai(meter: Meter) -> LatestGenai:
    return LatestGenai(
        duration=_seconds(meter, names.LATEST_DURATION, "Duration of one chat completion."),
        time_to_first_chunk=_seconds(meter, names.LATEST_TIME_TO_FIRST_CHUNK, "Time to a stream's first content."),
        used_input=meter.create_counter(names.LATEST_USED_INPUT, "{token}", "Tokens read, as upstreams counted them."),
        used_output=meter.create_counter(
            names.LATEST_USED_OUTPUT, "{token}", "Tokens written, as upstreams counted them."
        ),
        operation_input=_tokens(meter, names.LATEST_OPERATION_INPUT, "Tokens read by one chat completion."),
        operation_output=_tokens(meter, names.LATEST_OPERATION_OUTPUT, "Tokens written by one chat completion."),
    )


def _seconds(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=_SECONDS)


def _tokens(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(name, "{token}", description, explicit_bucket_boundaries_advisory=_TOKENS)
