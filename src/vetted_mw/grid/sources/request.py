"""One GET of a source. It can hold a key, in its URL or a header, so nothing of it is ever printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.signal import GridSignal

__all__ = ["MAX_BODY_BYTES", "MAX_JSON_BYTES", "Asked", "Parsed", "Question", "Request"]

MAX_BODY_BYTES = 5_242_880
"""A service's whole answer; the largest real one is a twentieth of it."""

MAX_JSON_BYTES = 524_288
"""An answer in JSON, which is decoded at one go while all else waits; the largest real one is a third of it."""

Parsed: TypeAlias = "GridSignal | NoSignal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        url: whole, with its query.
        accept: the media type that is understood.
        headers: further ones, a key among them.
    """

    url: str = field(repr=False)
    accept: str = "application/json"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


Asked: TypeAlias = "Callable[[str, datetime], Request]"
"""Given the service's base URL and the instant, what to ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One GET and what its answer tells.

    Attributes:
        source: label of its signals.
        zones: the zones it is asked for.
        request: what to ask.
        parse: bytes and the instant they came at -> a signal or the reason for none, per zone. Pure.
        reads_400: whether an answer with status 400 is a document as well.
        service: which of several services is asked; a key, a limit or a lost connection concerns one service alone.
    """

    source: str
    zones: tuple[str, ...]
    request: Asked
    parse: Callable[[bytes, datetime], Sequence[Parsed]]
    reads_400: bool = False
    service: str = ""
