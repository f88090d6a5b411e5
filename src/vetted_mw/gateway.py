"""The gateway: owns every live object, opens and closes it, and lets requests in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from vetted_mw.configuration import Auth
from vetted_mw.errors import ConfigurationError
from vetted_mw.ids import new_id
from vetted_mw.in_app.client import RouteTransport, http_client
from vetted_mw.lifecycle.holdings import Holdings
from vetted_mw.lifecycle.rooms import Outside
from vetted_mw.lifecycle.settings_watch import SettingsWatch
from vetted_mw.lifecycle.traffic import InFlight, refusal
from vetted_mw.settings import load_configuration
from vetted_mw.telemetry.instruments import instruments_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from vetted_mw.configuration import Configuration, ServerConfiguration, Upstream
    from vetted_mw.core import Core
    from vetted_mw.fleet.fleet import Fleet
    from vetted_mw.grid.board import SignalBoard
    from vetted_mw.grid.source import SignalSource
    from vetted_mw.lifecycle.former import Former
    from vetted_mw.lifecycle.rooms import Rooms
    from vetted_mw.proxy.transport import Transport
    from vetted_mw.receipts.figures import EnergyModel
    from vetted_mw.receipts.sealed import ReceiptSink
    from vetted_mw.telemetry.meters import Meters
    from vetted_mw.telemetry.recorder import Recorder

__all__ = ["Gateway"]

_LOG = logging.getLogger("vetted_mw")
_utc_now = partial(datetime.now, UTC)


class Gateway:
    """Owns the configuration and everything that lives: signals, upstream pools, breakers, leases.

    An async context manager, entry counted: the outermost entry opens it, the matching exit closes it. Opening does no
    network I/O and does not fail because a service is down. A middleware that never sees a lifespan opens it at the
    first request.

    Args:
        configuration: what the operator decided, from `load_configuration`.
        signals: further signal sources beside those of the configuration.
        energy_model: replaces the configured model in receipts.
        ledger: keeps receipts in place of the configured one; the gateway opens and closes it.
        transport: makes the door to one upstream, in place of the configured one.
        now: wall clock, aware UTC.
        monotonic: seconds that never go back.
        new_id: a fresh uuid4 as a string.
        jitter: a number in [0, 1).
        tracer_provider: where spans go; None: OpenTelemetry's global one, whenever it is set.
        meter_provider: where metrics go, likewise.
        background: whether upstreams are probed, grid services asked and the settings file watched while it is open;
            without, only when told to.
        load: reads the settings anew, for `reload`; `from_env` and `from_file` bring their own.

    Attributes:
        now: returns the instant on the gateway's wall clock, UTC.
        monotonic: returns the instant on the gateway's other clock, seconds that never go back.

    Raises:
        ConfigurationError: two signal sources share a name, `signals.chains` names one that there is not, or the
            signing key or the energy model cannot be used.
    """

    def __init__(  # noqa: PLR0913 (what a test or an application may want to put in another's place)
        self,
        configuration: Configuration,
        *,
        signals: Sequence[SignalSource] = (),
        energy_model: EnergyModel | None = None,
        ledger: ReceiptSink | None = None,
        transport: Callable[[Upstream], Transport] | None = None,
        now: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = new_id,
        jitter: Callable[[], float] = random.random,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        background: bool = True,
        load: Callable[[], Configuration] | None = None,
    ) -> None:
        self._outside = Outside(
            signals=tuple(signals),
            energy_model=energy_model,
            ledger=ledger,
            transport=transport,
            now=now,
            monotonic=monotonic,
            new_id=new_id,
            jitter=jitter,
            instruments=instruments_for(meter_provider, latest_genai=configuration.telemetry.latest_genai),
            tracer_provider=tracer_provider,
        )
        self.now = now
        self.monotonic = monotonic
        self._load = load
        self._server = configuration.server  # what it was started under, whatever is read later
        self._held = Holdings(configuration, self._outside, background=background)
        self._entries = 0
        self._closings = 0
        self._warned = False
        self._warned_of_unsigned = False
        self._warned_of_no_upstream = False
        self._lock = asyncio.Lock()
        self._reloading = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: SettingsWatch | None = None
        if background and load is not None and configuration.source:
            self._watch = SettingsWatch(configuration.source, changed=self.reload_or_tell)
        self._http_client = http_client(RouteTransport())

    @classmethod
    def from_env(cls, **options: object) -> Self:
        """Build a gateway from `VETTED_CONFIG` or `./vetted.toml`, and `VETTED_*`.

        Raises:
            ConfigurationError: the settings cannot be used; its text names the key and the remedy.
        """
        configuration = load_configuration()
        # The file is found once: a process that changes its folder goes on with the one it began with.
        source = configuration.source or None
        return cls(configuration, **{"load": lambda: load_configuration(source), **options})  # type: ignore[arg-type]

    @classmethod
    def from_file(cls, path: Path | str, **options: object) -> Self:
        """Build a gateway from one settings file, and `VETTED_*`.

        Raises:
            ConfigurationError: the settings cannot be used.
        """
        configuration = load_configuration(path)
        source = configuration.source
        return cls(configuration, **{"load": lambda: load_configuration(source), **options})  # type: ignore[arg-type]

    @property
    def configuration(self) -> Configuration:
        """What the operator decided, as last reloaded."""
        return self._held.rooms.configuration

    @property
    def paths(self) -> frozenset[str]:
        """The request paths that are ours, without a trailing slash."""
        return self._held.rooms.paths

    @property
    def http_client(self) -> Any:
        """The client of in-app handlers: it sends the current request's chat call to its route and nothing else.

        An `httpx.AsyncClient`; typed loosely because SDKs disagree on whether they name httpx or httpx2 in their types.
        """
        return self._http_client

    @property
    def rooms(self) -> Rooms:
        """The live things under the configuration that holds now, for who asks for several of them at one instant."""
        return self._held.rooms

    @property
    def board(self) -> SignalBoard:
        """The latest signal of each zone."""
        return self._held.rooms.board

    @property
    def recorder(self) -> Recorder:
        """What starts the spans of requests."""
        return self._held.rooms.recorder

    @property
    def meters(self) -> Meters:
        """What records the metrics of requests."""
        return self._held.rooms.meters

    @property
    def fleet(self) -> Fleet:
        """What is known of each upstream."""
        return self._held.rooms.fleet

    @property
    def is_open(self) -> bool:
        """Whether it can serve now."""
        return self._core is not None

    @property
    def is_shutting_down(self) -> bool:
        """Whether new requests are refused because it is being stopped."""
        return self._held.traffic.is_closed

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return len(self._held.traffic)

    def enter_at_once(self) -> InFlight | None:
        """Let one request in as `enter` does, where nothing has to be waited for; None where `enter` has to.

        Raises:
            ShuttingDownError: it is being stopped.
        """
        held = self._held
        core, loop = held.core, asyncio.get_running_loop()
        if core is None or self._loop is not loop:
            return None
        traffic = held.traffic
        if traffic.is_closed:
            traffic.require_open()
        return traffic.enter(core, loop)

    async def enter(self) -> InFlight:
        """Let one request in; whoever calls this says when it has left.

        Raises:
            ShuttingDownError: it is being stopped.
        """
        held = self._held
        core, loop = held.core, asyncio.get_running_loop()
        if core is None or self._loop is not loop:
            self._forget_closed_loop()
            held.traffic.require_open()
            core = await self.core()
        held.traffic.require_open()  # it may have been told to stop meanwhile
        return held.traffic.enter(core, loop)

    async def core(self) -> Core:
        """Return the open rooms, opening them first where no lifespan did.

        Raises:
            ShuttingDownError: it was being closed, and whoever waited for that does not open it again.
        """
        self._forget_closed_loop()
        return self._held.core or await self._opened_late()

    async def __aenter__(self) -> Self:
        self._forget_closed_loop()
        async with self._lock:
            if self._core is None:
                await self._open()
            self._entries += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_closed_loop()
        async with self._lock:
            is_last = self._entries == 1
            self._entries = max(0, self._entries - 1)  # `aclose` may have ended the count before
            if is_last:
                await self._close()

    async def aclose(self) -> None:
        """Close whatever the entries count: for a host that opened it at the first request and now ends."""
        self._forget_closed_loop()
        async with self._lock:
            self._entries = 0
            await self._close()

    async def probe(self, region: str) -> None:
        """Probe one upstream now, tokens untouched, and note what was found."""
        await self.core()
        await self._held.probe(region)

    async def drain(self, seconds: float | None = None) -> int:
        """Let no new request in, wait for those that are being answered, and end what is left after `seconds`.

        A stream is ended by an error event, an answer that has not begun by 503. What runs in an application's own
        handler is its server's to end. Closing comes after this, and is still to be done.

        Args:
            seconds: `server.drain_seconds` when not given.

        Returns:
            How many were ended before their time.
        """
        self._forget_closed_loop()
        return await self._held.traffic.drain(self.configuration.server.drain_seconds if seconds is None else seconds)

    async def reload(self, configuration: Configuration | None = None) -> None:
        """Put another configuration in the place of this one, all of it or none.

        Requests in flight go on under the one they came in under. What was learned of an upstream or a signal source
        that stays the same is kept: breakers, leases, windows, signals.

        Args:
            configuration: the new one; without it the settings are read again, from where they were read first.

        Raises:
            ConfigurationError: it cannot be used; nothing has changed.
        """
        self._forget_closed_loop()
        # One after the other, reading included: else settings read earlier could take the place of those read later.
        async with self._reloading:
            if configuration is None:
                configuration = await self._read_again()
            async with self._lock:  # not while the file is read: a file system may hang, and closing must not
                await self._held.move_to(configuration)
            _warn_of_what_stays(self._server, configuration.server)
            _LOG.info("the settings were reloaded", extra=self._evidence_told())

    async def reload_or_tell(self) -> bool:
        """Reload the settings; where they cannot be used, say in the log why, and that nothing has changed."""
        try:
            await self.reload()
        except ConfigurationError as error:
            _LOG.error("the settings were not reloaded, nothing has changed", extra={"why": str(error)})
            return False
        return True

    def _forget_closed_loop(self) -> None:
        """Start anew where the event loop we were opened in has been closed without us, as test clients do per request.

        What lived in it died with it: its tasks and connections can be neither used nor closed.
        """
        if self._loop is not None and self._loop is not asyncio.get_running_loop() and self._loop.is_closed():
            self._loop, self._entries = None, 0
            self._lock, self._reloading = asyncio.Lock(), asyncio.Lock()
            if self._watch is not None:
                self._watch.forget()
            self._held.forget()

    async def _read_again(self) -> Configuration:
        if self._load is None:
            raise ConfigurationError(
                "the gateway was built from a configuration and knows no settings to read again.",
                remedy="Pass the new configuration to reload(), or build the gateway by from_env() or from_file().",
            )
        return await asyncio.to_thread(self._load)

    @property
    def _core(self) -> Core | None:
        return self._held.core

    @property
    def _former(self) -> Former:
        return self._held.former

    async def _opened_late(self) -> Core:
        closings = self._closings
        async with self._lock:
            core = self._held.core
            if core is None:
                if self._closings != closings:
                    raise refusal()
                _LOG.info("no lifespan reached the gateway; it opens at the first request")
                core = await self._open()
                self._entries += 1
            return core

    async def _open(self) -> Core:
        self._loop = asyncio.get_running_loop()
        core = await self._held.open()
        _LOG.info("the gateway is open", extra=self._evidence_told())
        if self._watch is not None:
            self._watch.open()
        return core

    def _evidence_told(self) -> dict[str, object]:
        """Say what receipts rest on from now on, for the log."""
        rooms = self._held.rooms
        configured = rooms.configuration.ledger.path or "none"
        return {
            "regions": len(rooms.configuration.upstreams),
            "signing_key": "none" if rooms.signer is None else rooms.signer.kid,
            "ledger": configured if self._outside.ledger is None else type(self._outside.ledger).__name__,
        }

    async def _close(self) -> None:
        async with contextlib.AsyncExitStack() as closing:
            closing.callback(self._closed)
            closing.push_async_callback(self._held.aclose)
            if self._watch is not None:
                closing.push_async_callback(self._watch.aclose)

    def _closed(self) -> None:
        self._closings += 1

    def warn_of_no_upstream(self) -> None:
        """Say once in the log that nothing can be served: an app starts all the same, `serve` does not."""
        if not self.configuration.upstreams and not self._warned_of_no_upstream:
            self._warned_of_no_upstream = True
            _LOG.warning("no region has an upstream, so every request will be refused: set regions.CODE.base_url")

    def warn_of_unsigned(self) -> None:
        """Say once in the log that receipts are no evidence by themselves, where there is no key to sign them with."""
        if self.configuration.signing.key is None and not self._warned_of_unsigned:
            self._warned_of_unsigned = True
            _LOG.warning("receipts are not signed: set signing.key (vetted-mw keys new makes one)")

    def warn_of_open_door(self) -> None:
        """Say once in the log that whoever reaches the middleware spends the upstreams' keys."""
        configuration = self.configuration
        pays = any(one.auth is Auth.REGION and one.api_key is not None for one in configuration.upstreams.values())
        if pays and not configuration.callers and not self._warned:
            self._warned = True
            _LOG.warning(
                "upstream keys are configured and callers are not: whoever reaches the gateway spends them. "
                "Configure [callers], pass identify=, or put the middleware inside your own authentication"
            )


def _warn_of_what_stays(before: ServerConfiguration, now: ServerConfiguration) -> None:
    """Say in the log which new settings hold only for a server that is started anew."""
    changed = [f"server.{name}" for name in ("host", "port", "workers") if getattr(before, name) != getattr(now, name)]
    if changed:
        _LOG.warning("settings of the server hold after a restart only", extra={"settings": ", ".join(changed)})
