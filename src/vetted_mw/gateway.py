"""The gateway: owns every live object, opens and closes it, and lets one request in at a time through `begin`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

from vetted_mw.configuration import Auth, Upstream
from vetted_mw.core import Core
from vetted_mw.fleet.fleet import Fleet
from vetted_mw.fleet.probes import Probes
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.sources.fetching import HttpGet
from vetted_mw.grid.sources.own_loop import OwnLoop
from vetted_mw.grid.sources.shipped import sources_of
from vetted_mw.in_app.client import RouteTransport, http_client
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.patience import Patience
from vetted_mw.proxy.transport import HttpxTransport, Transport, UpstreamRequest
from vetted_mw.receipts.figures import ParametricModel
from vetted_mw.receipts.maker import ReceiptMaker
from vetted_mw.settings import load_configuration
from vetted_mw.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from vetted_mw.configuration import Configuration
    from vetted_mw.grid.source import SignalSource
    from vetted_mw.receipts.figures import EnergyModel

__all__ = ["Gateway"]

_LOG = logging.getLogger("vetted_mw")
_VERSION = version("vetted-mw")
_PROBE_SECONDS = 5.0
_MAX_PROBE_BYTES = 1_048_576


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Gateway:
    """Owns the configuration and everything that lives: signals, upstream pools, breakers, leases.

    An async context manager, entry counted: the outermost entry opens it, the matching exit closes it. Opening does no
    network I/O and does not fail because a service is down. A middleware that never sees a lifespan opens it at the
    first request.

    Args:
        configuration: what the operator decided, from `load_configuration`.
        signals: further signal sources beside those of the configuration.
        energy_model: replaces the parametric model in receipts.
        transport: makes the door to one upstream.
        now: wall clock, aware UTC.
        monotonic: seconds that never go back.
        new_id: a fresh uuid4 as a string.
        jitter: a number in [0, 1).
        background: whether upstreams are probed and grid services asked while it is open; without, only when told to.

    Raises:
        ConfigurationError: two signal sources share a name, or `signals.chains` names one that there is not.
    """

    def __init__(  # noqa: PLR0913 (what a test or an application may want to put in another's place)
        self,
        configuration: Configuration,
        *,
        signals: Sequence[SignalSource] = (),
        energy_model: EnergyModel | None = None,
        transport: Callable[[Upstream], Transport] = HttpxTransport,
        now: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        jitter: Callable[[], float] = random.random,
        background: bool = True,
    ) -> None:
        self.configuration = configuration
        self._now = now
        self._monotonic = monotonic
        self._new_id = new_id
        self._jitter = jitter
        self._background = background
        self._transport = transport
        self._maker = _maker(configuration, energy_model)
        self._recorder = Recorder(version=_VERSION, propagate=configuration.propagate)
        self._fleet = Fleet(configuration.upstreams, monotonic=monotonic, jitter=jitter)
        self._grid_loop = OwnLoop()
        self._board = SignalBoard(
            [*_sources(configuration, now, monotonic, self._grid_loop), *signals],
            chains=configuration.signals.chains,
            now=now,
            monotonic=monotonic,
            jitter=jitter,
        )
        self._entries = 0
        self._closings = 0
        self._warned = False
        self._warned_of_no_upstream = False
        self._lock = asyncio.Lock()
        self._core: Core | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._probes: Probes | None = None
        self._http_client = http_client(RouteTransport())

    @classmethod
    def from_env(cls, **options: object) -> Self:
        """Build a gateway from `VETTED_CONFIG` or `./vetted.toml`, and `VETTED_*`.

        Raises:
            ConfigurationError: the settings cannot be used; its text names the key and the remedy.
        """
        return cls(load_configuration(), **options)  # type: ignore[arg-type]

    @classmethod
    def from_file(cls, path: Path | str, **options: object) -> Self:
        """Build a gateway from one settings file, and `VETTED_*`.

        Raises:
            ConfigurationError: the settings cannot be used.
        """
        from pathlib import Path as _Path  # noqa: PLC0415

        return cls(load_configuration(_Path(path)), **options)  # type: ignore[arg-type]

    @property
    def http_client(self) -> Any:
        """The client of in-app handlers: it sends the current request's chat call to its route and nothing else.

        An `httpx.AsyncClient`; typed loosely because SDKs disagree on whether they name httpx or httpx2 in their types.
        """
        return self._http_client

    def now(self) -> datetime:
        """Return the instant on the gateway's wall clock, UTC."""
        return self._now()

    @property
    def board(self) -> SignalBoard:
        """The latest signal of each zone."""
        return self._board

    @property
    def fleet(self) -> Fleet:
        """What is known of each upstream."""
        return self._fleet

    @property
    def is_open(self) -> bool:
        """Whether it can serve now."""
        return self._core is not None

    async def core(self) -> Core:
        """Return the open rooms, opening them first where no lifespan did."""
        self._forget_closed_loop()
        if self._core is None:
            closings = self._closings
            async with self._lock:
                if self._closings != closings:
                    return self._opened()  # it was being closed: whoever waited for that does not open it again
                if self._core is None:
                    _LOG.info("no lifespan reached the gateway; it opens at the first request")
                    await self._open()
                    self._entries += 1
        return self._opened()

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
        if self._probes is not None:
            await self._probes.probe(region)

    def _forget_closed_loop(self) -> None:
        """Start anew where the event loop we were opened in has been closed without us, as test clients do per request.

        What lived in it died with it: its tasks and connections can be neither used nor closed.
        """
        if self._loop is not None and self._loop is not asyncio.get_running_loop() and self._loop.is_closed():
            self._core, self._loop, self._entries, self._lock = None, None, 0, asyncio.Lock()
            self._probes = None
            self._board.forget()
            self._fleet = Fleet(self.configuration.upstreams, monotonic=self._monotonic, jitter=self._jitter)

    def _opened(self) -> Core:
        if self._core is None:
            message = "the gateway is closed"
            raise RuntimeError(message)
        return self._core

    async def _open(self) -> None:
        configuration = self.configuration
        self._loop = asyncio.get_running_loop()
        transports = {code: self._transport(upstream) for code, upstream in configuration.upstreams.items()}
        await self._board.open(background=self._background)
        self._probes = Probes(self._fleet, configuration.upstreams, fetch=_Fetch(transports), jitter=self._jitter)
        if self._background:
            await self._probes.open()
        self._core = Core(
            configuration=configuration,
            fleet=self._fleet,
            board=self._board,
            transports=transports,
            maker=self._maker,
            recorder=self._recorder,
            now=self._now,
            monotonic=self._monotonic,
            new_id=self._new_id,
            forward_headers=frozenset(name.encode("ascii") for name in configuration.forward_headers),
        )

    async def _close(self) -> None:
        core, self._core = self._core, None
        async with contextlib.AsyncExitStack() as closing:  # each is closed, whatever becomes of the others
            closing.callback(self._closed)
            for transport in () if core is None else core.transports.values():
                closing.push_async_callback(transport.aclose)
            closing.push_async_callback(self._grid_loop.aclose)
            if core is not None:
                closing.push_async_callback(self._board.close)
                if self._probes is not None:
                    closing.push_async_callback(self._probes.aclose)

    def _closed(self) -> None:
        self._closings += 1

    def warn_of_no_upstream(self) -> None:
        """Say once in the log that nothing can be served: an app starts all the same, `serve` does not."""
        if not self.configuration.upstreams and not self._warned_of_no_upstream:
            self._warned_of_no_upstream = True
            _LOG.warning("no region has an upstream, so every request will be refused: set regions.CODE.base_url")

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


