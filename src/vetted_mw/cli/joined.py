"""One write for the head of a response and what follows it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["JoinedHeads"]

_COPIED_BYTES = 16_384  # to hand on more than this in two pieces is cheaper than to make one of them


def _asked_of_inner(name: str) -> Callable[..., Any]:
    """Return the method that asks the inner transport for `name`, after it was given what waits.

    No `__getattr__`: with one, CPython looks up each attribute the slow way, once for every part of a stream.
    """

    def ask(self: JoinedHeads, *given: Any, **named: Any) -> Any:
        self.flush()
        return getattr(self.inner, name)(*given, **named)

    return ask


class JoinedHeads:
    """A connection's transport before which the head of a response waits for the first part of its body.

    uvicorn writes the two one after the other, and each write is a call of the system that wakes whoever reads. A head
    waits for what is written in the same turn of the loop and no longer. Whatever else is asked of the transport is
    asked of the inner one once all that was written has gone to it, so nothing changes its place.

    Args:
        inner: the transport of the connection.
        loop: the loop it is served in.

    Attributes:
        inner: the same.
        is_closing: the inner one's.
        write: the inner one's too, but where a head is expected: the other parts of a stream cost no call of ours.
    """

    __slots__ = ("_head", "_loop", "inner", "is_closing", "write")

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self.is_closing = inner.is_closing
        self.write = inner.write
        self._loop = loop
        self._head: bytes | None = None

    abort = _asked_of_inner("abort")
    can_write_eof = _asked_of_inner("can_write_eof")
    get_extra_info = _asked_of_inner("get_extra_info")
    get_protocol = _asked_of_inner("get_protocol")
    get_write_buffer_limits = _asked_of_inner("get_write_buffer_limits")
    get_write_buffer_size = _asked_of_inner("get_write_buffer_size")
    is_reading = _asked_of_inner("is_reading")
    pause_reading = _asked_of_inner("pause_reading")
    resume_reading = _asked_of_inner("resume_reading")
    set_protocol = _asked_of_inner("set_protocol")
    set_write_buffer_limits = _asked_of_inner("set_write_buffer_limits")
    write_eof = _asked_of_inner("write_eof")
    writelines = _asked_of_inner("writelines")

    def expect_head(self) -> None:
        """Let the next write wait for the one after it; where that is no head, it comes a turn of the loop later."""
        self.write = self._hold

    def flush(self) -> None:
        """Send what waits; a connection that was lost meanwhile takes nothing more."""
        head = self._head
        if head is None:
            return
        self.forget()
        if not self.is_closing():
            self.inner.write(head)

    def forget(self) -> None:
        """Expect nothing, and let go of what waits."""
        self._head = None
        self.write = self.inner.write

    def close(self) -> None:
        """Close the connection once it has sent what was written."""
        self.flush()
        self.inner.close()

    def _hold(self, data: bytes | bytearray | memoryview) -> None:
        """Keep a head, or send the one that is kept with what follows it."""
        head = self._head
        if head is None:
            self._head = bytes(data)
            self._loop.call_soon(self.flush)
            return
        self.forget()
        if len(data) > _COPIED_BYTES:
            self.inner.writelines((head, data))
        else:
            self.inner.write(head + data)
