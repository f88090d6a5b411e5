"""What the end of a connection says: whether a body was whole, and whether a request can have been seen by anyone."""

from __future__ import annotations

import ssl
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["is_all_unread", "is_true_end"]


def is_true_end(transport: asyncio.Transport) -> bool:
    """Return whether the upstream itself ended a connection of which the event loop says that it has ended.

    Over TLS only a close_notify says so; anybody on the way can end the TCP connection underneath. uvloop tells the two
    apart, asyncio does not.
    """
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return True
    try:
        return not tls.read(1)
    except ssl.SSLError:
        return False  # it would wait for more


def is_all_unread(transport: asyncio.Transport, written: int) -> bool:
    """Return whether the upstream's end of a connection, which it has just closed, had received nothing of a request.

    A server closes a connection that was idle for too long at the very moment at which we write to it. Its closing
    carries the acknowledgement of all it had received by then, so what our kernel still holds as unacknowledged it had
    not: when that is the whole request, no part of it can have been read, let alone processed. Over TLS our kernel
    holds more bytes than were written; as long as it holds at least as many, not one record has arrived whole.

    Where the kernel cannot be asked, and after a reset, which acknowledges nothing, this is not known: False.

    Args:
        transport: whose peer has said that it will send no more.
        written: the bytes of the request, all that was ever written and not acknowledged before.
    """
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 (not everywhere)
    import termios  # noqa: PLC0415

    try:
        told = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    except OSError:
        return False
    (unacknowledged,) = struct.unpack("i", told)
    return bool(unacknowledged + transport.get_write_buffer_size() >= written)
