"""Receipts by their id, the published keys, and answers whose content a receipt is bound to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from receipts.keys import private_pem, signer
from receipts.ledgers import made_receipt
from support import configured
from vetted_mw import Gateway, VettedMiddleware, VettedProxy
from vetted_mw.callers import Caller
from vetted_mw.endpoints import is_endpoint
from vetted_mw.receipts.binding import digest_of_stream, opens, transcript_of_answer
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import from_b64url
from vetted_mw.receipts.sealed import LedgerUnavailableError, StoredReceipt, seal
from vetted_mw.receipts.signing import verify_jws
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange
from wire.clients import COMPLETIONS, PARIS, at_the_wire, chat, error_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.sealed import Entry, Sealed

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9/v1"
RECEIPTS = "/v1/vetted/receipts"
JWKS = "/.well-known/vetted/jwks.json"
NOT_FOUND = (404, "validation_error", "not_found", None)


class Shelf:
    """A ledger of receipts that lie there already.

    Args:
        stored: them.
        failing: raised in place of finding one.
    """

    def __init__(self, *stored: StoredReceipt, failing: Exception | None = None) -> None:
        self._stored = {query_id_of(one): one for one in stored}
        self._failing = failing
        self.asked: list[str] = []

    async def open(self) -> None:
        """Nothing to get ready."""

    async def keep(self, entries: Sequence[Entry], signer: Signer | None) -> Sequence[Sealed]:
        """Seal them."""
        return [seal(entry.receipt, signer) for entry in entries]

    def keep_later(self, entries: Sequence[Entry], signer: Signer | None) -> None:
        """Nobody looks for them."""

    async def is_ready(self) -> bool:
        """Whether one can be kept."""
        return True

    async def find(self, query_id: str) -> StoredReceipt | None:
        """Return what lies there."""
        self.asked.append(query_id)
        if self._failing is not None:
            raise self._failing
        return self._stored.get(query_id)

    async def aclose(self) -> None:
        """Nothing to close."""


def query_id_of(stored: StoredReceipt) -> str:
    """Return the id a stored text is found by; a fixed one where it has none."""
    try:
        payload = stored.text.encode() if stored.text.startswith("{") else from_b64url(stored.text.split(".")[1])
        return str(json.loads(payload)["query_id"])
    except (ValueError, KeyError, IndexError, TypeError):
        return "00000000-0000-4000-8000-000000000000"


def stored_receipt(caller: str = "", *, seed: int | None = None) -> StoredReceipt:
    """Return a fresh receipt as a ledger has it, signed with the key of `seed`."""
    sealed = seal(made_receipt(), None if seed is None else signer(seed))
    return StoredReceipt(text=sealed.text, caller=caller)


@pytest.fixture
def callers(tmp_path: Path) -> Mapping[str, Any]:
    for name in ("ada", "bob", "root"):
        (tmp_path / name).write_text(f"key-of-{name}")
    named = {name: {"key": {"file": str(tmp_path / name)}} for name in ("ada", "bob")}
    return named | {"root": {"key": {"file": str(tmp_path / "root")}, "admin": True}}


@pytest.fixture
def signing(tmp_path: Path) -> Mapping[str, Any]:
    key = tmp_path / "signing.pem"
    key.write_text(private_pem())
    key.chmod(0o600)
    return {"key": {"file": str(key)}}


def as_caller(name: str) -> dict[str, str]:
    """Return the headers by which a caller is known."""
    return {"authorization": f"Bearer key-of-{name}"}


# ---- from the answer to the ledger and back


async def test_what_a_caller_holds_is_what_the_ledger_tells_and_what_the_keys_verify(
    tmp_path: Path, signing: Mapping[str, Any]
) -> None:
    """Answered whole or streamed, a receipt is found by its id, unchanged, and its JWS verifies with the published keys."""
    ledger = {"path": str(tmp_path / "receipts.sqlite")}
    async with (
        FakeUpstream(text="Grüße") as paris,
        at_the_wire({PARIS: paris.base_url}, ledger=ledger, signing=signing) as client,
    ):
        whole = (await client.post(COMPLETIONS, json=chat())).json()["receipt"]
        streamed = finish_chunk((await client.post(COMPLETIONS, json=chat(stream=True))).content)["receipt"]
        keys = parse_jwks((await client.get(JWKS)).content)
        told = [await client.get(f"{RECEIPTS}/{held['query_id']}") for held in (whole, streamed)]
    for answer, held in zip(told, (whole, streamed), strict=True):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        content = answer.json()
        assert content["object"] == "vetted.receipt"
        assert content["receipt"] == {name: value for name, value in held.items() if name != "binding_nonce"}
        assert "binding_nonce" not in answer.text
        payload = verify_jws(content["jws"], keys).payload
        assert json.loads(payload) | {"signature": held["signature"]} == content["receipt"]
    assert {whole["seq"], streamed["seq"]} == {1, 2}


def finish_chunk(stream: bytes) -> dict[str, Any]:
    """Return the chunk of a stream that carries the receipt."""
    chunks = [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]
    return next(chunk for chunk in chunks if "receipt" in chunk)


def recipe(answer: dict[str, Any]) -> str:
    """Make the digest of an answer by the documented recipe, with nothing of ours."""
    transcript = [
        {
            "content": choice["message"].get("content") or "",
            "finish_reason": choice["finish_reason"],
            "index": choice["index"],
            "tool_calls": [
                [call["function"]["name"], call["function"]["arguments"]]
                for call in choice["message"].get("tool_calls") or ()
            ],
        }
        for choice in sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    ]
    text = json.dumps(transcript, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    nonce = base64.urlsafe_b64decode(answer["receipt"]["binding_nonce"] + "==")
    return "hmac-sha-256:" + hmac.new(nonce, text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("text", ["yes", 'Grüße "\\\n\u2028 😀', ""])
async def test_a_receipt_is_bound_to_the_content_that_was_delivered(text: str) -> None:
    """The caller opens the digest with its nonce, whole and streamed; nobody opens it with another content."""
    async with FakeUpstream(text=text) as paris, at_the_wire({PARIS: paris.base_url}) as client:
        whole = (await client.post(COMPLETIONS, json=chat())).json()
        stream = (await client.post(COMPLETIONS, json=chat(stream=True))).content
    receipt = whole["receipt"]
    nonce = from_b64url(receipt["binding_nonce"])
    assert len(nonce) == 16
    assert recipe(whole) == receipt["response_digest"]
    assert opens(receipt["response_digest"], nonce, transcript_of_answer(whole))
    streamed = finish_chunk(stream)["receipt"]
    assert digest_of_stream(stream, from_b64url(streamed["binding_nonce"])) == streamed["response_digest"]
    assert streamed["binding_nonce"] != receipt["binding_nonce"]
    whole["choices"][0]["message"]["content"] = text + "!"
    assert not opens(receipt["response_digest"], nonce, transcript_of_answer(whole))


async def test_a_broken_streams_receipt_is_bound_to_what_left() -> None:
    """After a cut the receipt on the error frame is of the text the caller has, without what was still kept back."""
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}) as client:
        for frames in (CUT, FAILED):
            paris.then(FakeAnswer.stream(frames, ending="cut"))
            stream = (await client.post(COMPLETIONS, json=chat(stream=True))).content
            assert b"withheld" not in stream
            broken = finish_chunk(stream)
            assert broken["error"]
            told = broken["receipt"]
            assert told["completion_status"] == "upstream_error"
            assert opens(told["response_digest"], from_b64url(told["binding_nonce"]), LEFT)


def _frame(content: str, *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"


LEFT: list[dict[str, Any]] = [{"content": "Hello", "finish_reason": None, "index": 0, "tool_calls": []}]
# A pause: what breaks in the very read that began the answer may still go to another region.
CUT: list[bytes | float] = [_frame("Hel"), _frame("lo"), 0.05]
FAILED = [*CUT, _frame("withheld", finish="stop"), b'data: {"error": {"message": "m"}}\n\n']


# ---- whose they are


async def test_a_receipt_is_for_its_caller_and_for_an_admin(callers: Mapping[str, Any]) -> None:
    """Somebody else's receipt, one that there is not, and what is no id are one and the same 404."""
    adas, nobodys = stored_receipt("ada"), stored_receipt("")
    path, nobodys_path = (f"{RECEIPTS}/{query_id_of(one)}" for one in (adas, nobodys))
    unknown = f"{RECEIPTS}/{uuid.uuid4()}"
    async with at_the_wire(
        {PARIS: NOWHERE}, options={"ledger": Shelf(adas, nobodys)}, callers=callers, policy={}
    ) as client:
        own, admins = [await client.get(path, headers=as_caller(name)) for name in ("ada", "root")]
        others = await client.get(path, headers=as_caller("bob"))
        unnamed = await client.get(nobodys_path, headers=as_caller("ada"))
        admins_unnamed = await client.get(nobodys_path, headers=as_caller("root"))
        missing = [await client.get(unknown, headers=as_caller(name)) for name in ("bob", "root")]
        stranger = await client.get(path)
    assert own.json() == admins.json() == {
        "object": "vetted.receipt",
        "receipt": json.loads(adas.text),
        "jws": None,
    }  # fmt: skip
    assert admins_unnamed.status_code == 200
    assert {answer.content for answer in (others, unnamed, *missing)} == {others.content}
    assert error_row(others) == NOT_FOUND
    assert error_row(stranger) == (401, "auth_error", "invalid_api_key", None)


