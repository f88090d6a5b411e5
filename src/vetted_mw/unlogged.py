"""Keep httpcore's lines about our requests out of every log.

At DEBUG they hold the headers of answers: what the caller wrote where a server echoes it, cookies, the URL of a
redirect. An error in an answer's framing is shown with the bytes around it.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["hush_httpcore", "unlogged"]

_LOGGERS = tuple(logging.getLogger(f"httpcore.{part}") for part in ("connection", "http11", "proxy", "socks"))
_OURS = contextvars.ContextVar("vetted_mw_unlogged", default=False)


def hush_httpcore() -> None:
    """Let httpcore's loggers pass over what is done inside `unlogged`; what others do with httpcore is logged as ever.

    May be called as often as one likes.
    """
    for logger in _LOGGERS:
        logger.addFilter(_not_ours)


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Mark what is done inside as ours. Not around a `yield`: a generator shares its context with who reads it."""
    token = _OURS.set(True)
    try:
        yield
    finally:
        _OURS.reset(token)


def _not_ours(_record: logging.LogRecord) -> bool:
    return not _OURS.get()
