"""What one configuration becomes: fleet, board, receipts, spans, going on with what an earlier one has learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import vetted_mw
from vetted_mw.fleet.fleet import Fleet
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.sources.own_loop import OwnLoop
from vetted_mw.proxy.doors import DOORS
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.maker import ReceiptMaker
from vetted_mw.telemetry.meters import Meters
from vetted_mw.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AsyncExitStack
    from datetime import datetime

    from opentelemetry.trace import TracerProvider

    from vetted_mw.configuration import Configuration, LedgerConfiguration, Upstream
    from vetted_mw.grid.source import SignalSource
    from vetted_mw.proxy.transport import Transport
    from vetted_mw.receipts.figures import EnergyModel
    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.sealed import ReceiptSink
    from vetted_mw.signal_configuration import SignalConfiguration
    from vetted_mw.telemetry.instruments import Instruments

__all__ = ["Outside", "Rooms", "doors_for", "rooms_for", "with_new_fleet"]


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """What a test or an application may put in another's place, the same under every configuration.

    Attributes:
        signals: further signal sources beside those of the configuration.
        energy_model: replaces the configured model in receipts.
        ledger: replaces the configured ledger.
        transport: makes the door to one upstream; None: what the configuration says.
        now: wall clock, aware UTC.
        monotonic: seconds that never go back.
        new_id: a fresh uuid4 as a string.
        jitter: a number in [0, 1).
        instruments: what metrics are recorded with.
        tracer_provider: where spans go; None: the global one.
    """

    signals: tuple[SignalSource, ...]
    energy_model: EnergyModel | None
    ledger: ReceiptSink | None
    transport: Callable[[Upstream], Transport] | None
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    new_id: Callable[[], str]
    jitter: Callable[[], float]
    instruments: Instruments
    tracer_provider: TracerProvider | None


class Rooms(msgspec.Struct, frozen=True, kw_only=True):
    """The live things under one configuration.

    Attributes:
        configuration: what the operator decided.
        paths: request paths that are ours, without a trailing slash.
        fleet: what is known of each upstream.
        board: the latest signal of each zone.
        grid_loop: where the grid services are asked.
        maker: makes receipts.
        signer: signs them; None: they are not signed.
        ledger: keeps them; None: nobody does.
        recorder: makes spans.
        meters: record metrics.
    """

    configuration: Configuration
    paths: frozenset[str]
    fleet: Fleet
    board: SignalBoard
    grid_loop: OwnLoop
    maker: ReceiptMaker
    signer: Signer | None
    ledger: ReceiptSink | None
    recorder: Recorder
    meters: Meters

    async def close_board(self) -> None:
        """Stop asking the grid services; decisions already made hold what they need."""
        try:
            await self.board.close()
        finally:
            await self.grid_loop.aclose()


def rooms_for(configuration: Configuration, outside: Outside, *, previous: Rooms | None = None) -> Rooms:
    """Build the rooms of `configuration`; nothing of `previous` changes.

    Raises:
        ConfigurationError: two signal sources share a name, `signals.chains` names one that there is not, or the
            signing key or the energy model cannot be used.
    """
    signer = _signer(configuration)
    maker = _maker(configuration, outside.energy_model)
    board, grid_loop = _signals(configuration, outside, previous)
    return Rooms(
        configuration=configuration,
        paths=frozenset(path.removesuffix("/") for path in configuration.paths),
        fleet=Fleet(
            configuration.upstreams,
            monotonic=outside.monotonic,
            jitter=outside.jitter,
            previous=None if previous is None else previous.fleet,
        ),
        board=board,
        grid_loop=grid_loop,
        maker=maker,
        signer=signer,
        ledger=_ledger(configuration, outside, previous),
        recorder=Recorder(
            version=vetted_mw.__version__, propagate=configuration.telemetry.propagate, provider=outside.tracer_provider
        ),
        meters=Meters(
            outside.instruments, models=_written_models(configuration), genai=configuration.telemetry.genai_metrics
        ),
    )


def _written_models(configuration: Configuration) -> frozenset[str]:
    """Return every model name that the operator wrote, the upstreams' own names for them included."""
    theirs = (name for upstream in configuration.upstreams.values() for name in upstream.upstream_names.values())
    return configuration.known_models | frozenset(theirs)


def with_new_fleet(rooms: Rooms, outside: Outside) -> Rooms:
    """Return the same rooms with a fleet that knows nothing yet."""
    upstreams = rooms.configuration.upstreams
    return msgspec.structs.replace(rooms, fleet=Fleet(upstreams, monotonic=outside.monotonic, jitter=outside.jitter))


