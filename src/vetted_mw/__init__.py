"""Route chat completions to EU/EEA regions, and say where each one ran, why there, and what it cost the climate.

gateway = Gateway.from_env()
app.add_middleware(VettedMiddleware, gateway=gateway)
"""

from __future__ import annotations

from importlib.metadata import version

from vetted_mw.callers import Caller
from vetted_mw.errors import ConfigurationError, RouteError, VettedError
from vetted_mw.gateway import Gateway
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.signal import GridSignal, Method, SignalKind
from vetted_mw.grid.source import SignalSource
from vetted_mw.in_app.route import Route, current_route
from vetted_mw.middleware import VettedMiddleware, VettedProxy
from vetted_mw.settings import load_configuration

__all__ = [
    "Caller",
    "ConfigurationError",
    "Gateway",
    "GridSignal",
    "Method",
    "NoSignal",
    "NoSignalReason",
    "Route",
    "RouteError",
    "SignalKind",
    "SignalSource",
    "VettedError",
    "VettedMiddleware",
    "VettedProxy",
    "__version__",
    "current_route",
    "load_configuration",
]

__version__ = version("vetted-mw")
