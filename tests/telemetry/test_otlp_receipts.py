"""The exact span tree where the receipt fails: no model to make it, no ledger to keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evidence.memory_ledger import MemoryLedger
from telemetry.sites import site
from telemetry.spans import PARIS, asked, upstream
from telemetry.trees import drawn
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.sealed import Entry, Sealed

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])


def closed(folder: Path) -> dict[str, str]:
    """Return the settings of a gateway that answers nothing without a receipt that is kept."""
    return {"path": str(folder / "receipts.sqlite3"), "policy": "fail_closed"}


class _RaisingModel:
    def figures(self, *_arguments: Any, **_more: Any) -> Any:
        """Fail."""
        raise RuntimeError("canary of an energy model")


class _BreakingLedger(MemoryLedger):
    """Ready when it is asked, broken when it is needed."""

    async def is_ready(self) -> bool:
        """Promise everything."""
        return True

    async def keep(self, entries: Sequence[Entry], signer: Signer | None) -> Sequence[Sealed]:
        """Fail."""
        raise RuntimeError("canary of a ledger")


@both
async def test_a_model_that_raises_costs_the_receipt_and_is_an_event(stream: bool) -> None:
    """The answer is served; the operation says that there is no receipt, and why, in a closed word."""
    outcome, first_chunk = (" outcome=completed", "\n            ! vetted.first_chunk") if stream else ("", "")
    async with FakeUpstream() as paris:
        options = {"energy_model": _RaisingModel()}
        async with site({PARIS: upstream(paris.base_url)}, options=options) as place:
            assert (await place.ask(asked(stream=stream))).status == 200
            tree = await place.tree()
            assert b"canary" not in place.sdk.receiver.raw
    assert tree == drawn(f"""
        POST /v1/chat/completions SERVER UNSET status=200
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1{outcome} receipt=none{first_chunk}
            ! vetted.receipt.failed reason=engine_failed
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)


async def test_a_ledger_that_breaks_closed_fails_the_answer_after_it_was_served(tmp_path: Path) -> None:
    """The attempt went well, the operation did not: the caller gets 503."""
    async with FakeUpstream() as paris:
        options = {"ledger": _BreakingLedger()}
        async with site({PARIS: upstream(paris.base_url)}, options=options, ledger=closed(tmp_path)) as place:
            assert (await place.ask(asked())).status == 503
            tree = await place.tree()
            assert b"canary" not in place.sdk.receiver.raw
    assert tree == drawn("""
        POST /v1/chat/completions SERVER ERROR error=ledger_unavailable status=503
          chat mistral-medium-3 CLIENT ERROR error=ledger_unavailable region=scaleway-par-1 attempts=1 receipt=none
            ! vetted.receipt.failed reason=ledger_unavailable
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)


async def test_a_ledger_that_breaks_closed_ends_a_stream_by_an_error(tmp_path: Path) -> None:
    """The stream had begun: its operation failed below a 200."""
    async with FakeUpstream() as paris:
        options = {"ledger": _BreakingLedger()}
        async with site({PARIS: upstream(paris.base_url)}, options=options, ledger=closed(tmp_path)) as place:
            assert (await place.ask(asked(stream=True))).status == 200
            tree = await place.tree()
            assert b"canary" not in place.sdk.receiver.raw
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=200
          chat mistral-medium-3 CLIENT ERROR error=ledger_unavailable region=scaleway-par-1 attempts=1 outcome=completed receipt=none
            ! vetted.first_chunk
            ! vetted.receipt.failed reason=ledger_unavailable
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)


@both
async def test_a_ledger_that_is_known_to_be_broken_stops_the_request_at_the_door(stream: bool, tmp_path: Path) -> None:
    """Nothing is decided and nothing is sent: a server span alone, in error."""
    ledger = MemoryLedger()
    ledger.breaks = RuntimeError("canary of a ledger")
    async with FakeUpstream() as paris:
        options = {"ledger": ledger}
        async with site({PARIS: upstream(paris.base_url)}, options=options, ledger=closed(tmp_path)) as place:
            assert (await place.ask(asked(stream=stream))).status == 503
            tree = await place.tree()
    assert tree == "POST /v1/chat/completions SERVER ERROR error=ledger_unavailable status=503\n"
