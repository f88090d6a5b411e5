"""How a value of the settings is refused: what is wrong, what to write instead, and never the value itself."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["REFUSED", "nearest", "refused"]

REFUSED = "refused"
"""The error type of our own checks inside pydantic; their context holds message and remedy."""


def refused(message: str, remedy: str) -> PydanticCustomError:
    """Build the error of one check; neither text may hold the value, which could be a key in the wrong place."""
    return PydanticCustomError(REFUSED, "{message}", {"message": message, "remedy": remedy})


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, or None when none is like it."""
    folded = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None
