"""What the gateway owns, as one request sees it: the live rooms side by side, and the facts they give a decision."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from vetted_mw.receipts.binding import nonce_text
from vetted_mw.receipts.receipt import ReceiptWithheldError, encode_receipt
from vetted_mw.routing.decision import Candidate, decide

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
    from vetted_mw.receipts.maker import Comparison, ReceiptMaker
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.receipt import Receipt
    from vetted_mw.receipts.sealed import ReceiptSink
    from vetted_mw.routing.decision import Decision, Rules
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipted:
    """What became of a receipt.

    Attributes:
        receipt: None when it was withheld.
        error: why, a word of `wire.md`; None when there is a receipt.
        reading: the signal its figures used; None without a receipt.
        comparison: the same request in the default region; None where that cannot be compared.
        signature: over the receipt, detached; None where it is not signed.
        nonce: opens `response_digest`; for the caller alone.
        ledger: `unavailable` where it should have been kept and was not; else None.
    """

    receipt: Receipt | None
    error: str | None
    reading: SignalReading | None
    comparison: Comparison | None = None
    signature: str | None = None
    nonce: bytes | None = None
    ledger: str | None = None

    def encoded(self) -> bytes:
        """Write the receipt as the caller gets it: what is signed, the signature, and what opens the digest."""
        if self.receipt is None:
            return b"null"
        beside: list[bytes] = []
        if self.nonce is not None and self.receipt.response_digest is not None:
            beside.append(b'"binding_nonce":"%s"' % nonce_text(self.nonce).encode())
        if self.signature is not None:
            beside.append(b'"signature":"%s"' % self.signature.encode())
        written = encode_receipt(self.receipt)
        return written if not beside else b",".join([written[:-1], *beside]) + b"}"


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

    def __post_init__(self) -> None:
        configuration = self.configuration
        first = next((code for code in configuration.rules.default_order if code in configuration.upstreams), None)
        object.__setattr__(self, "default_region", None if first is None else configuration.regions[first])

    @property
    def holds(self) -> tuple[Closable, ...]:
        """What is closed once no request sees it any more: the doors, then the ledger."""
        doors = tuple(self.transports.values())
        return doors if self.ledger is None else (self.ledger, *doors)

    def candidates(self, now: datetime) -> tuple[Candidate, ...]:
        """Freeze the facts of every region at `now`, in catalogue order."""
        readings: dict[str, SignalReading | None] = {}
        return tuple(self._candidate(region, now, readings) for region in self.configuration.regions.values())

    def decide(self, options: Options, model: str, rules: Rules) -> Decision:
        """Decide once, on one frozen snapshot of this instant."""
        now = self.now()
        return decide(options, model, self.candidates(now), now, rules=rules)

    def receipted(self, observation: Observation, *, level: int = logging.WARNING) -> Receipted:
        """Make the receipt, or say why there is none; never a reason to lose the answer.

        Args:
            observation: what it is made of.
            level: at which the log tells that there is none.
        """
        try:
            made = self.maker.made(observation)
        except ReceiptWithheldError as withheld:
            return self.withheld(withheld.reason.value, level=level)
        except Exception as error:  # noqa: BLE001 (a receipt that cannot be made never costs the caller the completion)
            told_at = logging.ERROR if level >= logging.WARNING else level
            _LOG.log(told_at, "the energy model failed", extra={"error": type(error).__name__})
            return self.withheld("engine_failed", level=level)
        return Receipted(receipt=made.receipt, error=None, reading=made.reading, comparison=made.comparison)

    def withheld(self, reason: str, *, level: int = logging.WARNING) -> Receipted:
        """Say why there is no receipt, in the log at `level` and in the trace."""
        _LOG.log(level, "a receipt was withheld", extra={"reason": reason})
        return Receipted(receipt=None, error=reason, reading=None)

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

    def _candidate(self, region: Region, now: datetime, readings: dict[str, SignalReading | None]) -> Candidate:
        state = self.fleet.state(region.code)
        if state is None:
            return Candidate(region=region, configured=False, network_p95_ms=region.network_p95_ms)
        if region.zone not in readings:
            readings[region.zone] = self.board.best(region.zone, now)
        return Candidate(
            region=region,
            configured=True,
            models=state.models,
            degraded=state.degraded,
            saturated=state.saturated,
            retry_after=state.retry_after,
            network_p95_ms=region.network_p95_ms if state.network_p95_ms is None else state.network_p95_ms,
            reading=readings[region.zone],
        )
