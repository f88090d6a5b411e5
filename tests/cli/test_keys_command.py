"""`vetted-mw keys`: a key is made so that nobody else ever reads it, and only its public half is shown."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from typing import TYPE_CHECKING

import pytest

from cli.commands import finished, run
from receipts.keys import jwks, private_pem, signer
from vetted_mw import load_configuration
from vetted_mw.receipts.jwks import spki_pem
from vetted_mw.receipts.signing import load_signer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    return tmp_path


def kid_in(file: Path) -> str:
    return load_signer(file.read_text()).kid


def body_of(file: Path) -> str:
    return file.read_text().splitlines()[1]


def written(file: Path, text: str = private_pem(), mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


# ---- new


def test_a_new_key_is_a_file_that_its_owner_alone_may_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the umask; what is printed names the key and holds nothing of it."""
    before = os.umask(0)
    try:
        ran = run(capsys, "keys", "new", "--out", "signing-key.pem")
    finally:
        os.umask(before)
    file = folder / "signing-key.pem"
    assert (ran.code, ran.err) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"kid  {kid_in(file)}" in ran.out
    assert body_of(file) not in ran.out
    assert [one.name for one in folder.iterdir()] == ["signing-key.pem"]


def test_what_it_says_to_paste_works(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The settings lines sign; the retiring command prints what the retiring line then names."""
    told = run(capsys, "keys", "new", "--out", "first key.pem").out
    lines = re.search(r"\[signing\]\nkey = .*\n", told)
    assert lines is not None
    (folder / "vetted.toml").write_text(lines[0])
    key = load_configuration().signing.key
    assert key is not None
    assert load_signer(key).kid == kid_in(folder / "first key.pem")
    command = re.search(
        r"^vetted-mw (keys show '(first key\.pem)' --public) > (retired-.{8}\.pem)$", told, re.MULTILINE
    )
    assert command is not None
    (folder / command[3]).write_text(run(capsys, "keys", "show", command[2], "--public").out)
    retired = next(line for line in told.splitlines() if line.startswith("retired = "))
    run(capsys, "keys", "new", "--out", "second.pem")
    (folder / "vetted.toml").write_text(f'[signing]\nkey = {{ file = "second.pem" }}\n{retired}\n')
    (one,) = load_configuration().signing.retired
    assert one.jwk["kid"] == kid_in(folder / "first key.pem")


def test_a_file_that_is_there_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that is overwritten is lost, and with it who could have been asked about its receipts."""
    for name in ("signing-key.pem", "vetted.toml"):
        file = written(folder / name, "what was there")
        ran = run(capsys, "keys", "new", "--out", name)
        assert (ran.code, ran.out) == (2, "")
        assert "is there already" in ran.err
        assert "--force" in ran.err
        assert file.read_text() == "what was there"
    (folder / "link.pem").symlink_to("nowhere")
    assert run(capsys, "keys", "new", "--out", "link.pem").code == 2


def test_force_replaces_a_key_and_prints_what_must_be_kept_of_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The public half of the key that is gone: without it its receipts could not be verified any more."""
    file = written(folder / "signing-key.pem")
    ran = run(capsys, "keys", "new", "--out", file, "--force")
    assert ran.code == 0
    assert spki_pem(signer().jwk) in ran.out
    assert f"retired-{signer().kid[:8]}.pem" in ran.out
    assert kid_in(file) != signer().kid
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in folder.iterdir()] == ["signing-key.pem"]
    assert run(capsys, "keys", "new", "--out", folder / "new.pem", "--force").code == 0


def test_force_replaces_nothing_but_a_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings, garbage, a folder: a slip in the name destroys nothing."""
    file = written(folder / "vetted.toml", "[signing]\n")
    assert run(capsys, "keys", "new", "--out", file, "--force").code == 2
    assert file.read_text() == "[signing]\n"
    assert run(capsys, "keys", "new", "--out", folder, "--force").code == 2


def test_a_key_that_cannot_be_replaced_stays(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the new one cannot be put in its place, the old one is whole and nothing else is left."""

    def denied(_self: Path, _target: Path) -> Path:
        raise PermissionError(13, "denied")

    file = written(folder / "signing-key.pem")
    monkeypatch.setattr("pathlib.Path.replace", denied)
    ran = run(capsys, "keys", "new", "--out", file, "--force")
    assert (ran.code, "cannot be written (PermissionError)" in ran.err) == (2, True)
    assert kid_in(file) == signer().kid
    assert [one.name for one in folder.iterdir()] == ["signing-key.pem"]


def test_a_folder_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With the file's name: on the command line it is no secret."""
    ran = run(capsys, "keys", "new", "--out", "nowhere/key.pem")
    assert (ran.code, ran.out) == (2, "")
    assert "nowhere/key.pem: cannot be written (FileNotFoundError)" in ran.err


# ---- show


def test_the_keys_of_the_settings_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one that signs now, those that once did and until when; the JWKS is the one that is published."""
    written(folder / "signing-key.pem")
    (folder / "old.pem").write_text(spki_pem(signer(1).jwk))
    (folder / "vetted.toml").write_text(
        '[signing]\nkey = { file = "signing-key.pem" }\nalg = "EdDSA"\n'
        'retired = [{ file = "old.pem", not_after = "2026-01-01T00:00:00Z" }]\n'
    )
    rows = run(capsys, "keys", "show").rows()
    assert rows[signer().kid] == [signer().kid, "EdDSA", "signs now", "", ""]
    assert rows[signer(1).kid] == [signer(1).kid, "", "", "", "2026-01-01T00:00:00Z"]
    (folder / "vetted.toml").rename(folder / "other.toml")
    document = run(capsys, "keys", "show", "--config", "other.toml", "--json").json()
    assert document["keys"][0] == jwks(signer(alg="EdDSA"))["keys"][0]
    assert document["keys"][1]["not_after"] == "2026-01-01T00:00:00Z"
    assert run(capsys, "keys", "show", "--config", "other.toml", "--public").out == spki_pem(signer().jwk)


def test_the_key_of_a_file_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Private or public: the same public half, never the other."""
    written(folder / "key.pem")
    (folder / "public.pem").write_text(run(capsys, "keys", "show", "key.pem", "--public").out)
    (folder / "public.json").write_text(json.dumps(dict(signer().jwk)))
    for name in ("key.pem", "public.pem", "public.json"):
        assert run(capsys, "keys", "show", name, "--public").out == spki_pem(signer().jwk)
        told = run(capsys, "keys", "show", name)
        assert (told.code, signer().kid in told.rows()) == (0, True)
        assert run(capsys, "keys", "show", name, "--json").json()["keys"][0]["x"] == signer().jwk["x"]
        assert private_pem().splitlines()[1] not in told.out


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        (private_pem(), 0o644, "chmod 600"),
        (private_pem().replace("MC4", "MC5"), 0o600, "vetted-mw keys new"),
        ("garbage", 0o600, "a key"),
        ('{"kty":"OKP","d":"x"}', 0o600, "a key"),
        ('{"keys":[]}', 0o600, "without any key"),
        ('{"keys":[{"kty":"RSA"}]}', 0o600, "no Ed25519 public key"),
        ('{"keys":{}}', 0o600, "is no JWKS"),
    ],
)
def test_a_file_that_cannot_be_shown_is_told_by_name(
    text: str, mode: int, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Open to others, damaged, no key at all: the file and the remedy, nothing of its content."""
    file = written(folder / "key.pem", text, mode)
    ran = run(capsys, "keys", "show", file)
    assert (ran.code, ran.out) == (2, "")
    assert str(file) in ran.err
    assert told in ran.err
    assert "MC" not in ran.err
    assert "Traceback" not in ran.err


def test_a_published_jwks_gives_the_public_key_that_an_auditor_needs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key that signs now, or the one of a `kid`; which it is goes to stderr, so that the file is a PEM alone."""
    (folder / "jwks.json").write_text(json.dumps(jwks(signer(), signer(1))))
    first = run(capsys, "keys", "show", "jwks.json", "--public")
    assert first.out == spki_pem(signer().jwk)
    assert f"key {signer().kid}, the first of 2; --kid names another" in first.err
    second = run(capsys, "keys", "show", "jwks.json", "--public", "--kid", signer(1).kid)
    assert (second.code, second.out, second.err) == (0, spki_pem(signer(1).jwk), "")
    assert set(run(capsys, "keys", "show", "jwks.json").rows()) >= {signer().kid, signer(1).kid}
    assert run(capsys, "keys", "show", "jwks.json", "--json").json() == jwks(signer(), signer(1))
    stray = run(capsys, "keys", "show", "jwks.json", "--kid", "nobody")
    assert (stray.code, stray.out) == (2, "")
    assert f"--kid: names a key that is not listed. Name one of these: {signer().kid}, {signer(1).kid}." in stray.err


def test_a_retired_key_of_the_settings_is_shown_by_its_kid(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its public half as PEM, whether or not anything is signed now; it is not said to sign."""
    (folder / "old.pem").write_text(spki_pem(signer(1).jwk))
    (folder / "vetted.toml").write_text('[signing]\nretired = [{ file = "old.pem" }]\n')
    chosen = ("keys", "show", "--kid", signer(1).kid)
    assert run(capsys, *chosen, "--public").out == spki_pem(signer(1).jwk)
    written(folder / "key.pem")
    (folder / "vetted.toml").write_text('[signing]\nkey = { file = "key.pem" }\nretired = [{ file = "old.pem" }]\n')
    shown = run(capsys, *chosen)
    assert (signer(1).kid in shown.out, signer().kid in shown.out, "signs now" in shown.out) == (True, False, False)
    assert "signs now" in run(capsys, "keys", "show", "--kid", signer().kid).out


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    ran = run(capsys, "keys", "show", "nowhere.pem")
    assert (ran.code, ran.out) == (2, "")
    assert "nowhere.pem: is a file that cannot be read (FileNotFoundError)" in ran.err


@pytest.mark.parametrize("how", [(), ("--public",), ("--json",)])
def test_without_a_key_it_says_how_to_make_one(
    how: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Receipts are not signed then, and that is said."""
    ran = run(capsys, "keys", "show", *how)
    assert (ran.code, ran.out) == (2, "")
    assert "signing.key: is not set: receipts are not signed." in ran.err
    (folder / "old.pem").write_text(spki_pem(signer(1).jwk))
    (folder / "vetted.toml").write_text('[signing]\nretired = [{ file = "old.pem" }]\n')
    assert run(capsys, "keys", "show", *how).code == (2 if how == ("--public",) else 0)


def test_the_commands_run_as_commands(folder: Path) -> None:
    """The whole way, in processes of their own: make, paste, check."""
    made = finished(folder, "keys", "new", "--out", "signing-key.pem")
    assert (made.code, made.err) == (0, "")
    lines = made.out[made.out.index("[signing]") :].splitlines()[:2]
    assert tomllib.loads("\n".join(lines))["signing"]["key"]["file"] == str(folder / "signing-key.pem")
    (folder / "vetted.toml").write_text(
        '[regions.scaleway-par-1]\nbase_url = "https://paris.example/v1"\n' + "\n".join(lines)
    )
    assert finished(folder, "keys", "show").code == 0
    checked = finished(folder, "check")
    assert checked.code == 0
    assert kid_in(folder / "signing-key.pem") in checked.out
    assert "not signed" not in checked.out


def test_nothing_but_a_key_imports_the_library(folder: Path) -> None:
    """Whoever signs nothing neither needs `cryptography` nor waits for it."""
    program = (
        "import sys, vetted_mw, vetted_mw.cli; vetted_mw.Gateway(vetted_mw.load_configuration()); "
        "sys.exit('cryptography' in sys.modules)"
    )
    assert finished(folder, python=("-c", program)).code == 0
    written(folder / "key.pem")
    (folder / "vetted.toml").write_text('[signing]\nkey = { file = "key.pem" }\n')
    assert finished(folder, python=("-c", program)).code == 1


def test_without_the_sign_extra_it_says_what_to_install(folder: Path) -> None:
    """`cryptography` is an extra: everything that needs no key works without it."""
    written(folder / "key.pem")
    hidden = (
        "import sys; sys.modules['cryptography'] = None; from vetted_mw.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for arguments in (("new", "--out", "new.pem"), ("show", "key.pem")):
        ran = finished(folder, "keys", *arguments, python=("-c", hidden))
        assert (ran.code, ran.out) == (2, "")
        assert "pip install '.[sign]' in the clone" in ran.err
    (folder / "vetted.toml").write_text('[regions.scaleway-par-1]\nbase_url = "https://paris.example/v1"\n')
    assert finished(folder, "check", python=("-c", hidden)).code == 0
    with (folder / "vetted.toml").open("a") as settings:
        settings.write('[signing]\nkey = { file = "key.pem" }\n')
    ran = finished(folder, "check", python=("-c", hidden))
    assert ran.code == 1
    assert ran.out.startswith("not usable: signing.key: needs the package cryptography")