async def test_where_nobody_asks_who_it_is_all_that_is_nobodys_may_be_read() -> None:
    """A gateway without callers tells every receipt of its own kind, and none of a caller it once had."""
    own, adas = stored_receipt(""), stored_receipt("ada")
    async with at_the_wire({PARIS: NOWHERE}, options={"ledger": Shelf(own, adas)}) as client:
        told, withheld = [await client.get(f"{RECEIPTS}/{query_id_of(one)}") for one in (own, adas)]
    assert told.status_code == 200
    assert error_row(withheld) == NOT_FOUND


async def test_identify_says_whose_receipts_one_may_read() -> None:
    """The host application's word holds: a name for one's own, `admin` for all, nobody for none."""

    async def identify(scope: Scope) -> Caller | None:
        name = dict(scope["headers"]).get(b"x-user", b"").decode()
        return Caller(name=name, admin=name == "root") if name else None

    adas = stored_receipt("ada")
    path = f"{RECEIPTS}/{query_id_of(adas)}"
    async with at_the_wire({PARIS: NOWHERE}, options={"ledger": Shelf(adas)}, identify=identify) as client:
        statuses = {
            name: (await client.get(path, headers={"x-user": name})).status_code for name in ("ada", "bob", "root")
        }
        nobody = await client.get(path)
    assert statuses == {"ada": 200, "bob": 404, "root": 200}
    assert nobody.status_code == 401


