"""The factor set and the sum over a mix: the published table, what is a stand-in, and what is in neither sum."""

from __future__ import annotations

import hashlib
import tomllib
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.grid.factors import FactorSet, intensity_of, load_factors, mix_method
from vetted_mw.grid.signal import parse_method

FACTORS = load_factors()

TABLE = {
    "B01": (230, False),  # biomass
    "B02": (820, True),  # lignite
    "B03": (820, True),  # coal-derived gas
    "B04": (490, False),  # gas
    "B05": (820, False),  # hard coal
    "B06": (650, False),  # oil
    "B07": (820, True),  # oil shale
    "B08": (820, True),  # peat
    "B09": (38, False),  # geothermal
    "B11": (24, False),  # run-of-river
    "B12": (24, False),  # reservoir
    "B13": (17, False),  # marine
    "B14": (12, False),  # nuclear
    "B15": (230, True),  # other renewable
    "B16": (48, False),  # solar
    "B17": (230, True),  # waste
    "B18": (12, False),  # wind offshore
    "B19": (11, False),  # wind onshore
    "B20": (700, True),  # other
}
"""Code -> gCO2e/kWh over the life cycle, and whether it stands in for a factor nobody published."""


def test_the_table_is_the_published_one() -> None:
    """Every factor of the set with its number, and which of them are stand-ins."""
    assert {code: (one.gco2_per_kwh, one.proxy) for code, one in FACTORS.factors.items()} == TABLE
    assert (FACTORS.id, FACTORS.basis, FACTORS.unknown_as) == ("ar5_v1", "lifecycle", "B20")


def test_storage_and_links_are_in_neither_sum() -> None:
    """Pumped storage and batteries give what was counted when it was made; links and transformers make nothing."""
    assert FACTORS.excluded == {"B10", "B25"}
    assert FACTORS.ignored == {"B21", "B22", "B23", "B24"}
    left = {f"B{number:02}" for number in range(1, 26)} - FACTORS.excluded - FACTORS.ignored
    assert left == set(TABLE)
    assert {code for code in left if not FACTORS.counts(code)} == set()
    assert FACTORS.counts("B99")


def test_sweden_has_its_own_factor_for_other() -> None:
    """The five Swedish zones and no other, and it stays a stand-in."""
    assert {place: (one.gco2_per_kwh, one.proxy) for place, one in FACTORS.overrides.items()} == {
        (zone, "B20"): (258.0, True) for zone in ("SE", "SE_1", "SE_2", "SE_3", "SE_4")
    }


@pytest.mark.parametrize("code", sorted(TABLE))
@pytest.mark.parametrize("zone", ["FR", "SE_3", "IS", "somewhere"])
def test_every_factor_says_where_it_is_from(code: str, zone: str) -> None:
    """Its name, source and year, and a quality that is `proxy` exactly where it is a stand-in."""
    one = FACTORS.factor(code, zone)
    assert one.code == code
    assert one.name.strip()
    assert len(one.source) > 5
    assert 1990 <= one.year <= 2026
    assert one.quality == ("proxy" if one.proxy else "published")
    assert ("stand-in" in one.source) == (one.proxy and code != "B20")


def test_the_set_is_named_by_its_files_hash() -> None:
    """What a receipt names can be checked against the file; and each row of it is whole."""
    data = files("vetted_mw.grid").joinpath("data/ar5_v1.toml").read_bytes()
    assert FACTORS.digest == "sha-256:" + hashlib.sha256(data).hexdigest()
    table = tomllib.loads(data.decode())
    described = {"value", "unit", "proxy", "source", "year", "quality"}
    rows = (*table["factors"].values(), *table["override"])
    assert {row["unit"] for row in rows} == {"gCO2e/kWh"}
    assert {frozenset(row) for row in table["factors"].values()} == {frozenset(described | {"name"})}
    assert {frozenset(row) for row in table["override"]} == {frozenset(described | {"zones", "code"})}


def test_the_set_cannot_be_changed() -> None:
    """It is read once and shared, so nobody writes to it."""
    assert load_factors() is FACTORS
    with pytest.raises(TypeError):
        FACTORS.factors["B04"] = FACTORS.factors["B14"]  # type: ignore[index]
    with pytest.raises(TypeError):
        FACTORS.overrides["FR", "B04"] = FACTORS.factors["B14"]  # type: ignore[index]


def test_the_method_names_the_set() -> None:
    """Every value made of a mix has one method, so that such values compete."""
    assert mix_method(FACTORS) == parse_method("production/lifecycle/average/ar5_v1")


