"""Evidence packs: made from ledgers, verified, and tampered with."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import struct
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from audit.auditing import (
    LEDGER_ID,
    OTHER_LEDGER_ID,
    SIGNER,
    codes,
    delete_rows,
    edit,
    findings_in,
    ledger,
    notes,
    payload_of,
    problems,
    replace_row,
    rows_of,
    signed,
)
from receipts.keys import jwks, signer
from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.audit.ledger import AuditedLedger
from vetted_mw.audit.pack import pack as packed
from vetted_mw.audit.pack.packing import Packed, write_pack
from vetted_mw.audit.verify.findings import Code, Finding
from vetted_mw.receipts.ledger.checkpoints import make_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SINCE, UNTIL = "2026-11-22T10:32:02.000Z", "2026-11-22T10:32:05.000Z"
ALL = ("2026-11-22T00:00:00.000Z", "2026-11-23T00:00:00.000Z")
JWKS = msgspec.json.encode(jwks(SIGNER))
KEYS_TOLD = Code.KEYS


def pack(source: Path, since: str = SINCE, until: str = UNTIL, *, keys: bytes = JWKS) -> tuple[bytes, Packed]:
    """Pack a period and return the zip file's bytes."""
    target = io.BytesIO()
    with AuditedLedger(source) as reader:
        made = write_pack(reader, target, since=since, until=until, jwks=keys, software="vetted-mw/0.1.0")
    return target.getvalue(), made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a ledger file with two ledgers, one second between receipts."""
    path = tmp_path / "source.db"
    ledger(path, 8)
    ledger(path, 4, ledger_id=OTHER_LEDGER_ID)
    return path


@pytest.fixture
def unpacked(source: Path, tmp_path: Path) -> Path:
    """Return the folder a pack of three seconds was unpacked into."""
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(io.BytesIO(pack(source)[0])) as archive:
        archive.extractall(folder)
    return folder


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def remade(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _manifest: None) -> Path:
    """Write the manifest anew, so that it fits the files: what anybody can do who makes a pack."""
    path = folder / packed.MANIFEST
    manifest = json.loads(path.read_text())
    for one in manifest["files"]:
        data = (folder / one["name"]).read_bytes()
        one |= {"bytes": len(data), "sha256": f"sha-256:{hashlib.sha256(data).hexdigest()}"}
    change(manifest)
    path.write_text(json.dumps(manifest))
    return folder


def lines(folder: Path, name: str = packed.RECEIPTS) -> list[str]:
    return (folder / name).read_text().splitlines()


def rewrite(folder: Path, texts: list[str], name: str = packed.RECEIPTS) -> None:
    (folder / name).write_text("".join(f"{text}\n" for text in texts))


def test_a_pack_of_a_part_passes_and_holds_what_is_needed(source: Path, tmp_path: Path, unpacked: Path) -> None:
    """A period in the middle of a ledger is no gap: neighbours show where it begins and ends."""
    data, made = pack(source)
    found = findings_in(saved(tmp_path / "pack.bin", data), keys=None)
    assert [code for code, _ in problems(found)] == [KEYS_TOLD]
    assert not notes(found)
    assert not findings_in(saved(tmp_path / "pack.bin", data))
    assert not findings_in(unpacked)
    manifest = made.manifest
    assert [(one.ledger_id, one.first, one.last, one.count, one.edges) for one in manifest.ledgers] == [
        (LEDGER_ID, 3, 5, 3, 2),
        (OTHER_LEDGER_ID, 3, 4, 2, 1),
    ]
    assert not manifest.is_whole
    assert {one.name for one in manifest.files} == {
        "receipts.jsonl",
        "edges.txt",
        "aggregates.csv",
        "jwks.json",
        *(f"methodology/1.1.0/{name}" for name in ("ar5_v1.toml", "coefficients.toml", "methodology.toml")),
        *(f"methodology/1.1.0/{name}" for name in ("models.toml", "sites.toml", "water.toml")),
    }
    assert (unpacked / "aggregates.csv").read_text().startswith("group,boundary,day,model,region")


def test_the_same_period_gives_the_same_bytes(source: Path) -> None:
    """A pack can be made again and compared."""
    assert pack(source)[0] == pack(source)[0]


def test_a_whole_ledger_is_packed_with_its_checkpoints(source: Path, tmp_path: Path) -> None:
    """A pack of every row is held against the ledger's checkpoints; one of a part is not, and says so."""
    make_checkpoint(source, SIGNER, datetime(2026, 11, 23, tzinfo=UTC))
    data, made = pack(source, *ALL)
    assert made.manifest.is_whole
    assert not findings_in(saved(tmp_path / "whole.zip", data))
    found = findings_in(saved(tmp_path / "part.zip", pack(source)[0]))
    assert not problems(found)
    assert [code for code, _ in notes(found)] == [Code.CHECKPOINT]
    folder = tmp_path / "whole"
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        archive.extractall(folder)
    texts = lines(folder)
    rewrite(folder, [texts[1], texts[0], *texts[2:]])
    assert {Code.CHECKPOINT, Code.ORDER, Code.MANIFEST} <= codes(findings_in(remade(folder)))


