"""`vetted-mw receipts report`: what a period's receipts add up to, as tables, CSV or a page with plots."""

from __future__ import annotations

import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.audit.pack import Folder, UnreadablePackError, Zip, read_manifest
from vetted_mw.audit.page import page
from vetted_mw.audit.period import instant_of
from vetted_mw.audit.report_content import Report
from vetted_mw.audit.report_csv import sums_csv
from vetted_mw.audit.report_rows import ledger_totals, pack_totals
from vetted_mw.audit.report_table import report_table
from vetted_mw.audit.report_words import printable
from vetted_mw.errors import ConfigurationError
from vetted_mw.instants import parse_rfc3339
from vetted_mw.receipts.ledger.reading import LedgerUnreadableError
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from datetime import datetime

    from vetted_mw.audit.totals import Totals

__all__ = ["report_command", "report_of"]


def report_command(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 1 when rows could not be read: the figures then lack them, and say so.

    Args:
        arguments: `since` and `until` (texts or None), `pack`, `ledger`, `config` and `out` (paths or None), `format`.

    Raises:
        ConfigurationError: there is nothing to read, or no place to write to.
    """
    report = report_of(
        since=None if arguments.since is None else instant_of(arguments.since, "--from"),
        until=None if arguments.until is None else instant_of(arguments.until, "--to"),
        pack=arguments.pack,
        ledger=arguments.ledger,
        config=arguments.config,
    )
    _write(_texts(report, arguments.format), arguments.out)
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
            "the period ends before it begins.", field="--to", remedy="Give an end after --from; it is not included."
        )
    if pack is not None and ledger is not None:
        raise ConfigurationError("a pack and a ledger are named.", field="--ledger", remedy="Name one of them.")
    if pack is not None:
        return _of_pack(pack, since, until)
    path = ledger or _configured(config)
    try:
        totals = ledger_totals(path, since, until)
    except LedgerUnreadableError as error:
        raise _unreadable(path, f"cannot be read ({error.reason.replace('_', ' ')})", "ledger") from None
    return _report(totals, since, until, path)


def _of_pack(path: Path, since: datetime | None, until: datetime | None) -> Report:
    """Add a pack up; where no other period is asked for, it is of its own."""
    try:
        with closing(Folder(path) if path.is_dir() else Zip(path)) as package:
            manifest = read_manifest(package)
            begin = parse_rfc3339(manifest.since) if since is None else since
            end = parse_rfc3339(manifest.until) if until is None else until
            return _report(pack_totals(package, begin, end), begin, end, path)
    except UnreadablePackError as error:
        raise _unreadable(path, str(error), "pack") from None
    except ValueError:
        raise _unreadable(path, "names no period in its manifest", "pack") from None


def _report(totals: Totals, since: datetime | None, until: datetime | None, path: Path) -> Report:
    software = f"vetted-mw/{version('vetted-mw')}"
    return Report(totals=totals, since=since, until=until, source=path.name, software=software)


def _unreadable(path: Path, why: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"{printable(str(path))} {why}.",
        field=kind,
        remedy=f"Name the {kind}'s file; vetted-mw receipts verify tells more of one that is damaged.",
    )


def _texts(report: Report, form: str) -> Iterable[str]:
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
