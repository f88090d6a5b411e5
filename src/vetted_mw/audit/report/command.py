"""`vetted-mw receipts report`: what a period's receipts add up to, as tables, CSV or a page with plots."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.audit.pack.pack import MANIFEST, Folder, UnreadablePackError, Zip, read_manifest
from vetted_mw.audit.pack.period import instant_of
from vetted_mw.audit.report.content import Report
from vetted_mw.audit.report.csv_form import report_csv
from vetted_mw.audit.report.page.page import page
from vetted_mw.audit.report.rows import ledger_totals
from vetted_mw.audit.report.sources import Summing
from vetted_mw.audit.report.table import report_table
from vetted_mw.audit.report.words import listed, printable
from vetted_mw.errors import ConfigurationError
from vetted_mw.instants import parse_rfc3339
from vetted_mw.receipts.ledger.reading import LedgerUnreadableError
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from vetted_mw.audit.pack.pack import Package
    from vetted_mw.audit.report.totals import Totals

__all__ = ["report_command", "report_of"]

_ZIP = b"PK"


def report_command(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 1 when the figures lack something that could not be read, and then say so.

    Args:
        arguments: `since` and `until` (texts or None), `source` (paths), `ledger`, `config` and `out` (paths or None),
            `format`.

    Raises:
        ConfigurationError: there is nothing to read, or no place to write to.
    """
    report = report_of(
        since=None if arguments.since is None else instant_of(arguments.since, "--from"),
        until=None if arguments.until is None else instant_of(arguments.until, "--to"),
        sources=[*arguments.source, *([] if arguments.ledger is None else [arguments.ledger])],
        config=arguments.config,
    )
    _write(_texts(report, arguments.format), arguments.out)
    return 1 if report.totals.unreadable or report.totals.conflicting else 0


def report_of(
    *, since: datetime | None, until: datetime | None, sources: Sequence[Path] = (), config: Path | None = None
) -> Report:
    """Add ledgers and packs up; without any, the ledger of the settings.

    Where no other period is asked for, it is that of the packs when all are packs, and else has no bounds.

    Raises:
        ConfigurationError: there is none, or one cannot be read.
    """
    if since is not None and until is not None and since >= until:
        raise ConfigurationError(
            "the period ends before it begins.", field="--to", remedy="Give an end after --from; it is not included."
        )
    paths = list(sources) or [_configured(config)]
    packs = [path for path in paths if _is_pack(path)]
    uncovered: list[tuple[datetime, datetime]] = []
    if len(packs) == len(paths):
        periods = sorted(_period_of(path) for path in packs)
        since = periods[0][0] if since is None else since
        until = max(end for _, end in periods) if until is None else until
        uncovered = _uncovered(periods, since, until)
    return Report(
        totals=_totals(paths, packs, since, until),
        since=since,
        until=until,
        source=_names(paths),
        software=f"vetted-mw/{version('vetted-mw')}",
        uncovered=uncovered,
    )


def _uncovered(
    periods: Sequence[tuple[datetime, datetime]], since: datetime, until: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the parts between `since` and `until` that none of the periods, sorted by their begin, is of."""
    found = []
    reached = since
    for begin, end in [*periods, (until, until)]:
        if reached < min(begin, until):
            found.append((reached, min(begin, until)))
        reached = max(reached, end)
    return found


def _totals(paths: Sequence[Path], packs: Sequence[Path], since: datetime | None, until: datetime | None) -> Totals:
    if len(paths) == 1 and not packs:  # nothing can be there twice, and the file has an index of its ids
        with _readable_ledger(paths[0]):
            return ledger_totals(paths[0], since, until)
    with Summing(since, until) as summing:
        for path in paths:
            if path in packs:
                with _opened_pack(path) as package:
                    summing.add_pack(package, read_manifest(package))
            else:
                with _readable_ledger(path):
                    summing.add_ledger(path)
        return summing.totals()


def _is_pack(path: Path) -> bool:
    """Whether a source is a pack, zipped or unpacked; else it is taken for a ledger, which is told where it is none."""
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return True
        raise _unreadable(path, f"is a folder without {MANIFEST}", "source")
    try:
        with path.open("rb") as stream:
            return stream.read(len(_ZIP)) == _ZIP or path.suffix == ".zip"
    except OSError:
        return path.suffix == ".zip"


def _period_of(path: Path) -> tuple[datetime, datetime]:
    with _opened_pack(path) as package:
        manifest = read_manifest(package)
        try:
            return parse_rfc3339(manifest.since), parse_rfc3339(manifest.until)
        except ValueError:
            raise UnreadablePackError("names no period in its manifest") from None


@contextmanager
def _opened_pack(path: Path) -> Iterator[Package]:
    try:
        with closing(Folder(path) if path.is_dir() else Zip(path)) as package:
            yield package
    except UnreadablePackError as error:
        raise _unreadable(path, str(error), "pack") from None


@contextmanager
def _readable_ledger(path: Path) -> Iterator[None]:
    try:
        yield
    except LedgerUnreadableError as error:
        raise _unreadable(path, f"cannot be read ({error.reason.replace('_', ' ')})", "ledger") from None


def _names(paths: Sequence[Path]) -> str:
    """Name what was read without its folders, unless only these tell one from another."""
    short = [path.name for path in paths]
    return listed(
        [name if short.count(name) == 1 else "/".join(path.parts[-2:]) for name, path in zip(short, paths, strict=True)]
    )


def _unreadable(path: Path, why: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"{printable(str(path))} {why}.",
        field=kind,
        remedy="Name ledger files and packs; vetted-mw receipts verify tells more of one that is damaged.",
    )


def _texts(report: Report, form: str) -> Iterable[str]:
    if form == "csv":
        return report_csv(report)
    return [page(report)] if form == "html" else [report_table(report), "\n"]


def _configured(config: Path | None) -> Path:
    path = load_configuration(config).ledger.path
    if not path:
        raise ConfigurationError(
            "the settings name no ledger.",
            field="ledger.path",
            remedy="Set it, or name ledger files (--ledger) or packs.",
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
