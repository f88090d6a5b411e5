"""`vetted-mw receipts ...` as an auditor runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from audit.auditing import LEDGER_ID, OTHER_LEDGER_ID, delete_rows, edit, ledger, needs_openssl, replace_row, rows_of
from cli.commands import Ran, finished, run
from receipts.keys import jwks, private_pem, signer
from vetted_mw.audit.verify import telling
from vetted_mw.cli.receipts.units import GROUPS, UNITS
from vetted_mw.receipts.receipt import Receipt

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.receipts.sealed import Sealed


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sealed]:
    """Stand in a folder with a ledger of five receipts, the settings of its gateway, and its JWKS."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    key = tmp_path / "key.pem"
    key.write_text(private_pem())
    key.chmod(0o600)
    (tmp_path / "gateway.toml").write_text('[signing]\nkey = { file = "key.pem" }\n\n[ledger]\npath = "ledger.db"\n')
    (tmp_path / "jwks.json").write_text(json.dumps(jwks(signer())))
    return ledger(tmp_path / "ledger.db")


def receipts(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    return run(capsys, "receipts", *arguments)


def test_verify_in_a_process_of_its_own(tmp_path: Path, rows: list[Sealed]) -> None:
    """The exit code is 0 for a whole ledger, 1 after a row is deleted, which is named, and 2 for what is no ledger."""
    assert len(rows) == 5
    ran = finished(tmp_path, "receipts", "verify", "ledger.db", "--jwks", "jwks.json")
    assert ran.code == 0, ran.out + ran.err
    assert "checked 5 receipts of 1 ledger, 5 signed and verified, 0 unsigned" in ran.out
    assert ran.out.rstrip().endswith("the issuer says so")
    delete_rows(tmp_path / "ledger.db", 3)
    ran = finished(tmp_path, "receipts", "verify", "ledger.db", "--jwks", "jwks.json")
    assert ran.code == 1
    assert ran.out.splitlines()[0] == (
        f"problem  gap            ledger.db, ledger {LEDGER_ID}: seq 3 is missing between 2 and 4"
    )
    assert "1 problem, 0 notes" in ran.out
    ran = finished(tmp_path, "receipts", "verify", "gateway.toml")
    assert ran.code == 2
    assert "gateway.toml: is no answer, stream, receipt, ledger or pack" in ran.out


def test_a_checkpoint_kept_apart_finds_what_the_ledger_cannot_show(tmp_path: Path, rows: list[Sealed]) -> None:
    """In processes of their own: checkpoint, the newest row removed with its head, verify with and without."""
    path = tmp_path / "ledger.db"
    (older,) = rows_of(path, "heads")
    assert len(ledger(path, 1)) + len(rows) == 6
    made = finished(tmp_path, "receipts", "checkpoint", "--config", "gateway.toml", "--out", "c.jws")
    assert made.code == 0, made.err
    assert "rows    6" in made.out
    assert "signed  yes" in made.out
    assert "openssl ts -query -data c.jws -sha256 -cert -out c.jws.tsq" in made.out
    delete_rows(path, 6)
    edit(path, ("DELETE FROM checkpoints", ()), ("UPDATE heads SET seq = ?, jws = ?", (older["seq"], older["jws"])))
    assert finished(tmp_path, "receipts", "verify", "ledger.db", "--jwks", "jwks.json").code == 0
    ran = finished(tmp_path, "receipts", "verify", "ledger.db", "--jwks", "jwks.json", "--checkpoint", "c.jws")
    assert ran.code == 1
    assert "6 rows, and 5 are left: 1 is missing, or the export or copy is older" in ran.out


def test_export_and_verify_in_processes_of_their_own(tmp_path: Path, rows: list[Sealed]) -> None:
    """A pack passes by itself; a file changed in it does not."""
    assert rows
    period = ("--from", "2026-11-22T10:32:01Z", "--to", "2026-11-22T10:32:04Z")
    ran = finished(tmp_path, "receipts", "export", *period, "--config", "gateway.toml", "--out", "pack.zip")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("wrote pack.zip: 3 receipts of 1 ledger\n")
    assert (tmp_path / "pack.zip").stat().st_mode & 0o777 == 0o600
    ran = finished(tmp_path, "receipts", "verify", "pack.zip", "--jwks", "jwks.json")
    assert ran.code == 0, ran.out
    assert "checked 3 receipts" in ran.out
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        archive.extractall(tmp_path / "pack")
    with (tmp_path / "pack" / "aggregates.csv").open("a") as file:
        file.write("\r\n")
    ran = finished(tmp_path, "receipts", "verify", "pack", "--jwks", "jwks.json")
    assert ran.code == 1
    assert "pack!aggregates.csv: is not the file whose sha-256 the manifest names" in ran.out


@needs_openssl
def test_an_answer_and_standard_tools(tmp_path: Path, rows: list[Sealed]) -> None:
    """The signature that verify accepts is one that openssl accepts, over the bytes as they stand in the ledger."""
    from vetted_mw.receipts.jwks import spki_pem
    from vetted_mw.receipts.jws import read_jws

    jws = read_jws(rows[0].text)
    (tmp_path / "input").write_bytes(jws.signing_input)
    (tmp_path / "signature").write_bytes(jws.signature)
    (tmp_path / "public.pem").write_text(spki_pem(signer().jwk))
    done = subprocess.run(
        [
            "openssl",
            "pkeyutl",
            "-verify",
            "-rawin",
            "-pubin",
            "-inkey",
            "public.pem",
            "-in",
            "input",
            "-sigfile",
            "signature",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@needs_openssl
@pytest.mark.usefixtures("rows")
def test_the_openssl_line_of_a_checkpoint_works(tmp_path: Path) -> None:
    """What the command prints for a timestamp query can be run as it is."""
    ran = finished(tmp_path, "receipts", "checkpoint", "--config", "gateway.toml", "--out", "check point.jws")
    (line,) = [one.strip() for one in ran.out.splitlines() if "-query" in one]
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "check point.jws.tsq").stat().st_size > 40


@pytest.mark.usefixtures("rows")
def test_verify_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One document: findings with their places, what was refused, counts."""
    delete_rows(tmp_path / "ledger.db", 2)
    ran = receipts(capsys, "verify", "ledger.db", "gateway.toml", "--config", "gateway.toml", "--json")
    assert ran.code == 2
    told = ran.json()
    assert told["findings"] == [
        {
            "severity": "problem",
            "code": "gap",
            "file": "ledger.db",
            "line": None,
            "ledger_id": LEDGER_ID,
            "seq": None,
            "query_id": None,
            "text": "seq 2 is missing between 1 and 3",
            "count": 1,
        }
    ]
    assert told["refused"] == ["gateway.toml: is no answer, stream, receipt, ledger or pack"]
    assert told["summary"]["verified"] == 4
    assert told["summary"]["problems"] == 1
    assert len(told["cannot_show"]) == 6
    assert "gateway.toml" in ran.err
    nothing = receipts(capsys, "verify", "ledger.db", "gateway.toml", "missing.db", "--json").json()
    assert nothing["refused"][1] == "missing.db: cannot be read (No such file or directory)"


@pytest.mark.usefixtures("rows")
def test_verify_as_json_without_findings(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is a list."""
    ran = receipts(capsys, "verify", "ledger.db", "--config", "gateway.toml", "--json")
    assert ran.code == 0
    assert ran.json()["findings"] == []


@pytest.mark.usefixtures("rows")
def test_a_checkpoint_that_cannot_be_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that cannot be written to is told with its remedy."""
    from vetted_mw.receipts.sealed import LedgerUnavailableError

    def full(*_arguments: object) -> None:
        raise LedgerUnavailableError("disk_full")

    monkeypatch.setattr("vetted_mw.cli.receipts.checkpoint.make_checkpoint", full)
    ran = receipts(capsys, "checkpoint", "--config", "gateway.toml")
    assert ran.code == 2
    assert "the checkpoint cannot be kept in the ledger (disk full)" in ran.err


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.usefixtures("rows")
def test_findings_without_end_are_counted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    """Of many alike the first are written out, and how many more there are; gaps are all named."""
    monkeypatch.setattr(telling, "_MOST_ALIKE", 2)
    for seq in (1, 3, 5):
        replace_row(tmp_path / "ledger.db", seq, "broken")
    ran = receipts(capsys, "verify", "ledger.db", "--config", "gateway.toml", *form)
    assert ran.code == 1
    if form:
        assert len([one for one in ran.json()["findings"] if one["code"] == "signature"]) == 2
        assert ran.json()["more"] == [{"file": "ledger.db", "code": "signature", "count": 1}]
    else:
        assert ran.out.count("  signature      ledger.db, ledger") == 2
        assert "signature      ledger.db: and 1 more" in ran.out
    ledger(tmp_path / "gaps.db", 9, ledger_id=OTHER_LEDGER_ID)
    delete_rows(tmp_path / "gaps.db", 1, 3, 5, 7)
    ran = receipts(capsys, "verify", "gaps.db", "--config", "gateway.toml")
    assert ran.out.count("  gap  ") == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jwks", "missing.json"], "--jwks: cannot be read: No such file or directory"),
        (["--jwks", "gateway.toml"], "--jwks: "),
        (["--jwks", "empty.json"], "--jwks: holds no key."),
        (["--jwks", "key.pem"], "--jwks: "),
        (["--checkpoint", "missing"], "--checkpoint: missing cannot be read: No such file or directory"),
        (["--checkpoint", "ledger.db"], "--checkpoint: ledger.db holds no checkpoint."),
        (["--checkpoint", "jwks.json"], "--checkpoint: jwks.json holds no checkpoint."),
        (["--config", "missing.toml"], "missing.toml"),
    ],
)
@pytest.mark.usefixtures("rows")
def test_options_of_verify_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    """Exit code 2, with what to do instead, and nothing of what a file holds."""
    (tmp_path / "empty.json").write_text('{"keys": []}')
    ran = receipts(capsys, "verify", "ledger.db", *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert "PRIVATE KEY-----\nM" not in ran.err


@pytest.mark.usefixtures("rows")
def test_settings_without_a_key_are_no_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--config` of a gateway that does not sign leaves signatures unchecked, and says so."""
    (tmp_path / "plain.toml").write_text('[ledger]\npath = "ledger.db"\n')
    ran = receipts(capsys, "verify", "ledger.db", "--config", "plain.toml")
    assert ran.code == 1
    assert "no key is at hand" in ran.out


def test_show_a_receipt(capsys: pytest.CaptureFixture[str], rows: list[Sealed]) -> None:
    """Every field with its unit, and whether the signature verifies."""
    query_id = rows[2].receipt.query_id
    ran = receipts(capsys, "show", query_id, "--config", "gateway.toml")
    assert ran.code == 0
    cells = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines() if line and not line.startswith("-")}
    assert cells["gco2e"] == ["0.00792653", "g", "CO2e"]
    assert cells["prompt_tokens"] == ["24", "tokens"]
    assert cells["batch_known"] == ["no"]
    assert cells["default_region"] == ["-"]
    assert cells["seq"] == ["3"]
    assert cells["signature"] == ["verifies,", "key", signer().kid]
    by_jwks = receipts(capsys, "show", query_id, "--ledger", "ledger.db", "--jwks", "jwks.json")
    assert by_jwks.out == ran.out


def test_show_says_what_it_does_not_know(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: list[Sealed]
) -> None:
    """Without a key, without a signature, with a false one: each is said, and exit code 1 where something is wrong."""
    one, other = rows[0].receipt.query_id, rows[1].receipt.query_id
    ran = receipts(capsys, "show", one, "--ledger", "ledger.db")
    assert ran.code == 0
    assert "signature  not checked: name the issuer's keys" in ran.out
    replace_row(tmp_path / "ledger.db", 1, rows[1].text[:-8] + "AAAAAAAA")
    ran = receipts(capsys, "show", one, "--config", "gateway.toml")
    assert ran.code == 1
    assert "signature  DOES NOT VERIFY" in ran.out
    assert "problem    signature: the signature does not verify" in ran.out
    replace_row(tmp_path / "ledger.db", 1, "garbage")
    assert receipts(capsys, "show", one, "--config", "gateway.toml").code == 1
    assert receipts(capsys, "show", one, "--config", "gateway.toml", "--json").json()["receipt"] is None
    plain = ledger(tmp_path / "plain.db", 1, by=None)[0]
    ran = receipts(capsys, "show", plain.receipt.query_id, "--ledger", "plain.db")
    assert ran.code == 0
    assert "signature  none: the receipt is not signed" in ran.out
    (tmp_path / "unsigned.toml").write_text('[ledger]\npath = "ledger.db"\n')
    assert "not checked" in receipts(capsys, "show", other, "--config", "unsigned.toml").out


def test_show_as_json(capsys: pytest.CaptureFixture[str], rows: list[Sealed]) -> None:
    """The receipt as a caller got it, but for the nonce, and the full signature."""
    ran = receipts(capsys, "show", rows[0].receipt.query_id, "--config", "gateway.toml", "--json")
    told = ran.json()
    assert told["jws"] == rows[0].text
    assert told["receipt"]["signature"] == rows[0].signature
    assert told["receipt"]["query_id"] == rows[0].receipt.query_id
    assert told["verified"] is True


def test_show_knows_fields_of_versions_to_come(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: list[Sealed]
) -> None:
    """A field it does not know is named, and told as a finding."""
    from audit.auditing import payload_of, signed

    replace_row(tmp_path / "ledger.db", 1, signed(payload_of(rows[0].text) | {"moon_phase": "full"}))
    ran = receipts(capsys, "show", rows[0].receipt.query_id, "--config", "gateway.toml")
    assert "Not known to this version: moon_phase" in ran.out
    assert ran.code == 1


def test_every_field_is_shown() -> None:
    """No field of the receipt is left out of the table, and none is there twice."""
    shown = [name for names in GROUPS.values() for name in names]
    assert sorted(shown) == sorted(Receipt.__struct_fields__)
    assert UNITS.keys() <= set(shown)


@pytest.mark.parametrize("command", [["show", "93ab9591-8d48-4a25-8bcd-e2da95265ff0"], ["checkpoint"], ["export"]])
@pytest.mark.usefixtures("rows")
def test_a_ledger_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]) -> None:
    """Exit code 2 and the remedy, whichever command it is: no file, no ledger, no settings that name one."""
    if command == ["export"]:
        command = ["export", "--from", "2026-01-01", "--to", "2026-02-01", "--out", "p.zip"]
    ran = receipts(capsys, *command, "--ledger", "missing.db")
    assert ran.code == 2
    assert "missing.db is not there" in ran.err
    ran = receipts(capsys, *command, "--ledger", "jwks.json")
    assert ran.code == 2
    assert "jwks.json is no ledger of this software" in ran.err
    ran = receipts(capsys, *command)
    assert ran.code == 2
    assert "ledger.path: the settings name no ledger." in ran.err
    assert not (tmp_path / "p.zip").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_show_tells_a_receipt_that_is_filed_under_another_id(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: list[Sealed]
) -> None:
    """Who asks for one receipt is never given another one as if it were that."""
    one, other = (row.receipt.query_id for row in rows[:2])
    edit(
        tmp_path / "ledger.db",
        ("UPDATE receipts SET query_id = 'x' WHERE query_id = ?", (one,)),
        ("UPDATE receipts SET query_id = ? WHERE query_id = ?", (one, other)),
    )
    ran = receipts(capsys, "show", one, "--ledger", "ledger.db", "--jwks", "jwks.json")
    assert ran.code == 1
    assert "columns: is filed under this id, and says another" in ran.out


