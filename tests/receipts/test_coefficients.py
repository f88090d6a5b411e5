"""The shipped data: the contract's figures, each row with its source, and the digests receipts carry."""

from __future__ import annotations

import contextlib
import hashlib
import math
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from receipts.making import made, maker, observed
from vetted_mw.receipts.coefficients import (
    UnreadableMethodologyError,
    coefficients_for,
    coefficients_from,
    load_coefficients,
)
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.shipped import CURRENT, TABLES, version_files, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

SITES = {  # PUE, WUE, published for the site itself
    "scaleway-par-1": (1.46, 0.014, True),
    "scaleway-par-2": (1.16, 0.214, True),
    "ovh-gra-1": (1.28, 0.20, False),
    "ovh-rbx-1": (1.28, 0.20, False),
    "atnorth-isl-1": (1.20, 0.0, False),
    "atnorth-sto-1": (1.20, 0.0, False),
    "hetzner-fsn-1": (1.20, 0.0, False),
    "hetzner-hel-1": (1.20, 0.0, False),
}
EWIF = {"FR": 3.6737, "SE": 6.0315, "IS": 6.1409, "DE": 1.947, "FI": 4.5289}
GSD = {
    "model": 1.41,
    "estimated_usage": 2.03,
    "batch_unknown": 2.0,
    "prefill": 1.5,
    "hardware_unknown": 1.29,
    "host": 1.15,
    "idle": 1.20,
    "pue_published": 1.05,
    "pue_assumed": 1.15,
    "grid_live_window": 1.10,
    "grid_fresh": 1.15,
    "grid_annual": 1.40,
    "grid_annual_unknown_basis": 1.65,
    "embodied": 1.50,
    "ewif": 1.5,
    "wue": 1.2,
}
PARAMETRIC = {
    "intercept": -2.1816,
    "active_exponent": 0.1954,
    "weights_exponent": 0.7359,
    "batch_exponent": -0.5278,
    "default_batch": 32,
    "peak_flops": 989e12,
    "utilisation": 0.40,
    "prefill_watt": 700,
    "host_ratio": 1.29,
    "idle_ratio": 1.12,
    "gpu_watt": 520,
}
# version -> methodology_digest, coefficients_digest, and that of receipts by EcoLogits. A version that was released
# never changes: auditors hold receipts that name these. Whoever changes a figure adds a folder with a new version.
SHIPPED = {
    "1.0.0": (
        "01f8edfbd51a3f7cd1f69e6737332ef7215c45f033df44c5cb29b908df440c08",
        "b277b41ec941c1128ed08f377b2b1616898031eab51a2d517a4ee193949500cb",
        None,
    ),
    "1.1.0": (
        "582cdd0f537b52d5bc0a02924ee72d23c1950d46f97882cb1922e85e26d3688b",
        "1386584ef9fe41814680e4a2f90176419835f31ad65e5cef0f766c70f5875c3f",
        "1b576384b3cbd8a65bfddf657946b47ea7a47f5573e4c5e14560159114be8194",
    ),
}


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads(version_files()[name].decode())


