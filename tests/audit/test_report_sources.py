"""A report of several ledgers and packs counts each receipt once, and says who they are of and what they lack."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from audit.counting import counted as members
from audit.counting import report_of_rows
from receipts.keys import signer
from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.audit.ledger import AuditedLedger
from vetted_mw.audit.pack.packing import write_pack
from vetted_mw.audit.report.command import report_command, report_of
from vetted_mw.audit.report.csv_form import REPORT_COLUMNS, report_csv
from vetted_mw.audit.report.page.page import page
from vetted_mw.audit.report.rows import counted, not_kept_of
from vetted_mw.audit.report.sums import Counted
from vetted_mw.audit.report.table import report_table
from vetted_mw.audit.report.totals import OTHERS, Adder
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jws import HEAD_TYPE, compact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vetted_mw.audit.report.content import Report
    from vetted_mw.receipts.receipt import Receipt

JULY, AUGUST, SEPTEMBER, OCTOBER = (f"2026-{month}-01T00:00:00.000Z" for month in ("07", "08", "09", "10"))
KID = signer().kid


def _issued(month: int, number: int = 1, **changes: Any) -> list[Receipt]:
    return [made_receipt(issued_at=f"2026-{month:02}-0{day}T10:00:00.000Z", **changes) for day in range(1, number + 1)]


def _pack(ledger: Path, since: str, until: str) -> Path:
    pack = ledger.with_name(f"{ledger.stem}-{since[5:7]}-{until[5:7]}.zip")
    with AuditedLedger(ledger) as rows, pack.open("wb") as target:
        write_pack(rows, target, since=since, until=until, jwks=b'{"keys":[]}', software="vetted-mw/0.1.0")
    return pack


def _report(*sources: Path, since: datetime | None = None, until: datetime | None = None) -> Report:
    return report_of(since=since, until=until, sources=sources)


def _counts(report: Report) -> tuple[int, int, int]:
    sums = report.totals.of("comprehensive")
    return sums.requests, sums.calls, report.totals.repeated


def test_a_rotated_file_and_the_next_are_one_report(tmp_path: Path) -> None:
    """Ledgers of two files add up; a request tried in one file and answered in the next counts once."""
    (answer,) = _issued(8)
    tried = made_receipt(
        issued_at="2026-07-31T23:59:59.000Z", request_id=answer.query_id, completion_status="abandoned"
    )
    write_ledger(tmp_path / "q3.sqlite3", [*_issued(7, 2), tried], signer())
    write_ledger(tmp_path / "q4.sqlite3", [answer], signer())
    report = _report(tmp_path / "q3.sqlite3", tmp_path / "q4.sqlite3")
    assert _counts(report) == (3, 4, 0)
    assert report.source == "q3.sqlite3, q4.sqlite3"
    assert (report.since, report.until) == (None, None)
    assert _counts(_report(tmp_path / "q3.sqlite3")) == (3, 3, 0)


def test_a_request_answered_after_the_period_is_of_its_answer_s_day(tmp_path: Path) -> None:
    """Of several ledgers, too, a request whose answer stands in its own file later on is not counted before."""
    (answer,) = _issued(8)
    tried = made_receipt(issued_at="2026-07-31T23:59:59.000Z", request_id=answer.query_id)
    failed = made_receipt(issued_at="2026-07-31T23:59:59.000Z", request_id="nobody")
    write_ledger(tmp_path / "a.sqlite3", [tried, answer, failed])
    write_ledger(tmp_path / "b.sqlite3", _issued(7))
    until = datetime(2026, 8, 1, tzinfo=UTC)
    assert _counts(_report(tmp_path / "a.sqlite3", tmp_path / "b.sqlite3", until=until)) == (2, 3, 0)


@pytest.mark.parametrize("sign", [True, False])
def test_what_sources_have_in_common_counts_once(tmp_path: Path, sign: bool) -> None:
    """Packs that overlap, the ledger they are of and a backup of it: the figures are those of the ledger."""
    ledger = tmp_path / "receipts.sqlite3"
    write_ledger(ledger, [*_issued(7, 3), *_issued(8, 2), *_issued(9)], signer() if sign else None)
    early, late = _pack(ledger, JULY, SEPTEMBER), _pack(ledger, AUGUST, OCTOBER)
    packs = _report(early, late)
    assert _counts(packs) == (6, 6, 2)
    assert (packs.since, packs.until) == (datetime.fromisoformat(JULY), datetime.fromisoformat(OCTOBER))
    alone = _report(ledger).totals
    for found in (packs.totals, _report(ledger, early, late).totals, _report(late, ledger).totals):
        assert found.of("comprehensive").gco2e.value == pytest.approx(alone.of("comprehensive").gco2e.value)
        assert (found.receipts, found.ledgers, found.issuers, found.keys) == (
            alone.receipts,
            alone.ledgers,
            alone.issuers,
            alone.keys,
        )
    assert "counted once: 2" in report_table(packs)
    assert "2 receipts came again" in page(packs)


def test_another_receipt_of_the_same_id_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where two sources hold different receipts of one id, the second is in no figure, and the exit code is 1."""
    receipt = made_receipt(issued_at=JULY)
    write_ledger(tmp_path / "a.sqlite3", [receipt], signer())
    write_ledger(tmp_path / "b.sqlite3", [msgspec.structs.replace(receipt, gco2e=receipt.gco2e / 2)], signer())
    assert _run(tmp_path / "a.sqlite3", tmp_path / "b.sqlite3") == 1
    assert "differ from another one of the same id, and are in no figure: 1" in capsys.readouterr().out
    assert _run(tmp_path / "a.sqlite3", tmp_path / "b.sqlite3", form="html") == 1
    assert "Left out: 1 receipt with the id of another" in capsys.readouterr().out


