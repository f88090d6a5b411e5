"""One round of load on one gateway: what is sent, what came of it, and whether that may be counted."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from bench.processes import cores, cpu_seconds, resident_bytes, tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.gateways import Gateway
    from bench.helpers import Helpers

__all__ = ["MODEL", "Percentiles", "Round", "Seen", "Workload", "round_of"]

MODEL = "bench"
_MESSAGE_BYTES = 8_000
_SENTENCE = 'The quick brown fox said "good morning" to the lazy dog.\nIt did not answer; naïve, as ever. '


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is sent.

    Attributes:
        prompt_bytes: about how long the prompt is.
        chunks: of a stream; 0: the answer is JSON of about 1 KB.
        pace_ms: between two chunks; 0: all at once.
        connections: one request at a time on each.
        seconds: until when requests are begun.
        rate: requests a second; 0: each connection's next follows its last answer.
        ramp: seconds over which the connections are opened.
    """

    prompt_bytes: int = 1_000
    chunks: int = 0
    pace_ms: int = 0
    connections: int = 32
    seconds: float = 2.0
    rate: float = 0.0
    ramp: float = 0.0

    def request(self, port: int) -> bytes:
        """Return the whole request as it goes over the wire. What the upstream is to answer stands in its text."""
        asked = f"[chunks={self.chunks} pace_ms={self.pace_ms}]" if self.chunks else "[bytes=600]"
        whole = _SENTENCE * (self.prompt_bytes // len(_SENTENCE) + 1)
        texts = [whole[at : at + _MESSAGE_BYTES] for at in range(0, self.prompt_bytes, _MESSAGE_BYTES)]
        texts[-1] = texts[-1][: self.prompt_bytes % _MESSAGE_BYTES or _MESSAGE_BYTES]
        messages = [{"role": "user", "content": text} for text in [*texts[:-1], f"{texts[-1]} {asked}"]]
        content: dict[str, Any] = {"model": MODEL, "messages": messages, "temperature": 0.7}
        if self.chunks:
            content |= {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(content, ensure_ascii=False).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: bench\r\naccept: */*\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Percentiles(msgspec.Struct, frozen=True):
    """Of times, in microseconds."""

    p50: float
    p99: float
    max: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the load tells of a round.

    Attributes:
        requests: answered as they should be.
        errors: not answered so.
        error: the first of them, in words.
        chunks: of streams, that came.
        lost: chunks out of their place.
        open: requests under way at once, at the most.
        latency: from when a request was due until its answer was whole.
        first: until the answer's head, of a stream until its first chunk.
        one_way: from when the upstream sent a chunk until it came.
        lag: by how much a stream's last chunk came later than the pace says.
        seconds: from the first request to the last answer.
    """

    requests: int
    errors: int
    error: str
    chunks: int
    lost: int
    open: int
    latency: Percentiles | None
    first: Percentiles | None
    one_way: Percentiles | None
    lag: Percentiles | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round.

    Attributes:
        seen: by the load.
        cpu_seconds: of the gateway's processes.
        grown_bytes: by how much their memory was larger than before, at the most.
    """

    seen: Seen
    cpu_seconds: float
    grown_bytes: int


def round_of(workload: Workload, gateway: Gateway, helpers: Helpers) -> Round:
    """Send the load to `gateway` once.

    Raises:
        RuntimeError: the load itself failed.
    """
    with tempfile.NamedTemporaryFile(prefix="vetted-bench-") as request:
        request.write(workload.request(gateway.port))
        request.flush()
        wishes = (workload.connections, workload.seconds, workload.rate, workload.ramp)
        words = (gateway.port, request.name, *wishes, workload.chunks, workload.pace_ms)
        pids = tree(gateway.pid) if gateway.pid else []
        memory = _Memory(pids)
        before = cpu_seconds(pids)
        said = _run([*helpers.load, *map(str, words)])
        after = cpu_seconds(pids)
        return Round(seen=said, cpu_seconds=after - before, grown_bytes=memory.most_grown())


def _run(command: Sequence[str]) -> Seen:
    near, _far = cores()
    finished = subprocess.run(  # noqa: S603
        command,
        capture_output=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, near),
    )
    if finished.returncode:
        raise RuntimeError(f"the load failed: {finished.stderr.decode(errors='replace')[-300:]}")
    return msgspec.json.decode(finished.stdout, type=Seen)


class _Memory:
    """Looks four times a second at how much memory processes hold."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._before = self._most = resident_bytes(pids)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def most_grown(self) -> int:
        """Stop looking and return by how much it was larger than before, at the most."""
        self._ended.set()
        self._thread.join()
        return max(self._most, resident_bytes(self._pids)) - self._before

    def _look(self) -> None:
        while not self._ended.wait(0.25):
            self._most = max(self._most, resident_bytes(self._pids))
