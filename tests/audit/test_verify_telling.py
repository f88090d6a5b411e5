"""What `receipts verify` says at its end: who issued, what was checked, what nothing here can show."""

from __future__ import annotations

import json
import shutil
import sqlite3
from argparse import Namespace
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from audit.auditing import (
    KEYS,
    LEDGER_ID,
    OTHER_LEDGER_ID,
    SIGNER,
    codes,
    edit,
    findings_in,
    ledger,
    notes,
    payload_of,
    problems,
    rows_of,
    signed,
)
from cli.commands import Ran, run
from receipts.keys import jwks, private_pem, signer
from vetted_mw.audit.verify import checker
from vetted_mw.audit.verify.findings import Code
from vetted_mw.audit.verify.verifying import Verification
from vetted_mw.cli.receipts.checkpoint import checkpoint
from vetted_mw.receipts.jwks import parse_jwks, spki_pem
from vetted_mw.receipts.jws import HEAD_TYPE, detached
from vetted_mw.receipts.ledger.reading import LedgerReader

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.receipts.sealed import Sealed

PERIOD = ("--from", "2026-11-22", "--to", "2026-11-23")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sealed]:
    """Stand in a folder with a ledger of five receipts, the issuer's keys, and the first row as its caller holds it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    made = ledger(tmp_path / "l.db")
    (tmp_path / "jwks.json").write_text(json.dumps(jwks(SIGNER)))
    (tmp_path / "issuer.pem").write_text(spki_pem(SIGNER.jwk))
    receipt = payload_of(made[0].text) | {"signature": detached(made[0].text)}
    (tmp_path / "answer.json").write_text(json.dumps({"choices": [], "receipt": receipt}))
    return made


def receipts(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    return run(capsys, "receipts", *arguments)


def test_of_an_answer_it_says_who_where_and_how_much(capsys: pytest.CaptureFixture[str], rows: list[Sealed]) -> None:
    """Issuer, key and its state, instant; then the receipt itself and whether the content could be checked."""
    ran = receipts(capsys, "verify", "answer.json", "--jwks", "jwks.json")
    assert ran.code == 0
    lines = ran.out.splitlines()
    receipt = payload_of(rows[0].text)
    assert lines[0].startswith("note     binding")
    assert lines[2] == (
        f'answer.json: issuer "{receipt["issuer"]}"; 1 of 1 receipt verified by key {SIGNER.kid} (current);'
        " issued 2026-11-22T10:32:00.000Z"
    )
    assert lines[3] == (
        f"  receipt {receipt['query_id']}: scaleway-par-1, {receipt['model']}, 0.00792653 g CO2e (0.00299237 to"
        f" {receipt['gco2e_ci90_hi']}); content: not bound (response_digest is null)"
    )
    assert lines[4].startswith("checked 1 receipt, 1 signed and verified")
    assert "another ledger" not in ran.out
    assert "routing_trace" in ran.out


def test_a_receipt_of_odd_types_is_told_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The line about it stands for what was read, and what was read may be a forgery."""
    odd = {"query_id": "a", "receipt_version": "1", "gco2e": "none", "issuer": 5, "region": "a\x1b[2J"}
    (tmp_path / "odd.json").write_text(json.dumps(odd))
    ran = receipts(capsys, "verify", tmp_path / "odd.json")
    assert ran.code == 1
    assert "odd.json: 1 receipt, no signature verified\n" in ran.out
    assert "receipt a: a\\x1b[2J, None, none g CO2e (None to None)" in ran.out


