"""The methodology as people read it: the rows, the command, and the page."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from receipts.making import made, reading
from vetted_mw.cli import main
from vetted_mw.receipts.coefficients import load_coefficients
from vetted_mw.receipts.methodology import formulas_of, rows_of
from vetted_mw.receipts.shipped import CURRENT, versions

PAGE = (Path(__file__).parents[2] / "docs" / "methodology.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`(vetted-mw methodology[^`]*)`", PAGE)))


@pytest.mark.parametrize("version", versions())
def test_every_row_has_what_makes_it_traceable(version: str) -> None:
    """Whatever version, a figure has a name, a unit, a source, a year and a quality, and a pedigree of five or none."""
    for section, rows in rows_of(version).items():
        assert rows, section
        for row in rows:
            assert row.name
            assert row.pedigree == () or (len(row.pedigree) == 5 and set(row.pedigree) <= {1, 2, 3, 4, 5})
            if row.value is not None:
                assert row.unit
                assert row.source
                assert row.quality in {"published", "fitted", "assumed", "proxy"}
                assert row.year is not None
            else:
                assert row.pedigree


def test_names_are_unique_within_a_section() -> None:
    """A reader who looks a figure up finds one."""
    for section, rows in rows_of().items():
        names = [row.name for row in rows]
        assert len(names) == len(set(names)), section


def test_the_rows_are_the_figures_receipts_are_made_with() -> None:
    """What is printed is what is computed with: constants, spreads, sites, water, models and factors are all there."""
    coefficients, sections = load_coefficients(), rows_of()
    figures = {name: {row.name: row.value for row in rows} for name, rows in sections.items()}
    assert figures["parametric"]["intercept"] == coefficients.parametric.intercept
    assert len(figures["parametric"]) == 11
    assert set(figures["spreads"]) == set(coefficients.spread.__struct_fields__)
    for code, site in coefficients.sites.items():
        assert (figures["sites"][f"{code}.pue"], figures["sites"][f"{code}.wue_l_per_kwh"]) == (
            site.pue,
            site.wue_l_per_kwh,
        )
    assert figures["sites"]["unknown_site.pue"] == coefficients.unknown_site.pue
    assert {name: value for name, value in figures["water"].items() if len(name) == 2} == coefficients.ewif_l_per_kwh
    assert figures["engines"]["ecologits"] == coefficients.engines["ecologits"].default_batch
    assert figures["models"]["mistral-medium-3.total_params_b"] == 128
    assert figures["factors"]["B01 Biomass"] == 230
    assert any(name.startswith("B20 in SE") for name in figures["factors"])
    scores = {row.name: row.pedigree for row in sections["pedigrees"]}
    assert scores == dict(coefficients.pedigrees)


def test_the_formulas_are_those_under_the_digest() -> None:
    """Each part of the method is there in words, and an unknown version is no version."""
    formulas = formulas_of()
    assert {"boundary", "parametric", "measured", "ecologits", "carbon", "water", "interval", "comparison"} <= set(
        formulas
    )
    assert "pue" in formulas["energy"]["energy_wh"]
    with pytest.raises(KeyError):
        formulas_of("0.0.1")
    with pytest.raises(KeyError):
        rows_of("0.0.1")


# ---- the command


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_commands_print_what_it_says(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command the page names works and tells the digests receipts carry."""
    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    assert load_coefficients().methodology_digest in printed
    assert load_coefficients().digest in printed


def test_the_command_prints_every_section_with_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a section all of them are there, each row with its source, and the formulas at the end."""
    assert main(["methodology"]) == 0
    printed = capsys.readouterr().out
    for section, rows in rows_of().items():
        assert f"\n{section}\n" in printed
        assert all(row.source in printed and row.name in printed for row in rows)
    assert "\nformulas\n[boundary]\n" in printed
    assert "ecologits==0.11.3: sha-256:" in printed


def test_the_command_prints_an_earlier_version(capsys: pytest.CaptureFixture[str]) -> None:
    """An old receipt's methodology can still be read."""
    assert main(["methodology", "--version", "1.0.0", "--section", "water"]) == 0
    printed = capsys.readouterr().out
    assert load_coefficients("1.0.0").digest in printed
    assert "6.0315" in printed
    assert "llama" not in printed


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A program gets digests, rows and formulas as one object."""
    assert main(["methodology", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["methodology_version"] == CURRENT
    assert told["coefficients_digest"] == load_coefficients().digest
    assert set(told["sections"]) == {*rows_of(), "formulas"}
    first = told["sections"]["sites"][0]
    assert set(first) == {"name", "value", "unit", "source", "year", "quality", "pedigree"}
    assert (first["value"], first["pedigree"]) == (1.46, [2, 2, 1, 1, 1])
    assert told["sections"]["formulas"]["carbon"]["accounting"] == "location-based"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--section", "magic"], ("there is no section 'magic'", "parametric", "formulas")),
        (["--version", "9.9.9"], ("no methodology '9.9.9' is shipped", "1.0.0, 1.1.0")),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    arguments: list[str], told: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A section or version that does not exist is wrong usage, and the message names those that do."""
    assert main(["methodology", *arguments]) == 2
    message = capsys.readouterr().err
    assert all(words in message for words in told)


# ---- the page


def test_the_page_names_every_version_and_energy_source() -> None:
    """A reader finds each version that is shipped and each word `energy_source` can be."""
    assert "(" + ", ".join(versions()) + ")" in PAGE
    for word in ("parametric", "ecologits", "upstream_gpu", "upstream_node", "parametric_rejected_upstream"):
        assert f"`{word}`" in PAGE


def test_the_pages_formulas_have_the_methodologys_constants() -> None:
    """What the page writes out is what the file under the digest says."""
    parametric = formulas_of()["parametric"]
    for name in ("joule_per_output_token", "joule_per_prompt_token"):
        formula = parametric[name].split(" = ")[1]
        assert formula in PAGE
    interval = formulas_of()["interval"]
    assert interval["var_joule"].split(", d =")[0].split(" = ")[1] in PAGE
    for name in ("sigma_energy", "sigma_gco2e", "sigma_water"):
        assert interval[name].split("), ")[0].removesuffix(")") + ")" in PAGE


def test_the_pages_comparison_with_a_life_cycle_assessment_is_what_a_receipt_says() -> None:
    """The figures set beside the published ones are those of a receipt of today."""
    receipt = made(model="mistral-large-2", prompt_tokens=0, completion_tokens=400, reading=reading(58.0))
    told = " ".join(PAGE.split())
    carbon = f"**{receipt.gco2e:.3f} g** ({receipt.gco2e_ci90_lo:.3f} to {receipt.gco2e_ci90_hi:.2g})"
    water = f"{receipt.ml_water:.1f} mL ({receipt.ml_water_ci90_lo:.2g} to {receipt.ml_water_ci90_hi:.1f})"
    assert f"{carbon} and {water}" in told
    assert round(1.14 / receipt.gco2e) == 19
    assert receipt.gco2e_ci90_hi < 1.14
