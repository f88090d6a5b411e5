"""A loaded gateway, twice, and a real Prometheus that scrapes both."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.from_thread
import httpx

from dashboards.boards import ALERTS
from dashboards.load import DOWN, MODELS, ZONES, Load, settings_text
from dashboards.prometheus import Prometheus, has_data
from real.processes import GatewayProcess, eventually
from real.talk import Grid
from support import unused_port
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from dashboards.prometheus import Sample

__all__ = ["LATEST", "PUBLISHED", "SCRAPE_SECONDS", "Watch", "watching"]

SCRAPE_SECONDS = 1.0
PUBLISHED, LATEST = "published", "latest"
"""Scrape jobs: GenAI metrics by the names of v1.41, and by those of the conventions' own repository."""


class Watched(GatewayProcess):
    """`vetted-mw serve` as an operator of this dashboard starts it, with nothing but the extra `prometheus` in use."""

    def __init__(self, settings: Path, log: Path, *, variables: Mapping[str, str]) -> None:
        super().__init__(settings, log)
        self._variables = variables

    def environment(self) -> dict[str, str]:
        """Its environment, without what this machine says of OpenTelemetry."""
        inherited = {name: value for name, value in super().environment().items() if not name.startswith("OTEL_")}
        return inherited | dict(self._variables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The two gateways under load, and the Prometheus that looks at them.

    Attributes:
        prometheus: it.
        gateways: by scrape job.
        ledger: the first one's.
    """

    prometheus: Prometheus
    gateways: Mapping[str, GatewayProcess]
    ledger: Path
    _load: Load
    _portal: BlockingPortal

    def load(self, job: str) -> None:
        """Send one round of requests to a gateway."""
        self._portal.call(self._load.round, self.gateways[job].base_url)

    def lose_a_receipt(self) -> None:
        """Let one answer of the first gateway go out without the receipt it should have had."""
        self._portal.call(self._load.lose_a_receipt, self.gateways[PUBLISHED].base_url, self.ledger)

    def data_of(self, text: str, job: str) -> list[Sample]:
        """Keep a gateway loaded until an expression has data, and return it."""
        found: list[Sample] = []

        def seen() -> bool:
            found[:] = self.prometheus.query(text)
            if not has_data(found):
                self.load(job)
            return has_data(found)

        eventually(f"data of {text}", seen)
        return found


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[Watch]:
    """Start upstreams, gateways and Prometheus, and send the first rounds."""
    with contextlib.ExitStack() as held:
        portal = held.enter_context(anyio.from_thread.start_blocking_portal())
        upstreams = {
            code: held.enter_context(portal.wrap_async_context_manager(FakeUpstream(model=models[0])))
            for code, models in MODELS.items()
            if code != DOWN
        }
        client = httpx.AsyncClient(trust_env=False, timeout=60)
        held.enter_context(portal.wrap_async_context_manager(client))
        base_urls = {code: upstream.base_url for code, upstream in upstreams.items()}
        base_urls[DOWN] = f"http://127.0.0.1:{unused_port()}/v1"
        grid = Grid(folder / "signals.toml")
        grid.write(ZONES)
        gateways = {
            PUBLISHED: held.enter_context(_gateway(folder, grid, base_urls, PUBLISHED, {})),
            LATEST: held.enter_context(
                _gateway(
                    folder, grid, base_urls, LATEST, {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
                )
            ),
        }
        targets = {job: gateway.origin.removeprefix("http://") for job, gateway in gateways.items()}
        prometheus = Prometheus(folder, targets=targets, rules=ALERTS, scrape_seconds=SCRAPE_SECONDS)
        held.enter_context(prometheus)
        world = Watch(
            prometheus=prometheus,
            gateways=gateways,
            ledger=folder / f"{PUBLISHED}.sqlite3",
            _load=Load(upstreams=upstreams, client=client),
            _portal=portal,
        )
        for job, gateway in gateways.items():
            eventually(f"{job} has read its signals", functools.partial(_has_signals, gateway))
            world.load(job)
        world.lose_a_receipt()
        yield world


def _has_signals(gateway: GatewayProcess) -> bool:
    told = httpx.get(f"{gateway.base_url}/regions", trust_env=False, timeout=60).json()["data"]
    return all(region["signal"] is not None for region in told if region["zone"] in ZONES)


def _gateway(
    folder: Path, grid: Grid, base_urls: Mapping[str, str], job: str, variables: Mapping[str, str]
) -> GatewayProcess:
    settings = folder / f"{job}.toml"
    text = settings_text(base_urls, signals=grid.path, ledger=folder / f"{job}.sqlite3")
    settings.write_text(text, encoding="utf-8")
    return Watched(settings, folder / f"{job}.log", variables=variables)