@pytest.mark.usefixtures("rows")
def test_of_a_ledger_it_says_from_when_to_when(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing stands before the first line, and what holds of answers alone is not said."""
    ran = receipts(capsys, "verify", "l.db", "--jwks", "jwks.json")
    assert ran.out.startswith("l.db: issuer ")
    assert f"5 of 5 receipts verified by key {SIGNER.kid} (current); 1 ledger; issued 2026-11-22T10:32:00.000Z to" in (
        ran.out
    )
    assert "routing_trace" not in ran.out
    assert "fail_open" in ran.out


@pytest.mark.usefixtures("rows")
def test_the_same_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Scripts get it by source."""
    document = jwks(SIGNER)
    document["keys"][0]["not_after"] = "2027-01-01T00:00:00Z"
    (tmp_path / "retired.json").write_text(json.dumps(document))
    told = receipts(capsys, "verify", "answer.json", "l.db", "--jwks", "retired.json", "--json").json()
    answer, whole = told["sources"]
    assert answer["receipt"]["region"] == "scaleway-par-1"
    assert answer["kind"] == "document"
    assert whole["receipt"] is None
    assert whole["keys"] == [{"kid": SIGNER.kid, "verified": 5, "not_after": "2027-01-01T00:00:00Z"}]
    assert told["summary"]["issuer_known"] is True
    ran = receipts(capsys, "verify", "l.db", "--jwks", "retired.json")
    assert "(retired 2027-01-01T00:00:00Z)" in ran.out


def test_many_sources_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: list[Sealed]) -> None:
    """A folder of answers does not scroll the findings away, and names that never end are cut."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(22):
        members = payload_of(rows[0].text) | {"issuer": f"i{number}"}
        (folder / f"{number:02}").write_text(signed(members))
    lines = [signed(payload_of(rows[0].text) | {"issuer": f"i{number}"}) for number in range(120)]
    (tmp_path / "lines").write_text("\n".join(lines))
    ran = receipts(capsys, "verify", "many", "--jwks", "jwks.json")
    assert "and 2 more sources: --json names them all" in ran.out
    ran = receipts(capsys, "verify", "lines", "--jwks", "jwks.json")
    assert 'issuers "i0", "i1", "i10" and 97 more' in ran.out


@pytest.mark.usefixtures("rows")
def test_nothing_checked_is_never_a_success(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """No folder, file or copy without a receipt ends with exit code 0."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "note.txt").write_text("hello")
    for name in ("empty", "only"):
        ran = receipts(capsys, "verify", name)
        assert ran.code == 2
        assert f"{name}: holds no receipt" in ran.out
    (tmp_path / "a.json").write_text('{"choices": []}')
    assert receipts(capsys, "verify", "a.json").code == 1
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
    (tmp_path / "curl").write_text(head + (tmp_path / "answer.json").read_text())
    ran = receipts(capsys, "verify", "curl")
    assert ran.code == 2
    assert "remove the HTTP head" in ran.out
    (tmp_path / "heads").write_text("\n".join(row["jws"] for row in rows_of(tmp_path / "l.db", "heads") * 2))
    assert receipts(capsys, "verify", "heads", "--jwks", "jwks.json").code == 2


@pytest.mark.usefixtures("rows")
def test_a_live_ledger_copied_without_its_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The copy lacks what the log holds; where that is everything, how to copy is said."""
    path = tmp_path / "live.db"
    ledger(path, 1, ledger_id=OTHER_LEDGER_ID)
    edit(path, ("DELETE FROM receipts", ()), ("DELETE FROM heads", ()))
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("PRAGMA wal_autocheckpoint = 0")
        live.execute("INSERT INTO checkpoints VALUES (1, 'in the log')")
        shutil.copy(path, tmp_path / "copy.db")
    ran = receipts(capsys, "verify", "copy.db", "--jwks", "jwks.json")
    assert ran.code == 2
    assert '.backup COPY"' in ran.out


@pytest.mark.usefixtures("rows")
def test_keys_out_of_the_pack_are_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one sentence, unless whoever runs it vouches for them; then it is still said."""
    assert receipts(capsys, "export", *PERIOD, "--ledger", "l.db", "--jwks", "jwks.json", "--out", "q.zip").code == 0
    doubt = "consistent, issuer not known: keys came with the pack; give --jwks"
    ran = receipts(capsys, "verify", "q.zip")
    assert (ran.code, doubt in ran.out) == (1, True)
    ran = receipts(capsys, "verify", "q.zip", "--trust-packed-keys")
    assert (ran.code, doubt in ran.out) == (0, True)
    ran = receipts(capsys, "verify", "q.zip", "--jwks", "issuer.pem")
    assert (ran.code, "issuer not known" in ran.out) == (0, False)
    ran = receipts(capsys, "verify", "q.zip", "--json")
    assert ran.json()["summary"]["issuer_known"] is False
    ran = receipts(capsys, "verify", "q.zip", "jwks.json")
    assert "consistent" not in ran.out


