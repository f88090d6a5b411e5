"""The path of a request as the app sees it, wherever it is mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ["route_path"]


def route_path(scope: Scope) -> str:
    """Return the path after `root_path`: Starlette's Mount leaves the path whole, Litestar's cuts it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) :][:1] in {"", "/"}:
        return path[len(root) :]
    return path
