"""`[signing]`, `[ledger]` and `measured_energy`: what is read, what is refused, and that no key is told."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from receipts.keys import jwks, private_pem, signer
from settings.test_settings_faults import everything_of
from vetted_mw import ConfigurationError, load_configuration
from vetted_mw.configuration import LedgerConfiguration, MeasuredEnergy, SigningConfiguration
from vetted_mw.receipts.jwks import spki_pem
from vetted_mw.receipts.signing import load_signer
from vetted_mw.settings import require_ledger_folder

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.configuration import Configuration

BODY = private_pem().splitlines()[1]
PARIS = {"scaleway-par-1": {"base_url": "https://paris.example/v1"}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    key_file(tmp_path / "signing-key.pem")
    (tmp_path / "old.pem").write_text(spki_pem(signer(1).jwk))
    return tmp_path


def key_file(file: Path, mode: int = 0o600, text: str = private_pem()) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def load(environ: dict[str, str] | None = None, **overrides: Any) -> Configuration:
    return load_configuration(environ=environ or {}, overrides=overrides)


def refused(environ: dict[str, str] | None = None, **overrides: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(environ, **overrides)
    assert caught.value.remedy
    assert BODY not in everything_of(caught.value)
    return caught.value


def kid_of(signing: SigningConfiguration) -> str:
    assert signing.key is not None
    return load_signer(signing.key, alg=signing.alg).kid


# ---- the signing key


def test_without_settings_nothing_is_signed_kept_or_measured() -> None:
    """Everything that makes receipts evidence is the operator's choice."""
    configuration = load(regions=PARIS)
    assert configuration.signing == SigningConfiguration()
    assert configuration.ledger == LedgerConfiguration()
    assert configuration.upstreams["scaleway-par-1"].measured_energy is None


@pytest.mark.parametrize(
    "text",
    [private_pem(), private_pem().replace("\n", "\\n"), private_pem().replace("\n", "\\n\n"), f"  {private_pem()}  "],
    ids=["lines", "written", "both", "blanks"],
)
def test_a_key_in_a_variable_may_have_its_line_ends_written(text: str) -> None:
    r"""Many a place that holds variables takes no line ends: `\n` is one."""
    assert kid_of(load({"KEY": text}, signing={"key": {"env": "KEY"}}).signing) == signer().kid


def test_a_key_in_a_file_is_found_beside_the_settings(folder: Path) -> None:
    """As every other file of the settings."""
    (folder / "deep").mkdir()
    (folder / "vetted.toml").write_text('[signing]\nkey = { file = "signing-key.pem" }\nalg = "EdDSA"\n')
    os.chdir(folder / "deep")
    signing = load_configuration(folder / "vetted.toml", environ={}).signing
    assert (kid_of(signing), signing.alg) == (signer().kid, "EdDSA")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640, 0o700])
def test_a_key_file_that_its_owner_or_a_group_reads_is_taken(folder: Path, mode: int) -> None:
    """A mounted secret often reaches its process by a group."""
    file = key_file(folder / "mounted.pem", mode)
    assert kid_of(load(signing={"key": {"file": str(file)}}).signing) == signer().kid


@pytest.mark.skipif(os.name != "posix", reason="elsewhere these bits say nothing")
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666, 0o660, 0o620, 0o444])
def test_a_key_file_that_others_may_read_or_write_is_refused(folder: Path, mode: int) -> None:
    """Whoever reads it signs as you; which file it is and the way out are in the message, ready to be pasted."""
    file = key_file(folder / "open to all.pem", mode)
    error = refused(signing={"key": {"file": "open to all.pem"}})
    assert error.field == "signing.key.file"
    assert f"chmod 600 '{file}';" in error.remedy
    assert f"({file})" in str(error)


