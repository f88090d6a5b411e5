"""What a handler with a client of its own says its call used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import RouteError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Report", "report_of"]

_MAX_COUNT = 2**53


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of one call, as its handler counts them.

    Attributes:
        model: that ran.
        prompt_tokens: of the whole prompt.
        completion_tokens: of the answer.
        cached_tokens: of the prompt, those that came from a cache.
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


def report_of(usage: Mapping[str, int], *, model: str) -> Report:
    """Check what a handler reports.

    Raises:
        RouteError: a count is missing or cannot be one, or the model is no text.
    """
    if not isinstance(model, str) or not _is_writable(model):
        raise RouteError("record() needs model as text: the name of the model that ran.")
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cached = _count(usage, "cached_tokens") if "cached_tokens" in usage else 0
    if cached > prompt:
        raise RouteError("record(): cached_tokens are part of prompt_tokens and cannot be more.")
    return Report(model=model, prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _count(usage: Mapping[str, int], name: str) -> int:
    count = usage.get(name)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < _MAX_COUNT:
        raise RouteError(f"record() needs {name} as a whole number, 0 or above.")
    return count