@pytest.mark.usefixtures("rows")
def test_show_an_unknown_receipt(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1: the ledger's answer is no."""
    ran = receipts(capsys, "show", "93ab9591-8d48-4a25-8bcd-e2da95265ff0", "--ledger", "ledger.db")
    assert ran.code == 1
    assert "ledger.db holds no receipt with this id" in ran.err


@pytest.mark.usefixtures("rows")
def test_a_checkpoint_without_a_file_or_a_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The line is printed to be written down; of receipts that nobody signed it is not signed, and that is said."""
    ledger(tmp_path / "unsigned.db", by=None)
    ran = receipts(capsys, "checkpoint", "--ledger", "unsigned.db", "--unsigned")
    assert ran.code == 0
    assert "signed  no\n" in ran.out
    (line,) = [one for one in ran.out.splitlines() if one.startswith("{")]
    assert json.loads(line)["tree_size"] == 5
    assert "Write the line above to checkpoint.jws." in ran.out
    again = receipts(capsys, "checkpoint", "--ledger", "unsigned.db", "--config", "gateway.toml")
    assert again.code == 0
    assert rows_of(tmp_path / "unsigned.db", "checkpoints")


@pytest.mark.usefixtures("rows")
def test_an_unsigned_checkpoint_is_made_on_demand_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It cannot be taken out again, so the settings are asked for; a signed one of the same rows makes it a note."""
    ran = receipts(capsys, "checkpoint", "--ledger", "ledger.db")
    assert ran.code == 2
    assert "signing.key: no settings with a key were found" in ran.err
    assert "--unsigned" in ran.err
    assert not rows_of(tmp_path / "ledger.db", "checkpoints")
    assert "signed  no" in receipts(capsys, "checkpoint", "--ledger", "ledger.db", "--unsigned").out
    ran = receipts(capsys, "verify", "ledger.db", "--jwks", "jwks.json")
    assert ran.code == 1
    assert "unsigned       ledger.db: checkpoint: is not signed" in ran.out
    made = receipts(capsys, "checkpoint", "--ledger", "ledger.db", "--config", "gateway.toml", "--out", "c.jws")
    assert "signed  yes" in made.out
    assert len(rows_of(tmp_path / "ledger.db", "checkpoints")) == 2
    assert receipts(capsys, "checkpoint", "--config", "gateway.toml", "--out", "again.jws").code == 0
    assert (tmp_path / "again.jws").read_text() == (tmp_path / "c.jws").read_text()
    ran = receipts(capsys, "verify", "ledger.db", "--jwks", "jwks.json", "--checkpoint", "c.jws")
    assert ran.code == 0
    assert "a signed one of the same rows is beside it" in ran.out


@pytest.mark.usefixtures("rows")
def test_settings_beside_the_ledger_sign_its_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--ledger` names the file alone: the key comes from the settings that are found as ever, of a pack too."""
    (tmp_path / "gateway.toml").rename(tmp_path / "vetted.toml")
    assert "signed  yes" in receipts(capsys, "checkpoint", "--ledger", "ledger.db").out
    period = ("--from", "2026-11-22", "--to", "2026-11-23")
    ran = receipts(capsys, "export", *period, "--ledger", "ledger.db", "--out", "pack.zip")
    assert (ran.code, ran.err) == (0, "")
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        assert signer().kid in archive.read("jwks.json").decode()


@pytest.mark.usefixtures("rows")
def test_a_checkpoint_of_rewritten_rows_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where the ledger itself holds another root for as many rows, it was changed: exit code 1."""
    assert receipts(capsys, "checkpoint", "--config", "gateway.toml").code == 0
    replace_row(tmp_path / "ledger.db", 2, rows_of(tmp_path / "ledger.db")[0]["jws"])
    ran = receipts(capsys, "checkpoint", "--config", "gateway.toml")
    assert ran.code == 1
    assert "rows were changed since it was made" in ran.err


@pytest.mark.usefixtures("rows")
def test_a_file_that_is_there_is_never_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Evidence does not take the place of evidence."""
    (tmp_path / "there").write_text("evidence")
    period = ("--from", "2026-11-22", "--to", "2026-11-23")
    for command in (["checkpoint", "--config", "gateway.toml"], ["export", *period]):
        ran = receipts(capsys, *command, "--ledger", "ledger.db", "--out", "there")
        assert ran.code == 2
        assert "--out: there is there already." in ran.err
        ran = receipts(capsys, *command, "--ledger", "ledger.db", "--out", "no/folder/file")
        assert ran.code == 2
        assert "cannot be written" in ran.err
    assert (tmp_path / "there").read_text() == "evidence"


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        ("2026-13-01", "2026-11-23", "--from: is no date and no instant."),
        ("2026-11-22", "soon", "--to: is no date and no instant."),
        ("2026-11-22T10:00:00", "2026-11-23", "--from: is no date and no instant."),
        ("2026-11-23", "2026-11-23", "--to: the period ends before it begins."),
    ],
)
@pytest.mark.usefixtures("rows")
def test_a_period_that_is_none(capsys: pytest.CaptureFixture[str], since: str, until: str, words: str) -> None:
    """Exit code 2, and how to write it."""
    ran = receipts(capsys, "export", "--from", since, "--to", until, "--ledger", "ledger.db", "--out", "p.zip")
    assert ran.code == 2
    assert words in ran.err


def test_export_warns_of_what_a_reader_will_miss(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: list[Sealed]
) -> None:
    """No keys, rows that are no receipts, a methodology of another version: each on standard error."""
    from audit.auditing import payload_of, signed

    period = ("--from", "2026-11-22", "--to", "2026-11-23", "--ledger", "ledger.db")
    shutil.copy(tmp_path / "ledger.db", tmp_path / "before.db")
    ran = receipts(capsys, "export", *period, "--out", "a.zip")
    assert ran.code == 0
    assert "no keys are in the pack" in ran.err
    assert not receipts(capsys, "export", *period, "--jwks", "jwks.json", "--out", "b.zip").err
    replace_row(tmp_path / "ledger.db", 1, "garbage")
    text = signed(payload_of(rows[1].text) | {"coefficients_digest": "sha-256:" + "0" * 64})
    replace_row(tmp_path / "ledger.db", 2, text)
    ran = receipts(capsys, "export", *period, "--jwks", "jwks.json", "--out", "c.zip")
    assert ran.code == 1
    assert "1 row without a receipt that can be read" in ran.err
    assert "is not in this version: its files are missing" in ran.err


@pytest.mark.usefixtures("rows")
def test_report_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line passes what the report needs."""
    ran = receipts(capsys, "report", "--config", "gateway.toml", "--from", "2026-11-22", "--format", "csv")
    assert ran.code == 0
    assert ran.out.startswith("group,boundary")


@pytest.mark.parametrize("arguments", [[], ["verify"], ["show"], ["export", "--from", "2026-11-22"], ["unknown"]])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Exit code 2, as for every command."""
    assert receipts(capsys, *arguments).code == 2


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`vetted-mw receipts --help` lists what there is."""
    ran: Any = receipts(capsys, "--help")
    assert ran.code == 0
    assert all(name in ran.out for name in ("verify", "show", "export", "checkpoint", "report"))
