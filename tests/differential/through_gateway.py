"""Send exchanges through the whole gateway, with a second region that is well, and write down what its caller was told."""

from __future__ import annotations

import asyncio
import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from differential.exchange import Moment
from differential.upstream import Upstream
from streams.wall import FIRST, LIMIT, SECOND, gateway_over, payload, resting
from vetted_mw.testing import FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from differential.exchange import Exchange
    from vetted_mw.testing import Exchange as Answer

__all__ = ["Answered", "answers", "fits"]

_AT_A_TIME = 20
_PARTS = 50
_OWN_NUMBERS = {"x-vetted-receipt-id", "x-vetted-overhead-ms", "content-length"}  # the trace tells durations
_OWN_MEMBERS = {"receipt", "routing_trace"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a caller was told.

    Attributes:
        status: of the answer.
        headers: of the answer, but for those that are another's for every request.
        said: the JSON answer or the frames, without the members that are ours.
        complete: it was ended.
        attempts: (region, outcome, status) of each.
        rests: nothing of it was left.
    """

    status: int
    headers: Mapping[str, str]
    said: list[Any]
    complete: bool
    attempts: list[tuple[str, str, int | None]]
    rests: bool


def fits(exchange: Exchange) -> bool:
    """Whether its upstream reads the request, waits for no reader, and is not so slow as to meet a limit of the gateway."""
    parts = exchange.answer.parts
    return exchange.reads and len(parts) <= _PARTS and not any(isinstance(part, Moment) for part in parts)


@functools.cache
def answers(exchanges: tuple[Exchange, ...], client: str) -> Mapping[str, Answered]:
    """Send one request for each exchange, by name; a stream is asked for where one is played."""
    return asyncio.run(_all(exchanges, client))


async def _all(exchanges: Sequence[Exchange], client: str) -> Mapping[str, Answered]:
    turns = asyncio.Semaphore(_AT_A_TIME)

    async def one(number: int, exchange: Exchange) -> Answered:
        async with turns, asyncio.timeout(3 * LIMIT):
            for moment in upstream.heard[exchange.name].moments.values():
                moment.set()
            return await _answer(upstream.base_url(number, exchange.scheme), well, exchange, client)

    async with Upstream(exchanges) as upstream, FakeUpstream(text="from the second one") as well:
        found = await asyncio.gather(*(one(number, exchange) for number, exchange in enumerate(exchanges)))
    return {exchange.name: answered for exchange, answered in zip(exchanges, found, strict=True)}


async def _answer(base_url: str, well: FakeUpstream, exchange: Exchange, client: str) -> Answered:
    streams = any(b"data: " in part for part in exchange.answer.parts if isinstance(part, bytes))
    regions: dict[str, Any] = {FIRST: {"base_url": base_url}, SECOND: well}
    async with gateway_over(regions, transport=client) as (app, gateway):
        answer = await asgi_exchange(app, json=payload(stream=streams))
        return _answered(answer, rests=await resting(gateway))


def _answered(answer: Answer, *, rests: bool) -> Answered:
    """Read an answer of either kind by its body: an upstream that is odd may have told another kind, or none."""
    frames = [json.loads(answer.body)] if answer.body.startswith(b"{") else _data(answer.body)
    (trace,) = [frame["routing_trace"] for frame in frames if "routing_trace" in frame]
    return Answered(
        status=answer.status,
        headers={name: value for name, value in answer.headers.items() if name not in _OWN_NUMBERS},
        said=[_without_ours(frame) for frame in frames],
        complete=answer.complete,
        attempts=[(one["region"], one["outcome"], one["status"]) for one in trace["attempts"]],
        rests=rests,
    )


def _data(body: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if line == b"[DONE]" else json.loads(line) for line in lines]


def _without_ours(frame: Any) -> Any:
    if not isinstance(frame, dict):
        return frame
    return {name: value for name, value in frame.items() if name not in _OWN_MEMBERS}
