"""The border to pydantic: its errors become one `ConfigurationError` that names the key, its place and what to write.

No input value is ever quoted: it could be a key in the wrong place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vetted_mw.configuration import Limits
from vetted_mw.errors import ConfigurationError
from vetted_mw.settings.refusal import REFUSED, nearest
from vetted_mw.settings.schema import KeyReference, RegionLimits, VettedSettings
from vetted_mw.settings.shape import section_of, shape_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["configuration_error", "unknown_key"]

_EXTRA = "extra_forbidden"
_TYPES = {
    "bool_type": ("is not a truth value.", "Write true or false."),
    "dict_type": ("is not a table.", "Write it as a table of keys and values."),
    "finite_number": ("is not a finite number.", "Write a finite number."),
    "float_type": ("is not a number.", "Write a number."),
    "int_type": ("is not a whole number.", "Write a whole number."),
    "list_type": ("is not a list.", 'Write a list, ["one", "two"].'),
    "missing": ("is missing.", "Set it."),
    "model_type": ("is not a table.", "Write it as a table of keys and values."),
    "string_type": ("is not a text.", 'Write a text, "between quotes".'),
    "too_short": ("is empty.", "Name at least one, or leave the key out."),
    "string_too_short": ("is empty.", "Write a text, or leave the key out."),
}
_BOUNDS = {
    "greater_than": ("is too small.", "Write a number greater than {gt:g}."),
    "greater_than_equal": ("is too small.", "Write a number of at least {ge:g}."),
    "less_than_equal": ("is too large.", "Write a number of at most {le:g}."),
    "string_too_long": ("is too long.", "Write at most {max_length} characters."),
}
_KEY_ITSELF = (
    "must say where the key is, never be the key itself.",
    'Write { env = "NAME_OF_A_VARIABLE" } or { file = "/run/secrets/key" }.',
)


def configuration_error(error: ValidationError, *, place: Callable[[tuple[str, ...]], str]) -> ConfigurationError:
    """Translate pydantic's error: unknown keys first, since they often explain what is missing.

    Args:
        error: what validation found.
        place: says where the value of a path was written, "in vetted.toml".
    """
    found = error.errors(include_url=False, include_input=False)
    detail = next((one for one in found if one["type"] == _EXTRA), found[0])
    if detail["type"] == _EXTRA:
        return _unknown(detail, place)
    path, annotation = shape_at(VettedSettings, detail["loc"])
    message, remedy = _told(detail, annotation)
    return ConfigurationError(f"{message[:-1]} ({place(path)}).", field=".".join(path), remedy=remedy)


def unknown_key(name: str, *, field: str, known: Mapping[str, Any] | list[str], place: str) -> ConfigurationError:
    """Build the error of a key nobody knows, with the nearest that is known."""
    like = nearest(name, known)
    hint = "" if like is None else f"Did you mean {like}? "
    return ConfigurationError(f"unknown key ({place}).", field=field, remedy=f"{hint}Correct or remove it.")


def _unknown(detail: ErrorDetails, place: Callable[[tuple[str, ...]], str]) -> ConfigurationError:
    path, annotation = shape_at(VettedSettings, detail["loc"][:-1])
    name = str(detail["loc"][-1])
    section: type[BaseModel] = section_of(annotation) or VettedSettings
    field = ".".join((*path, name))
    if section is RegionLimits and name in Limits.__dataclass_fields__:
        return ConfigurationError(
            f"is a limit of the whole request, not of one upstream ({place(path)}).",
            field=field,
            remedy=f"Set it as limits.{name}.",
        )
    return unknown_key(name, field=field, known=list(section.model_fields), place=place((*path, name)))


def _told(detail: ErrorDetails, annotation: Any) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == REFUSED:
        return str(context["message"]), str(context["remedy"])
    if kind in {"model_type", "dict_type"} and section_of(annotation) is KeyReference:
        return _KEY_ITSELF
    if kind == "literal_error":
        return "is none of the known words.", f"Write {context['expected']}."
    if kind in _BOUNDS:
        message, remedy = _BOUNDS[kind]
        return message, remedy.format(**context)
    return _TYPES.get(kind, ("cannot be used.", "Correct or remove it."))