def test_a_key_behind_links_is_judged_by_the_file_they_lead_to(folder: Path) -> None:
    """Mounted secrets are links into a folder that is swapped whole: what counts is the mode of the file itself."""
    (folder / "..2026").mkdir()
    key_file(folder / "..2026" / "key.pem", 0o400)
    (folder / "..data").symlink_to("..2026")
    (folder / "key.pem").symlink_to("..data/key.pem")
    assert kid_of(load(signing={"key": {"file": "key.pem"}}).signing) == signer().kid
    (folder / "..2026" / "key.pem").chmod(0o644)
    if os.name == "posix":
        assert refused(signing={"key": {"file": "key.pem"}}).field == "signing.key.file"


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "FileNotFoundError"), (b"\xff\xfe", "UnicodeDecodeError"), (b"x" * 16_385, "larger than any key")],
)
def test_a_key_file_that_cannot_be_used_is_told_by_its_place(content: bytes | None, told: str, folder: Path) -> None:
    """Absent, not text, far too long: the file is named, in full."""
    file = folder / "signing.pem"
    if content is not None:
        file.write_bytes(content)
        file.chmod(0o600)
    error = refused(signing={"key": {"file": "signing.pem"}})
    assert error.field == "signing.key.file"
    assert told in str(error)
    assert str(file) in str(error)
    assert ("vetted-mw keys new --out" in error.remedy) == (content is None)


@pytest.mark.parametrize(
    "written",
    [
        BODY,
        f"/{BODY[1:]}",
        f"{BODY[:20]}/{BODY[20:]}",
        f"x-{BODY}.x",
        private_pem().replace("\n", ""),
        "k" * 201 + ".pem",
    ],
)
def test_a_key_pasted_for_its_file_is_not_told(written: str, folder: Path) -> None:
    """What may be the key itself is told nowhere, neither in the message nor in what to do."""
    error = refused(signing={"key": {"file": written}})
    assert error.field == "signing.key.file"
    assert written not in everything_of(error)
    assert "vetted-mw keys new --out PATH" in error.remedy
    entry = refused(signing={"retired": [{"file": written}]})
    assert written not in everything_of(entry)


@pytest.mark.parametrize("written", ["none.pem", "./none", "../none", "/etc/none-such", "deep/none.key"])
def test_a_file_that_is_not_there_is_named(written: str, folder: Path) -> None:
    """A name that can only be a file's is told as the path that was looked at."""
    error = refused(signing={"key": {"file": written}})
    assert f"(FileNotFoundError: {folder / written})" in str(error)
    assert f"vetted-mw keys new --out {folder / written}" in error.remedy
    assert str(folder / written) in str(refused(signing={"retired": [{"file": written}]}))


@pytest.mark.parametrize("text", ["", "garbage", BODY, private_pem().replace(BODY, BODY[::-1]), spki_pem(signer().jwk)])
def test_what_is_no_private_key_is_refused_at_start(text: str, folder: Path) -> None:
    """Not at the first receipt: the setting is named, and where it was written."""
    assert refused({"KEY": text}, signing={"key": {"env": "KEY"}}).field == "signing.key"
    (folder / "vetted.toml").write_text('[signing]\nkey = { env = "KEY" }\n')
    with pytest.raises(ConfigurationError, match=r"\(in .*vetted\.toml\)") as caught:
        load_configuration(environ={"KEY": text})
    assert "vetted-mw keys new" in caught.value.remedy


def test_a_key_is_printed_nowhere(folder: Path) -> None:
    """The whole configuration, printed, shows three stars in its place."""
    told = repr(load(signing={"key": {"file": "signing-key.pem"}}))
    assert BODY not in told
    assert "Secret('***')" in told


# ---- retired keys


def test_retired_keys_are_read_with_their_bounds(folder: Path) -> None:
    """PEM or JWK, found beside the settings; bounds in UTC, whatever offset they were written with."""
    (folder / "older.json").write_text(json.dumps(jwks(signer(2, alg="EdDSA"))["keys"][0]))
    entries = [
        {"file": "old.pem", "not_before": "2025-01-01T01:00:00+01:00", "not_after": "2026-01-01T00:00:00.5z"},
        {"file": str(folder / "older.json")},
    ]
    first, second = load(signing={"key": {"file": "signing-key.pem"}, "retired": entries}).signing.retired
    assert first.jwk["kid"] == signer(1).kid
    assert (first.not_before, first.not_after) == ("2025-01-01T00:00:00Z", "2026-01-01T00:00:00.500Z")
    assert (second.jwk["kid"], second.jwk["alg"]) == (signer(2).kid, "EdDSA")
    assert (second.not_before, second.not_after) == ("", "")
    with pytest.raises(TypeError):
        first.jwk["kid"] = "x"  # type: ignore[index]


