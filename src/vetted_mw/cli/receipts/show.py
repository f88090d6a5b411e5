"""`vetted-mw receipts show`: one receipt as a person reads it."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.audit.pack.pack import UnreadablePackError
from vetted_mw.audit.verify.checker import Checker
from vetted_mw.audit.verify.findings import Code, Place, problem, shown
from vetted_mw.audit.verify.keys import jwks_file, own_jwks
from vetted_mw.audit.verify.lookup import Held, held_in
from vetted_mw.audit.verify.opening import kid_of
from vetted_mw.cli.receipts.ledgers import chosen, unreadable
from vetted_mw.cli.receipts.units import GROUPS, UNITS
from vetted_mw.cli.table import table
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import detached
from vetted_mw.receipts.ledger.reading import LedgerUnreadableError
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from vetted_mw.audit.verify.findings import Finding
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["show"]


def show(arguments: argparse.Namespace) -> int:
    """Print one receipt and whether it holds; exit code 1 when it is not there or something is wrong with it.

    Raises:
        ConfigurationError: there is nothing that can be read.
    """
    path, query_id = _place(arguments)
    held = _held(path, query_id)
    if held is None:
        what = "no receipt" if query_id is None else "no receipt with this id"
        print(f"vetted-mw: {shown(path)} holds {what}", file=sys.stderr)
        return 1
    keys = _keys(arguments, held)
    findings: list[Finding] = []
    checker = Checker(keys=keys, tell=findings.append)
    members = checker.check_text(held.text, Place(file=str(path)))
    findings += checker.unknown()
    if members is not None and query_id not in {None, members.get("query_id")}:
        what = "is filed under this id, and says another: rows were exchanged, or the column changed"
        findings.append(problem(Code.COLUMNS, Place(file=str(path)), what))
    if arguments.json:
        print(_raw(held, members, is_verified=checker.counts.verified == 1))
    else:
        print(_readable(members or {}))
        print(f"\nsignature  {_signature(held, keys, checker)}")
        if held.caller is not None:
            print(f"caller     {shown(held.caller) or '-'}")
        for finding in findings:
            print(f"{finding.severity:<9}  {finding.code}: {finding.text}")
    return 1 if findings else 0


def _place(arguments: argparse.Namespace) -> tuple[Path, str | None]:
    """Return where to look, and for which id; None: for the only receipt there."""
    if arguments.ledger is None and Path(arguments.id).is_file():
        return Path(arguments.id), None
    return (arguments.ledger or chosen(arguments).path), arguments.id


def _held(path: Path, query_id: str | None) -> Held | None:
    try:
        found = list(islice(held_in(path, query_id), 2))
    except LedgerUnreadableError as error:
        raise unreadable(path, error.reason) from None
    except (UnreadablePackError, OSError) as error:
        reason = str(error) if isinstance(error, UnreadablePackError) else "missing"
        raise unreadable(path, reason) from None
    if len(found) > 1 and query_id is None:
        raise ConfigurationError(
            f"{shown(path)} holds more than one receipt.",
            field="ID",
            remedy="Name one of them: vetted-mw receipts show ID --ledger FILE",
        )
    return found[0] if found else None


def _keys(arguments: argparse.Namespace, held: Held) -> Jwks | None:
    """Return the keys to check with; settings that nobody named count only where the receipt is of their key."""
    if arguments.jwks is not None:
        return jwks_file(arguments.jwks)
    keys = parse_jwks(own_jwks(load_configuration(arguments.config)))
    is_meant = arguments.config is not None or kid_of(held.text) in keys.keys
    return keys if keys.keys and is_meant else None


def _signature(held: Held, keys: Jwks | None, checker: Checker) -> str:
    if held.text.startswith("{"):
        return "none: the receipt is not signed"
    if keys is None:
        return "not checked: name the issuer's keys with --jwks, or the settings with --config"
    if not checker.counts.verified:
        return "DOES NOT VERIFY"
    return f"verifies, key {kid_of(held.text)}"


def _raw(held: Held, members: Mapping[str, Any] | None, *, is_verified: bool) -> str:
    is_signed = not held.text.startswith("{")
    told = {
        "receipt": None
        if members is None
        else dict(members) | ({"signature": detached(held.text)} if is_signed else {}),
        "jws": held.text if is_signed else None,
        "verified": is_verified,
        "caller": held.caller,
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode()


def _readable(members: Mapping[str, Any]) -> str:
    parts = []
    for heading, names in GROUPS.items():
        rows = [(name, _value(members[name]), UNITS.get(name, "")) for name in names if name in members]
        if rows:
            parts.append(f"{heading}\n{table(('field', 'value', 'unit'), rows)}")
    others = sorted(members.keys() - {name for names in GROUPS.values() for name in names})
    if others:
        parts.append(f"Not known to this version: {', '.join(map(shown, others))}")
    return "\n\n".join(parts)


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.12g}" if isinstance(value, float) else shown(value)
