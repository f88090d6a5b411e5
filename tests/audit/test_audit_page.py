"""docs/audit.md from top to bottom, in one folder: every block is pasted, and does what stands around it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from audit.auditing import ledger, needs_openssl, payload_of
from receipts.keys import jwks, private_pem, signer
from vetted_mw.audit.pack.pack import AGGREGATES, EDGES, JWKS, MANIFEST, METHOD_FOLDER, RECEIPTS
from vetted_mw.audit.verify.findings import Code
from vetted_mw.receipts.jwks import spki_pem
from vetted_mw.receipts.jws import detached

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@needs_openssl
def test_the_page_works_from_top_to_bottom(tmp_path: Path) -> None:
    """With an answer, a ledger, settings and the issuer's keys in a folder, each command ends well."""
    by = signer()
    answer = ledger(tmp_path / "receipts.sqlite3")[0]
    receipt = payload_of(answer.text) | {"signature": detached(answer.text)}
    (tmp_path / "answer.json").write_text(json.dumps({"choices": [], "receipt": receipt}))
    (tmp_path / "jwks.json").write_text(json.dumps(jwks(by)))
    (tmp_path / "key.pem").write_text(private_pem())
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "vetted.toml").write_text(
        '[signing]\nkey = { file = "key.pem" }\n[ledger]\npath = "receipts.sqlite3"\n'
    )
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "vetted-mw"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vetted_mw "$@"\n')
    command.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}
    environ["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environ['PATH']}"
    printed = []
    assert [language for language, _ in BLOCKS].count("text") == 1
    for text in [text for language, text in BLOCKS if language == "sh"]:
        done = subprocess.run(
            ["sh", "-eu", "-c", text],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        printed.append(done.stdout)
    assert len(printed) == 5
    assert all(": 0 problems" in text for text in printed[:4])
    digest = printed[4].split()[0]
    assert f"sha-256:{digest}" in (tmp_path / "quarter" / MANIFEST).read_text()
    assert "Verified Successfully" in printed[4]
    assert (tmp_path / "issuer.pem").read_text() == spki_pem(by.jwk)


def test_every_code_is_explained() -> None:
    """The table of findings has every code there is, and no other."""
    table = PAGE.partition("## What a finding means")[2].partition("## What verifying cannot show")[0]
    told = [code for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)]
    assert sorted(told) == sorted(Code)


def test_every_file_of_a_pack_is_explained() -> None:
    """The table of a pack's files has them all."""
    told = re.findall(r"^\| `([\w.]+)/?` \|", PAGE, re.MULTILINE)
    assert sorted(name for name in told if name not in set(Code)) == sorted(
        [AGGREGATES, EDGES, JWKS, MANIFEST, METHOD_FOLDER, RECEIPTS]
    )
