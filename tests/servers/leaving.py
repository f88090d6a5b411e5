"""Callers on raw sockets, in HTTP/1.1 and HTTP/2, that go away when they are told."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Literal

import h2.config
import h2.connection
import h2.events

from streams.wall import LIMIT
from support import HELLO

if TYPE_CHECKING:
    from servers.processes import Kind

__all__ = ["Caller", "How", "body_for"]

How = Literal["close", "half", "reset", "stream"]
"""Close the connection, close it for sending only, reset it, or (in HTTP/2) reset the one stream."""

_PATH = "/v1/chat/completions"


def body_for(model: str, *, stream: bool, region: str) -> bytes:
    """Return a chat completion's body."""
    request: dict[str, Any] = {"model": model, "messages": HELLO, "vetted": {"region": region}}
    return json.dumps(request | ({"stream": True} if stream else {})).encode()


class Caller:
    """Sends one request; `withheld` bytes at the end of its body are announced and never sent."""

    def __init__(self, kind: Kind, port: int, body: bytes, *, withheld: int = 0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._http2 = _Http2(self._socket) if kind.http2 else None
        sent = body[: len(body) - withheld]
        if self._http2 is not None:
            self._http2.request(sent, length=len(body))
        else:
            head = f"POST {_PATH} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
            self._socket.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + sent)

    def read_until(self, wanted: bytes) -> bytes:
        """Read the answer until `wanted` has come."""
        data = b""
        while wanted not in data:
            part = self._socket.recv(65536)
            assert part, f"the connection ended after {data!r}"
            data += part if self._http2 is None else self._http2.taken(part)
        return data

    def got(self) -> bytes:
        """Return what has come of an answer, without waiting for more."""
        return self._socket.recv(65536) if select.select([self._socket], [], [], 0)[0] else b""

    def leave(self, how: How) -> float:
        """Go away; returns the instant, by `time.perf_counter`."""
        if how == "stream":
            assert self._http2 is not None
            instant = time.perf_counter()
            self._http2.reset_stream()
            return instant
        if how == "half":
            instant = time.perf_counter()
            self._socket.shutdown(socket.SHUT_WR)
            return instant
        if how == "reset":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        instant = time.perf_counter()
        self._socket.close()
        return instant

    def close(self) -> None:
        """Close what is open."""
        self._socket.close()


class _Http2:
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.initiate_connection()
        self._flush()

    def request(self, body: bytes, *, length: int) -> None:
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "gateway"),
            (":path", _PATH),
            ("content-type", "application/json"),
            ("content-length", str(length)),
        ]
        self._h2.send_headers(1, headers)
        self._h2.send_data(1, body, end_stream=len(body) == length)
        self._flush()

    def taken(self, data: bytes) -> bytes:
        """Return status (as `status: 200`) and body bytes of what came."""
        out = b""
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                out += b"".join(b"%s: %s\r\n" % pair for pair in event.headers or ())
            elif isinstance(event, h2.events.DataReceived):
                out += event.data or b""
        self._flush()
        return out

    def reset_stream(self) -> None:
        self._h2.reset_stream(1, error_code=8)  # CANCEL
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())