def doors_for(
    configuration: Configuration,
    outside: Outside,
    undoing: AsyncExitStack,
    *,
    before: Configuration | None = None,
    doors: Mapping[str, Transport] | None = None,
) -> dict[str, Transport]:
    """Return the door of each upstream: of `doors`, which `before` had, those whose upstream is the same in every way.

    A private authority's file may hold other certificates under the same name, so such an upstream gets a new door.

    Args:
        configuration: whose upstreams they lead to.
        outside: makes the new ones.
        undoing: closes the new ones, unless it is told otherwise later.
        before: the configuration before this one.
        doors: what it had.

    Raises:
        ConfigurationError: an upstream's `ca_file` cannot be read.
    """
    kept = {
        code: door
        for code, door in (doors or {}).items()
        if before is not None
        and before.transport == configuration.transport
        and (upstream := configuration.upstreams.get(code)) is not None
        and upstream == before.upstreams[code]
        and not upstream.ca_file
    }
    door_to = outside.transport or DOORS[configuration.transport]
    made: dict[str, Transport] = {}
    for code, upstream in configuration.upstreams.items():
        if code not in kept:
            made[code] = door_to(upstream)
            undoing.push_async_callback(made[code].aclose)
    return {code: kept[code] if code in kept else made[code] for code in configuration.upstreams}


def _signals(configuration: Configuration, outside: Outside, previous: Rooms | None) -> tuple[SignalBoard, OwnLoop]:
    """Return the board, the same one where nothing that concerns it has changed."""
    signals, zones = configuration.signals, _zones(configuration)
    if previous is not None and (previous.configuration.signals, _zones(previous.configuration)) == (signals, zones):
        return previous.board, previous.grid_loop
    grid_loop = OwnLoop()
    board = SignalBoard(
        [*_configured(signals, zones, outside, grid_loop), *outside.signals],
        chains=signals.chains,
        now=outside.now,
        monotonic=outside.monotonic,
        jitter=outside.jitter,
    )
    if previous is not None:
        same = _same_sources(signals, previous.configuration.signals, zones == _zones(previous.configuration))
        board.take_over(previous.board, [*same, *(source.name for source in outside.signals)])
    return board, grid_loop


def _configured(
    signals: SignalConfiguration, zones: Sequence[str], outside: Outside, grid_loop: OwnLoop
) -> Sequence[SignalSource]:
    if not signals.services and signals.http_json is None and signals.file is None:
        return ()
    # What asks services and reads their answers is imported where one is asked.
    from vetted_mw.grid.sources.fetching import HttpGet  # noqa: PLC0415
    from vetted_mw.grid.sources.shipped import sources_of  # noqa: PLC0415

    session = HttpGet(
        timeout_seconds=signals.timeout_seconds,
        proxy=signals.proxy,
        user_agent=f"vetted-mw/{vetted_mw.__version__}",
        now=outside.now,
    )
    return sources_of(signals, zones, session=session, now=outside.now, monotonic=outside.monotonic, run=grid_loop.run)


def _zones(configuration: Configuration) -> list[str]:
    return [region.zone for region in configuration.regions.values()]


def _same_sources(now: SignalConfiguration, before: SignalConfiguration, has_same_zones: bool) -> list[str]:  # noqa: FBT001 (one caller)
    """Return the names of the sources that are configured as before, so that what they said still holds."""
    same = ["file"] if now.file is not None and now.file == before.file else []
    if now.http_json is not None and now.http_json == before.http_json:
        same.append("http_json")
    is_judged_alike = (now.max_proxy_share, now.min_total_mw, now.expected_types) == (
        before.max_proxy_share,
        before.min_total_mw,
        before.expected_types,
    )
    if has_same_zones and is_judged_alike:
        same += [service.name for service in now.services if service in before.services]
    return same


def _signer(configuration: Configuration) -> Signer | None:
    key = configuration.signing.key
    if key is None:
        return None
    from vetted_mw.receipts.signing import load_signer  # noqa: PLC0415 (needed by those who sign)

    return load_signer(key, alg=configuration.signing.alg)


def _maker(configuration: Configuration, energy_model: EnergyModel | None) -> ReceiptMaker:
    receipts = configuration.receipts
    return ReceiptMaker(
        issuer=receipts.issuer,
        software=f"vetted-mw/{vetted_mw.__version__}",
        sizes=receipts.models,
        unknown_model=receipts.unknown_model,
        missing_usage=receipts.missing_usage,
        engine=energy_model or engine_named(receipts.engine),
    )


def _ledger(configuration: Configuration, outside: Outside, previous: Rooms | None) -> ReceiptSink | None:
    """Return the ledger, the same one where nothing that concerns it has changed."""
    wanted = configuration.ledger
    if outside.ledger is not None or not wanted.path:
        return outside.ledger
    before = None if previous is None else previous.configuration.ledger
    if previous is not None and before is not None and _place(before) == _place(wanted):
        return previous.ledger
    from vetted_mw.receipts.ledger.sqlite import SqliteLedger  # noqa: PLC0415 (needed by those who keep receipts)

    return SqliteLedger(Path(wanted.path), durability=wanted.durability, now=outside.now)


def _place(ledger: LedgerConfiguration) -> tuple[str, str]:
    return ledger.path, ledger.durability
