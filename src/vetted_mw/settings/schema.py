"""The shape of the settings file: every key, its type, its bounds and its default, as an operator may write it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vetted_mw.configuration import DEFAULT_TRANSPORT
from vetted_mw.routing.regions import EU_EEA_COUNTRIES
from vetted_mw.settings import header_names, texts
from vetted_mw.settings.evidence_schema import LedgerSettings, MeasuredEnergySettings, SigningSettings
from vetted_mw.settings.refusal import refused
from vetted_mw.settings.section import Grams, KeyReference, Name, Seconds, Section, unique
from vetted_mw.settings.signal_schema import SignalSettings

__all__ = [
    "CallerSettings",
    "LimitSettings",
    "ModelSettings",
    "PolicySettings",
    "ReceiptSettings",
    "RegionLimits",
    "RegionSettings",
    "ServerSettings",
    "TelemetrySettings",
    "VettedSettings",
]


def _country(value: str) -> str:
    if value not in EU_EEA_COUNTRIES:
        raise refused(
            "is not an EU or EEA country.",
            "Use an upper-case ISO 3166 code of an EU-27 state, IS, LI or NO; no setting turns this off.",
        )
    return value


def _keep_alive(value: float) -> float:
    if 0 < value < _LEAST_KEEP_ALIVE_SECONDS:
        raise refused(
            "is too short a time between keep-alives.",
            f"Write 0 to turn them off, or at least {_LEAST_KEEP_ALIVE_SECONDS} seconds.",
        )
    return value


_LEAST_KEEP_ALIVE_SECONDS = 0.1
_OptionalSeconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
_KeepAliveSeconds = Annotated[_OptionalSeconds, AfterValidator(_keep_alive)]
_Code = Annotated[str, AfterValidator(texts.code)]
_Codes = Annotated[list[_Code], AfterValidator(unique)]
_Country = Annotated[str, AfterValidator(_country)]
_ModelName = Annotated[str, AfterValidator(texts.model_name)]
_Text = Annotated[str, Field(max_length=200)]
_Milliseconds = Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)]
_Litres = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
_Params = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
_Bytes = Annotated[int, Field(ge=1024, le=2**40)]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]


class RegionLimits(Section):
    """Limits an upstream may have of its own."""

    max_response_bytes: _Bytes | None = None
    max_frame_bytes: _Bytes | None = None
    connect_seconds: Seconds | None = None
    pool_seconds: Seconds | None = None
    idle_connection_seconds: Seconds | None = None
    first_byte_seconds: Seconds | None = None
    answer_seconds: Seconds | None = None
    idle_seconds: Seconds | None = None
    finish_hold_seconds: Seconds | None = None
    max_in_flight: _Count | None = None


class LimitSettings(RegionLimits):
    """`[limits]`: those, and the limits of a whole request."""

    max_body_bytes: _Bytes | None = None
    body_read_seconds: Seconds | None = None
    total_seconds: Seconds | None = None
    commit_after_seconds: _OptionalSeconds | None = None
    sse_keepalive_seconds: _KeepAliveSeconds | None = None
    attempts: Annotated[int, Field(ge=1, le=100)] | None = None


class PolicySettings(Section):
    """`[policy]`: what the operator allows."""

    allowed_regions: _Codes = []
    allowed_countries: Annotated[list[_Country], AfterValidator(unique)] = []
    carbon_aware: bool = True
    require_region: bool = False


class CallerSettings(PolicySettings):
    """`[callers.NAME]`: one who may come in, and how its policy narrows the operator's."""

    key: KeyReference
    admin: bool = False


