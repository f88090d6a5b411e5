"""The head of a request, as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

    from vetted_mw.proxy.transport import UpstreamRequest

__all__ = ["Heads", "UnsendableError"]


class UnsendableError(ValueError):
    """A header holds a line break or a NUL, with which it would say more than one thing."""


class Heads:
    """Writes the heads of the requests to one upstream.

    Args:
        base: its base URL.
    """

    def __init__(self, base: httpx.URL) -> None:
        self._base_path = base.raw_path.rstrip(b"/")
        self._host = base.netloc
        self._begun: dict[tuple[str, str, bool], bytes] = {}

    def head_of(self, request: UpstreamRequest) -> bytes:
        """Return the head of `request`, its empty line included.

        Raises:
            UnsendableError: a header would break the lines.
        """
        key = (request.method, request.path, request.from_origin)
        begun = self._begun.get(key)
        if begun is None:
            begun = self._beginning(*key)
            if len(self._begun) < _MOST_KEPT:
                self._begun[key] = begun
        lines = list(map(_FIELD, request.headers))
        if request.body or request.method == "POST":
            lines.append(b"content-length: %d" % len(request.body))
        breaks = _LINES_BEGUN + len(lines) + 1
        lines.append(b"\r\n")
        head = begun + b"\r\n".join(lines)
        if head.count(b"\n") != breaks or head.count(b"\r") != breaks or _NUL in head:
            raise UnsendableError
        return head

    def _beginning(self, method: str, path: str, from_origin: bool) -> bytes:  # noqa: FBT001 (the key's parts, in order)
        target = (b"" if from_origin else self._base_path) + path.encode("ascii")
        line = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode("ascii"), target, self._host)
        if line.count(b"\n") != _LINES_BEGUN or line.count(b" ") != _SPACES_BEGUN:
            raise UnsendableError
        return line


_FIELD = b": ".join
_NUL = 0  # as a number: `in` takes bytes for one first, at ten times the cost
_MOST_KEPT = 64  # an upstream has three or four paths
_LINES_BEGUN = 2
_SPACES_BEGUN = 3
