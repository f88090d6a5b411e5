"""What a real gateway issues and keeps, verified as an auditor would."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from audit.auditing import KEYS, codes, delete_rows, findings_in, notes, problems, rows_of
from receipts.keys import private_pem
from support import HELLO, MODEL, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.audit.verify.findings import Code
from vetted_mw.configuration import LedgerConfiguration, SigningConfiguration
from vetted_mw.secret import Secret
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

PARIS, GRAVELINES = "scaleway-par-1", "ovh-gra-1"
REQUESTS: list[dict[str, Any]] = [
    {},
    {"stream": True},
    {"stream": True, "vetted": {"boundary": "narrow"}},
    {"vetted": {"boundary": "narrow"}},
    {"n": 2},
]
TEXT = 'Il dit "oui" à l\u2019eau\n\u2028 \U0001f30d'


def keeping(path: Path, *upstreams: FakeUpstream, is_signing: bool = True) -> Gateway:
    """Return a gateway that signs and keeps its receipts in a file."""
    regions = dict(zip((PARIS, GRAVELINES), (upstream.base_url for upstream in upstreams), strict=False))
    signing = SigningConfiguration(key=Secret(private_pem())) if is_signing else SigningConfiguration()
    return Gateway(replace(configured(regions), signing=signing, ledger=LedgerConfiguration(path=str(path))))


def asked(**members: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HELLO} | members


async def test_answers_streams_and_the_ledger_pass(tmp_path: Path) -> None:
    """JSON and stream, one choice and several, narrow and comprehensive: nothing is found in any of them."""
    path = tmp_path / "ledger.db"
    async with FakeUpstream(text=TEXT) as paris, keeping(path, paris) as gateway:
        app = VettedProxy(gateway)
        for number, members in enumerate(REQUESTS):
            exchange = await asgi_exchange(app, json=asked(**members))
            assert exchange.status == 200
            (tmp_path / f"answer-{number}").write_bytes(exchange.body)
    assert not findings_in(*sorted(tmp_path.glob("answer-*")), path)
    rows = rows_of(path)
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    delete_rows(path, 3)
    assert problems(findings_in(path)) == [(Code.GAP, "seq 3 is missing between 2 and 4")]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_word_changed_in_an_answer_is_found(tmp_path: Path, *, stream: bool) -> None:
    """The receipt holds, and the text is not its own any more."""
    async with FakeUpstream(text=TEXT) as paris, keeping(tmp_path / "ledger.db", paris) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), json=asked(stream=stream))
    saved = tmp_path / "answer"
    assert b"oui" in exchange.body
    saved.write_bytes(exchange.body.replace(b"oui", b"non"))
    assert codes(findings_in(saved)) == {Code.BINDING}


async def test_attempts_that_were_given_up_are_in_the_ledger_and_pass(tmp_path: Path) -> None:
    """A region that fails after the request was sent leaves a row that refers to the answer's."""
    path = tmp_path / "ledger.db"
    lengths = (("content-type", "application/json"), ("content-length", "999"))
    broken = FakeUpstream().then(FakeAnswer(headers=lengths, body=(b"{",), ending="cut"))
    async with (
        broken,
        FakeUpstream(text="Oui") as gravelines,
        keeping(path, broken, gravelines) as gateway,
    ):
        exchange = await asgi_exchange(VettedProxy(gateway), json=asked())
    receipt = json.loads(exchange.body)["receipt"]
    assert receipt["region"] == GRAVELINES
    rows = rows_of(path)
    assert {row["request_id"] for row in rows} == {None, receipt["query_id"]}
    assert not findings_in(path)


async def test_several_starts_are_several_ledgers_in_one_file(tmp_path: Path) -> None:
    """Each start has a ledger of its own, and all of them are followed."""
    path = tmp_path / "ledger.db"
    for _ in range(3):
        async with FakeUpstream(text="Oui") as paris, keeping(path, paris) as gateway:
            for _ in range(2):
                await asgi_exchange(VettedProxy(gateway), json=asked())
    assert len({row["ledger_id"] for row in rows_of(path)}) == 3
    assert not findings_in(path)


async def test_a_gateway_without_a_key_leaves_a_note(tmp_path: Path) -> None:
    """Unsigned receipts are checked as far as they go."""
    path = tmp_path / "ledger.db"
    async with FakeUpstream(text="Oui") as paris, keeping(path, paris, is_signing=False) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), json=asked())
    (tmp_path / "answer").write_bytes(exchange.body)
    found = findings_in(path, tmp_path / "answer", keys=None)
    assert not problems(found)
    assert [code for code, _ in notes(found)] == [Code.UNSIGNED] * 2
    assert codes(findings_in(path, keys=KEYS)) == {Code.UNSIGNED}
