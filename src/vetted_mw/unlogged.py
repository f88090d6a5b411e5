"""Keep httpcore's lines about our requests out of every log.

At DEBUG they hold the headers of answers: what the caller wrote where a server echoes it, cookies, the URL of a
redirect. An error in an answer's framing is shown with the bytes around it.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

__all__ = ["hush_httpcore", "is_logged", "unlogged", "unlogged_parts"]

_LOGGERS = tuple(logging.getLogger(f"httpcore.{part}") for part in ("connection", "http11", "proxy", "socks"))
_OURS = contextvars.ContextVar("vetted_mw_unlogged", default=False)
_T = TypeVar("_T")


def hush_httpcore() -> None:
    """Let httpcore's loggers pass over what is done inside `unlogged`; what others do with httpcore is logged as ever.

    May be called as often as one likes.
    """
    for logger in _LOGGERS:
        logger.addFilter(_not_ours)


def is_logged() -> bool:
    """Whether httpcore would write such lines at all."""
    return any(logger.isEnabledFor(logging.DEBUG) for logger in _LOGGERS)


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Mark what is done inside as ours. Not around a `yield`: a generator shares its context with who reads it."""
    token = _OURS.set(True)
    try:
        yield
    finally:
        _OURS.reset(token)


async def unlogged_parts(parts: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
    """Yield from `parts`, each step of it unlogged, and close it at the end."""
    try:
        while True:
            with unlogged():
                try:
                    part = await anext(parts)
                except StopAsyncIteration:
                    return
            yield part
    finally:
        await parts.aclose()


def _not_ours(_record: logging.LogRecord) -> bool:
    return not _OURS.get()
