"""However the bytes of an answer are cut into segments, the same comes of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.test_client_framing import CUT, REFUSED, WHOLE
from vetted_mw.proxy.own.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.own.transport import OwnTransport

ANSWERS = {f"{kind}: {name}": case[0] for kind, table in (("whole", WHOLE), ("refused", REFUSED), ("cut", CUT)) for name, case in table.items()}  # fmt: skip


class _Line(asyncio.Transport):
    """A transport that leads nowhere."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        return None

    def resume_reading(self) -> None:
        return None

    def abort(self) -> None:
        return None


class _Pool:
    """Is told what becomes of the connection."""

    def __init__(self) -> None:
        self.freed_open: list[bool] = []

    def freed(self, wire: Wire) -> None:
        self.freed_open.append(wire.is_open)


@pytest.fixture(scope="module")
def sock() -> Iterator[socket.socket]:
    """Something with a number, on which nothing ever happens."""
    with socket.socket() as idle:
        yield idle


def outcome(sock: socket.socket, parts: list[bytes], *, ends: bool) -> tuple[int, Headers, bytes, bool, bool, bool]:
    """Feed `parts`; returns status, headers, body, whether it is whole, whether it is over, whether the line lasts."""
    loop = asyncio.new_event_loop()
    pool = _Pool()
    wire = Wire(loop, cast("OwnTransport", pool))
    wire.connection_made(_Line(sock))
    exchange = wire.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"")
    exchange.send(None)
    answer = wire._answer
    for part in parts:
        if wire.is_open:
            wire.data_received(part)
    if ends and wire.is_open:
        wire.eof_received()
    got = answer.status, answer.headers, b"".join(answer._parts), answer.is_whole, answer.is_over
    if answer.has_come:
        with contextlib.suppress(StopIteration):
            exchange.send(None)
    exchange.close()
    wire.release(answer)
    loop.close()
    return (*got, pool.freed_open[-1])


@st.composite
def cut_up(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """An answer's name, and its bytes in pieces."""
    name = draw(st.sampled_from(sorted(ANSWERS)))
    answer = ANSWERS[name]
    at = sorted(draw(st.sets(st.integers(1, max(1, len(answer) - 1)), max_size=12)))
    return name, [answer[start:end] for start, end in zip([0, *at], [*at, len(answer)], strict=True) if start < end]


@given(cut=cut_up(), ends=st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_split_of_an_answer_gives_the_same(sock: socket.socket, cut: tuple[str, list[bytes]], ends: bool) -> None:
    """Status, headers, body, its end, and whether the connection serves again."""
    name, parts = cut
    assert outcome(sock, parts, ends=ends) == outcome(sock, [ANSWERS[name]], ends=ends)


@pytest.mark.parametrize("name", ANSWERS)
def test_so_does_an_answer_that_comes_byte_by_byte(sock: socket.socket, name: str) -> None:
    """The worst of all splits, for each of them."""
    answer = ANSWERS[name]
    bytewise = [answer[at : at + 1] for at in range(len(answer))]
    assert outcome(sock, bytewise, ends=True) == outcome(sock, [answer], ends=True)


@given(garbage=st.binary(max_size=300), head=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]))  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_no_bytes_whatever_raise_or_pass_for_an_answer_in_use(sock: socket.socket, garbage: bytes, head: bytes) -> None:
    """Nothing is raised into the event loop; what is not whole and clean never serves again."""
    _status, _headers, _body, is_whole, _is_over, lasts = outcome(sock, [head + garbage], ends=False)
    assert is_whole or not lasts
