"""The door: who may come in, and what is turned away before its body is read."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from starlette.types import Scope

from vetted_mw.callers import ANYONE, Caller, narrowed
from vetted_mw.errors import CrossSiteRequestError, InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.configuration import Configuration
    from vetted_mw.routing.decision import Rules

__all__ = ["Admitted", "Identify", "admit", "admit_by_key", "refuse_cross_site"]

Identify = Callable[[Scope], Awaitable[Caller | None]]
"""The host application's own authentication: given the scope, who asks; None is answered with 401."""

_FORM_TYPES = (b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/")
_BEARER = b"bearer "


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """Who came in.

    Attributes:
        caller: who it is.
        rules: the operator's rules as narrowed for it.
    """

    caller: Caller
    rules: Rules


async def admit(
    scope: Scope, named: Mapping[bytes, bytes], configuration: Configuration, identify: Identify | None
) -> Admitted:
    """Say who asks, by the host application's word or the configured keys.

    Args:
        scope: the request's.
        named: the first value of each of its headers that is heard.
        configuration: holds the keys.
        identify: the host application's own authentication.

    Raises:
        InvalidKeyError: nobody we know.
    """
    if identify is None:
        return admit_by_key(named, configuration)
    caller = await identify(scope)
    if caller is None:
        raise InvalidKeyError("The application did not recognise the caller. Sign in, or send valid credentials.")
    return Admitted(caller=caller, rules=narrowed(configuration.rules, caller))


def admit_by_key(named: Mapping[bytes, bytes], configuration: Configuration) -> Admitted:
    """Say who asks by the configured keys alone, or that nobody has to say; as `admit` does, with nothing to wait for.

    Raises:
        InvalidKeyError: nobody we know.
    """
    if not configuration.callers:
        return Admitted(caller=ANYONE, rules=configuration.rules)
    sent = named.get(b"authorization", b"")
    key = sent[len(_BEARER) :].strip() if sent[: len(_BEARER)].lower() == _BEARER else b""
    found = None
    for caller in configuration.callers:  # all of them, always: the time taken tells nothing
        if hmac.compare_digest(caller.key.reveal().encode(), key):
            found = caller
    if found is None:
        raise InvalidKeyError("Send a valid gateway key as 'Authorization: Bearer KEY'.")
    return Admitted(caller=Caller(name=found.name, admin=found.admin), rules=found.rules)


def refuse_cross_site(named: Mapping[bytes, bytes]) -> None:
    """Refuse a form that a web page posts, so that no page can use a gateway on its visitor's machine.

    Raises:
        CrossSiteRequestError: `Origin` is present and the content type is one a form can send.
    """
    if b"origin" not in named:
        return
    content_type = (named.get(b"content-type") or b"text/plain").strip().lower()
    if content_type.startswith(_FORM_TYPES):
        raise CrossSiteRequestError("Send the request with content-type: application/json.")