def test_keys_may_be_listed_when_nothing_is_signed_any_more(folder: Path) -> None:
    """What they signed still stands."""
    signing = load(signing={"retired": [{"file": "old.pem"}]}).signing
    assert (signing.key, len(signing.retired)) == (None, 1)


@pytest.mark.parametrize(
    ("entry", "field", "remedy"),
    [
        ({"file": "signing-key.pem"}, "signing.retired", "keys show FILE --public"),
        ({"file": "nowhere.pem"}, "signing.retired", "a readable file"),
        ({"file": "vetted.toml"}, "signing.retired", "one Ed25519 public key"),
        ({"file": "current.pem"}, "signing.retired", "not the one of signing.key"),
        ({}, "signing.retired", "Set it"),
        ({"file": "old.pem", "not_after": "2026-01-01"}, "signing.retired", "2026-11-22T09:45:00Z"),
        ({"file": "old.pem", "not_after": "2026-01-01T00:00:00"}, "signing.retired", "2026-11-22T09:45:00Z"),
        ({"file": "old.pem", "not_after": "2026-13-01T00:00:00Z"}, "signing.retired", "2026-11-22T09:45:00Z"),
        ({"file": "old.pem", "not_before": "9999-12-31T23:00:00-05:00"}, "signing.retired", "2026-11-22T09:45:00Z"),
        (
            {"file": "old.pem", "not_before": "2026-01-01T00:00:00.5Z", "not_after": "2026-01-01T00:00:00Z"},
            "signing.retired",
            "not_before or not_after",
        ),
    ],
    ids=range(10),
)
def test_a_retired_key_that_cannot_be_listed_is_told_by_its_place(
    entry: dict[str, str], field: str, remedy: str, folder: Path
) -> None:
    """Private, absent, none at all, still in use, without a file, or with bounds that are none: which entry, and why."""
    (folder / "vetted.toml").write_text("# no key\n")
    (folder / "current.pem").write_text(spki_pem(signer().jwk))
    overrides = {"key": {"file": "signing-key.pem"}, "retired": [{"file": "old.pem"}, entry]}
    error = refused(signing=overrides)
    assert error.field == field
    assert "entry 2" in str(error)
    assert remedy in error.remedy


def test_a_key_is_retired_once(folder: Path) -> None:
    """A list that names one twice is a slip."""
    error = refused(
        signing={"retired": [{"file": "old.pem"}, {"file": "old.pem", "not_after": "2026-01-01T00:00:00Z"}]}
    )
    assert error.field == "signing.retired"
    assert "entry 2" in str(error)


# ---- the ledger


def test_a_ledger_lies_beside_the_settings(folder: Path) -> None:
    """Its path is absolute from here on, wherever the process was started; the home folder is understood."""
    (folder / "vetted.toml").write_text(
        '[ledger]\npath = "receipts.sqlite3"\ndurability = "full"\npolicy = "fail_closed"\n'
    )
    assert load_configuration("vetted.toml", environ={"HOME": "/"}).ledger == LedgerConfiguration(
        path=str(folder / "receipts.sqlite3"), durability="full", policy="fail_closed"
    )


def test_no_answer_is_lost_for_a_ledger_that_there_is_not(folder: Path) -> None:
    """`fail_closed` without a path would turn every request away, or promise what nothing keeps."""
    for ledger in ({"policy": "fail_closed"}, {"policy": "fail_closed", "path": ""}):
        error = refused(ledger=ledger)
        assert error.field == "ledger.policy"
        assert "ledger.path" in error.remedy
    assert load(ledger={"policy": "fail_closed", "path": "x"}).ledger.policy == "fail_closed"


def test_a_ledger_needs_a_folder_that_is_there(folder: Path) -> None:
    """Loading the settings does not look; what starts a gateway may ask."""
    require_ledger_folder(load())
    require_ledger_folder(load(ledger={"path": "receipts.sqlite3"}))
    for path, told in (("nowhere/receipts.sqlite3", "Create the folder"), (str(folder), "Name a file in it")):
        with pytest.raises(ConfigurationError) as caught:
            require_ledger_folder(load(ledger={"path": path}))
        assert caught.value.field == "ledger.path"
        assert told in caught.value.remedy


