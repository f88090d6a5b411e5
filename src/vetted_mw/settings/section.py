"""What every section of the settings shares: unknown keys are errors, values strict and frozen, keys by reference."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vetted_mw.settings import texts
from vetted_mw.settings.refusal import refused

__all__ = ["File", "Grams", "KeyReference", "Name", "Seconds", "Section", "Share", "unique"]

Name = Annotated[str, Field(min_length=1, max_length=200)]
File = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(texts.file_path)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Grams = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


def unique(values: list[str]) -> list[str]:
    """Refuse a list that names one thing twice."""
    if len(set(values)) != len(values):
        raise refused("names one thing twice.", "Name each once.")
    return values


class Section(BaseModel):
    """One table of the settings."""

    # One validator is built, that of the whole settings when they are read, and none for each table as it is defined.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class KeyReference(Section):
    """Where a key is: never the key itself, so that the file can be shown, kept and reviewed."""

    env: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    file: File | None = None

    @model_validator(mode="after")
    def _one_place(self) -> KeyReference:
        if (self.env is None) == (self.file is None):
            raise refused(
                "must name one place.", 'Write { env = "NAME_OF_A_VARIABLE" } or { file = "/run/secrets/key" }.'
            )
        return self