def test_an_empty_period_is_packed_as_such(source: Path, tmp_path: Path) -> None:
    """A pack without a receipt is evidence of nothing, and says so."""
    data, made = pack(source, "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z")
    assert made.manifest.receipts == 0
    found = findings_in(saved(tmp_path / "empty.zip", data), refused=["holds no receipt"])
    assert [(one.code, one.text) for one in found] == [
        (Code.SKIPPED, "holds no receipt: none was issued in its period")
    ]


def test_an_unsigned_ledger_is_packed_without_keys(tmp_path: Path) -> None:
    """Gaps and figures are checked all the same, and that it is unsigned is a note."""
    path = tmp_path / "plain.db"
    ledger(path, 5, by=None)
    found = findings_in(saved(tmp_path / "p.zip", pack(path, keys=b'{"keys":[]}')[0]), keys=None)
    assert not problems(found)
    assert [code for code, _ in notes(found)] == [Code.UNSIGNED]


def test_receipts_issued_out_of_order_at_the_edge_are_no_gap(tmp_path: Path) -> None:
    """Two requests may commit in another order than their instants; the one outside the period stands beside it."""
    path = tmp_path / "l.db"
    instants = ["10:32:01", "10:32:02", "10:32:06", "10:32:03", "10:32:04", "10:32:05"]
    write_ledger(path, [made_receipt(issued_at=f"2026-11-22T{one}Z") for one in instants], SIGNER, LEDGER_ID)
    data, made = pack(path)
    assert [(one.first, one.last, one.count, one.edges) for one in made.manifest.ledgers] == [(2, 5, 3, 3)]
    assert not findings_in(saved(tmp_path / "p.zip", data))


def test_requests_without_an_answer_are_in_the_sums(tmp_path: Path) -> None:
    """What the sums count is what verify counts, parts and lost requests among them."""
    path = tmp_path / "l.db"
    lost = made_receipt().query_id
    whole = made_receipt(calls=2, issued_at="2026-11-22T10:32:03Z")
    rows = [
        made_receipt(issued_at="2026-11-22T10:32:02Z", request_id=lost, completion_status="abandoned"),
        made_receipt(issued_at="2026-11-22T10:32:03Z", request_id=lost, completion_status="abandoned"),
        made_receipt(issued_at="2026-11-22T10:32:03Z", request_id=whole.query_id),
        made_receipt(issued_at="2026-11-22T10:32:03Z", request_id=whole.query_id),
        whole,
    ]
    write_ledger(path, rows, SIGNER, LEDGER_ID)
    found = findings_in(saved(tmp_path / "p.zip", pack(path)[0]))
    assert not problems(found)
    assert [code for code, _ in notes(found)] == [Code.REFERENCE]


