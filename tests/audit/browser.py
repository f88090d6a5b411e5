"""A real Chromium for tests, spoken to by the WebDriver protocol: what a page does in it, not what it should do."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",  # so that a window is as wide as its page
)


@dataclass(frozen=True)
class Browser:
    """One session of a browser."""

    session: httpx.Client

    def show(self, page: Path, *, width: int, height: int = 900) -> None:
        """Open a file in a window of this size; what was logged before is forgotten."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", metrics)
        self._ask("url", {"url": "about:blank"})
        self.told("browser"), self.told("performance")
        self._ask("url", {"url": page.as_uri()})

    def run(self, script: str) -> Any:
        """Run a script's body in the page and return what it returns."""
        return self._ask("execute/sync", {"script": script, "args": []})

    def told(self, log: str) -> list[dict[str, Any]]:
        """Return what is new in a log: `browser`, the console, or `performance`, the network."""
        entries: list[dict[str, Any]] = self._ask("se/log", {"type": log})
        return entries

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Send one command of the DevTools protocol."""
        return self._ask("goog/cdp/execute", {"cmd": name, "params": parameters})

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.session.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own; skip where there is none, unless CI has to have one."""
    driver = shutil.which("chromedriver")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if driver is None or binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI installs chromium and chromium-driver; they are not there")
        pytest.skip("no chromium and chromedriver here")
    with _started(driver, folder) as url, httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = client.post("session", json={"capabilities": {"alwaysMatch": wanted}})
        assert answer.status_code == 200, answer.text
        place = f"{url}/session/{answer.json()['value']['sessionId']}"
        with httpx.Client(base_url=place, timeout=120, trust_env=False) as session:
            try:
                yield Browser(session)
            finally:
                client.delete(place)


@contextmanager
def _started(driver: str, folder: Path) -> Iterator[str]:
    environment = os.environ | {"HOME": str(folder)}
    with subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            told = next(line for line in process.stdout if "successfully on port" in line)
            yield f"http://127.0.0.1:{told.split('port')[1].strip().rstrip('.')}"
        finally:
            process.terminate()
