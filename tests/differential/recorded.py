"""Answers of real servers, as they were recorded (`recording.py`), each delivered in several ways."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from differential.exchange import Exchange, Script
from differential.generated import byte_by_byte, cut_anywhere
from faults.playing import Ending

if TYPE_CHECKING:
    from collections.abc import Iterable

    from differential.exchange import Part

__all__ = ["PAGE", "RECORDED", "Recorded", "read", "written"]

PAGE = Path(__file__).with_name("recorded.json")
_TURNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One answer.

    Attributes:
        server: who gave it.
        name: to what.
        answer: its bytes.
        is_closed: whether the server then closed the connection.
    """

    server: str
    name: str
    answer: bytes
    is_closed: bool


def written(answers: Iterable[Recorded]) -> str:
    """Write answers down; a byte is a letter of Latin-1."""
    told = [
        {"server": one.server, "name": one.name, "is_closed": one.is_closed, "answer": one.answer.decode("latin-1")}
        for one in answers
    ]
    return json.dumps(told, indent=0, ensure_ascii=True) + "\n"


def read() -> list[Recorded]:
    """Read what was written down."""
    told = json.loads(PAGE.read_text(encoding="utf-8"))
    return [Recorded(**one | {"answer": one["answer"].encode("latin-1")}) for one in told]


def _exchanges(one: Recorded) -> list[Exchange]:
    ways: dict[str, list[Part]] = {"in one piece": [one.answer], "byte by byte": byte_by_byte(one.answer)}
    for turn in range(_TURNS):
        dice = random.Random(f"{one.server} {one.name} {turn}")  # noqa: S311 (a seed, so that it is the same every time)
        ways[f"cut anywhere, turn {turn}"] = cut_anywhere(one.answer, dice)
    ending = Ending.CLOSE if one.is_closed else Ending.KEEP
    return [
        Exchange(
            name=f"{one.server}, {one.name}, {how}",
            answer=Script(parts=parts, ending=ending),
            is_probe=one.name in {"health", "models", "metrics", "nowhere"},
        )
        for how, parts in ways.items()
    ]


RECORDED = [exchange for one in (read() if PAGE.exists() else []) for exchange in _exchanges(one)]
