"""The shape of the settings file: every key, its type, its bounds and its default, as an operator may write it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vetted_mw.routing.regions import EU_EEA_COUNTRIES
from vetted_mw.settings import texts
from vetted_mw.settings.refusal import refused

__all__ = [
    "CallerSettings",
    "FileSourceSettings",
    "KeyReference",
    "LimitSettings",
    "ModelSettings",
    "PolicySettings",
    "ReceiptSettings",
    "RegionLimits",
    "RegionSettings",
    "ServerSettings",
    "SignalSettings",
    "SourceSettings",
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


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise refused("names one thing twice.", "Name each once.")
    return values


_Code = Annotated[str, AfterValidator(texts.code)]
_Codes = Annotated[list[_Code], AfterValidator(_unique)]
_Country = Annotated[str, AfterValidator(_country)]
_ModelName = Annotated[str, AfterValidator(texts.model_name)]
_Text = Annotated[str, Field(max_length=200)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_File = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(texts.file_path)]
_Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
_Grams = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
_Milliseconds = Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)]
_Litres = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
_Params = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
_Bytes = Annotated[int, Field(ge=1024, le=2**40)]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class KeyReference(_Section):
    """Where a key is: never the key itself, so that the file can be shown, kept and reviewed."""

    env: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    file: _File | None = None

    @model_validator(mode="after")
    def _one_place(self) -> KeyReference:
        if (self.env is None) == (self.file is None):
            raise refused(
                "must name one place.", 'Write { env = "NAME_OF_A_VARIABLE" } or { file = "/run/secrets/key" }.'
            )
        return self


class RegionLimits(_Section):
    """Limits an upstream may have of its own."""

    max_response_bytes: _Bytes | None = None
    max_frame_bytes: _Bytes | None = None
    connect_seconds: _Seconds | None = None
    pool_seconds: _Seconds | None = None
    idle_connection_seconds: _Seconds | None = None
    first_byte_seconds: _Seconds | None = None
    answer_seconds: _Seconds | None = None
    idle_seconds: _Seconds | None = None
    finish_hold_seconds: _Seconds | None = None
    max_in_flight: _Count | None = None


class LimitSettings(RegionLimits):
    """`[limits]`: those, and the limits of a whole request."""

    max_body_bytes: _Bytes | None = None
    body_read_seconds: _Seconds | None = None
    total_seconds: _Seconds | None = None
    attempts: Annotated[int, Field(ge=1, le=100)] | None = None


class PolicySettings(_Section):
    """`[policy]`: what the operator allows."""

    allowed_regions: _Codes = []
    allowed_countries: Annotated[list[_Country], AfterValidator(_unique)] = []
    carbon_aware: bool = True
    require_region: bool = False


class CallerSettings(PolicySettings):
    """`[callers.NAME]`: one who may come in, and how its policy narrows the operator's."""

    key: KeyReference
    admin: bool = False


class RegionSettings(_Section):
    """`[regions.CODE]`: what the operator says of a region; for a shipped one, only what differs."""

    provider: _Name | None = None
    site: _Name | None = None
    location: _Name | None = None
    country: _Country | None = None
    zone: Annotated[str, AfterValidator(texts.zone)] | None = None
    annual_gco2_per_kwh: _Grams | None = None
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
    stream_usage: Literal["auto", "supported", "rejected"] = "auto"
    ca_file: Annotated[str, Field(max_length=4096), AfterValidator(texts.file_path)] = ""
    proxy: Annotated[str, AfterValidator(texts.proxy_url)] = ""
    drained: bool = False
    limits: RegionLimits = RegionLimits()

    @model_validator(mode="after")
    def _key_is_used(self) -> RegionSettings:
        if self.api_key is not None and self.auth != "region":
            raise refused("has an api_key that its auth never sends.", 'Remove api_key, or set auth = "region".')
        return self


class ModelSettings(_Section):
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


class FileSourceSettings(_Section):
    """`[signals.sources.file]`: readings from a file that is watched."""

    path: _File
    max_age_minutes: Annotated[float, Field(gt=0, le=10_080, allow_inf_nan=False)] = 180.0


class SourceSettings(_Section):
    """`[signals.sources]`: where grid signals come from."""

    file: FileSourceSettings | None = None


class SignalSettings(_Section):
    """`[signals]`: how signals decide."""

    tie_band_gco2_per_kwh: _Grams = 0.0
    tie_band_ratio: _Share = 0.0
    chains: dict[str, Annotated[list[str], Field(min_length=1), AfterValidator(_unique)]] = {}
    sources: SourceSettings = SourceSettings()


class ReceiptSettings(_Section):
    """`[receipts]`: what receipts say and how they treat what is missing."""

    issuer: _Text = ""
    engine: Literal["parametric"] = "parametric"
    unknown_model: Literal["widen", "null"] = "widen"
    missing_usage: Literal["estimate", "null"] = "estimate"


class ServerSettings(_Section):
    """`[server]`: what `vetted-mw serve` binds."""

    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    drain_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30.0


class TelemetrySettings(_Section):
    """`[telemetry]`: what upstreams learn of the trace."""

    propagate: Literal["traceparent", "off"] = "traceparent"


class VettedSettings(BaseSettings):
    """The whole file. Read it through `vetted_mw.load_configuration`, which also reads the environment."""

    model_config = SettingsConfigDict(extra="forbid", strict=True, frozen=True)

    receipt_key: Annotated[str, AfterValidator(texts.receipt_member)] = "receipt"
    paths: Annotated[list[Annotated[str, AfterValidator(texts.our_path)]], Field(min_length=1)] = [
        "/v1/chat/completions"
    ]
    default_routing: Literal["default", "carbon_aware"] = "default"
    default_order: Annotated[_Codes, Field(min_length=1)] | None = None
    sse_placement: Literal["finish_chunk", "usage_chunk", "comment", "off"] = "finish_chunk"
    trace_detail: Literal["full", "short"] = "full"
    forward_headers: list[Annotated[str, AfterValidator(texts.forwarded_header)]] = []
    transport: Literal["httpx"] = "httpx"
    server: ServerSettings = ServerSettings()
    callers: dict[str, CallerSettings] = {}
    limits: LimitSettings = LimitSettings()
    policy: PolicySettings = PolicySettings()
    regions: dict[str, RegionSettings] = {}
    models: dict[str, ModelSettings] = {}
    signals: SignalSettings = SignalSettings()
    receipts: ReceiptSettings = ReceiptSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
