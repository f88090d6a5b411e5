"""What the gateway holds from opening to closing: rooms, doors, probes, requests in flight, and their succession."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vetted_mw.core import Core
from vetted_mw.fleet.probes import Probes
from vetted_mw.lifecycle.former import Former
from vetted_mw.lifecycle.glances import region_glances
from vetted_mw.lifecycle.probing import ProbeGet
from vetted_mw.lifecycle.rooms import Outside, Rooms, doors_for, rooms_for, with_new_fleet
from vetted_mw.lifecycle.traffic import Traffic

if TYPE_CHECKING:
    from vetted_mw.configuration import Configuration
    from vetted_mw.proxy.transport import Transport
    from vetted_mw.telemetry.gauges import RegionGlance

__all__ = ["Holdings"]

_PARTING_SECONDS = 2.0
"""For requests that nobody has drained, to end once their upstreams are gone."""


class Holdings:
    """Owns what lives. Whoever calls it sees to it that opening, moving and closing do not overlap.

    Args:
        configuration: what the operator decided.
        outside: what does not come from it.
        background: whether upstreams are probed and grid services asked while it is open.

    Attributes:
        rooms: the live things under the configuration that holds now.
        core: what the next request sees; None while closed.
        former: what earlier configurations still hold.
        traffic: the requests in flight.

    Raises:
        ConfigurationError: the signal sources do not fit together.
    """

    def __init__(self, configuration: Configuration, outside: Outside, *, background: bool) -> None:
        self.rooms = rooms_for(configuration, outside)
        self.core: Core | None = None
        self._outside = outside
        self._background = background
        self._probes: Probes | None = None
        self._admit()

    async def open(self) -> Core:
        """Open everything, or nothing; returns what requests see."""
        if self.traffic.is_closed:
            self._admit()
        async with contextlib.AsyncExitStack() as undoing:
            doors = doors_for(self.rooms.configuration, self._outside, undoing)
            undoing.push_async_callback(self.rooms.close_board)
            await self.rooms.board.open(background=self._background)
            await _open_ledger(self.rooms, undoing)
            undoing.pop_all()
        self._outside.instruments.watch.add(self)
        return await self._begin(self.rooms, doors)

    def glances(self) -> list[RegionGlance]:
        """Tell every configured region as it stands, for the gauges; from any thread."""
        return region_glances(self.rooms, self._outside.now())

    async def move_to(self, configuration: Configuration) -> None:
        """Put another configuration in place, all of it or none; what it has in common with this one goes on.

        Raises:
            ConfigurationError: it cannot be used; nothing has changed.
        """
        rooms = rooms_for(configuration, self._outside, previous=self.rooms)
        before, former, probes = self.rooms, self.core, self._probes
        if former is None:
            self.rooms = rooms
            return
        async with contextlib.AsyncExitStack() as undoing:  # what fails, or is cancelled, leaves nothing behind
            doors = doors_for(
                configuration, self._outside, undoing, before=before.configuration, doors=former.transports
            )
            if rooms.board is not before.board:
                undoing.push_async_callback(rooms.close_board)
                await rooms.board.open(background=self._background)
            if rooms.ledger is not before.ledger:
                await _open_ledger(rooms, undoing)
            undoing.pop_all()
        # From here on nothing is waited for, so that nothing can come in between.
        if probes is not None:
            self.former.close(probes.aclose())
        self.former.add(former, current=await self._begin(rooms, doors))
        if rooms.board is not before.board:
            self.former.close(before.close_board())

    async def probe(self, region: str) -> None:
        """Probe one upstream now and note what was found."""
        if self._probes is not None:
            await self._probes.probe(region)

    async def aclose(self) -> None:
        """Close everything, whatever becomes of a part of it."""
        self._outside.instruments.watch.discard(self)
        core, self.core = self.core, None
        cores = [*self.former.let_go(), *(() if core is None else (core,))]
        ledgers = {id(one.ledger): one.ledger for one in cores if one.ledger is not None}
        doors = {id(door): door for one in cores for door in one.transports.values()}
        async with contextlib.AsyncExitStack() as closing:  # from the last to the first
            closing.push_async_callback(self.former.aclose)
            for ledger in ledgers.values():
                closing.push_async_callback(ledger.aclose)
            if ledgers:  # a request cut short by a closed door has yet to say what it used
                closing.push_async_callback(self.traffic.emptied_within, _PARTING_SECONDS)
            for door in doors.values():
                closing.push_async_callback(door.aclose)
            closing.push_async_callback(self.rooms.close_board)
            if core is not None and self._probes is not None:
                closing.push_async_callback(self._probes.aclose)

    def forget(self) -> None:
        """Let go of what lived in an event loop that was closed without us: it can be neither used nor closed."""
        self._outside.instruments.watch.discard(self)
        self.core = self._probes = None
        self._admit()
        self.rooms.board.forget()
        self.rooms = with_new_fleet(self.rooms, self._outside)

    def _admit(self) -> None:
        self.traffic = Traffic(on_left=self._left)
        self.former = Former(self.traffic)

    def _left(self, core: Core) -> None:
        if core is not self.core:
            self.former.left(core, current=self.core)

    async def _begin(self, rooms: Rooms, doors: dict[str, Transport]) -> Core:
        """Serve from these rooms from now on: one reference is swapped."""
        outside = self._outside
        configuration = rooms.configuration
        self.rooms = rooms
        self._probes = Probes(rooms.fleet, configuration.upstreams, fetch=ProbeGet(doors), jitter=outside.jitter)
        self.core = core = Core(
            configuration=configuration,
            fleet=rooms.fleet,
            board=rooms.board,
            transports=doors,
            maker=rooms.maker,
            recorder=rooms.recorder,
            meters=rooms.meters,
            now=outside.now,
            monotonic=outside.monotonic,
            new_id=outside.new_id,
            forward_headers=frozenset(name.encode("ascii") for name in configuration.forward_headers),
            signer=rooms.signer,
            ledger=rooms.ledger,
        )
        if self._background:
            await self._probes.open()
        return core


async def _open_ledger(rooms: Rooms, undoing: contextlib.AsyncExitStack) -> None:
    if rooms.ledger is not None:
        undoing.push_async_callback(rooms.ledger.aclose)
        await rooms.ledger.open()