@pytest.mark.usefixtures("rows")
def test_what_nobody_signed_has_no_known_issuer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It may be consistent, and that is all."""
    ledger(tmp_path / "plain.db", by=None)
    ran = receipts(capsys, "verify", "plain.db")
    assert ran.code == 0
    assert "consistent, issuer not known: nothing is signed" in ran.out


@pytest.mark.usefixtures("rows")
def test_one_public_key_serves_as_jwks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """PEM or a JWK, to verify and to pack; a private one is refused."""
    (tmp_path / "jwk.json").write_text(json.dumps(dict(SIGNER.jwk)))
    (tmp_path / "private.pem").write_text(private_pem())
    for name in ("issuer.pem", "jwk.json"):
        assert receipts(capsys, "verify", "l.db", "--jwks", name).code == 0
        out = f"{name}.zip"
        assert receipts(capsys, "export", *PERIOD, "--ledger", "l.db", "--jwks", name, "--out", out).code == 0
        assert receipts(capsys, "verify", out, "--trust-packed-keys").code == 0
    ran = receipts(capsys, "verify", "l.db", "--jwks", "private.pem")
    assert ran.code == 2
    assert "holds a private key" in ran.err


@pytest.mark.usefixtures("rows")
def test_export_warns_of_a_period_that_is_not_over_and_of_foreign_keys(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Both packs are made: what they lack is said on standard error."""
    (tmp_path / "other.json").write_text(json.dumps(jwks(signer(5))))
    period = ("--from", "2026-11-22", "--to", "2126-11-23")
    ran = receipts(capsys, "export", *period, "--ledger", "l.db", "--jwks", "other.json", "--out", "q.zip")
    assert ran.code == 0
    assert "the period is not over" in ran.err
    assert f"the pack lacks the key {SIGNER.kid}" in ran.err
    assert not receipts(capsys, "export", *PERIOD, "--ledger", "l.db", "--jwks", "jwks.json", "--out", "r.zip").err


def test_show_reads_whatever_holds_a_receipt(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: list[Sealed]
) -> None:
    """An answer, a stream, one line, a pack, an unpacked one: by file where it holds one, else by id."""
    query_id = rows[0].receipt.query_id
    answer = (tmp_path / "answer.json").read_text()
    (tmp_path / "stream.txt").write_text(f"data: {answer}\n\ndata: [DONE]\n\n")
    (tmp_path / "one.jws").write_text(rows[0].text)
    (tmp_path / "lines").write_text(f"{rows[1].text}\n{rows[0].text}\nbroken.jws.x\n{json.dumps(json.loads(answer))}\n")
    assert receipts(capsys, "export", *PERIOD, "--ledger", "l.db", "--jwks", "jwks.json", "--out", "q.zip").code == 0
    shutil.unpack_archive("q.zip", "unpacked")
    wanted = f"verifies, key {SIGNER.kid}"
    for name in ("answer.json", "stream.txt", "one.jws"):
        ran = receipts(capsys, "show", name, "--jwks", "jwks.json")
        assert (ran.code, wanted in ran.out, "caller  " in ran.out) == (0, True, False), ran.err
    for name in ("answer.json", "lines", "q.zip", "unpacked", "l.db"):
        ran = receipts(capsys, "show", query_id, "--ledger", name, "--jwks", "jwks.json")
        assert (ran.code, wanted in ran.out) == (0, True), name
    ran = receipts(capsys, "show", "q.zip")
    assert (ran.code, "holds more than one receipt" in ran.err) == (2, True)
    ran = receipts(capsys, "show", "no-such-id", "--ledger", "q.zip")
    assert (ran.code, "holds no receipt with this id" in ran.err) == (1, True)
    assert receipts(capsys, "show", query_id, "--ledger", "missing.zip").code == 2
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04")
    assert receipts(capsys, "show", query_id, "--ledger", "bad.zip").code == 2
    (tmp_path / "broken").write_text('{"receipt":')
    assert receipts(capsys, "show", "broken").code == 2
    (tmp_path / "unfit").write_text(json.dumps({"receipt": {"query_id": "a", "receipt_version": "1", "x": 2**60}}))
    ran = receipts(capsys, "show", "unfit")
    assert (ran.code, "unfit holds no receipt" in ran.err) == (1, True)


def test_show_does_not_accuse_by_settings_that_nobody_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: list[Sealed]
) -> None:
    """An auditor may run a gateway too: its key is not the one this receipt is of."""
    (tmp_path / "key.pem").write_text(private_pem(5))
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "vetted.toml").write_text('[signing]\nkey = { file = "key.pem" }\n')
    query_id = rows[0].receipt.query_id
    ran = receipts(capsys, "show", query_id, "--ledger", "l.db")
    assert (ran.code, "not checked" in ran.out) == (0, True)
    ran = receipts(capsys, "show", query_id, "--ledger", "l.db", "--config", "vetted.toml")
    assert (ran.code, "unknown_key" in ran.out) == (1, True)


