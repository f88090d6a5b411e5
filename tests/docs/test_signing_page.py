"""docs/signing.md from top to bottom, in one folder: every block is pasted, and does what stands around it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from receipts.keys import jwks
from vetted_mw import load_configuration
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jwks import spki_pem
from vetted_mw.receipts.jws import ALGORITHMS, RECEIPT_TYPE, compact, detached
from vetted_mw.receipts.signing import Ed25519Signer, load_signer

PAGE = (Path(__file__).parents[2] / "docs" / "signing.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RECEIPTS = [{"query_id": f"q{number}", "gco2e": 58.0 * number} for number in range(4)]


def run_block(block: tuple[str, str], folder: Path) -> str:
    """Paste a block: settings become the file, a script or a program runs; return what it printed."""
    language, text = block
    if language == "toml":
        (folder / "vetted.toml").write_text(text)
        return ""
    (folder / "bin" / "vetted-mw").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vetted_mw "$@"\n')
    (folder / "bin" / "vetted-mw").chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}
    environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{environ['PATH']}"
    command = {"sh": ["sh", "-eu", "-c", text], "python": [sys.executable, "-c", text]}[language]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (text, done.stderr)
    return done.stdout


def current(folder: Path) -> Ed25519Signer:
    key = load_configuration(folder / "vetted.toml", environ={}).signing.key
    assert key is not None
    return load_signer(key)


def test_the_page_works_from_top_to_bottom(tmp_path: Path) -> None:
    """Make a key, sign, change the key, and verify receipts of both with joserfc and with openssl."""
    if shutil.which("openssl") is None:
        assert not os.environ.get("CI"), "CI must bring openssl"
        pytest.skip("openssl is not installed")
    (tmp_path / "bin").mkdir()
    blocks = iter(BLOCKS)
    assert "kid" in run_block(next(blocks), tmp_path)
    run_block(next(blocks), tmp_path)
    first = current(tmp_path)
    run_block(next(blocks), tmp_path)
    run_block(next(blocks), tmp_path)
    second = current(tmp_path)
    assert second.kid != first.kid
    assert "signs now" in run_block(("sh", "vetted-mw keys show"), tmp_path)
    run_block(next(blocks), tmp_path)
    listed = json.loads((tmp_path / "jwks.json").read_text())["keys"]
    assert listed[0] == jwks(second)["keys"][0]
    assert (listed[1]["kid"], listed[1]["not_after"]) == (first.kid, "2027-01-01T00:00:00Z")
    signers = [second, first, second, first]
    texts = [compact(canonical(receipt), signer) for receipt, signer in zip(RECEIPTS, signers, strict=True)]
    (tmp_path / "receipts.jsonl").write_text("\n".join(texts) + "\n")
    answer = {"receipt": RECEIPTS[1] | {"binding_nonce": "AAAA", "signature": detached(texts[1])}}
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    assert run_block(next(blocks), tmp_path) == "q0 0\nq1 58\nq2 116\nq3 174\n"
    of_answer = next(blocks)
    assert run_block(of_answer, tmp_path) == "unchanged: q1\n"
    (tmp_path / "answer.json").write_text(json.dumps(answer).replace("58.0", "57.0"))
    with pytest.raises(AssertionError, match="BadSignature"):
        run_block(of_answer, tmp_path)
    run_block(next(blocks), tmp_path)
    made = (tmp_path / "issuer.pem").read_text()
    (tmp_path / "issuer.pem").unlink()
    run_block(next(blocks), tmp_path)
    assert (tmp_path / "issuer.pem").read_text() == made == spki_pem(second.jwk)
    assert "Signature Verified Successfully" in run_block(next(blocks), tmp_path)
    assert list(blocks) == []


def test_the_page_says_what_a_signature_does_not_prove() -> None:
    """The sentence that every reader has to meet, and the header as it really is."""
    words = " ".join(PAGE.replace("**", "").split())
    assert (
        "A signature proves who said it and that it is unchanged, not that the estimate is right or that this model ran."
        in words
    )
    assert f'{{"alg":"Ed25519","kid":"…","typ":"{RECEIPT_TYPE}"}}' in words
    assert all(f"`{name}`" in words for name in ALGORITHMS)
