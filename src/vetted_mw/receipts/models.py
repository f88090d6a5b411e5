"""How large a model is: the operator's word, else the shipped table's, else unknown."""

from __future__ import annotations

import math
import re
import tomllib
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.receipts.shipped import version_files

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ModelSize", "normalised", "shipped_sizes", "size_for", "unknown_size"]

# What names of one model differ in: the organisation before the slash, case, tuning words, a release ("v0.3"), and a
# date or "latest". A whole version is another model: DeepSeek-V2 has a third of V3's parameters.
_TUNING = re.compile(r"-(?:instruct|it|chat|hf|latest|v0\.\d+|\d{4}|\d{6}|\d{8})$")


class ModelSize(msgspec.Struct, frozen=True, kw_only=True):
    """What the energy model needs to know of a model.

    Attributes:
        active_params_b: parameters used per token, 1e9.
        total_params_b: parameters held in memory, 1e9.
        bytes_per_param: bf16 2, fp8 1, mxfp4 or int4 0.5.
        batch_size: requests served together; None when unknown (32 is used, the interval widens).
        size_range: (lo, hi) of the parameters, 1e9, when the size is not known.
        source: who says so.
    """

    active_params_b: float
    total_params_b: float
    bytes_per_param: float
    batch_size: float | None = None
    size_range: tuple[float, float] | None = None
    source: str = ""


@cache
def shipped_sizes() -> Mapping[str, ModelSize]:
    """Return the shipped table, normalised name -> size."""
    return MappingProxyType(
        {
            normalised(row["name"]): ModelSize(
                active_params_b=float(row["active_params_b"]),
                total_params_b=float(row["total_params_b"]),
                bytes_per_param=float(row["bytes_per_param"]),
                source=row["source"],
            )
            for row in _table()["model"]
        }
    )


@cache
def unknown_size() -> ModelSize:
    """Return what stands for a model nobody knows the size of: the geometric midpoint of a wide range."""
    row = _table()["unknown"]
    low, high = float(row["low_b"]), float(row["high_b"])
    middle = math.sqrt(low * high)
    return ModelSize(
        active_params_b=middle,
        total_params_b=middle,
        bytes_per_param=float(row["bytes_per_param"]),
        size_range=(low, high),
        source=row["source"],
    )


def size_for(model: str, configured: Mapping[str, ModelSize]) -> ModelSize | None:
    """Return a model's size: the operator's exact name first, then the shipped table by normalised name."""
    return configured.get(model) or _shipped_size(model)


@lru_cache(maxsize=256)
def _shipped_size(model: str) -> ModelSize | None:
    return shipped_sizes().get(normalised(model))


def normalised(model: str) -> str:
    """Reduce a name to what the table is keyed by: no organisation, lower case, no tuning words or date at its end."""
    name = model.rsplit("/", 1)[-1].lower().removeprefix("meta-")
    while (shorter := _TUNING.sub("", name)) != name:
        name = shorter
    return name


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(version_files()["models.toml"].decode())
