"""`vetted-mw receipts show`: one receipt as a person reads it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.audit.checker import Checker
from vetted_mw.audit.findings import Place, shown
from vetted_mw.audit.keys import jwks_file, own_jwks
from vetted_mw.audit.opening import open_text
from vetted_mw.cli.receipts.ledgers import Chosen, chosen, unreadable
from vetted_mw.cli.receipts.units import GROUPS, UNITS
from vetted_mw.cli.table import table
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import detached
from vetted_mw.receipts.ledger.reading import LedgerReader, LedgerRow, LedgerUnreadableError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from vetted_mw.audit.findings import Finding
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["show"]


def show(arguments: argparse.Namespace) -> int:
    """Print one receipt and whether it holds; exit code 1 when it is not there or something is wrong with it.

    Raises:
        ConfigurationError: there is no ledger that can be read.
    """
    ledger = chosen(arguments)
    row = _row(ledger, arguments.id)
    if row is None:
        print(f"vetted-mw: {shown(ledger.path)} holds no receipt with this id", file=sys.stderr)
        return 1
    keys = _keys(arguments, ledger)
    findings: list[Finding] = []
    place = Place(file=str(ledger.path))
    checker = Checker(keys=keys, tell=findings.append)
    members = checker.check_text(row.text, place)
    if arguments.json:
        print(_raw(row, members, is_verified=checker.counts.verified == 1))
    else:
        print(_readable(members or {}))
        print(f"\nsignature  {_signature(row, keys, checker)}")
        print(f"caller     {shown(row.caller) or '-'}")
        for finding in findings:
            print(f"{finding.severity:<9}  {finding.code}: {finding.text}")
    return 1 if findings else 0


def _row(ledger: Chosen, query_id: str) -> LedgerRow | None:
    try:
        with LedgerReader(ledger.path) as reader:
            return reader.find(query_id)
    except LedgerUnreadableError as error:
        raise unreadable(ledger.path, error.reason) from None


def _keys(arguments: argparse.Namespace, ledger: Chosen) -> Jwks | None:
    if arguments.jwks is not None:
        return jwks_file(arguments.jwks)
    if ledger.configuration is None:
        return None
    keys = parse_jwks(own_jwks(ledger.configuration))
    return keys if keys.keys else None


def _signature(row: LedgerRow, keys: Jwks | None, checker: Checker) -> str:
    if row.text.startswith("{"):
        return "none: the receipt is not signed"
    if keys is None:
        return "not checked: name the issuer's keys with --jwks, or the settings with --config"
    if not checker.counts.verified:
        return "DOES NOT VERIFY"
    opened = open_text(row.text, keys, Place(file=""), _ignore)
    return "verifies" if opened is None or opened.key is None else f"verifies, key {opened.key.kid}"


def _ignore(_finding: Finding) -> None:
    """Take no notice: it was told already."""


def _raw(row: LedgerRow, members: Mapping[str, Any] | None, *, is_verified: bool) -> str:
    is_signed = not row.text.startswith("{")
    told = {
        "receipt": None
        if members is None
        else dict(members) | ({"signature": detached(row.text)} if is_signed else {}),
        "jws": row.text if is_signed else None,
        "verified": is_verified,
        "caller": row.caller,
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
