"""Span, event, attribute and metric names, in one place. GenAI names are those of semantic conventions v1.41.

The metrics that the conventions have renamed since, without having released it, stand beside as `LATEST_*`.
"""

from __future__ import annotations

from typing import Final

INSTRUMENTATION: Final = "vetted_mw"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"

ROUTE_SPAN: Final = "vetted.route"
ATTEMPT_SPAN: Final = "vetted.attempt"

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_MODALITY: Final = "gen_ai.token.modality"

HTTP_METHOD: Final = "http.request.method"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
URL_SCHEME: Final = "url.scheme"
URL_PATH: Final = "url.path"
ERROR_TYPE: Final = "error.type"

CLOUD_REGION: Final = "cloud.region"
REGION: Final = "vetted.region"
REQUESTED_REGION: Final = "vetted.requested_region"
COUNTRY: Final = "vetted.country"
ATTEMPT_INDEX: Final = "vetted.attempt.index"
ATTEMPT_COUNT: Final = "vetted.attempt_count"
FAILOVER: Final = "vetted.failover"
STREAM_OUTCOME: Final = "vetted.stream.outcome"
RECEIPT_PLACEMENT: Final = "vetted.receipt.placement"
TRACE_PREFIX: Final = "vetted.routing_trace."
OPERATIONAL_SIGNAL: Final = "operational_signal"
RECEIPT_SIGNAL: Final = "receipt_signal"
RECEIPT_PREFIX: Final = "vetted.receipt."
CANDIDATES: Final = "vetted.candidates"
REJECTED_EVENT: Final = "vetted.candidate.rejected"
REASON: Final = "vetted.reason"
FIRST_CHUNK_EVENT: Final = "vetted.first_chunk"
RECEIPT_EMITTED_EVENT: Final = "vetted.receipt.emitted"
RECEIPT_FAILED_EVENT: Final = "vetted.receipt.failed"
OUTCOME: Final = "vetted.outcome"
NEXT_REGION: Final = "vetted.next_region"
TIER: Final = "vetted.tier"
GRID_TEMPORAL_MATCH: Final = "vetted.grid_temporal_match"
STREAM: Final = "vetted.stream"
SOURCE: Final = "vetted.source"
ROUTE_POLICY: Final = "vetted.routing_trace.route_policy"
DECISION_MODE: Final = "vetted.routing_trace.decision_mode"
DECISION_REASON: Final = "vetted.routing_trace.decision_reason"

OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
OPERATION_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"
LATEST_DURATION: Final = "gen_ai.client.inference.duration"
LATEST_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
LATEST_USED_INPUT: Final = "gen_ai.client.inference.usage.input_tokens"
LATEST_USED_OUTPUT: Final = "gen_ai.client.inference.usage.output_tokens"
LATEST_OPERATION_INPUT: Final = "gen_ai.client.inference.operation.input_tokens"
LATEST_OPERATION_OUTPUT: Final = "gen_ai.client.inference.operation.output_tokens"

REQUESTS: Final = "vetted.requests"
ATTEMPTS: Final = "vetted.attempts"
FAILOVERS: Final = "vetted.failovers"
ENERGY: Final = "vetted.energy"
EMISSIONS: Final = "vetted.emissions"
WATER: Final = "vetted.water"
RECEIPTS: Final = "vetted.receipts"
OVERHEAD: Final = "vetted.overhead.duration"
CARBON_INTENSITY: Final = "vetted.grid.carbon_intensity"
SIGNAL_AGE: Final = "vetted.grid.age"
REGIONS_HEALTHY: Final = "vetted.regions.healthy"
IN_FLIGHT: Final = "vetted.inflight"

CHAT: Final = "chat"
"""`gen_ai.operation.name` of everything that comes through here."""
INPUT: Final = "input"
OUTPUT: Final = "output"
UNKNOWN: Final = "unknown"
"""`gen_ai.token.modality`: an OpenAI-compatible `usage` does not say of what the tokens are."""
NO_REGION: Final = "no_region_available"
"""`error.type` of a decision that found no region."""

OPENAI: Final = "openai"
"""`gen_ai.provider.name` where no region says otherwise."""
OTHER: Final = "_OTHER"
"""Stands for a model name that no configuration and no upstream's list holds: callers choose that string."""

FINISH_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""Those of the chat API; an upstream's own word for it is `_OTHER`."""

MAX_REJECTED_EVENTS: Final = 16
SIGNAL_FIELDS: Final = ("source", "signal_kind", "gco2_per_kwh", "age_minutes", "temporal_match", "live_eligible")
RECEIPT_FIELDS: Final = (
    "query_id",
    "tier",
    "gco2e",
    "gco2e_ci90_lo",
    "gco2e_ci90_hi",
    "ml_water",
    "ml_water_ci90_lo",
    "ml_water_ci90_hi",
    "energy_wh",
    "methodology_version",
    "route_taken",
    "grid_zone",
    "grid_intensity_gco2_per_kwh",
    "grid_intensity_source",
    "grid_intensity_age_minutes",
    "grid_temporal_match",
)
