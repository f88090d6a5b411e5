"""Where a request stands when its caller leaves, and the upstreams that hold it there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servers.leaving import Caller, body_for
from servers.processes import eventually
from servers.upstreams import BlackHole, Upstream
from streams.wall import FIRST, LIMIT, OUTSIDE, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.leaving import How
    from servers.processes import Server

__all__ = ["PHASES", "Phase", "Place", "is_served_well", "left_in", "placed"]

_PROXIED = "ovh-rbx-1"
_WITHHELD = 5
_SYN_SENT = "02"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Where a request stands.

    Attributes:
        name: of the phase.
        stream: whether the request asks for a stream.
        region: where it is pinned to.
        model: how far the upstream goes.
        in_body: whether the caller leaves before its body is whole.
        sees: what the caller has got by then.
    """

    name: str
    stream: bool
    region: str = FIRST
    model: str = "silent"
    in_body: bool = False
    sees: bytes = b""

    def __str__(self) -> str:
        return f"{self.name}-{'sse' if self.stream else 'json'}".replace(" ", "_")


PHASES = [
    *(Phase(name="body", stream=stream, in_body=True) for stream in (False, True)),
    *(Phase(name="proxy", stream=stream, region=_PROXIED) for stream in (False, True)),
    *(Phase(name="TCP connect", stream=stream, region=OUTSIDE) for stream in (False, True)),
    *(Phase(name="TLS handshake", stream=stream, region=SECOND) for stream in (False, True)),
    *(Phase(name="first byte", stream=stream) for stream in (False, True)),
    Phase(name="half a refusal", stream=False, model="half-refusal"),
    Phase(name="first content", stream=True, model="role"),
    Phase(name="mid-answer", stream=False, model="half-json"),
    Phase(name="mid-stream", stream=True, model="content", sees=b"Hel"),
    Phase(name="unread answer", stream=True, model="flood", sees=b"Hel"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The upstreams.

    Attributes:
        plain: speaks HTTP.
        mute: takes connections and says nothing: a TLS handshake that never ends, a proxy that never answers.
        hole: takes no connection.
    """

    plain: Upstream
    mute: Upstream
    hole: BlackHole

    @property
    def tables(self) -> dict[str, Any]:
        """The regions over them."""
        limits = {"connect_seconds": 600, "max_in_flight": 2}
        plain = f"http://127.0.0.1:{self.plain.port}/v1"
        return {
            FIRST: {"base_url": plain, "limits": limits},
            SECOND: {"base_url": f"https://127.0.0.1:{self.mute.port}/v1", "limits": limits},
            OUTSIDE: {"base_url": f"http://127.0.0.1:{self.hole.port}/v1", "limits": limits},
            _PROXIED: {"base_url": plain, "proxy": f"http://127.0.0.1:{self.mute.port}", "limits": limits},
        }

    def caller(self, server: Server, phase: Phase) -> Caller:
        """Send a request and wait until it stands where the phase says."""
        body = body_for(phase.model, stream=phase.stream, region=phase.region)
        caller = Caller(server.kind, server.port, body, withheld=_WITHHELD if phase.in_body else 0)
        try:
            self._stands(server, phase, caller)
        except BaseException:
            caller.close()
            raise
        return caller

    def _stands(self, server: Server, phase: Phase, caller: Caller) -> None:
        if phase.in_body:
            eventually(lambda: server.gauges()["answering"] == 1, lambda: str(server.gauges()))
        elif phase.region == OUTSIDE:
            eventually(lambda: _is_connecting(self.hole.port), lambda: "nobody connects")
        else:
            self._reached(phase, caller)
        if phase.sees:
            caller.read_until(phase.sees)

    def _reached(self, phase: Phase, caller: Caller) -> None:
        reached = self._upstream(phase).reached
        eventually(lambda: not reached.empty(), lambda: f"it reaches no upstream; its caller got {caller.got()!r}")
        reached.get()

    def left(self, phase: Phase) -> float | None:
        """Wait until the upstream has seen its connection closed; returns the instant, where one could be seen."""
        if phase.in_body:
            return None
        if phase.region == OUTSIDE:
            eventually(lambda: not _is_connecting(self.hole.port), lambda: "the gateway still connects")
            return None
        return self._upstream(phase).left.get(timeout=LIMIT)

    def _upstream(self, phase: Phase) -> Upstream:
        return self.mute if phase.region in {SECOND, _PROXIED} else self.plain


def left_in(place: Place, server: Server, phase: Phase, how: How) -> float | None:
    """Let one caller leave and wait until its upstream sees it; returns the milliseconds between, where they show."""
    with contextlib.closing(place.caller(server, phase)) as caller:
        left = caller.leave(how)
        seen = place.left(phase)
    return None if seen is None else (seen - left) * 1000


def is_served_well(server: Server, *, stream: bool) -> bool:
    """Whether one more request is answered, to its end."""
    caller = Caller(server.kind, server.port, body_for("well", stream=stream, region=FIRST))
    with contextlib.closing(caller):
        answer = caller.read_until(b"data: [DONE]" if stream else b'"routing_trace"')
    return b"200" in answer.split(b"\r\n")[0]


def _is_connecting(port: int) -> bool:
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == _SYN_SENT for line in lines)


@contextlib.contextmanager
def placed() -> Iterator[Place]:
    """Start the upstreams."""
    with Upstream() as plain, Upstream(reads=False) as mute, BlackHole() as hole:
        yield Place(plain=plain, mute=mute, hole=hole)
