"""What the tests of the report share: receipts as mappings, and reports made of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from receipts.ledgers import made_receipt
from vetted_mw.audit.report.content import Report
from vetted_mw.audit.report.totals import totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

START = datetime(2026, 8, 1, tzinfo=UTC)
REGIONS = ("scaleway-par-1", "ovh-gra-1", "atnorth-sto-1")
MODELS = ("mistral-medium-3", "llama-3.3-70b-instruct", "llama-3.1-8b-instruct", "qwen3-235b-a22b")


def counted(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return one receipt's members; `number` makes its id, `changes` replace members without a word."""
    return _plain() | {"query_id": str(UUID(int=number))} | changes


def quarter(days: int = 92, per_day: int = 6, models: Iterable[str] = MODELS) -> list[dict[str, Any]]:
    """Return receipts of a period: every model in every region, some abandoned, some annual, two days without any."""
    names = list(models)
    rows: list[dict[str, Any]] = []
    for number in range(days * per_day):
        day, place = number // per_day, number % 3
        if days > 40 and day in {40, 41}:
            continue
        size, grid = 1 + number % 7, (40.0 + day % 9, 80.0, 20.0)[place]
        rows.append(
            _scaled(size)
            | {
                "query_id": str(UUID(int=number + 1)),
                "issued_at": (START + timedelta(days=day, hours=number % 24)).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "model": names[number % len(names)],
                "region": REGIONS[place],
                "grid_intensity_gco2_per_kwh": grid,
                "grid_temporal_match": ("live_window", "fresh", "annual_fallback")[number % 3],
                "completion_status": "abandoned" if number % 11 == 5 else "complete",
                "default_region": "scaleway-par-1",
                "default_region_gco2e": _scaled(size)["gco2e"] * (1.0, 0.9, 1.4)[place] if number % 4 else None,
                "ledger_id": str(UUID(int=1)),
                "seq": number + 1,
            }
            | ({"request_id": str(UUID(int=number))} if number % 11 == 5 else {})
        )
    return rows


def report_of_rows(rows: Iterable[Mapping[str, Any]], **facts: Any) -> Report:
    """Return a report of receipts at hand."""
    ordinary = {"since": None, "until": None, "source": "receipts.db", "software": "vetted-mw 0.1.0"}
    return Report(**({"totals": totals(rows)} | ordinary | facts))


@lru_cache(maxsize=1)
def _plain() -> dict[str, Any]:
    return msgspec.to_builtins(made_receipt(issued_at="2026-08-01T10:00:00.000Z"))  # type: ignore[no-any-return]


def _scaled(size: float) -> dict[str, Any]:
    figures = ("energy_wh", "gco2e", "ml_water", "gco2e_operational", "gco2e_embodied")
    return {
        name: value * size if name.startswith(figures) and isinstance(value, float) else value
        for name, value in _plain().items()
    }