def _rows(table: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every table that holds a number itself, by its place."""
    for name, value in table.items():
        inner = value if isinstance(value, list) else [value]
        for number, row in enumerate(inner):
            if isinstance(row, dict):
                yield from _rows(row, f"{place}.{name}" if isinstance(value, dict) else f"{place}.{name}[{number}]")
    if any(isinstance(value, (int, float)) for name, value in table.items() if name != "year"):
        yield place.lstrip("."), table


ROWS = [pytest.param(row, id=f"{name}:{place}") for name in TABLES for place, row in _rows(_table(name))]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_shipped_data_says_where_it_comes_from(row: dict[str, Any]) -> None:
    """A number nobody can trace is no evidence: each row has unit, source, year and quality."""
    assert {"unit", "source", "year", "quality"} <= row.keys()
    assert all(row[name] for name in ("unit", "source", "quality"))
    assert row["quality"] in {"published", "fitted", "assumed"}
    assert 2015 <= row["year"] <= 2026


def test_the_rows_looked_at_are_all_of_them() -> None:
    """Sites, spreads, models, the water table, the fallbacks and the model constants are among the rows."""
    names = {str(row.id) for row in ROWS}
    for place in ("parametric.intercept", "embodied.life_years", "grid_fallback", "gsd.model", "engine.ecologits"):
        assert f"coefficients.toml:{place}" in names
    assert {"models.toml:unknown", "models.toml:model[0]", "sites.toml:site[0]", "sites.toml:unknown_site"} <= names
    assert {"water.toml:ewif[0]", "water.toml:ewif_fallback"} <= names
    for name in ("sites.toml", "water.toml"):
        assert all("pedigree" in row for _place, row in _rows(_table(name)))


def test_every_pedigree_is_five_scores_from_best_to_worst() -> None:
    """Reliability, completeness, temporal, geographical and technological scores are each 1 to 5."""
    coefficients = load_coefficients()
    pedigrees = [*coefficients.pedigrees.values(), coefficients.unknown_site.pedigree]
    pedigrees += [site.pedigree for site in coefficients.sites.values()]
    parts = {
        "parametric",
        "ecologits",
        "measured_gpu",
        "measured_node",
        "embodied",
        "water",
        "grid_live",
        "grid_annual",
    }
    assert set(coefficients.pedigrees) == parts
    assert all(len(scores) == 5 and set(scores) <= {1, 2, 3, 4, 5} for scores in pedigrees)


def test_the_sites_are_the_contracts() -> None:
    """PUE, on-site water and whether the site published them are those of the contract's table."""
    found = {code: (site.pue, site.wue_l_per_kwh, site.published) for code, site in load_coefficients().sites.items()}
    assert found == SITES
    unknown = load_coefficients().unknown_site
    assert (unknown.pue, unknown.wue_l_per_kwh, unknown.published) == (1.56, 0.5, False)
    assert load_coefficients().site("our-site-1") is unknown


def test_the_grid_water_is_the_contracts() -> None:
    """Water of the grid's electricity is the table's by country, and the world's elsewhere, on a named basis."""
    coefficients = load_coefficients()
    assert dict(coefficients.ewif_l_per_kwh) == EWIF
    assert coefficients.ewif("IS") == 6.1409
    assert coefficients.ewif("PT") == 3.908
    assert coefficients.water_basis == "consumption_wri2020"


def test_the_constants_and_spreads_are_the_contracts() -> None:
    """Model constants, embodied emissions and geometric standard deviations are those of the contract."""
    coefficients = load_coefficients()
    found = {name: getattr(coefficients.parametric, name) for name in PARAMETRIC}
    assert found == PARAMETRIC
    spreads = {name: math.exp(getattr(coefficients.spread, name)) for name in GSD}
    assert spreads == pytest.approx(GSD)
    assert coefficients.embodied_g_per_gpu_second == pytest.approx(
        (5700 / 8 + 273) * 1000 / (3 * 365 * 86_400), rel=1e-5
    )
    assert coefficients.grid_fallback.gco2_per_kwh == 282.68


def test_the_digests_are_those_of_the_shipped_files() -> None:
    """A receipt's digests are the SHA-256 of the very files that were shipped, the short hash the first 16 of one."""
    receipt = made()
    methodology = _sha256(version_files()["methodology.toml"])
    coefficients = _sha256(_figures_of(CURRENT))
    assert receipt.methodology_digest == f"sha-256:{methodology}"
    assert receipt.coefficients_digest == f"sha-256:{coefficients}"
    assert receipt.methodology_hash == methodology[:16]
    assert receipt.methodology_version == CURRENT == _table("methodology.toml")["version"]


def test_the_version_of_another_packages_engine_is_part_of_the_digest() -> None:
    """Figures by EcoLogits rest on its release too, so that the digest is over the files and then its name and version."""
    receipt = maker(engine=engine_named("ecologits")).make(observed())
    assert receipt.coefficients_digest == f"sha-256:{_sha256(_figures_of(CURRENT) + b'ecologits==0.11.3')}"
    found = coefficients_for(receipt.coefficients_digest)
    assert found is load_coefficients()


@pytest.mark.parametrize("version", SHIPPED)
def test_a_released_version_never_changes(version: str) -> None:
    """Old receipts stay verifiable: the files of each version still have the digests that receipts name."""
    methodology, coefficients, ecologits = SHIPPED[version]
    shipped = load_coefficients(version)
    assert shipped.methodology_version == version
    assert shipped.methodology_digest == f"sha-256:{methodology}"
    assert shipped.digest == f"sha-256:{coefficients}"
    engine = shipped.engines.get("ecologits")
    assert (engine and engine.digest) == (ecologits and f"sha-256:{ecologits}")


def test_every_shipped_version_is_pinned_here_and_the_newest_is_used() -> None:
    """No version is shipped that these tests do not hold to its digests; new receipts are made by the last one."""
    assert versions() == tuple(SHIPPED)
    assert versions()[-1] == CURRENT
    assert load_coefficients() is load_coefficients(CURRENT)
    with pytest.raises(KeyError):
        version_files("0.9.0")


@pytest.mark.parametrize("version", SHIPPED)
def test_the_coefficients_of_a_receipt_are_found_by_its_digest(version: str) -> None:
    """Whichever version made a receipt, its digest leads to the coefficients; a digest nobody shipped leads nowhere."""
    shipped = load_coefficients(version)
    assert coefficients_for(shipped.digest) is shipped
    assert coefficients_for("sha-256:" + "0" * 64) is None


@pytest.mark.parametrize("version", SHIPPED)
def test_an_auditors_own_copy_of_the_files_gives_the_same_coefficients(version: str) -> None:
    """The files of a version, read from wherever they are held, are the same values; other files beside do no harm."""
    held = dict(version_files(version)) | {"jwks.json": b"{}"}
    assert coefficients_from(held) == load_coefficients(version)


def test_the_first_version_and_this_one_agree_on_every_figure_they_share() -> None:
    """Splitting the files changed no value: what both versions know they know alike."""
    old, new = load_coefficients("1.0.0"), load_coefficients()
    for name in ("parametric", "embodied_g_per_gpu_second", "sites", "unknown_site", "ewif_l_per_kwh", "grid_fallback"):
        assert getattr(old, name) == getattr(new, name)
    assert {name: new.pedigrees[name] for name in old.pedigrees} == dict(old.pedigrees)
    assert old.engines == {}
    assert old.pedigree("upstream_gpu") == old.pedigrees["parametric"]
    assert old.digest_for("ecologits") == old.digest


@pytest.mark.parametrize("name", sorted(version_files()))
@pytest.mark.parametrize("content", [None, b"", b"\xff", b"x = ", b"version = 1", b"[parametric]", b"gsd = 3"])
def test_other_files_never_pass_for_the_shipped_ones(name: str, content: bytes | None) -> None:
    """A missing, empty, broken or foreign file is refused, or has another digest than the shipped one."""
    held = dict(version_files())
    if content is None:
        del held[name]
    else:
        held[name] = content
    with contextlib.suppress(UnreadableMethodologyError):
        found = coefficients_from(held)
        assert (
            found.digest != load_coefficients().digest
            or found.methodology_digest != load_coefficients().methodology_digest
        )


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff", b"x = ", b"[parametric]", b"parametric = 3", b"[gsd.model]\nvalue = -1.0"]
)
def test_a_coefficients_file_that_is_none_is_told_without_its_content(content: bytes | None) -> None:
    """Whatever is wrong with the main file, the error is one, says nothing of it and hides what was raised inside."""
    held = {name: data for name, data in version_files().items() if name != "coefficients.toml"}
    with pytest.raises(UnreadableMethodologyError) as caught:
        coefficients_from(held if content is None else held | {"coefficients.toml": content})
    assert (str(caught.value), caught.value.__suppress_context__) == ("", True)


def _figures_of(version: str) -> bytes:
    """Return what `coefficients_digest` is over, as the documentation says it."""
    held = version_files(version)
    return b"".join(held[name] for name in (*TABLES, "ar5_v1.toml") if name in held)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
