"""The border to pydantic: its errors become one `ConfigurationError` that names the key, its place and what to write.

No input value is ever quoted: it could be a key in the wrong place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vetted_mw.configuration import Limits
from vetted_mw.errors import ConfigurationError
from vetted_mw.settings.refusal import REFUSED, nearest
from vetted_mw.settings.schema import ModelSettings, RegionLimits, VettedSettings
from vetted_mw.settings.section import KeyReference
from vetted_mw.settings.shape import section_of, shape_at
from vetted_mw.settings.signal_schema import OdreSettings, ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from vetted_mw.settings.places import Places

__all__ = ["configuration_error", "placed", "unknown_key"]

_EXTRA = "extra_forbidden"
_WRONG_KIND = frozenset({"literal_error", "list_type"})
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
    "greater_than": ("is too small.", "Write a number greater than {gt:.15g}."),
    "greater_than_equal": ("is too small.", "Write a number of at least {ge:.15g}."),
    "less_than_equal": ("is too large.", "Write a number of at most {le:.15g}."),
    "string_too_long": ("is too long.", "Write at most {max_length} characters."),
}
_WHERE_THE_KEY_IS = '{ env = "NAME_OF_A_VARIABLE" } or { file = "/run/secrets/key" }.'
_KEY_ITSELF = ("must say where the key is, never be the key itself.", f"Write {_WHERE_THE_KEY_IS}")
_KEYLESS_SERVICE = ("is not a table.", "Write its table: an empty one is enough to ask the service; in a variable, {}.")
_OF_SECTION: Mapping[tuple[type[BaseModel] | None, str], tuple[str, str]] = {
    (KeyReference, "dict_type"): _KEY_ITSELF,
    (KeyReference, "model_type"): _KEY_ITSELF,
    (KeyReference, "missing"): ("is missing.", f"Set it: {_WHERE_THE_KEY_IS}"),
    (ServiceSettings, "model_type"): _KEYLESS_SERVICE,
    (OdreSettings, "model_type"): _KEYLESS_SERVICE,
}


def configuration_error(error: ValidationError, *, places: Places) -> ConfigurationError:
    """Translate pydantic's error: unknown keys first, since they often explain what is missing."""
    found = error.errors(include_url=False, include_input=False)
    detail = next((one for one in found if one["type"] == _EXTRA), found[0])
    if detail["type"] == _EXTRA:
        return _unknown(detail, places)
    path, annotation = shape_at(VettedSettings, detail["loc"])
    # A key of several kinds (`models`) fails once per kind: the list's own fault tells more, where a list was written.
    same = [one for one in found if shape_at(VettedSettings, one["loc"])[0] == path]
    detail = next((one for one in same if one["type"] not in _WRONG_KIND), detail)
    message, remedy = _told(detail, same, annotation)
    entry = next((step for step in detail["loc"][len(path) :] if isinstance(step, int)), None)
    where = "" if entry is None else f"entry {entry + 1} "
    return placed(ConfigurationError(f"{where}{message}", field=".".join(path), remedy=remedy), places)


def placed(error: ConfigurationError, places: Places) -> ConfigurationError:
    """Return the error with the place at which the key at fault was written."""
    message = str(error.args[0])
    return ConfigurationError(f"{message[:-1]} ({places.of(error.field)}).", field=error.field, remedy=error.remedy)


def unknown_key(name: str, *, field: str, known: Collection[str], place: str) -> ConfigurationError:
    """Build the error of a key nobody knows, with the nearest that is known, or all of them where none is near."""
    like = nearest(name, known)
    all_known = f"Known here: {', '.join(known)}. " if known else ""
    hint = all_known if like is None else f"Did you mean {like}? "
    return ConfigurationError(f"unknown key ({place}).", field=field, remedy=f"{hint}Correct or remove it.")


def _unknown(detail: ErrorDetails, places: Places) -> ConfigurationError:
    path, annotation = shape_at(VettedSettings, detail["loc"][:-1])
    name = str(detail["loc"][-1])
    section: type[BaseModel] = section_of(annotation) or VettedSettings
    field = ".".join((*path, name))
    if section is RegionLimits and name in Limits.__dataclass_fields__:
        return ConfigurationError(
            f"is a limit of the whole request, not of one upstream ({places.of(field)}).",
            field=field,
            remedy=f"Set it as limits.{name}.",
        )
    error = unknown_key(name, field=field, known=list(section.model_fields), place=places.of(field))
    if section is ModelSettings:
        error.remedy += ' A model name with a dot stands in quotes: [models."llama-3.1-8b"].'
    return error


def _told(detail: ErrorDetails, same: Sequence[ErrorDetails], annotation: Any) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == REFUSED:
        return str(context["message"]), str(context["remedy"])
    of_section = _OF_SECTION.get((section_of(annotation), kind))
    if of_section is not None:
        return of_section
    if kind == "literal_error":
        if len(same) > 1:
            return "is neither a known word nor a list.", f'Write {context["expected"]}, or a list, ["one", "two"].'
        return "is none of the known words.", f"Write {context['expected']}."
    if kind in _BOUNDS:
        message, remedy = _BOUNDS[kind]
        return message, remedy.format(**context)
    return _TYPES.get(kind, ("cannot be used.", "Correct or remove it."))
