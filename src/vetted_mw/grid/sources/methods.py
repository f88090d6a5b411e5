"""How each grid service's values are made. Values of two methods are never ranked against each other. Pure facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.grid.factors import load_factors, mix_method
from vetted_mw.grid.sources import electricity_maps, energinet, energy_charts, fingrid, odre

if TYPE_CHECKING:
    from vetted_mw.grid.signal import Method
    from vetted_mw.signal_configuration import ServiceSource

__all__ = ["method_of"]


def method_of(source: ServiceSource) -> Method:
    """Return how the values of a configured service are made; those that give a mix share our one factor set."""
    match source.name:
        case "odre" if source.figure == "taux_co2":
            return odre.METHOD
        case "energy_charts":
            return energy_charts.METHOD
        case "fingrid":
            return fingrid.DATASETS[source.figure][1]
        case "electricity_maps":
            return electricity_maps.METHODS[source.figure]
        case "energinet":
            return energinet.METHOD
        case _:
            return mix_method(load_factors())
