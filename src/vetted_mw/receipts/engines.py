"""The energy models that come with the gateway, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.parametric import ParametricModel

if TYPE_CHECKING:
    from vetted_mw.receipts.figures import EnergyModel

__all__ = ["engine_named"]


def engine_named(name: str) -> EnergyModel:
    """Return the energy model the settings name; the package of `ecologits` is imported here and nowhere before.

    Raises:
        ConfigurationError: there is no such engine, or its package is not installed.
    """
    if name == "parametric":
        return ParametricModel()
    if name == "ecologits":
        from vetted_mw.receipts.ecologits import load_ecologits  # noqa: PLC0415 (needed by those who chose it)

        return load_ecologits()
    raise ConfigurationError(
        "there is no such engine.", field="receipts.engine", remedy="Set it to parametric or ecologits."
    )
