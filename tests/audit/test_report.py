"""`receipts report` adds up ledgers and packs, writes what is asked for, and says what it cannot do."""

from __future__ import annotations

import argparse
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from receipts.keys import signer
from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.audit.ledger import AuditedLedger
from vetted_mw.audit.pack.packing import write_pack
from vetted_mw.audit.report.command import report_command, report_of
from vetted_mw.audit.report.rows import ledger_totals
from vetted_mw.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.receipts.receipt import Receipt

OCTOBER = ("2026-10-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z")


def _receipts() -> list[Receipt]:
    """Return an answer with an abandoned attempt, an answer of two calls, a request that failed, and one of November."""
    answer = made_receipt(issued_at="2026-10-02T10:00:00.000Z")
    whole = made_receipt(issued_at="2026-10-03T10:00:00.000Z", calls=2)
    abandoned = {"completion_status": "abandoned", "region": "ovh-gra-1"}
    return [
        made_receipt(issued_at="2026-10-02T09:59:59.000Z", request_id=answer.query_id, **abandoned),
        answer,
        made_receipt(issued_at="2026-10-03T10:00:00.000Z", request_id=whole.query_id),
        made_receipt(issued_at="2026-10-03T10:00:00.000Z", request_id=whole.query_id),
        whole,
        made_receipt(issued_at="2026-10-04T10:00:00.000Z", request_id="nobody", **abandoned),
        made_receipt(issued_at="2026-10-04T10:00:01.000Z", request_id="nobody", **abandoned),
        made_receipt(issued_at="2026-11-01T00:00:00.000Z"),
    ]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "receipts.db"
    write_ledger(path, _receipts(), signer())
    return path


def _run(**arguments: Any) -> int:
    ordinary = dict.fromkeys(("since", "until", "ledger", "config", "out"))
    return report_command(argparse.Namespace(**(ordinary | {"format": "table", "source": []} | arguments)))


