"""The head of a ledger against its rows: is the newest row still there, and is it the one that was written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from vetted_mw.audit.verify.findings import Code, counted, note, problem, shown
from vetted_mw.audit.verify.opening import open_text, outside_key_period
from vetted_mw.receipts.jws import CHECKPOINT_TYPE, HEAD_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.audit.verify.findings import Finding, Place, Tell
    from vetted_mw.audit.verify.tracks import Track
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["CheckpointWord", "HeadWord", "open_checkpoint", "open_head", "tell_head", "tell_not_kept"]


_MOST_CHARACTERS = 67_108_864
"""A checkpoint names every ledger of its file."""


class HeadWord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a head says."""

    at: str
    head_version: Literal["1"]
    ledger_id: str
    row_digest: str
    seq: Annotated[int, msgspec.Meta(ge=0)]
    not_kept: Annotated[int, msgspec.Meta(ge=0)] = 0


class CheckpointWord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint says."""

    at: str
    checkpoint_version: Literal["1"]
    heads: dict[str, int]
    root: str
    tree_size: Annotated[int, msgspec.Meta(ge=0)]


def open_head(text: str, keys: Jwks | None, place: Place, tell: Tell) -> HeadWord | None:
    """Open a head; None where nothing can be made of it."""
    tell = _named("head", tell)
    members = _opened(text, keys, place, tell, typ=HEAD_TYPE)
    try:
        return None if members is None else msgspec.convert(members, HeadWord, strict=True)
    except msgspec.ValidationError as error:
        tell(problem(Code.HEAD, place, f"it is none as the gateway writes one: {shown(error)}"))
        return None


def open_checkpoint(text: str, keys: Jwks | None, place: Place, tell: Tell) -> CheckpointWord | None:
    """Open a checkpoint; None where nothing can be made of it."""
    tell = _named("checkpoint", tell)
    members = _opened(text, keys, place, tell, typ=CHECKPOINT_TYPE)
    try:
        return None if members is None else msgspec.convert(members, CheckpointWord, strict=True)
    except msgspec.ValidationError as error:
        tell(problem(Code.CHECKPOINT, place, f"it is none as the gateway writes one: {shown(error)}"))
        return None


def tell_head(head: HeadWord, track: Track | None, place: Place, tell: Tell, *, is_part: bool = False) -> None:
    """Tell how a head and the rows of its ledger disagree.

    Args:
        head: what it says.
        track: the rows met; None when there is none.
        place: where the head stands.
        tell: takes what is found.
        is_part: the file holds rows of a period only, and so perhaps not the newest.
    """
    newest = 0 if track is None else track.series.newest
    if head.seq < newest:
        tell(
            problem(
                Code.HEAD,
                place,
                f"the head says seq {head.seq}, and there are rows up to seq {newest}: an older head was put back",
            )
        )
    elif head.seq > newest and not is_part:
        missing = f"row {head.seq} is" if head.seq == newest + 1 else f"rows {newest + 1} to {head.seq} are"
        tell(problem(Code.HEAD, place, f"the newest {missing} missing: the head says seq {head.seq}"))
    elif track is not None and head.seq == newest and head.row_digest != track.digest:
        tell(problem(Code.HEAD, place, f"the row with seq {newest} is not the one the head was written for"))


def tell_not_kept(count: int, place: Place, tell: Tell) -> None:
    """Tell of receipts that a writer could not keep, as its head counts them."""
    if count:
        what = (
            f"{counted(count, 'receipt')} could not be kept here (fail_open): callers hold {_them(count)}, no row does"
        )
        tell(note(Code.NOT_KEPT, place, what, count=count))


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def _named(what: str, tell: Tell) -> Tell:
    """Say of each finding what it is about: a checkpoint stands beside rows, and may be the only thing amiss."""

    def told(finding: Finding) -> None:
        tell(replace(finding, text=f"{what}: {finding.text}"))

    return told


def _opened(text: str, keys: Jwks | None, place: Place, tell: Tell, *, typ: str) -> Mapping[str, Any] | None:
    opened = open_text(text, keys, place, tell, typ=typ, most=_MOST_CHARACTERS)
    if opened is None:
        return None
    if not opened.is_signed and keys is not None:
        tell(problem(Code.UNSIGNED, place, "is not signed, and so is anybody's who can write the file"))
    if opened.key is not None and (outside := outside_key_period(opened.key, str(opened.members.get("at")))):
        tell(problem(Code.KEY_PERIOD, place, outside))
    return opened.members
