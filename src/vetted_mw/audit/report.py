"""`vetted-mw receipts report`: what a period's receipts add up to, as tables, CSV or a page with plots."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vetted_mw.audit.page import page
from vetted_mw.audit.report_content import Report
from vetted_mw.audit.report_csv import sums_csv
from vetted_mw.audit.report_rows import PackUnreadableError, ledger_totals, pack_totals
from vetted_mw.audit.report_table import report_table
from vetted_mw.errors import ConfigurationError
from vetted_mw.instants import parse_rfc3339
from vetted_mw.receipts.ledger.reading import LedgerUnreadableError
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

__all__ = ["make_report", "report_command", "report_of"]

Format = Literal["table", "csv", "html"]


def report_command(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 1 when rows could not be read: the figures then lack them, and say so.

    Args:
        arguments: `since` and `until` (texts or None), `pack`, `ledger`, `config` and `out` (paths or None), `format`.

    Raises:
        ConfigurationError: there is nothing to read, or no place to write to.
    """
    return make_report(
        since=arguments.since,
        until=arguments.until,
        pack=arguments.pack,
        ledger=arguments.ledger,
        config=arguments.config,
        out=arguments.out,
        form=arguments.format,
    )


def make_report(
    *,
    since: str | None = None,
    until: str | None = None,
    pack: Path | None = None,
    ledger: Path | None = None,
    config: Path | None = None,
    out: Path | None = None,
    form: Format = "table",
) -> int:
    """Read one ledger or pack, add it up and write the report.

    Args:
        since: a UTC date or an RFC 3339 instant; receipts issued then or later.
        until: the same; receipts issued before it.
        pack: the pack to read.
        ledger: or the ledger to read.
        config: or the settings whose ledger to read; with neither, those found as ever.
        out: the file to write; None for the standard output.
        form: what to write.

    Raises:
        ConfigurationError: there is nothing to read, or no place to write to.
    """
    report = report_of(
        since=_bound(since, "--from"), until=_bound(until, "--to"), pack=pack, ledger=ledger, config=config
    )
    _write(_texts(report, form), out)
    return 1 if report.totals.unreadable else 0


def report_of(
    *,
    since: datetime | None,
    until: datetime | None,
    pack: Path | None = None,
    ledger: Path | None = None,
    config: Path | None = None,
) -> Report:
    """Add one ledger or pack up.

    Raises:
        ConfigurationError: there is none, or it cannot be read.
    """
    if since is not None and until is not None and since >= until:
        raise ConfigurationError(
            "the period ends before it begins.",
            field="--to",
            remedy="Give an end after --from; the end is not included.",
        )
    path = pack or ledger or _configured(config)
    try:
        totals = ledger_totals(path, since, until) if pack is None else pack_totals(path, since, until)
    except (LedgerUnreadableError, PackUnreadableError) as error:
        kind = "ledger" if pack is None else "pack"
        raise ConfigurationError(
            f"the {kind} cannot be read: {error.reason.replace('_', ' ')}.",
            field=path.name,
            remedy=f"Name the {kind}'s file; vetted-mw receipts verify says what is wrong with it.",
        ) from None
    return Report(
        totals=totals, since=since, until=until, source=path.name, software=f"vetted-mw {version('vetted-mw')}"
    )


def _texts(report: Report, form: Format) -> Iterable[str]:
    if form == "csv":
        return sums_csv(report.totals)
    return [page(report)] if form == "html" else [report_table(report), "\n"]


def _configured(config: Path | None) -> Path:
    path = load_configuration(config).ledger.path
    if not path:
        raise ConfigurationError(
            "the settings name no ledger.",
            field="ledger.path",
            remedy="Set it, or name the file with --ledger, or a pack.",
        )
    return Path(path)


def _bound(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        if len(text) == len("2026-11-29"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        return parse_rfc3339(text)
    except ValueError:
        raise ConfigurationError(
            "that is no date and no instant.", field=option, remedy="Write 2026-10-01, or 2026-10-01T06:00:00Z."
        ) from None


def _write(texts: Iterable[str], out: Path | None) -> None:
    if out is None:
        sys.stdout.writelines(texts)
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            file.writelines(texts)
    except OSError as error:
        raise ConfigurationError(
            f"the report cannot be written: {error.strerror}.",
            field="--out",
            remedy="Name a file in a folder you may write to.",
        ) from None
