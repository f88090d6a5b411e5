"""What the callers of a chaos run ask, and the whole answers to it."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soak.judged import told_of
from soak.llama_log import MARK
from soak.talk import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ALIASES", "PARIS", "STOCKHOLM", "Question", "question_of", "whole_texts"]

PARIS, STOCKHOLM = "scaleway-par-1", "atnorth-sto-1"
ALIASES = {PARIS: "tiny-in-paris", STOCKHOLM: "tiny-in-stockholm"}
"""What each server calls itself in every answer, whatever was asked for: it shows which one really wrote it."""

_KINDS = 12
_OPTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    ("default", {}),
    ("pinned to Paris", {"region": PARIS}),
    ("pinned to Stockholm", {"region": STOCKHOLM}),
    ("carbon-aware", {"routing": "carbon_aware"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request.

    Attributes:
        number: its own, in the servers' logs too.
        kind: which text it asks for.
        policy: for the table.
        vetted: routing options.
        stream: whether a stream is asked for.
    """

    number: int
    kind: int
    policy: str
    vetted: dict[str, str]
    stream: bool

    @property
    def allowed(self) -> frozenset[str]:
        """Regions that may see it."""
        return frozenset({self.vetted["region"]} if "region" in self.vetted else ALIASES)

    @property
    def tokens(self) -> int:
        """How many tokens the whole answer has; the tiny model never ends by itself."""
        return 60 + 12 * self.kind

    def body(self) -> bytes:
        """Return the request body."""
        prompt = f"{'carbon ' * (1 + 3 * self.kind)}where does the power come from"
        members: dict[str, object] = {
            "model": "tiny",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self.tokens,
            "temperature": 0,
            "stream": self.stream,
            MARK: self.number,
        }
        return json.dumps(members | ({"vetted": self.vetted} if self.vetted else {})).encode()


def question_of(seed: int, number: int) -> Question:
    """Return question `number` of the run with `seed`."""
    dice = random.Random(f"{seed}/{number}")  # noqa: S311 (repeatable on purpose)
    policy, vetted = dice.choice(_OPTIONS)
    kind, stream = dice.randrange(_KINDS), dice.random() < 0.5  # noqa: PLR2004
    return Question(number=number, kind=kind, policy=policy, vetted=vetted, stream=stream)


async def whole_texts(ports: Sequence[int]) -> dict[int, str]:
    """Ask every kind of question of each server itself and return the text by kind.

    Raises:
        RuntimeError: two servers, or a stream and a whole answer, differ: then nothing could be told by the text.
    """
    texts: dict[int, str] = {}
    for port in ports:
        for kind, stream in itertools.product(range(_KINDS), (False, True)):
            question = Question(number=0, kind=kind, policy="", vetted={}, stream=stream)
            connection = await Connection.open(port)  # the server closes its connections after a stream
            await connection.send(question.body())
            told = told_of(await connection.answer())
            connection.leave(resets=False)
            if texts.setdefault(kind, told.text) != told.text or len(told.text.split()) != question.tokens:
                raise RuntimeError("the model does not give equal prompts equal text")
    return texts