def test_a_sum_whose_parts_are_of_another_period_is_a_note(tmp_path: Path) -> None:
    """A request that runs over the end of a period: its parts are in one pack, its sum in the next."""
    path = tmp_path / "l.db"
    whole = made_receipt(calls=2, issued_at="2026-11-22T10:32:05Z")
    parts = [made_receipt(issued_at=f"2026-11-22T10:32:0{second}Z", request_id=whole.query_id) for second in (4, 5)]
    write_ledger(path, [*parts, whole], SIGNER, LEDGER_ID)
    found = findings_in(saved(tmp_path / "before.zip", pack(path)[0]))
    assert not problems(found)
    assert [code for code, _ in notes(found)] == [Code.REFERENCE]
    found = findings_in(saved(tmp_path / "after.zip", pack(path, UNTIL, "2026-11-23T00:00:00.000Z")[0]))
    assert not problems(found)
    assert notes(found) == [
        (Code.PARTS, "is the sum of 2 calls, and 1 of them are here: others may be of another time")
    ]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_row_left_out_of_a_pack_is_named(unpacked: Path, taken: int) -> None:
    """Even when the manifest is made to fit: the numbers, the neighbours and the root do not."""
    texts = lines(unpacked)
    del texts[taken]
    rewrite(unpacked, texts)
    found = findings_in(remade(unpacked))
    seq = taken + 3
    assert (Code.GAP, f"seq {seq} is missing between {seq - 1} and {seq + 1}") in problems(found)
    assert Code.MANIFEST in codes(found)


def test_rows_left_out_at_the_end_are_found_without_a_neighbour(unpacked: Path) -> None:
    """The head in the manifest says that there is more."""
    rewrite(unpacked, lines(unpacked)[:-1])
    rewrite(unpacked, lines(unpacked, packed.EDGES)[:-1], packed.EDGES)
    found = problems(findings_in(remade(unpacked)))
    assert (Code.HEAD, "the newest row 4 is missing: the head says seq 4") in found


def test_a_neighbour_left_out_is_told(unpacked: Path) -> None:
    """Without the row before the period, that nothing was left out at its begin cannot be seen."""
    edges = lines(unpacked, packed.EDGES)
    rewrite(unpacked, [one for one in edges if payload_of(one)["seq"] > 5], packed.EDGES)
    found = problems(findings_in(remade(unpacked)))
    assert (Code.GAP, "seq 1 to 2 are missing before 3") in found


def test_rows_in_the_wrong_file_are_told(unpacked: Path) -> None:
    """A row of the period beside it, one of another time in it, and one of another ledger altogether."""
    texts, edges = lines(unpacked), lines(unpacked, packed.EDGES)
    rewrite(unpacked, [*texts[1:], edges[0]])
    rewrite(unpacked, [*edges[1:], texts[0]], packed.EDGES)
    found = problems(findings_in(remade(unpacked)))
    assert (Code.MANIFEST, "was issued outside the period that the manifest names") in found
    assert (Code.MANIFEST, "was issued within the period, and stands beside it") in found
    stranger = signed(payload_of(edges[0]) | {"ledger_id": "93ab9591-8d48-4a25-8bcd-e2da95265ff0"})
    rewrite(unpacked, [*edges, edges[0], stranger, "x"], packed.EDGES)
    found = problems(findings_in(remade(unpacked)))
    assert (Code.MANIFEST, "is the neighbour of no receipt in this pack") in found
    assert Code.DUPLICATE in {code for code, _ in found}


@pytest.mark.parametrize(
    "name",
    ["receipts.jsonl", "edges.txt", "aggregates.csv", "jwks.json", "methodology/1.1.0/methodology.toml"],
)
def test_a_file_changed_in_a_pack_is_told(unpacked: Path, name: str) -> None:
    """One byte more anywhere is found by its digest."""
    with (unpacked / name).open("ab") as file:
        file.write(b" ")
    found = findings_in(unpacked)
    assert Code.MANIFEST in codes(found)
    assert any(one.place.file.endswith(f"!{name}") for one in found)


def test_files_missing_and_files_added_are_told(unpacked: Path) -> None:
    """The manifest names every file, and no other is there."""
    (unpacked / "aggregates.csv").unlink()
    (unpacked / "methodology/1.1.0/water.toml").unlink()
    (unpacked / "extra.txt").write_text("x")
    found = problems(findings_in(unpacked))
    assert (Code.MANIFEST, "is in the manifest and not in the pack") in found
    assert (Code.MANIFEST, "is in the pack and not in the manifest") in found
    assert (Code.DIGEST, "holds no methodology that can be read") in found


