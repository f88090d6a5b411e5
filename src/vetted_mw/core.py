"""What the gateway owns, as one request sees it: the live rooms side by side, and the facts they give a decision."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from vetted_mw.planning import Planner, candidates_at
from vetted_mw.receipts.binding import nonce_text
from vetted_mw.receipts.receipt import Receipt, ReceiptWithheldError, encode_receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.configuration import Configuration
    from vetted_mw.fleet.fleet import Fleet
    from vetted_mw.grid.board import SignalBoard
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.proxy.transport import Transport
    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.maker import ReceiptMaker
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.sealed import ReceiptSink
    from vetted_mw.receipts.written import Written
    from vetted_mw.routing.decision import Candidate, Decision, Rules
    from vetted_mw.routing.options import Boundary, Options
    from vetted_mw.routing.regions import Region
    from vetted_mw.telemetry.meters import Meters
    from vetted_mw.telemetry.recorder import Recorder

__all__ = ["Closable", "Core", "Receipted"]

_LOG = logging.getLogger("vetted_mw")


class Closable(Protocol):
    """What lives until it is closed."""

    async def aclose(self) -> None:
        """Close it. May be called twice."""
        ...


class Receipted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a receipt.

    Attributes:
        written: as it was made; None when it was withheld.
        error: why, a word of `wire.md`; None when there is a receipt.
        final: the same as a ledger holds it, or as it was signed; None before, and where nobody does either.
        signature: over the receipt, detached; None where it is not signed.
        nonce: opens `response_digest`; for the caller alone.
        ledger: `unavailable` where it should have been kept and was not; else None.
    """

    written: Written | None = None
    error: str | None = None
    final: Receipt | None = None
    signature: str | None = None
    nonce: bytes | None = None
    ledger: str | None = None

    @property
    def has_receipt(self) -> bool:
        """Whether there is a receipt; asking this makes nothing."""
        return self.written is not None

    @property
    def receipt(self) -> Receipt | None:
        """The receipt as a value; None when it was withheld."""
        return self.final if self.final is not None or self.written is None else self.written.receipt

    @property
    def reading(self) -> SignalReading | None:
        """The signal its figures used; None without a receipt."""
        return None if self.written is None else self.written.reading

    def encoded(self) -> bytes:
        """Write the receipt as the caller gets it: what is signed, the signature, and what opens the digest."""
        written = self.written
        if written is None:
            return b"null"
        text = written.text if self.final is None else encode_receipt(self.final)
        nonce = None if written.seen.response_digest is None else self.nonce
        if nonce is None and self.signature is None:
            return text
        beside = "" if nonce is None else f',"binding_nonce":"{nonce_text(nonce)}"'
        if self.signature is not None:
            beside += f',"signature":"{self.signature}"'
        return b"%b%b}" % (text[:-1], beside.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The rooms a request walks through. The gateway builds it and owns everything in it.

    Attributes:
        configuration: what the operator decided.
        fleet: what is known of each upstream.
        board: the latest signal of each zone.
        transports: code -> door of its upstream.
        maker: makes receipts.
        recorder: makes spans.
        meters: record metrics.
        now: wall clock, aware UTC.
        monotonic: seconds that never go back.
        new_id: a fresh uuid4 as a string.
        forward_headers: lower-case request headers the operator lets pass, as bytes.
        signer: signs receipts; None: they are not signed.
        ledger: keeps receipts; None: nobody does.
        default_region: what receipts are compared with: the first of the default order that has an upstream.
        planner: keeps what was decided for as long as it holds.
    """

    configuration: Configuration
    fleet: Fleet
    board: SignalBoard
    transports: Mapping[str, Transport]
    maker: ReceiptMaker
    recorder: Recorder
    meters: Meters
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    new_id: Callable[[], str]
    forward_headers: frozenset[bytes]
    signer: Signer | None = None
    ledger: ReceiptSink | None = None
    default_region: Region | None = field(init=False)
    planner: Planner = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        configuration = self.configuration
        first = next((code for code in configuration.rules.default_order if code in configuration.upstreams), None)
        object.__setattr__(self, "default_region", None if first is None else configuration.regions[first])
        object.__setattr__(self, "planner", Planner(configuration.regions, self.fleet, self.board))

    @property
    def holds(self) -> tuple[Closable, ...]:
        """What is closed once no request sees it any more: the doors, then the ledger."""
        doors = tuple(self.transports.values())
        return doors if self.ledger is None else (self.ledger, *doors)

    def candidates(self, now: datetime) -> tuple[Candidate, ...]:
        """Freeze the facts of every region at `now`, in catalogue order."""
        return candidates_at(self.configuration.regions, self.fleet, self.board, now)

    def decide(self, options: Options, model: str, rules: Rules) -> Decision:
        """Decide once, on what holds at this instant."""
        return self.planner.decide(options, model, rules, self.now(), monotonic=self.monotonic())

    def receipted(
        self, observation: Observation, *, nonce: bytes | None = None, level: int = logging.WARNING
    ) -> Receipted:
        """Make the receipt, or say why there is none; never a reason to lose the answer.

        Args:
            observation: what it is made of.
            nonce: opens its digest; None where there is none.
            level: at which the log tells that there is none.
        """
        try:
            written = self.maker.written(observation)
        except ReceiptWithheldError as withheld:
            return self.withheld(withheld.reason.value, level=level)
        except Exception as error:  # noqa: BLE001 (a receipt that cannot be made never costs the caller the completion)
            told_at = logging.ERROR if level >= logging.WARNING else level
            _LOG.log(told_at, "the energy model failed", extra={"error": type(error).__name__})
            return self.withheld("engine_failed", level=level)
        return Receipted(written=written, nonce=nonce)

    def withheld(self, reason: str, *, level: int = logging.WARNING) -> Receipted:
        """Say why there is no receipt, in the log at `level` and in the trace."""
        _LOG.log(level, "a receipt was withheld", extra={"reason": reason})
        return Receipted(error=reason)

    def abandoned_energy_wh(self, request: ChatRequest, region: str, boundary: Boundary) -> float | None:
        """Estimate what a region may have spent on a request that was given up; None for an unknown model."""
        return self.maker.attempt_energy_wh(
            request.model,
            prompt_characters=request.prompt_characters(),
            region=self.configuration.regions[region],
            boundary=boundary,
        )

    def known_model(self, model: str) -> str | None:
        """Return `model` when a configuration or an upstream's own list holds it, so that telemetry may name it."""
        is_known = model in self.configuration.known_models or self.fleet.lists(model)
        return model if is_known else None
