"""Walk the schema: which part of it a key belongs to, and what the keys there are."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["is_table", "member_of", "section_of", "shape_at"]


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section an annotation stands for, or None when it is no section."""
    bare = _bare(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def is_table(annotation: Any) -> bool:
    """Whether the annotation is a table with names of the operator's own, `dict[str, ...]`."""
    return get_origin(_bare(annotation)) is dict


def member_of(annotation: Any, name: str) -> Any:
    """Return the annotation of one member of a section or table; None when there is no such member."""
    section = section_of(annotation)
    if section is not None:
        field = section.model_fields.get(name)
        return None if field is None else field.annotation
    return get_args(_bare(annotation))[1] if is_table(annotation) else None


def shape_at(root: Any, path: Iterable[str | int]) -> tuple[tuple[str, ...], Any]:
    """Follow `path` as far as the schema goes; return that part of it and the annotation found there.

    pydantic appends list positions and the tags of unions to its paths; they are no keys and end the walk.
    """
    walked: list[str] = []
    found = root
    for step in path:
        inner = member_of(found, step) if isinstance(step, str) else None
        if inner is None:
            break
        walked.append(str(step))
        found = inner
    return tuple(walked), found


def _bare(annotation: Any) -> Any:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _bare(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return _bare(inner[0]) if len(inner) == 1 else annotation
    return annotation