def test_a_manifest_that_lists_less_or_twice_is_told(unpacked: Path) -> None:
    """A file left out of the manifest is in no digest."""

    def shorten(manifest: dict[str, Any]) -> None:
        manifest["files"] = [one for one in manifest["files"] if one["name"] != "edges.txt"]
        manifest["files"].append(manifest["files"][0])

    found = problems(findings_in(remade(unpacked, shorten)))
    assert (Code.MANIFEST, "belongs to every pack and is not in the manifest") in found
    assert (Code.MANIFEST, "lists a file twice") in found


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"receipts": 7}, "the manifest counts 7 receipts, and there are 5"),
        ({"root": "sha-256:" + "0" * 64}, "the Merkle root in the manifest is not that of the rows"),
        ({"ledgers": []}, "first seq, last seq, count and edges in the manifest are not those of the rows"),
        ({"is_whole": True}, "calls this the whole ledger, and there are rows beside the period (edges.txt)"),
    ],
)
def test_what_a_manifest_says_is_compared_with_what_is(unpacked: Path, change: dict[str, Any], text: str) -> None:
    """Counts, root and ranges follow from the rows."""
    found = problems(findings_in(remade(unpacked, lambda manifest: manifest.update(change))))
    assert (Code.MANIFEST, text) in found


@pytest.mark.parametrize("member", [{"seq": 3}, {"ledger_id": "x"}])
def test_a_manifest_that_files_a_head_wrongly_is_told(unpacked: Path, member: dict[str, Any]) -> None:
    """What stands beside a head for readers in a hurry is what the head itself says."""
    found = findings_in(remade(unpacked, lambda manifest: manifest["heads"][0].update(member)))
    assert codes(found) == {Code.COLUMNS}


def test_a_manifest_that_miscounts_neighbours_or_a_checkpoint_is_told(source: Path, tmp_path: Path) -> None:
    """The numbers beside ledgers and checkpoints are compared with what they are of."""
    make_checkpoint(source, SIGNER, datetime(2026, 11, 23, tzinfo=UTC))
    folder = tmp_path / "whole"
    with zipfile.ZipFile(io.BytesIO(pack(source, *ALL)[0])) as archive:
        archive.extractall(folder)
    assert not findings_in(remade(folder))

    def miscount(manifest: dict[str, Any]) -> None:
        manifest["ledgers"][0]["edges"] = 3
        manifest["checkpoints"][0]["tree_size"] = 5

    assert codes(findings_in(remade(folder, miscount))) == {Code.MANIFEST, Code.COLUMNS}


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "..\\x", "C:x"])
def test_a_pack_whose_files_would_be_unpacked_elsewhere_is_told(source: Path, tmp_path: Path, name: str) -> None:
    """Not every program that unpacks zip files looks after that, and the manifest may well name such a file."""
    path = saved(tmp_path / "p.zip", pack(source)[0])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    assert (Code.MANIFEST, "is named so that unpacking it could write elsewhere") in problems(findings_in(path))


def test_keys_in_a_pack_that_are_not_the_issuers_are_told(unpacked: Path) -> None:
    """Whoever gets the pack next may check it with the keys inside."""
    (unpacked / packed.JWKS).write_bytes(msgspec.json.encode(jwks(signer(3))))
    ((code, text),) = notes(findings_in(remade(unpacked)))
    assert (code, "do not hand it on" in text) == (Code.KEYS, True)
    (unpacked / packed.JWKS).write_bytes(b"[]")
    assert codes(findings_in(remade(unpacked))) == {Code.KEYS}


def test_a_pack_without_a_head_says_what_it_cannot_know(unpacked: Path) -> None:
    """Heads left out of the manifest are told by ledger."""
    found = problems(findings_in(remade(unpacked, lambda manifest: manifest.update(heads=[]))))
    assert [code for code, _ in found] == [Code.HEAD, Code.HEAD]
    broken = [{"ledger_id": LEDGER_ID, "seq": 8, "text": "x"}]
    found = problems(findings_in(remade(unpacked, lambda manifest: manifest.update(heads=broken))))
    assert Code.SIGNATURE in {code for code, _ in found}


def test_sums_that_do_not_follow_are_told(unpacked: Path) -> None:
    """The table of a pack is computed again from its receipts."""
    path = unpacked / packed.AGGREGATES
    path.write_bytes(path.read_bytes().replace(b",5,5,", b",4,5,", 1))
    found = findings_in(remade(unpacked))
    assert [(one.code, one.place.file.rpartition("!")[2]) for one in found] == [(Code.FIGURE, packed.AGGREGATES)]


