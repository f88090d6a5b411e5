"""The shape of `[signals]`: where grid signals come from and what they must be to decide."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from vetted_mw.settings import header_names, texts
from vetted_mw.settings.refusal import refused
from vetted_mw.settings.section import File, Grams, KeyReference, Name, Seconds, Section, Share, unique

__all__ = [
    "AreaSettings",
    "ElectricityMapsSettings",
    "EntsoeSettings",
    "FileSourceSettings",
    "FingridSettings",
    "JsonReadingSettings",
    "JsonSourceSettings",
    "OdreSettings",
    "ServiceSettings",
    "SignalSettings",
    "SourceSettings",
]

_Minutes = Annotated[float, Field(gt=0, le=10_080, allow_inf_nan=False)]
_BaseUrl = Annotated[str, AfterValidator(texts.service_url)]
_BackupUrl = Annotated[str, Field(min_length=1), AfterValidator(texts.service_url)]
_Areas = dict[str, Name]
_Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Megawatts = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
_FuelTypes = Annotated[list[Annotated[str, AfterValidator(texts.fuel_type)]], AfterValidator(unique)]
_Path = Annotated[str, AfterValidator(texts.member_path)]


class FileSourceSettings(Section):
    """`[signals.sources.file]`: readings from a file that is watched."""

    path: File
    max_age_minutes: _Minutes = 180.0


class ServiceSettings(Section):
    """A service that needs no key: its table alone turns it on."""

    base_url: _BaseUrl = ""
    max_age_minutes: _Minutes | None = None
    refresh_seconds: Seconds | None = None


class AreaSettings(ServiceSettings):
    """A service that tells several places apart: the operator may name further ones."""

    areas: _Areas = {}


class EntsoeSettings(AreaSettings):
    """`[signals.sources.entsoe]`."""

    token: KeyReference
    backup_urls: Annotated[list[_BackupUrl], AfterValidator(unique)] = []


class OdreSettings(ServiceSettings):
    """`[signals.sources.odre]`."""

    figure: Literal["mix", "taux_co2"] = "mix"


class FingridSettings(ServiceSettings):
    """`[signals.sources.fingrid]`."""

    token: KeyReference
    figure: Literal["consumption", "production"] = "consumption"


class ElectricityMapsSettings(AreaSettings):
    """`[signals.sources.electricity_maps]`."""

    token: KeyReference
    figure: Literal["lifecycle", "direct"] = "lifecycle"


class JsonReadingSettings(Section):
    """`[signals.sources.http_json.zones.ZONE]`: where that zone's value stands in an answer we do not know."""

    url: Annotated[str, AfterValidator(texts.asked_url)]
    value: _Path
    observed_at: _Path
    estimated: Annotated[str, AfterValidator(texts.optional_member_path)] = ""
    unit: Literal["g_per_kwh", "kg_per_kwh", "kg_per_mwh", "t_per_mwh", "lb_per_mwh"] = "g_per_kwh"
    method: Annotated[str, AfterValidator(texts.method)] = "declared"
    area: Annotated[str, AfterValidator(texts.optional_zone)] = ""
    max_age_minutes: _Minutes = 180.0
    header: Annotated[str, AfterValidator(header_names.key_header)] = ""
    token: KeyReference | None = None

    @model_validator(mode="after")
    def _key_has_its_place(self) -> JsonReadingSettings:
        places = bool(self.header) + (texts.KEY_PLACE in self.url)
        if self.token is None and places:
            raise refused("names a place for a key and no token.", 'Set token = { env = "NAME_OF_A_VARIABLE" }.')
        if self.token is not None and places != 1:
            raise refused(
                "has a token and not one place for it.",
                f"Name the header that carries it, or write {texts.KEY_PLACE} where it belongs in the url.",
            )
        return self


class JsonSourceSettings(Section):
    """`[signals.sources.http_json]`: services of the operator's own, read by description."""

    refresh_seconds: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] | None = None
    zones: Annotated[dict[str, JsonReadingSettings], Field(min_length=1)]


class SourceSettings(Section):
    """`[signals.sources]`: where grid signals come from. A source is asked when its table is there."""

    entsoe: EntsoeSettings | None = None
    landsnet: ServiceSettings | None = None
    odre: OdreSettings | None = None
    statnett: AreaSettings | None = None
    energy_charts: AreaSettings | None = None
    fingrid: FingridSettings | None = None
    electricity_maps: ElectricityMapsSettings | None = None
    energinet: AreaSettings | None = None
    http_json: JsonSourceSettings | None = None
    file: FileSourceSettings | None = None


class SignalSettings(Section):
    """`[signals]`: how signals decide."""

    refresh_seconds: Seconds | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 30.0
    proxy: Annotated[str, AfterValidator(texts.proxy_url)] = ""
    tie_band_gco2_per_kwh: Grams = 0.0
    tie_band_ratio: Share = 0.0
    chains: dict[str, Annotated[list[str], Field(min_length=1), AfterValidator(unique)]] = {}
    max_proxy_share: dict[str, _Part] = {}
    min_total_mw: dict[str, _Megawatts] = {}
    expected_types: dict[str, _FuelTypes] = {}
    sources: SourceSettings = SourceSettings()
