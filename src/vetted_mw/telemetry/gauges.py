"""What is looked at when metrics are collected: signals, health and load of the regions of every open gateway.

Collection happens in threads of the SDK's. What is looked at is read, never changed, and single values at a time.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

import msgspec
from opentelemetry.metrics import Observation

from vetted_mw.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider

__all__ = ["GLOBAL_WATCH", "Observed", "RegionGlance", "SignalGlance", "Watch", "create_gauges", "watch_over"]

_LOG = logging.getLogger("vetted_mw")


class SignalGlance(msgspec.Struct, frozen=True, kw_only=True):
    """The signal a region is judged by.

    Attributes:
        source: name of its source.
        gco2_per_kwh: its value.
        age_seconds: how long ago it was observed.
    """

    source: str
    gco2_per_kwh: float
    age_seconds: float


class RegionGlance(msgspec.Struct, frozen=True, kw_only=True):
    """One configured region at one instant.

    Attributes:
        region: its code.
        is_healthy: whether it could be sent a request, as far as is known.
        in_flight: attempts under way.
        signal: the measured signal of its zone; None without one.
    """

    region: str
    is_healthy: bool
    in_flight: int
    signal: SignalGlance | None


class Observed(Protocol):
    """A gateway, as the gauges see it."""

    def glances(self) -> Iterable[RegionGlance]:
        """Tell every configured region as it stands. Called from any thread; changes nothing and waits for nothing."""
        ...


class Watch:
    """The open gateways that report to one provider. Holds none of them alive."""

    def __init__(self) -> None:
        self._observed: tuple[weakref.ref[Observed], ...] = ()  # replaced whole: collecting goes on meanwhile
        self._changing = threading.Lock()  # gateways of several event loops open and close in threads of their own

    def add(self, observed: Observed) -> None:
        """Look at one more gateway from now on."""
        with self._changing:
            self._observed = (*self._without(observed), weakref.ref(observed))

    def discard(self, observed: Observed) -> None:
        """Look at it no more."""
        with self._changing:
            self._observed = self._without(observed)

    def glances(self) -> Iterator[RegionGlance]:
        """Tell every region of every open gateway; of one that cannot be read, what could be."""
        for one in self._observed:
            observed = one()
            if observed is None:
                continue
            try:
                yield from observed.glances()
            except Exception as error:  # noqa: BLE001 (a collection costs nobody an answer, and no other gauge its value)
                _LOG.warning("a gauge could not be read", extra={"error": type(error).__name__})

    def _without(self, observed: Observed) -> tuple[weakref.ref[Observed], ...]:
        return tuple(one for one in self._observed if one() not in {None, observed})


GLOBAL_WATCH = Watch()
"""Of the gateways that report to the global provider, whichever that is and whenever it is set."""

_WATCHES: weakref.WeakKeyDictionary[MeterProvider, Watch] = weakref.WeakKeyDictionary()


def watch_over(provider: MeterProvider) -> Watch:
    """Return the one watch of a provider: an SDK keeps the first callback of a name and drops every other."""
    return _WATCHES.setdefault(provider, Watch())


def create_gauges(meter: Meter, watch: Watch) -> None:
    """Create the observed gauges over `watch`."""
    meter.create_observable_gauge(
        names.CARBON_INTENSITY, [_observing(watch, _intensity)], "g/kWh", "Measured grid carbon intensity, CO2e."
    )
    meter.create_observable_gauge(names.SIGNAL_AGE, [_observing(watch, _age)], "s", "Age of that measurement.")
    meter.create_observable_gauge(
        names.REGIONS_HEALTHY, [_observing(watch, _health)], "{region}", "Whether a region could be sent a request."
    )
    meter.create_observable_up_down_counter(
        names.IN_FLIGHT, [_observing(watch, _in_flight)], "{request}", "Attempts under way at a region."
    )


def _observing(
    watch: Watch, observe: Callable[[RegionGlance], Observation | None]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observed(_options: CallbackOptions) -> Iterable[Observation]:
        return [found for glance in watch.glances() if (found := observe(glance)) is not None]

    return observed


def _intensity(glance: RegionGlance) -> Observation | None:
    signal = glance.signal
    return None if signal is None else Observation(signal.gco2_per_kwh, _of_signal(glance.region, signal))


def _age(glance: RegionGlance) -> Observation | None:
    signal = glance.signal
    return None if signal is None else Observation(signal.age_seconds, _of_signal(glance.region, signal))


def _of_signal(region: str, signal: SignalGlance) -> dict[str, str]:
    return {names.REGION: region, names.SOURCE: signal.source}


def _health(glance: RegionGlance) -> Observation:
    return Observation(int(glance.is_healthy), {names.REGION: glance.region})


def _in_flight(glance: RegionGlance) -> Observation:
    return Observation(glance.in_flight, {names.REGION: glance.region})
