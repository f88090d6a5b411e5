"""Route chat completions to EU/EEA regions, and say where each one ran, why there, and what it cost the climate.

gateway = Gateway.from_env()
app.add_middleware(VettedMiddleware, gateway=gateway)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vetted_mw.callers import Caller
    from vetted_mw.errors import ConfigurationError, RouteError, VettedError
    from vetted_mw.gateway import Gateway
    from vetted_mw.grid.absence import NoSignal, NoSignalReason
    from vetted_mw.grid.signal import GridSignal, Method, SignalKind
    from vetted_mw.grid.source import SignalSource
    from vetted_mw.in_app.route import Route, current_route
    from vetted_mw.middleware import VettedMiddleware, VettedProxy
    from vetted_mw.settings import load_configuration

    __version__: str

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

_HOMES = {
    "Caller": "callers",
    "ConfigurationError": "errors",
    "Gateway": "gateway",
    "GridSignal": "grid.signal",
    "Method": "grid.signal",
    "NoSignal": "grid.absence",
    "NoSignalReason": "grid.absence",
    "Route": "in_app.route",
    "RouteError": "errors",
    "SignalKind": "grid.signal",
    "SignalSource": "grid.source",
    "VettedError": "errors",
    "VettedMiddleware": "middleware",
    "VettedProxy": "middleware",
    "current_route": "in_app.route",
    "load_configuration": "settings",
}

if not TYPE_CHECKING:  # a type checker would take any name at all for one of ours

    def __getattr__(name: str) -> object:
        """Import what is asked for, and keep it: a part of the package costs the import of that part.

        Raises:
            AttributeError: the package has nothing of that name.
        """
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 (reads a file)

            value: object = version("vetted-mw")
        elif name in _HOMES:
            from importlib import import_module  # noqa: PLC0415 (`dir` of the package would show it)

            value = getattr(import_module(f"vetted_mw.{_HOMES[name]}"), name)
        else:
            raise AttributeError(f"module 'vetted_mw' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Return the public names as well, whether they were imported yet or not."""
        return sorted({*globals(), *__all__})