@pytest.mark.parametrize(
    ("zone", "mix", "gco2", "proxy_share", "total"),
    [
        ("FR", {"B14": 100}, 12, 0, 100),
        ("FR", {"B14": 50, "B04": 50}, 251, 0, 100),
        ("FR", {"B14": 60, "B02": 20, "B17": 20}, 217.2, 0.4, 100),
        ("FR", {"B20": 100}, 700, 1, 100),
        ("SE_3", {"B20": 100}, 258, 1, 100),
        ("SE_3", {"B99": 100}, 258, 1, 100),
        ("FR", {"B99": 50, "B12": 50}, 362, 0.5, 100),
        ("FR", {"": 50, "anything": 50}, 700, 1, 100),
        ("FR", {"B14": 100, "B10": 900, "B25": 900, "B21": 900}, 12, 0, 100),
        ("FR", {"B14": 100, "B04": -900}, 12, 0, 100),
        ("FR", {"B14": 100, "B20": -900}, 12, 0, 100),
        ("FR", {"B14": 100, "B04": 0.0, "B20": -0.0}, 12, 0, 100),
        ("IS", {"B12": 1588.2567, "B09": 653.1291, "B06": 0.0}, 28.08, 0, 2241.3858),
    ],
)
def test_a_mix_is_the_mean_of_its_factors_by_energy(
    zone: str, mix: dict[str, float], gco2: float, proxy_share: float, total: float
) -> None:
    """What is drawn counts as nothing made, storage is left out, unknown codes count as Other and as stand-ins."""
    found = intensity_of(mix, FACTORS, zone)
    assert found is not None
    assert found.gco2_per_kwh == pytest.approx(gco2, abs=0.005)
    assert found.proxy_share == pytest.approx(proxy_share)
    assert found.total_mw == pytest.approx(total)


@pytest.mark.parametrize("mix", [{}, {"B14": 0.0}, {"B14": -5.0}, {"B10": 900.0, "B25": 100.0, "B21": 5.0}])
def test_where_nothing_is_made_there_is_no_intensity(mix: dict[str, float]) -> None:
    """None, never zero: a zero would be lower than every other value."""
    assert intensity_of(mix, FACTORS, "FR") is None


_CODES = st.sampled_from((*TABLE, "B10", "B21", "B25", "B99", "A04"))
_MIXES = st.dictionaries(_CODES, st.floats(-1000, 60_000), max_size=12)
_ZONES = st.sampled_from(("FR", "SE_3", "FI"))


@settings(max_examples=300, deadline=None)
@given(_MIXES, _ZONES)
def test_an_intensity_lies_between_the_factors_of_its_mix(mix: dict[str, float], zone: str) -> None:
    """Never below the least factor of what is made, never above the largest; its share of stand-ins within 0 and 1."""
    found = intensity_of(mix, FACTORS, zone)
    made = {code for code, megawatts in mix.items() if megawatts > 0 and FACTORS.counts(code)}
    assert (found is None) == (not made)
    if found is None:
        return
    grams = [FACTORS.factor(code, zone).gco2_per_kwh for code in made]
    assert min(grams) * (1 - 1e-9) <= found.gco2_per_kwh <= max(grams) * (1 + 1e-9)
    assert 0 <= found.proxy_share <= 1 + 1e-9
    stand_ins = {code for code in made if FACTORS.factor(code, zone).proxy}
    assert (found.proxy_share == 0) == (not stand_ins) or found.proxy_share < 1e-9
    assert (found.proxy_share == pytest.approx(1)) or made - stand_ins


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_CODES, st.floats(0.001, 60_000), min_size=1, max_size=12), _ZONES, st.floats(0.001, 1000))
def test_a_mix_of_another_size_has_the_same_intensity(mix: dict[str, float], zone: str, factor: float) -> None:
    """Scaling every MW scales the total and nothing else."""
    found = intensity_of(mix, FACTORS, zone)
    scaled = intensity_of({code: megawatts * factor for code, megawatts in mix.items()}, FACTORS, zone)
    if found is None or scaled is None:
        assert found is scaled
        return
    assert scaled.gco2_per_kwh == pytest.approx(found.gco2_per_kwh)
    assert scaled.proxy_share == pytest.approx(found.proxy_share)
    assert scaled.total_mw == pytest.approx(found.total_mw * factor)


@settings(max_examples=200, deadline=None)
@given(_MIXES, _ZONES, st.floats(0, 60_000), st.floats(-60_000, 0))
def test_storage_and_draw_change_nothing(mix: dict[str, float], zone: str, stored: float, drawn: float) -> None:
    """Whatever storage gives or a plant draws, the rest of the mix tells the same."""
    rest = {code: megawatts for code, megawatts in mix.items() if code not in {"B10", "B25", "B05"}}
    assert intensity_of(rest | {"B10": stored, "B25": stored, "B05": drawn}, FACTORS, zone) == intensity_of(
        rest, FACTORS, zone
    )


def test_a_set_of_another_basis_has_another_method() -> None:
    """Values under two sets never compete, because their methods differ."""
    other = FactorSet(
        id="direct_v1",
        digest="",
        basis="direct",
        factors=FACTORS.factors,
        overrides={},
        excluded=frozenset(),
        ignored=frozenset(),
        unknown_as="B20",
    )
    assert str(mix_method(other)) == "production/direct/average/direct_v1"
    assert mix_method(other) != mix_method(FACTORS)
