"""A real Prometheus as a process under test: scrapes what it is told, loads rules, answers queries."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from real.processes import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Prometheus", "Sample", "has_data", "promtool", "require_prometheus"]


def require_prometheus() -> None:
    """Skip the test where there is no Prometheus; in CI that is a failure."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    if not missing:
        return
    reason = f"{' and '.join(missing)} not found: apt-get install prometheus"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series of an instant query's answer.

    Attributes:
        labels: its labels.
        value: its value now.
    """

    labels: Mapping[str, str]
    value: float


def has_data(samples: Sequence[Sample]) -> bool:
    """Whether an answer shows anything: 0 divided by 0 is a sample, and nothing to look at."""
    return any(math.isfinite(sample.value) for sample in samples)


class Prometheus(Process):
    """`prometheus` on a loopback port, its data in a folder of its own.

    Args:
        folder: for its settings, data and log.
        targets: job -> `host:port` to scrape at `/metrics`.
        rules: rules file, if any.
        scrape_seconds: pause between two scrapes, and between two evaluations.
    """

    ready_path = "/-/ready"

    def __init__(
        self, folder: Path, *, targets: Mapping[str, str], rules: Path | None = None, scrape_seconds: float = 1.0
    ) -> None:
        super().__init__(folder / "prometheus.log")
        self._data = folder / "data"
        self._settings = folder / "prometheus.json"
        pause = f"{scrape_seconds:g}s"
        document = {
            "global": {"scrape_interval": pause, "scrape_timeout": pause, "evaluation_interval": pause},
            "rule_files": [] if rules is None else [str(rules)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
            ],
        }
        self._settings.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML

    def command(self) -> list[str]:
        """Run it without remembering anything beyond the folder."""
        return [
            "prometheus",
            f"--config.file={self._settings}",
            f"--storage.tsdb.path={self._data}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def query(self, text: str) -> list[Sample]:
        """Return the answer to an instant query, now.

        Raises:
            AssertionError: Prometheus refuses the expression; its own words are in it.
        """
        told = self._told("/api/v1/query", {"query": text})
        assert told["resultType"] == "vector", f"{text} is no vector"
        return [Sample(labels=row["metric"], value=float(row["value"][1])) for row in told["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule with its health."""
        return [rule for group in self._told("/api/v1/rules", {})["groups"] for rule in group["rules"]]

    def _told(self, path: str, parameters: Mapping[str, str]) -> Any:
        answer = httpx.get(self.origin + path, params=dict(parameters), trust_env=False, timeout=60)
        told = answer.json()
        assert told["status"] == "success", f"{parameters}: {told.get('error')}"
        return told["data"]