async def test_a_caller_finds_its_own_receipt_in_the_ledger_and_no_other_does(
    tmp_path: Path, callers: Mapping[str, Any]
) -> None:
    """Through the shipped ledger: what `ada` was answered is hers."""
    ledger = {"path": str(tmp_path / "receipts.sqlite")}
    async with (
        FakeUpstream() as paris,
        at_the_wire({PARIS: paris.base_url}, ledger=ledger, callers=callers) as client,
    ):
        held = (await client.post(COMPLETIONS, json=chat(), headers=as_caller("ada"))).json()["receipt"]
        path = f"{RECEIPTS}/{held['query_id']}"
        statuses = [(await client.get(path, headers=as_caller(name))).status_code for name in ("ada", "bob", "root")]
    assert statuses == [200, 404, 200]


# ---- what cannot be told


@pytest.mark.parametrize(
    "query_id",
    [
        "x",
        "%00",
        "%F0%9F%98%80",
        "%ED%A0%80",
        "a" * 4000,
        "'%20or%201=1--",
        "7D4A1C52-2F0E-4C1B-9D0B-3C1F6A5F7E11",
        "7d4a1c522f0e4c1b9d0b3c1f6a5f7e11",
    ],
)
async def test_what_is_no_id_is_not_looked_up(query_id: str) -> None:
    """An id is a uuid in lower case; anything else is not found without asking the ledger."""
    shelf = Shelf(stored_receipt())
    async with at_the_wire({PARIS: NOWHERE}, options={"ledger": shelf}) as client:
        answer = await client.get(f"{RECEIPTS}/{query_id}")
    assert error_row(answer) == NOT_FOUND
    assert shelf.asked == []


async def test_a_gateway_without_a_ledger_says_so() -> None:
    """Where no receipt is kept the answer names the setting."""
    async with at_the_wire({PARIS: NOWHERE}) as client:
        answer = await client.get(f"{RECEIPTS}/{uuid.uuid4()}")
    assert error_row(answer) == NOT_FOUND
    assert "ledger.path" in answer.json()["error"]["message"]


async def test_a_ledger_that_cannot_be_read_is_a_503(caplog: pytest.LogCaptureFixture) -> None:
    """The caller may try again; the operator finds the reason in the log."""
    shelf = Shelf(failing=LedgerUnavailableError("locked"))
    async with at_the_wire({PARIS: NOWHERE}, options={"ledger": shelf}) as client:
        answer = await client.get(f"{RECEIPTS}/{uuid.uuid4()}")
    assert error_row(answer) == (503, "internal_error", "ledger_unavailable", None)
    assert [vars(record)["reason"] for record in caplog.records if "reason" in vars(record)] == ["locked"]