def test_a_ledger_s_folder_that_may_not_be_looked_into_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without leave to enter a folder on the way, nothing of the file can be known: said, and no traceback."""
    configuration = load(ledger={"path": "receipts.sqlite3"})

    def denied(_path: Path) -> bool:
        raise PermissionError(13, "denied")

    monkeypatch.setattr("pathlib.Path.is_dir", denied)
    with pytest.raises(ConfigurationError, match=r"may not be looked into \(PermissionError\)") as caught:
        require_ledger_folder(configuration)
    assert caught.value.field == "ledger.path"


# ---- measured energy


def energy(of_region: dict[str, str] | None, everywhere: dict[str, str] | None) -> MeasuredEnergy | None:
    region = PARIS["scaleway-par-1"] | ({} if of_region is None else {"measured_energy": of_region})
    receipts = {} if everywhere is None else {"measured_energy": everywhere}
    return load(regions={"scaleway-par-1": region}, receipts=receipts).upstreams["scaleway-par-1"].measured_energy


HEADER, PATH = {"header": "X-Energy-Wh", "unit": "Wh", "scope": "node"}, {"json_path": "usage.energy_joules"}
OF_HEADER = MeasuredEnergy(header="x-energy-wh", unit="Wh", scope="node")
OF_PATH = MeasuredEnergy(json_path="usage.energy_joules")


@pytest.mark.parametrize(
    ("of_region", "everywhere", "expected"),
    [
        (None, None, None),
        (None, {}, None),
        (None, {"unit": "Wh", "scope": "node"}, None),
        (None, HEADER, OF_HEADER),
        (None, PATH, OF_PATH),
        (PATH, None, OF_PATH),
        (PATH, HEADER, OF_PATH),
        (HEADER, PATH, OF_HEADER),
        ({}, HEADER, None),
        ({"header": ""}, HEADER, None),
    ],
)
def test_a_regions_own_word_goes_before_what_all_have(
    of_region: dict[str, str] | None, everywhere: dict[str, str] | None, expected: MeasuredEnergy | None
) -> None:
    """A region without a word takes what all have; an empty table turns it off there."""
    assert energy(of_region, everywhere) == expected


def test_one_number_has_one_place() -> None:
    """Two places could hold two numbers."""
    both = {"header": "x-energy", "json_path": "usage.energy"}
    error = refused(receipts={"measured_energy": both})
    assert (error.field, "json_path" in error.remedy) == ("receipts.measured_energy", True)
    error = refused(regions={"scaleway-par-1": PARIS["scaleway-par-1"] | {"measured_energy": both}})
    assert error.field == "regions.scaleway-par-1.measured_energy"


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "cookie", "Set-Cookie", "WWW-Authenticate", "proxy-authenticate", "x-vetted-energy"),
        *("content-length", "transfer-encoding", "age", "date", "a b", "a:b", "é", "x" * 129, ":status"),
    ],
)
def test_a_header_that_tells_no_energy_cannot_be_named(name: str) -> None:
    """Credentials, cookies, framing, other numbers, and what is no name of a header."""
    error = refused(receipts={"measured_energy": {"header": name}})
    assert error.field == "receipts.measured_energy.header"
    assert "x-energy-joules" in error.remedy


@pytest.mark.parametrize("path", ["usage.energy_joules", "timings.energy", "choices.0.energy", "energy", "a.b-1"])
def test_a_place_in_the_answer_is_names_and_positions(path: str) -> None:
    """With dots between them."""
    assert energy({"json_path": path}, None) == MeasuredEnergy(json_path=path)


@pytest.mark.parametrize(
    "path", ["$.usage.energy", "usage[0]", ".usage", "usage.", "a..b", " a", "a\nb", "a." * 20 + "b"]
)
def test_a_place_in_another_notation_is_refused(path: str) -> None:
    """JSONPath, brackets, empty names, or deeper than any answer."""
    error = refused(receipts={"measured_energy": {"json_path": path}})
    assert error.field == "receipts.measured_energy.json_path"
    assert "usage.energy_joules" in error.remedy


def test_a_position_counts_from_the_front() -> None:
    """From the end nothing would ever be found."""
    error = refused(receipts={"measured_energy": {"json_path": "choices.-1.energy"}})
    assert error.field == "receipts.measured_energy.json_path"
    assert "from 0" in error.remedy


def test_the_engine_is_the_one_that_is_named() -> None:
    """Whether it is installed is found when a gateway is built."""
    assert load(receipts={"engine": "ecologits"}).receipts.engine == "ecologits"
    assert load().receipts.engine == "parametric"