def test_another_issuer_s_pack_passes_by_its_own_keys_alone(tmp_path: Path) -> None:
    """Keys out of the pack prove that it is consistent, not whose it is: that is said, and --jwks settles it."""
    path = tmp_path / "l.db"
    ledger(path, 8, by=signer(3))
    data, _ = pack(path, keys=msgspec.json.encode(jwks(signer(3))))
    found = findings_in(saved(tmp_path / "p.zip", data), keys=None)
    ((code, text),) = problems(found)
    assert (code, "taken from the pack itself" in text) == (Code.KEYS, True)
    assert codes(findings_in(tmp_path / "p.zip")) == {Code.UNKNOWN_KEY}


def test_a_pack_whose_jwks_is_none_is_told(unpacked: Path) -> None:
    """A private key, say, or no JSON."""
    (unpacked / packed.JWKS).write_text("{}")
    found = findings_in(remade(unpacked), keys=None)
    assert {Code.KEYS, Code.NO_KEY} <= codes(found)


def test_a_methodology_that_this_version_does_not_ship_comes_with_the_pack(source: Path, unpacked: Path) -> None:
    """Receipts of another version are recomputed by the files in the pack."""
    folder = unpacked / "methodology/1.1.0"
    text = (folder / "coefficients.toml").read_text()
    (folder / "coefficients.toml").write_text(text + "\n# another version\n")
    from vetted_mw.receipts.coefficients import coefficients_from

    digest = coefficients_from({file.name: file.read_bytes() for file in folder.iterdir()}).digest
    for name in (packed.RECEIPTS, packed.EDGES):
        rewrite(
            unpacked, [signed(payload_of(one) | {"coefficients_digest": digest}) for one in lines(unpacked, name)], name
        )
    tree_root = _root(lines(unpacked))

    def fit(manifest: dict[str, Any]) -> None:
        manifest["methods"][0]["coefficients_digest"] = digest
        manifest["root"] = tree_root

    found = findings_in(remade(unpacked, fit))
    assert codes(found) == {Code.HEAD}, "the newest row of one ledger was signed anew"
    (folder / "coefficients.toml").write_text(text)
    found = findings_in(remade(unpacked))
    assert Code.DIGEST in codes(found)
    assert (Code.DIGEST, "its files do not have the digests that the manifest names") in problems(found)


def _root(texts: list[str]) -> str:
    from vetted_mw.receipts.ledger.merkle import MerkleTree

    tree = MerkleTree()
    for text in texts:
        tree.add(text.encode())
    return f"sha-256:{tree.root().hex()}"


def test_lines_of_a_pack_that_are_no_receipts_are_told(unpacked: Path) -> None:
    """Not UTF-8, too long, garbage: each with its line."""
    path = unpacked / packed.RECEIPTS
    path.write_bytes(path.read_bytes() + b"\xff\n" + b"x" * 2_000_000 + b"\ngarbage\n")
    found = findings_in(remade(unpacked))
    assert {(Code.UNREADABLE, 6), (Code.TOO_LARGE, 7), (Code.SIGNATURE, 8)} <= {
        (one.code, one.place.line) for one in found
    }


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pack_version":"2"}', '{"pack_version":"1","pack_version":"1"}'])
def test_a_manifest_that_is_none_is_told(unpacked: Path, text: str) -> None:
    """Without a manifest that can be understood nothing is checked, and that is a problem."""
    (unpacked / packed.MANIFEST).write_text(text)
    assert codes(findings_in(unpacked)) == {Code.MANIFEST}


def test_what_is_wrong_with_a_ledger_is_wrong_with_its_pack(source: Path, tmp_path: Path) -> None:
    """An export hides nothing: gaps, broken rows and false texts are found in the pack."""
    delete_rows(source, 4)
    with closing(sqlite3.connect(source)) as connection:
        assert connection.execute("SELECT count(*) FROM receipts").fetchone() == (10,)
    replace_row(source, 3, "broken\ntext")
    data, made = pack(source)
    assert made.unreadable == 2
    found = findings_in(saved(tmp_path / "p.zip", data))
    assert Code.SIGNATURE in codes(found)
    assert Code.GAP in codes(found)


def test_receipts_of_an_unknown_methodology_are_packed_and_named(source: Path) -> None:
    """Its files cannot be added, and whoever exports is told."""
    row = rows_of(source)[3]
    text = signed(payload_of(row["jws"]) | {"coefficients_digest": "sha-256:" + "0" * 64})
    edit(source, ("UPDATE receipts SET jws = ? WHERE query_id = ?", (text, row["query_id"])))
    assert pack(source)[1].unknown_methods == ("sha-256:" + "0" * 64,)