def test_a_ledger_is_added_up(ledger: Path) -> None:
    """A period's rows are added, each request once, and receipts of several calls by their parts."""
    found = ledger_totals(ledger, datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    sums = found.of("comprehensive")
    assert (sums.requests, sums.calls, found.sums_left_out, found.signed, found.unsigned) == (3, 6, 1, 7, 0)
    (span,) = found.ledgers.values()
    assert (span.first, span.last, span.absent) == (1, 7, 0)


def test_the_period_is_half_open(ledger: Path) -> None:
    """The first instant is in the period, the last is not; without a period everything is."""
    november = datetime(2026, 11, 1, tzinfo=UTC)
    assert ledger_totals(ledger, november, None).receipts == 1
    assert ledger_totals(ledger, None, november).receipts == 7
    assert ledger_totals(ledger).receipts == 8


def test_a_pack_says_what_its_ledger_says(ledger: Path, tmp_path: Path) -> None:
    """A pack adds up to what its period does in the ledger; it needs no dates, zipped or unpacked."""
    pack = _pack(ledger, tmp_path)
    since, until = (datetime.fromisoformat(one) for one in OCTOBER)
    of_ledger = report_of(since=since, until=until, sources=[ledger])
    of_pack = report_of(since=None, until=None, sources=[pack])
    assert of_pack.totals == of_ledger.totals
    assert (of_pack.since, of_pack.until) == (since, until)
    folder = _pack_folder(ledger, tmp_path)
    assert report_of(since=None, until=None, sources=[folder]).totals == of_ledger.totals
    part = report_of(since=datetime(2026, 10, 4, tzinfo=UTC), until=None, sources=[pack])
    assert part.totals.of("comprehensive").requests == 1


def test_rows_that_hold_no_receipt_are_counted(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read is in no figure, is told in every form, and makes the exit code 1."""
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute(
            "INSERT INTO receipts VALUES ('other', 1, 'broken', NULL, '2026-10-05T00:00:00.000Z', '', 'm', 'r', 'a.b')"
        )
        database.execute(
            "INSERT INTO receipts VALUES ('other', 2, 'lost', 'gone', '2026-10-05T00:00:00.000Z', '', 'm', 'r', '{}')"
        )
    assert _run(ledger=ledger) == 1
    assert "in no figure: 2" in capsys.readouterr().out
    assert _run(ledger=ledger, format="html") == 1
    assert "2 rows hold no receipt" in capsys.readouterr().out


def test_lines_of_a_pack_that_hold_no_receipt_are_counted(ledger: Path, tmp_path: Path) -> None:
    """What cannot be read in a pack is told as it is of a ledger, a line of any length among it."""
    folder = _pack_folder(ledger, tmp_path)
    with (folder / "receipts.jsonl").open("ab") as file:
        file.write(b"no receipt\n" + b"x" * 2_000_000 + b"\n")
    assert report_of(since=None, until=None, sources=[folder]).totals.unreadable == 2


def test_a_pack_that_names_no_period_is_refused(ledger: Path, tmp_path: Path) -> None:
    """A manifest whose period is none is an error that says so."""
    folder = _pack_folder(ledger, tmp_path)
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(manifest.replace(OCTOBER[0], "October"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="period"):
        _run(source=[folder])


def test_a_period_without_receipts_is_said_in_words(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty period is no error and no table of zeros."""
    assert _run(ledger=ledger, since="2020-01-01", until="2020-02-01") == 0
    assert "nothing to add up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "begin"), [("table", "Receipts issued"), ("csv", "group,"), ("html", "<!DOCTYPE html>")]
)
def test_each_form_can_be_written(ledger: Path, tmp_path: Path, form: str, begin: str) -> None:
    """Each form goes into the file that is named, as UTF-8, its line ends as they are."""
    out = tmp_path / "report"
    assert _run(ledger=ledger, format=form, out=out) == 0
    assert out.read_bytes().decode().startswith(begin)
    assert (b"\r\n" in out.read_bytes()) == (form == "csv")


def test_the_settings_name_the_ledger(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file the ledger is that of the settings; where they have none, what to do is said."""
    settings = tmp_path / "vetted.toml"
    settings.write_text('[ledger]\npath = "receipts.db"\n', encoding="utf-8")
    assert _run(config=settings, since="2026-10-01", until="2026-11-01") == 0
    assert "from 2026-10-01 to 2026-10-31, both included (UTC): 7, of receipts.db" in capsys.readouterr().out
    settings.write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="--ledger"):
        _run(config=settings)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"since": "soon"}, "--from"),
        ({"until": "2026-13-01"}, "--to"),
        ({"since": "2026-10-02", "until": "2026-10-02"}, "--to"),
        ({"ledger": "missing.db"}, "missing"),
        ({"ledger": "text.txt"}, "text.txt"),
        ({"source": "text.txt"}, "text.txt"),
        ({"source": "cut.zip"}, "zip"),
        ({"source": "missing.zip"}, "missing.zip"),
        ({"source": "folder"}, "manifest.json"),
        ({"out": "no/such/folder"}, "--out"),
    ],
)
def test_what_cannot_be_done_is_said(ledger: Path, tmp_path: Path, arguments: dict[str, str], told: str) -> None:
    """Wrong dates, files that are none and places that are none are errors that name what to change."""
    (tmp_path / "text.txt").write_text("no ledger", encoding="utf-8")
    (tmp_path / "cut.zip").write_text("PK", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    paths: dict[str, Any] = {name: tmp_path / arguments[name] for name in ("ledger", "out") if name in arguments}
    sources = [ledger, tmp_path / arguments["source"]] if "source" in arguments else []
    ordinary = {} if sources else {"ledger": ledger}
    with pytest.raises(ConfigurationError, match=told):
        _run(**(ordinary | arguments | paths | {"source": sources}))


@pytest.mark.parametrize("manifest", ["{}", "[", '{"since": 1}'])
def test_a_pack_whose_manifest_is_none_is_refused(tmp_path: Path, manifest: str) -> None:
    """Without a manifest that can be read there is no pack."""
    (tmp_path / "manifest.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="manifest"):
        _run(source=[tmp_path])


def _pack(ledger: Path, folder: Path) -> Path:
    pack = folder / "october.zip"
    with AuditedLedger(ledger) as rows, pack.open("wb") as target:
        write_pack(rows, target, since=OCTOBER[0], until=OCTOBER[1], jwks=b'{"keys":[]}', software="vetted-mw/0.1.0")
    return pack


def _pack_folder(ledger: Path, folder: Path) -> Path:
    with zipfile.ZipFile(_pack(ledger, folder)) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"
