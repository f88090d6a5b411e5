"""The shipped data: the contract's figures, each row with its source, and the digests receipts carry."""

from __future__ import annotations

import hashlib
import math
import tomllib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from receipts.making import made
from vetted_mw.receipts.coefficients import load_coefficients

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = files("vetted_mw.receipts") / "data"
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


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((DATA / name).read_text(encoding="utf-8"))


def _rows(table: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every table that holds a number itself, by its place; numbers under a name of their own are rows' values."""
    for name, value in table.items():
        inner = value if isinstance(value, list) else [value]
        for number, row in enumerate(inner):
            if isinstance(row, dict):
                yield from _rows(row, f"{place}.{name}" if isinstance(value, dict) else f"{place}.{name}[{number}]")
    if any(isinstance(value, (int, float)) for name, value in table.items() if name != "year"):
        yield place.lstrip("."), table


ROWS = [
    pytest.param(row, id=f"{name}:{place}")
    for name in ("coefficients.toml", "models.toml")
    for place, row in _rows(_table(name))
    if place != "water.ewif_l_per_kwh"  # one column of countries; its source, year and unit stand on [water]
]


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
    for place in ("parametric", "embodied", "unknown_site", "water.fallback", "grid_fallback", "gsd.model", "site[0]"):
        assert f"coefficients.toml:{place}" in names
    assert {"models.toml:unknown", "models.toml:model[0]"} <= names
    water = _table("coefficients.toml")["water"]
    assert {"basis", "unit", "source", "year", "quality", "pedigree"} <= water.keys()


def test_every_pedigree_is_five_scores_from_best_to_worst() -> None:
    """Reliability, completeness, temporal, geographical and technological scores are each 1 to 5."""
    coefficients = load_coefficients()
    pedigrees = [*coefficients.pedigrees.values(), coefficients.unknown_site.pedigree]
    pedigrees += [site.pedigree for site in coefficients.sites.values()]
    assert set(coefficients.pedigrees) == {"parametric", "embodied", "water", "grid_live", "grid_annual"}
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
    methodology = _sha256((DATA / "methodology.toml").read_bytes())
    factors = files("vetted_mw.grid") / "data" / "ar5_v1.toml"
    shipped = (DATA / "coefficients.toml", DATA / "models.toml", factors)
    coefficients = _sha256(b"".join(file.read_bytes() for file in shipped))
    assert receipt.methodology_digest == f"sha-256:{methodology}"
    assert receipt.coefficients_digest == f"sha-256:{coefficients}"
    assert receipt.methodology_hash == methodology[:16]
    assert receipt.methodology_version == _table("methodology.toml")["version"]


def test_the_methodology_states_the_numbers_the_code_uses() -> None:
    """The formulas under the digest hold the constants the figures are made with."""
    text = (DATA / "methodology.toml").read_text(encoding="utf-8")
    for number in ("-2.1816", "0.1954", "0.7359", "-0.5278", "0.40 * 989e12", "700", "1.29 * 1.12", "520", "1.6449"):
        assert number in text


def test_the_shipped_values_cannot_be_changed_by_accident() -> None:
    """The loaded tables are read-only: every receipt of a process rests on the same ones."""
    coefficients: Any = load_coefficients()
    with pytest.raises(TypeError):
        coefficients.sites["scaleway-par-1"] = coefficients.unknown_site
    with pytest.raises(TypeError):
        coefficients.ewif_l_per_kwh["FR"] = 0.0
    with pytest.raises(AttributeError):
        coefficients.ewif_fallback = 0.0


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