def test_rows_without_ledger_and_number_in_a_pack_are_told(unpacked: Path) -> None:
    """What has no number cannot be missed, and does not belong to a ledger's pack."""
    texts = lines(unpacked)
    bare = payload_of(texts[0])
    del bare["ledger_id"], bare["seq"]
    rewrite(unpacked, [*texts[1:], signed(bare)])
    rewrite(unpacked, [*lines(unpacked, packed.EDGES), signed(bare | {"issued_at": ALL[0]})], packed.EDGES)
    found = problems(findings_in(remade(unpacked)))
    assert (Code.GAP, "seq 3 is missing between 2 and 4") in found
    assert (Code.MANIFEST, "is the neighbour of no receipt in this pack") in found


def zipped(path: Path, files: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("kept", [4, 30, 1_000, -1, -20, -30])
def test_a_truncated_zip_is_told(source: Path, tmp_path: Path, kept: int) -> None:
    """A pack cut anywhere is a finding, never a failure."""
    data, _ = pack(source)
    assert codes(findings_in(saved(tmp_path / "p.zip", data[:kept]))) == {Code.UNREADABLE}


@pytest.mark.parametrize("seed", range(24))
def test_a_damaged_zip_is_told_or_harmless(source: Path, tmp_path: Path, seed: int) -> None:
    """Bytes overwritten anywhere in a pack never make verify fail, and never go unseen where they matter."""
    data = bytearray(pack(source)[0])
    at = (len(data) * seed) // 24
    data[at : at + 8] = bytes(byte ^ 0xFF for byte in data[at : at + 8])
    found: list[Finding] = findings_in(saved(tmp_path / "p.zip", bytes(data)), refused=() if at else [""])
    assert codes(found) or not at


def test_a_zip_bomb_is_not_read_to_its_end(unpacked: Path, tmp_path: Path) -> None:
    """What grows beyond all receipts is told: rows a thousand times their packed size, a manifest of gigabytes."""
    files = {
        str(path.relative_to(unpacked)): path.read_bytes() for path in sorted(unpacked.rglob("*")) if path.is_file()
    }
    bomb = files | {packed.RECEIPTS: (b" " * 1_000 + b"\n") * 50_000}
    found = problems(findings_in(zipped(tmp_path / "rows.zip", bomb)))
    assert any(code is Code.UNREADABLE and "times its packed size" in text for code, text in found)
    large = files | {packed.MANIFEST: b" " * 70_000_000}
    found = problems(findings_in(zipped(tmp_path / "manifest.zip", large)))
    assert [code for code, _ in found] == [Code.MANIFEST]


def test_a_small_file_that_is_large_is_not_read(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are read whole have a bound."""
    monkeypatch.setattr(packed, "MAX_SMALL_BYTES", 20_000)
    (unpacked / packed.AGGREGATES).write_text("x" * 30_000)
    found = problems(findings_in(unpacked))
    assert (Code.UNREADABLE, "has more than 20,000 bytes") in found


def test_a_zip_of_very_many_files_is_not_opened(tmp_path: Path) -> None:
    """Its directory alone would fill the memory."""
    path = zipped(tmp_path / "many.zip", {str(number): b"" for number in range(1_500)})
    assert codes(findings_in(path)) == {Code.UNREADABLE}
    path.write_bytes(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 3, 3, 2**31, 0, 0))
    assert codes(findings_in(path)) == {Code.UNREADABLE}


def test_a_zip_file_in_an_odd_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack that vanishes or cannot be read while it is looked at is a finding."""
    path = zipped(tmp_path / "p.zip", {"a": b""})
    real = type(path).open

    def once(self: Path, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(type(path), "open", denied)
        return real(self, *arguments, **options)

    def denied(*_arguments: Any, **_options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", once)
    assert problems(findings_in(path)) == [(Code.UNREADABLE, "cannot be read")]


def test_a_zip_file_that_is_no_pack_is_told(tmp_path: Path) -> None:
    """Any other zip file has no manifest."""
    path = zipped(tmp_path / "p.zip", {"letter.txt": b"Dear Sir"})
    assert problems(findings_in(path)) == [(Code.MANIFEST, "is not there")]


def test_an_end_of_a_zip_file_alone_is_told(tmp_path: Path) -> None:
    """An end record that points to nothing."""
    path = saved(tmp_path / "p.zip", b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 3, 3, 500, 9_000, 0))
    assert codes(findings_in(path)) == {Code.UNREADABLE}


def test_a_file_of_a_folder_that_cannot_be_opened_is_told(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unreadable file is a finding, and the others are checked."""
    real = type(unpacked).open

    def denied(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == packed.JWKS:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(type(unpacked), "open", denied)
    assert problems(findings_in(unpacked)) == [(Code.UNREADABLE, "cannot be read")]


def test_a_checkpoint_kept_apart_is_held_against_a_whole_pack(source: Path, tmp_path: Path) -> None:
    """`--checkpoint` works for a pack that holds every row, and says so for one that does not."""
    from vetted_mw.audit.verify.checkpoint_check import KeptApart

    whole, part = pack(source, *ALL)[0], pack(source)[0]
    apart = KeptApart(file="c", text=make_checkpoint(source, SIGNER, datetime(2026, 11, 23, tzinfo=UTC)).text)
    assert not findings_in(saved(tmp_path / "w.zip", whole), checkpoints=[apart])
    found = findings_in(saved(tmp_path / "p.zip", part), checkpoints=[apart])
    assert [(one.code, one.severity, one.place.file) for one in found] == [(Code.CHECKPOINT, "note", "c")]


def test_two_files_of_one_name_are_told(unpacked: Path, tmp_path: Path) -> None:
    """What one reader takes first and another last is neither."""
    path = tmp_path / "twice.zip"
    files = [(str(one.relative_to(unpacked)), one.read_bytes()) for one in sorted(unpacked.rglob("*")) if one.is_file()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files:
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(*files[0])
    assert (Code.MANIFEST, "holds two files of one name") in problems(findings_in(path))


def test_an_encrypted_or_oddly_packed_member_is_told(source: Path, tmp_path: Path) -> None:
    """A member that cannot be read is a finding."""
    data = bytearray(pack(source)[0])
    start = 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        data[start + 8] |= 1  # says that it is encrypted
        start += 4
    assert codes(findings_in(saved(tmp_path / "p.zip", bytes(data)))) == {Code.MANIFEST}
    plain = bytearray(pack(source)[0])
    start = plain.find(b"PK\x01\x02")
    plain[start + 10] = 97  # a compression nobody knows
    assert Code.UNREADABLE in codes(findings_in(saved(tmp_path / "p.zip", bytes(plain))))


def test_a_folder_of_very_many_files_is_no_pack(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpacked pack has a few files."""
    monkeypatch.setattr(packed, "_MOST_FILES", 3)
    assert Code.MANIFEST in codes(findings_in(unpacked))


def test_a_name_that_leads_out_of_the_folder_is_not_followed(unpacked: Path, tmp_path: Path) -> None:
    """A manifest cannot make verify read files that are not the pack's."""
    outside = tmp_path / "outside.toml"
    outside.write_text("x")

    def lead_out(manifest: dict[str, Any]) -> None:
        manifest["files"].append({"name": "../outside.toml", "bytes": 1, "sha256": "sha-256:" + "0" * 64})
        manifest["methods"][0]["files"].append("../outside.toml")

    found = problems(findings_in(remade(unpacked, lead_out)))
    assert found == [(Code.MANIFEST, "is in the manifest and not in the pack")]


def test_a_folder_holds_packs_ledgers_and_others(source: Path, unpacked: Path, tmp_path: Path) -> None:
    """Everything below a folder is verified by what it holds; what holds no receipts is a note."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    shutil.copytree(unpacked, folder / "q4")
    shutil.copy(source, folder / "ledger")
    (folder / "ledger-wal").touch()
    (folder / "readme").write_text("words")
    (folder / "empty").touch()
    (folder / "keys.json").write_bytes(JWKS)
    found = findings_in(folder)
    assert not problems(found)
    assert sorted(text for _, text in notes(found)) == [
        "passed over: is JSON without a receipt (a JWKS: give it with --jwks)",
        "passed over: is empty",
        "passed over: is no answer, stream, receipt, ledger or pack",
    ]
