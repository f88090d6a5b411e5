"""`docs/receipt.md`: every field is explained, and its script recomputes real receipts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receipts.making import maker, observed, reading, region
from support import HELLO, proxied
from vetted_mw.chat.response import read_answer
from vetted_mw.receipts.binding import nonce_text
from vetted_mw.receipts.models import ModelSize
from vetted_mw.receipts.receipt import Receipt, ReceiptError
from vetted_mw.routing.options import Boundary
from vetted_mw.routing.regions import load_catalogue
from vetted_mw.testing import FakeUpstream, asgi_exchange

PAGE = (Path(__file__).parents[2] / "docs" / "receipt.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
RECEIPTS = {
    "live": observed(reading=reading(21.3)),
    "annual": observed(reading=None),
    "narrow": observed(boundary=Boundary.NARROW),
    "cached": observed(prompt_tokens=5_000, cached_tokens=4_096),
    "unknown model": observed(model="nobody-knows"),
    "estimated": observed(prompt_tokens=None, completion_tokens=None, prompt_characters=91, completion_characters=777),
    "own figures": observed(
        model="house", region=region(pue=1.234567891, wue_l_per_kwh=0.123456789, annual_gco2_per_kwh=43.2109876)
    ),
    "no tokens": observed(prompt_tokens=0, completion_tokens=0),
}
SIZES = {
    "house": ModelSize(active_params_b=7.123456789, total_params_b=70.123456789, bytes_per_param=0.5, batch_size=9)
}


def _recomputed(told: Any) -> dict[str, float]:
    """Run the page's script on what it is piped."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPTS[0]],
        input=msgspec.json.encode(told),
        capture_output=True,
        timeout=60,
        check=True,
    )
    words = done.stdout.decode().split()
    return {name: float(value) for name, value in zip(words[::2], words[1::2], strict=True)}


def test_the_script_has_ten_lines() -> None:
    """A reader can take in the whole recomputation at a glance."""
    assert len(SCRIPTS) == 2
    assert len(SCRIPTS[0].splitlines()) == 10


def _is_for_this_content(told: Any) -> bool:
    """Run the page's second script on an answer."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPTS[1]],
        input=msgspec.json.encode(told),
        capture_output=True,
        timeout=60,
        check=True,
    )
    return {"for this content: True\n": True, "for this content: False\n": False}[done.stdout.decode()]


CALLS = [
    {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Orléans"}'}},
    {"id": "d", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
]
CHOICES = [
    {"index": 1, "message": {"content": "Schön \U0001f31e\u2028\n\t\x7f."}, "finish_reason": "stop"},
    {"index": 0, "message": {"content": None, "refusal": "no", "tool_calls": CALLS}, "finish_reason": "tool_calls"},
]


def test_the_second_script_opens_the_digest_of_an_answer() -> None:
    """Texts of any script, several choices out of order, tool calls: the digest is the gateway's, and of nothing else."""
    nonce = bytes(range(16))
    digest = read_answer(msgspec.json.encode({"choices": CHOICES})).transcript_digest(nonce)
    answer = {"choices": CHOICES, "receipt": {"response_digest": digest, "binding_nonce": nonce_text(nonce)}}
    assert _is_for_this_content(answer)
    assert not _is_for_this_content(answer | {"choices": CHOICES[:1]})
    other = answer["receipt"] | {"binding_nonce": nonce_text(bytes(16))}  # type: ignore[operator]
    assert not _is_for_this_content(answer | {"receipt": other})


@pytest.mark.parametrize("kind", RECEIPTS)
def test_the_script_recomputes_a_receipt_from_its_own_fields(kind: str) -> None:
    """Piped a stored receipt, the script prints its energy, carbon and water to 1e-5."""
    told = msgspec.to_builtins(maker(sizes=SIZES).make(RECEIPTS[kind]))
    expected = {name: told[name] for name in ("energy_wh", "gco2e", "ml_water")}
    assert _recomputed(told) == pytest.approx(expected, rel=1e-5, abs=0.0)


@pytest.mark.anyio
async def test_the_script_recomputes_the_receipt_of_an_answer() -> None:
    """Piped a whole answer of the gateway, the script finds the receipt in it and prints its figures."""
    async with FakeUpstream(usage=(1_234, 567)) as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        answer = (await asgi_exchange(app, json={"model": "llama-3.1-8b", "messages": HELLO})).json()
    expected = {name: answer["receipt"][name] for name in ("energy_wh", "gco2e", "ml_water")}
    assert _recomputed(answer) == pytest.approx(expected, rel=1e-5)
    assert _is_for_this_content(answer)


def test_every_field_is_explained_once_and_no_other() -> None:
    """The page's tables name each field of the receipt in exactly one row, and none that a receipt lacks."""
    rows = PAGE[PAGE.index("## Fields") : PAGE.index("## The boundary")].splitlines()
    named = [name for row in rows if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(Receipt.__struct_fields__)


def test_the_page_names_every_reason_for_a_missing_receipt() -> None:
    """Each word `receipt_error` can hold stands on the page."""
    assert [reason for reason in ReceiptError if f"`{reason.value}`" not in PAGE] == []


def test_the_declared_figures_on_the_page_are_those_that_are_shipped() -> None:
    """The page's annual averages are the catalogue's, and it says which lie below live values."""
    shipped = {f"{one.country} {one.annual_gco2_per_kwh:g}" for one in load_catalogue().values()}
    listed = PAGE[PAGE.index("## Annual figures are declared") :].split(")")[0]
    assert {f"{country} {grams}" for country, grams in re.findall(r"\b([A-Z]{2}) (\d+)", listed)} == shipped
    assert "SE 12 and IS 18 lie below" in PAGE