def test_what_no_pack_is_of_is_told(tmp_path: Path) -> None:
    """Packs of July and September leave August out, and a longer period more; packs that meet leave nothing out."""
    ledger = tmp_path / "receipts.sqlite3"
    write_ledger(ledger, [*_issued(7), *_issued(8), *_issued(9)])
    july, september = _pack(ledger, JULY, AUGUST), _pack(ledger, SEPTEMBER, OCTOBER)
    told = "No pack is of this part of the period: 2026-08-01 to before 2026-09-01"
    apart = _report(september, july)
    assert f"{told}\n" in f"{report_table(apart)}\n"
    assert f"{told}." in page(apart)
    longer = _report(july, september, since=datetime(2026, 6, 1, tzinfo=UTC), until=datetime(2026, 12, 1, tzinfo=UTC))
    assert longer.gaps == (
        "2026-06-01 to before 2026-07-01, 2026-08-01 to before 2026-09-01, 2026-10-01 to before 2026-12-01"
    )
    inside = _report(july, september, since=datetime(2026, 7, 9, tzinfo=UTC), until=datetime(2026, 7, 19, tzinfo=UTC))
    for whole in (_report(july, september, _pack(ledger, AUGUST, SEPTEMBER)), _report(july, ledger), inside):
        assert whole.gaps == ""
        assert "No pack is of" not in report_table(whole)


def test_a_csv_without_receipts_has_its_head(tmp_path: Path) -> None:
    """A table of nothing is a head; a period that reaches the last day there is stays in the calendar."""
    assert "".join(report_csv(report_of_rows([]))).count("\n") == 1
    last = report_of_rows([members(1, issued_at="9999-12-31T00:00:00.000Z")])
    assert ",9999-12-31,9999-12-31," in "".join(report_csv(last))


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Of two machines' files with the same name the folders are named, since only they tell one from the other."""
    for machine in ("one", "two"):
        (tmp_path / machine).mkdir()
        write_ledger(tmp_path / machine / "receipts.sqlite3", _issued(7))
    report = _report(tmp_path / "one" / "receipts.sqlite3", tmp_path / "two" / "receipts.sqlite3")
    assert report.source == "one/receipts.sqlite3, two/receipts.sqlite3"
    assert len(report.totals.ledgers) == 2


def test_a_ledger_is_told_by_what_it_holds(tmp_path: Path) -> None:
    """A ledger may have any name, and so may a pack."""
    write_ledger(tmp_path / "kept", _issued(7, 2))
    packed = _pack(tmp_path / "kept", JULY, OCTOBER).rename(tmp_path / "packed")
    assert _counts(_report(tmp_path / "kept")) == _counts(_report(packed)) == (2, 2, 0)


def test_every_form_names_issuer_keys_software_and_period(tmp_path: Path) -> None:
    """Whose receipts they are, which keys their signatures name, unverified, and what made the report stands in each."""
    ledger = tmp_path / "receipts.sqlite3"
    write_ledger(ledger, _issued(7, 2, issuer="Example GmbH"), signer())
    write_ledger(ledger, _issued(7, issuer=""), signer(1))
    report = _report(ledger)
    table, shown = report_table(report), page(report)
    for text in (table, shown):
        assert "Example GmbH (2 receipts), none named (1 receipt)" in text
        assert f"{KID} (2 receipts), {signer(1).kid} (1 receipt)" in text
        assert report.software in text
        assert "2026-07-01" in text
    assert "not verified here" in table
    assert "Nobody has verified that here" in shown
    lines = list(csv.DictReader(io.StringIO("".join(report_csv(report)), newline="")))
    assert list(lines[0]) == list(REPORT_COLUMNS)
    for line in lines:
        assert line["issuers"] == "Example GmbH"
        assert line["key_ids_not_verified"] == "; ".join(sorted([KID, signer(1).kid]))
        assert (line["period_from"], line["period_to"]) == ("2026-07-01", "2026-07-03")
        assert (line["software"], line["receipts_not_kept"]) == (report.software, "0")