@pytest.mark.parametrize("text", ["", "{", "a.b", "a.b.c", "e30.W10.AA", "e30._w.AA", "[" * 9])
async def test_a_row_that_is_no_receipt_is_a_503(text: str) -> None:
    """What the ledger holds and nobody can read is the ledger's fault, never a receipt."""
    shelf = Shelf(StoredReceipt(text=text, caller=""))
    async with at_the_wire({PARIS: NOWHERE}, options={"ledger": shelf}) as client:
        answer = await client.get(f"{RECEIPTS}/00000000-0000-4000-8000-000000000000")
    assert error_row(answer) == (503, "internal_error", "ledger_unavailable", None)


async def test_a_foreign_ledger_that_raises_anything_tells_nobody_what() -> None:
    """An exception's text stays inside."""
    shelf = Shelf(failing=RuntimeError("secret"))
    async with at_the_wire({PARIS: NOWHERE}, options={"ledger": shelf}) as client:
        answer = await client.get(f"{RECEIPTS}/{uuid.uuid4()}")
    assert answer.status_code == 500
    assert "secret" not in answer.text


# ---- the keys


async def test_the_keys_are_for_anyone(callers: Mapping[str, Any], signing: Mapping[str, Any]) -> None:
    """The JWKS lists the signing key without its private half, needs no key to be read, and may be kept for a while."""
    async with at_the_wire({PARIS: NOWHERE}, callers=callers, signing=signing) as client:
        answer, head = await client.get(JWKS), await client.head(JWKS)
    assert (answer.status_code, head.status_code, head.content) == (200, 200, b"")
    assert answer.headers["content-type"] == head.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    (key,) = answer.json()["keys"]
    assert key["x"] == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
    assert (key["kty"], key["crv"], key["kid"]) == ("OKP", "Ed25519", signer().kid)
    assert "d" not in key


async def test_a_retired_key_stays_listed_with_its_time(tmp_path: Path, signing: Mapping[str, Any]) -> None:
    """Receipts of years ago can be verified: the key that signed them is there, and says when it was in use."""
    (tmp_path / "old.json").write_text(json.dumps(dict(signer(1).jwk)))
    retired = [{"file": str(tmp_path / "old.json"), "not_after": "2026-01-01T00:00:00Z"}]
    async with at_the_wire({PARIS: NOWHERE}, signing={**signing, "retired": retired}) as client:
        keys = (await client.get(JWKS)).json()["keys"]
    assert [key["kid"] for key in keys] == [signer().kid, signer(1).kid]
    assert keys[1]["not_after"] == "2026-01-01T00:00:00Z"


async def test_a_gateway_that_signs_nothing_publishes_no_key() -> None:
    """No key is an empty list, never one that looks real."""
    async with at_the_wire({PARIS: NOWHERE}) as client:
        assert (await client.get(JWKS)).json() == {"keys": []}


# ---- methods and paths


@pytest.mark.parametrize("path", [JWKS, f"{RECEIPTS}/00000000-0000-4000-8000-000000000000"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed_there(path: str, method: str) -> None:
    """Receipts and keys are read and nothing else."""
    async with at_the_wire({PARIS: NOWHERE}) as client:
        answer = await client.request(method, path)
    assert error_row(answer) == (405, "validation_error", "method_not_allowed", None)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_head_and_a_trailing_slash_are_the_same_endpoint() -> None:
    """A HEAD has the headers of its GET; mounts that append a slash reach both paths."""
    kept = stored_receipt()
    async with at_the_wire({PARIS: NOWHERE}, options={"ledger": Shelf(kept)}) as client:
        for path in (f"{RECEIPTS}/{query_id_of(kept)}", JWKS):
            plain, slashed, head = await client.get(path), await client.get(f"{path}/"), await client.head(path)
            assert plain.status_code == slashed.status_code == head.status_code == 200
            assert plain.content == slashed.content
            assert (head.content, head.headers["content-length"]) == (b"", plain.headers["content-length"])


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        (JWKS, True),
        (f"{RECEIPTS}/x", True),
        (f"{RECEIPTS}/x/", True),
        (RECEIPTS, False),
        (f"{RECEIPTS}/x/y", False),
        ("/.well-known/vetted", False),
        ("/.well-known/vetted/jwks.json/x", False),
        ("/.well-known/jwks.json", False),
        ("/v1/vetted", False),
    ],
)
async def test_beside_an_app_only_the_two_paths_are_ours(path: str, is_ours: bool) -> None:
    """What is near them stays the application's."""
    assert is_endpoint(path) is is_ours

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with Gateway(configured({PARIS: NOWHERE})) as gateway:
        with_endpoints = VettedMiddleware(app, gateway=gateway, endpoints=True)
        exchange = await asgi_exchange(with_endpoints, method="GET", path=path)
        alone = await asgi_exchange(VettedProxy(gateway), method="GET", path=path)
    assert (exchange.status != 299) is is_ours
    assert alone.status == (200 if path == JWKS else 404)