@pytest.mark.usefixtures("rows")
def test_a_checkpoint_is_written_before_anything_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`| head` may close the pipe; the file is there all the same."""

    def closed(*_arguments: Any, **_options: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(BrokenPipeError):
        checkpoint(Namespace(ledger=tmp_path / "l.db", config=None, unsigned=True, out=tmp_path / "c.jws"))
    assert json.loads((tmp_path / "c.jws").read_text())["tree_size"] == 5


def test_a_key_that_is_not_known_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name and how often, for rows as for heads; a forger's thousand names are told one by one."""
    ledger(tmp_path / "l.db", by=signer(9))
    found = findings_in(tmp_path / "l.db")
    told = {one.text: one.count for one in found if one.code is Code.UNKNOWN_KEY}
    kid = signer(9).kid
    assert told == {
        f"5 times: the signature is of a key that the JWKS does not hold: {kid}": 5,
        f"head: the signature is of a key that the JWKS does not hold: {kid}": 1,
    }
    ((code, text),) = problems(findings_in(tmp_path / "l.db", keys=None))
    assert (code, text.startswith(f"5 receipts signed with key {kid}")) == (Code.NO_KEY, True)
    ledger(tmp_path / "l.db", 2, ledger_id=OTHER_LEDGER_ID)
    monkeypatch.setattr(checker, "_MOST_KEYS", 1)
    texts = [text for _, text in problems(findings_in(tmp_path / "l.db", keys=None))]
    assert [text.partition(",")[0] for text in texts] == [
        f"5 receipts signed with key {kid}",
        "2 receipts signed with key of others",
    ]
    assert len([one for one in findings_in(tmp_path / "l.db") if one.code is Code.UNKNOWN_KEY]) == 2


def test_what_a_head_says_was_not_kept_is_a_note(tmp_path: Path) -> None:
    """Of a ledger and of a pack, by ledger."""
    path = tmp_path / "l.db"
    ledger(path)
    (head,) = rows_of(path, "heads")
    for count, words in ((3, "3 receipts could not be kept here (fail_open)"), (1, "1 receipt could not be kept")):
        text = signed(payload_of(head["jws"]) | {"not_kept": count}, typ=HEAD_TYPE)
        edit(path, ("UPDATE heads SET jws = ?", (text,)))
        found = findings_in(path)
        assert not problems(found)
        ((code, told),) = notes(found)
        assert (code, words in told, found[0].place.ledger_id) == (Code.NOT_KEPT, True, LEDGER_ID)


def test_reading_leaves_no_file_behind(tmp_path: Path) -> None:
    """Evidence is as it was: the same bytes, the same instant, and nothing beside it."""
    path = tmp_path / "l.db"
    ledger(path)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert not findings_in(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [one.name for one in tmp_path.iterdir()] == ["l.db"]
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("PRAGMA wal_autocheckpoint = 0")
        live.execute("INSERT INTO checkpoints VALUES (0, 'in the log')")
        with LedgerReader(path) as reader:
            assert len(reader.checkpoints()) == 1
        assert {one.name for one in tmp_path.iterdir()} == {"l.db", "l.db-wal", "l.db-shm"}
        assert live.execute("SELECT count(*) FROM checkpoints").fetchone() == (1,)


def test_a_file_that_may_only_be_read_is_left_alone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that was made read-only lies in a folder that is not: nothing is put beside it."""
    path = tmp_path / "l.db"
    ledger(path)
    monkeypatch.setattr("vetted_mw.receipts.ledger.reading.os.access", lambda *_arguments: False)
    with LedgerReader(path) as reader:
        assert len(list(reader.rows())) == 5
        assert [one.name for one in tmp_path.iterdir()] == ["l.db"]


def test_a_writer_that_comes_meanwhile_keeps_its_log(tmp_path: Path) -> None:
    """Only SQLite takes the log away, and only from a file that nobody else has open."""
    path = tmp_path / "l.db"
    ledger(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        with LedgerReader(path) as reader:
            live.execute("SELECT count(*) FROM receipts").fetchone()
            assert len(list(reader.rows())) == 5
        live.execute("INSERT INTO checkpoints VALUES (0, 'x')")
        with LedgerReader(path) as reader:
            assert len(reader.checkpoints()) == 1


def test_the_run_says_what_it_came_to(tmp_path: Path) -> None:
    """Whoever uses the module gets the sources without a command line."""
    ledger(tmp_path / "l.db")
    run_ = Verification(keys=KEYS, tell=lambda _finding: None)
    run_.verify([tmp_path / "l.db"])
    (source,) = run_.outcome.sources
    assert (source.counts.verified, source.seen.verified[SIGNER.kid]) == (5, 5)
    assert source.as_json()["last_issued_at"] == "2026-11-22T10:32:04.000Z"
    assert codes(findings_in(tmp_path / "l.db", keys=parse_jwks(json.dumps(jwks(signer(3))).encode()))) == {
        Code.UNKNOWN_KEY
    }