def test_unsigned_receipts_name_no_key() -> None:
    """Where nothing is signed no form speaks of keys, and an issuer that would run or hide stays harmless text."""
    report = report_of_rows([members(1, issuer="=<b>\u202e")])
    assert "Keys" not in report_table(report)
    assert "<dt>Keys" not in page(report)
    assert "=&lt;b&gt;\N{REPLACEMENT CHARACTER} (1 receipt)" in page(report)
    (line,) = [one for one in csv.DictReader(io.StringIO("".join(report_csv(report)))) if one["group"] == "total"]
    assert line["issuers"].startswith("'=")
    assert line["key_ids_not_verified"] == ""


@pytest.mark.parametrize("header", ["", "e30", "!", "bm8", "eyJraWQiOjF9"])
def test_a_header_without_a_key_names_none(header: str) -> None:
    """A header that names no key, or is none, leaves the receipt counted as signed."""
    payload = compact(canonical(members(1)), signer()).split(".")[1]
    found = counted(f"{header}.{payload}.")
    assert found is not None
    assert (found.is_signed, found.kid) == (True, "")


def test_names_without_end_do_not_fill_memory() -> None:
    """Of a thousand issuers and more the further ones are counted together."""
    adder = Adder()
    for number in range(1, 1_006):
        adder.add(msgspec.convert(members(number, issuer=f"issuer {number}"), Counted), signed=False)
    found = adder.totals.issuers
    report = dataclasses.replace(report_of_rows([]), totals=adder.totals)
    assert (len(found), found[OTHERS], sum(found.values())) == (1_001, 5, 1_005)
    assert "(1 receipt), 981 more\n" in report_table(report)
    assert "; ...," in "".join(report_csv(report)).splitlines()[1]


def test_receipts_that_could_not_be_kept_are_told(tmp_path: Path) -> None:
    """What heads say of losses under `fail_open` is in every form, of a ledger, of a pack and of both together once."""
    ledger = tmp_path / "receipts.sqlite3"
    write_ledger(ledger, _issued(7, 2), signer())
    write_ledger(tmp_path / "whole.sqlite3", _issued(7), signer())
    _lose(ledger, 3)
    pack = _pack(ledger, JULY, OCTOBER)
    for sources in ([ledger], [pack], [ledger, pack, tmp_path / "whole.sqlite3"]):
        report = _report(*sources)
        assert list(report.totals.not_kept.values()) == [3]
        assert "by the heads of 1 ledger: 3" in report_table(report)
        assert "3 receipts could not be written to the ledger (fail_open)" in page(report)
        assert ">Not kept</th>" in page(report)
        assert "".join(report_csv(report)).splitlines()[1].split(",")[-2] == "3"
    whole = _report(tmp_path / "whole.sqlite3")
    assert "not kept" not in page(whole).lower()
    assert "fail_open" not in report_table(whole)


@pytest.mark.parametrize("head", ["", "{}", "{", "a.b", '{"not_kept":-1}', '{"not_kept":"3"}', '{"not_kept":null}'])
def test_a_head_that_does_not_say_counts_as_none(head: str) -> None:
    """A head without the number, or with none, adds nothing: whether it is sound is for `verify`."""
    assert not_kept_of(head) == 0


def test_lines_that_are_no_receipt_make_the_exit_code_1(tmp_path: Path) -> None:
    """Of several sources, too, what cannot be read is counted and told."""
    write_ledger(tmp_path / "a.sqlite3", _issued(7))
    with zipfile.ZipFile(_pack(tmp_path / "a.sqlite3", JULY, OCTOBER)) as archive:
        archive.extractall(tmp_path / "unpacked")
    with (tmp_path / "unpacked" / "receipts.jsonl").open("a", encoding="utf-8") as file:
        file.write("no receipt\n")
    assert _run(tmp_path / "a.sqlite3", tmp_path / "unpacked") == 1


def test_a_source_that_cannot_be_opened_is_a_missing_ledger(tmp_path: Path) -> None:
    """A name that leads nowhere is told with what can be named."""
    with pytest.raises(Exception, match=r"missing.*Name ledger files and packs"):
        _report(tmp_path / "nowhere")


def _lose(path: Path, number: int) -> None:
    """Say in a ledger's head that so many receipts could not be kept."""
    with closing(sqlite3.connect(path)) as database, database:
        ((ledger_id, seq),) = database.execute("SELECT ledger_id, seq FROM heads").fetchall()
        head = {"at": JULY, "head_version": "1", "ledger_id": ledger_id, "not_kept": number, "seq": seq}
        database.execute("UPDATE heads SET jws = ?", (compact(canonical(head), signer(), typ=HEAD_TYPE),))


def _run(*sources: Path, form: str = "table") -> int:
    ordinary = dict.fromkeys(("since", "until", "ledger", "config", "out"))
    paths: Sequence[Path] = sources
    return report_command(argparse.Namespace(**ordinary, source=list(paths), format=form))