class RegionSettings(Section):
    """`[regions.CODE]`: what the operator says of a region; for a shipped one, only what differs."""

    provider: Name | None = None
    site: Name | None = None
    location: Name | None = None
    country: _Country | None = None
    zone: Annotated[str, AfterValidator(texts.zone)] | None = None
    annual_gco2_per_kwh: Grams | None = None
    annual_year: Annotated[int, Field(ge=1990, le=2100)] | None = None
    annual_source: _Text | None = None
    annual_basis: Literal["lifecycle", "direct", "unknown"] | None = None
    network_p50_ms: _Milliseconds | None = None
    network_p95_ms: _Milliseconds | None = None
    inference: bool | None = None
    pue: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] | None = None
    wue_l_per_kwh: _Litres | None = None
    ewif_l_per_kwh: _Litres | None = None
    hardware: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    gen_ai_provider: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    base_url: Annotated[str, AfterValidator(texts.upstream_url)] = ""
    api_key: KeyReference | None = None
    auth: Literal["region", "passthrough", "none"] = "region"
    models: Literal["discover", "any"] | Annotated[list[_ModelName], Field(min_length=1)] = "any"
    health_path: Annotated[str, AfterValidator(texts.origin_path)] = "/health"
    metrics_path: Annotated[str, AfterValidator(texts.origin_path)] = ""
    max_queue: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    stream_usage: Literal["auto", "supported", "rejected"] = "auto"
    ca_file: Annotated[str, Field(max_length=4096), AfterValidator(texts.file_path)] = ""
    proxy: Annotated[str, AfterValidator(texts.proxy_url)] = ""
    drained: bool = False
    measured_energy: MeasuredEnergySettings | None = None
    limits: RegionLimits = RegionLimits()

    @model_validator(mode="after")
    def _key_is_used(self) -> RegionSettings:
        if self.api_key is not None and self.auth != "region":
            raise refused("has an api_key that its auth never sends.", 'Remove api_key, or set auth = "region".')
        return self

    @model_validator(mode="after")
    def _queue_is_read(self) -> RegionSettings:
        if self.max_queue and not self.metrics_path:
            raise refused(
                "has a max_queue and no way to read the queue.",
                'Set metrics_path = "/metrics" (vLLM, SGLang, llama.cpp, TGI), or remove max_queue.',
            )
        return self


class ModelSettings(Section):
    """`[models.NAME]`: how large a model is, for receipts, and what upstreams call it."""

    active_params_b: _Params | None = None
    total_params_b: _Params | None = None
    bytes_per_param: Annotated[float, Field(gt=0, le=8, allow_inf_nan=False)] | None = None
    batch_size: Annotated[float, Field(ge=1, le=100_000, allow_inf_nan=False)] | None = None
    upstream_names: dict[str, _ModelName] = {}

    @model_validator(mode="after")
    def _active_fits(self) -> ModelSettings:
        active, total = self.active_params_b, self.total_params_b
        if active is not None and total is not None and active > total:
            raise refused("has more active than total parameters.", "Correct active_params_b or total_params_b.")
        return self


class ReceiptSettings(Section):
    """`[receipts]`: what receipts say and how they treat what is missing."""

    issuer: _Text = ""
    engine: Literal["parametric", "ecologits"] = "parametric"
    unknown_model: Literal["widen", "null"] = "widen"
    missing_usage: Literal["estimate", "null"] = "estimate"
    measured_energy: MeasuredEnergySettings = MeasuredEnergySettings()


class ServerSettings(Section):
    """`[server]`: what `vetted-mw serve` binds."""

    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    drain_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30.0


class TelemetrySettings(Section):
    """`[telemetry]`: what upstreams learn of the trace, and which metrics there are."""

    propagate: Literal["traceparent", "off"] = "traceparent"
    metrics: Literal["genai+vetted", "vetted"] = "genai+vetted"


class VettedSettings(BaseSettings):
    """The whole file. Read it through `vetted_mw.load_configuration`, which also reads the environment."""

    # Only the class that is bound to a table, in `reading`, ever validates; it builds its validator itself.
    model_config = SettingsConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    receipt_key: Annotated[str, AfterValidator(texts.receipt_member)] = "receipt"
    paths: Annotated[list[Annotated[str, AfterValidator(texts.our_path)]], Field(min_length=1)] = [
        "/v1/chat/completions"
    ]
    default_routing: Literal["default", "carbon_aware"] = "default"
    default_order: Annotated[_Codes, Field(min_length=1)] | None = None
    sse_placement: Literal["finish_chunk", "usage_chunk", "comment", "off"] = "finish_chunk"
    trace_detail: Literal["full", "short"] = "full"
    forward_headers: list[Annotated[str, AfterValidator(header_names.forwarded_header)]] = []
    transport: Literal["own", "httpx"] = DEFAULT_TRANSPORT
    server: ServerSettings = ServerSettings()
    callers: dict[str, CallerSettings] = {}
    limits: LimitSettings = LimitSettings()
    policy: PolicySettings = PolicySettings()
    regions: dict[str, RegionSettings] = {}
    models: dict[str, ModelSettings] = {}
    signals: SignalSettings = SignalSettings()
    receipts: ReceiptSettings = ReceiptSettings()
    signing: SigningSettings = SigningSettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
