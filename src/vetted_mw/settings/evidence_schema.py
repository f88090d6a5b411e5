"""The shape of `[signing]`, `[ledger]` and `measured_energy`: what makes receipts evidence."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from vetted_mw.instants import parse_rfc3339
from vetted_mw.settings import header_names, texts
from vetted_mw.settings.refusal import refused
from vetted_mw.settings.section import File, KeyReference, Section

__all__ = ["LedgerSettings", "MeasuredEnergySettings", "RetiredKeySettings", "SigningSettings"]


class MeasuredEnergySettings(Section):
    """`[receipts.measured_energy]`, also per region: where an upstream's answer tells the energy it took."""

    header: Annotated[str, Field(max_length=200), AfterValidator(header_names.energy_header)] = ""
    json_path: Annotated[str, Field(max_length=500), AfterValidator(texts.json_path)] = ""
    unit: Literal["J", "Wh"] = "J"
    scope: Literal["gpu", "node"] = "gpu"

    @model_validator(mode="after")
    def _one_place(self) -> MeasuredEnergySettings:
        if self.header and self.json_path:
            raise refused("names two places for one number.", "Keep header or json_path.")
        return self


class RetiredKeySettings(Section):
    """One entry of `signing.retired`: a public key that signed once."""

    file: File
    not_before: Annotated[str, AfterValidator(texts.instant)] = ""
    not_after: Annotated[str, AfterValidator(texts.instant)] = ""

    @model_validator(mode="after")
    def _in_order(self) -> RetiredKeySettings:
        if self.not_before and self.not_after and parse_rfc3339(self.not_before) > parse_rfc3339(self.not_after):
            raise refused("ends before it begins.", "Correct not_before or not_after.")
        return self


class SigningSettings(Section):
    """`[signing]`: what receipts are signed with."""

    key: KeyReference | None = None
    alg: Literal["Ed25519", "EdDSA"] = "Ed25519"
    retired: list[RetiredKeySettings] = []


class LedgerSettings(Section):
    """`[ledger]`: where receipts are kept."""

    path: Annotated[str, Field(max_length=4096), AfterValidator(texts.file_path)] = ""
    durability: Literal["normal", "full"] = "normal"
    policy: Literal["fail_open", "fail_closed"] = "fail_open"