class _Fetch:
    """GET for the probes, over the same pools as the requests."""

    def __init__(self, transports: dict[str, Transport]) -> None:
        self._transports = transports

    async def __call__(self, upstream: Upstream, path: str, *, from_origin: bool) -> tuple[int, bytes] | None:
        headers = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]
        if upstream.api_key is not None:
            headers.append((b"authorization", b"Bearer " + upstream.api_key.reveal().encode("ascii")))
        request = UpstreamRequest(method="GET", path=path, headers=headers, from_origin=from_origin)
        try:
            async with Patience(_PROBE_SECONDS):
                return await self._get(upstream, request)
        except (TimeoutError, AttemptFailedError):
            return None

    async def _get(self, upstream: Upstream, request: UpstreamRequest) -> tuple[int, bytes]:
        response = await self._transports[upstream.region].send(request)
        try:
            body = bytearray()
            async for data in response.chunks():
                body += data
                if len(body) > _MAX_PROBE_BYTES:
                    return response.status, b""
            return response.status, bytes(body)
        finally:
            await response.aclose()


def _sources(
    configuration: Configuration, now: Callable[[], datetime], monotonic: Callable[[], float], grid_loop: OwnLoop
) -> list[SignalSource]:
    signals = configuration.signals
    session = HttpGet(
        timeout_seconds=signals.timeout_seconds, proxy=signals.proxy, user_agent=f"vetted-mw/{_VERSION}", now=now
    )
    zones = [region.zone for region in configuration.regions.values()]
    return sources_of(signals, zones, session=session, now=now, monotonic=monotonic, run=grid_loop.run)


def _maker(configuration: Configuration, energy_model: EnergyModel | None) -> ReceiptMaker:
    receipts = configuration.receipts
    return ReceiptMaker(
        issuer=receipts.issuer,
        software=f"vetted-mw/{_VERSION}",
        sizes=receipts.models,
        unknown_model=receipts.unknown_model,
        missing_usage=receipts.missing_usage,
        engine=energy_model or ParametricModel(),
    )
