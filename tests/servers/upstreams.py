"""An upstream in threads: the model's name says how far its answer goes, and it notes when its client has closed."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

from streams.wall import content, role
from vetted_mw.testing import chat_completion, chat_frames

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["BlackHole", "Upstream"]

_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
_SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_REFUSAL = b'HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\n{"err'


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_PARTS = {
    "silent": b"",
    "half-json": _JSON + b'100\r\n\r\n{"choi',
    "half-refusal": _REFUSAL,
    "role": _SSE + _chunk(role()),
    "content": _SSE + _chunk(role()) + _chunk(content()),
    "flood": _SSE + _chunk(role()),
}
_FLOOD = _chunk(content("Hel" * 10_000)) * 10
_FLOODS = 64_000_000 // len(_FLOOD)
_BLOCKED_SECONDS = 0.5


class Upstream:
    """Answers `well` as it should; any other model gets the bytes of its name, and then nothing more.

    After `flood` it sends on until nobody takes it any more, or until it has sent more than the sockets on the way hold:
    a server without back-pressure takes everything.

    Args:
        reads: whether it reads requests; else every connection is left waiting at once, as a TLS handshake that never
            ends and a proxy that never answers are.

    Attributes:
        reached: one item for each connection on which it has fallen silent.
        left: one item for each of those that its client closed: the instant, by `time.perf_counter`.
        served: how many it answered well.
    """

    def __init__(self, *, reads: bool = True) -> None:
        self.reached: queue.Queue[None] = queue.Queue()
        self.left: queue.Queue[float] = queue.Queue()
        self.served = 0
        self._reads = reads
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._start(self._accepting)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._listener, *list(self._connections)):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accepting(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                connection, _address = self._listener.accept()
                self._connections.add(connection)
                self._start(self._connected, connection)

    def _connected(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while self._answered(connection):
                continue
        self._connections.discard(connection)

    def _answered(self, connection: socket.socket) -> bool:
        if not self._reads:
            connection.recv(1)  # the peer is there: it has said its first word
            self._waited(connection)
            return False
        request = _read_request(connection)
        if request is None:
            return False
        if request["model"] == "well":
            self.served += 1
            connection.sendall(_well(stream=bool(request.get("stream"))))
            return True
        connection.sendall(_PARTS[str(request["model"])])
        if request["model"] == "flood":
            _send_until_blocked(connection)
        self._waited(connection)
        return False

    def _waited(self, connection: socket.socket) -> None:
        self.reached.put(None)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                continue
        self.left.put(time.perf_counter())


def _send_until_blocked(connection: socket.socket) -> None:
    connection.settimeout(_BLOCKED_SECONDS)
    with contextlib.suppress(TimeoutError):
        for _ in range(_FLOODS):
            connection.sendall(_FLOOD)
    connection.settimeout(None)


def _well(*, stream: bool) -> bytes:
    if stream:
        return _SSE + b"".join(map(_chunk, chat_frames())) + b"0\r\n\r\n"
    body = chat_completion()
    return _JSON + b"%d\r\n\r\n" % len(body) + body


def _read_request(connection: socket.socket) -> dict[str, object] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    request: dict[str, object] = json.loads(body)
    return request


class BlackHole:
    """An address that answers no SYN: its queue of connections is full, and nobody takes one out."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port = int(self._listener.getsockname()[1])
        self._fillers: list[socket.socket] = []

    def __enter__(self) -> Self:
        while True:
            filler = socket.socket()
            filler.settimeout(0.5)
            self._fillers.append(filler)
            try:
                filler.connect(("127.0.0.1", self.port))
            except TimeoutError:
                filler.close()
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (*self._fillers, self._listener):
            one.close()
