"""The settings file is watched: a change that has settled is told once, and half a file is not read."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Self

import pytest

from streams.wall import FIRST, SECOND, payload, told, until
from vetted_mw import Gateway, VettedProxy
from vetted_mw.lifecycle.settings_watch import SettingsWatch
from vetted_mw.testing import FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Looks:
    """A sleep that the test lets pass, and what was told of it."""

    def __init__(self, file: Path) -> None:
        self.told = 0
        self.fails = False
        self._turn = asyncio.Semaphore(0)
        self._waits = asyncio.Semaphore(0)
        self.watch = SettingsWatch(str(file), changed=self._changed, sleep=self._sleep)

    async def look(self, times: int = 1) -> None:
        """Let it look and wait until it has."""
        for _ in range(times):
            self._turn.release()
            await self._waits.acquire()

    async def __aenter__(self) -> Self:
        self.watch.open()
        await self._waits.acquire()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.watch.aclose()

    async def _sleep(self, _seconds: float) -> None:
        self._waits.release()
        await self._turn.acquire()

    async def _changed(self) -> None:
        self.told += 1
        if self.fails:
            raise RuntimeError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "vetted.toml"
    file.write_text("one")
    return file


async def test_a_file_left_alone_is_never_told(file: Path) -> None:
    """Nothing changes, nothing is read again."""
    async with Looks(file) as looks:
        await looks.look(4)
    assert looks.told == 0


async def test_a_change_is_told_once_it_has_settled(file: Path) -> None:
    """Two looks alike make a change; it is told once."""
    async with Looks(file) as looks:
        file.write_text("another")
        await looks.look()
        assert looks.told == 0
        await looks.look(3)
        assert looks.told == 1


async def test_a_file_still_being_written_is_not_read(file: Path) -> None:
    """While every look finds another file nothing is told: half a settings file may be a valid one."""
    async with Looks(file) as looks:
        for size in range(10, 14):
            file.write_text("x" * size)
            await looks.look()
        assert looks.told == 0
        await looks.look()
        assert looks.told == 1


async def test_a_file_put_in_its_place_is_a_change(file: Path) -> None:
    """A rename over it, as editors and mounted config maps do, with the same size and time: told."""
    before = file.stat()
    new = file.with_suffix(".new")
    new.write_text("two")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    async with Looks(file) as looks:
        new.replace(file)
        await looks.look(2)
    assert looks.told == 1


async def test_a_file_that_is_gone_changes_nothing_until_it_is_back(file: Path) -> None:
    """Nothing to read is no change; the file that comes back is."""
    async with Looks(file) as looks:
        file.unlink()
        await looks.look(3)
        assert looks.told == 0
        file.write_text("here again")
        await looks.look(2)
        assert looks.told == 1


async def test_the_watch_outlives_a_failure(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a reload meets, the next change is told as well."""
    async with Looks(file) as looks:
        looks.fails = True
        file.write_text("another")
        await looks.look(2)
        file.write_text("a third one")
        await looks.look(2)
    assert looks.told == 2
    assert [record.__dict__["error"] for record in caplog.records] == ["RuntimeError"] * 2


async def test_a_gateway_follows_its_file(tmp_path: Path) -> None:
    """Written anew under a running gateway, the file is what the next requests go by; a broken one is not."""
    file = tmp_path / "vetted.toml"
    async with FakeUpstream() as one, FakeUpstream() as two:
        file.write_text(f'[regions.{FIRST}]\nbase_url = "{one.base_url}"\nhealth_path = ""\n')
        async with Gateway.from_file(file) as gateway:
            app = VettedProxy(gateway)
            file.write_text(f'default_order = ["{SECOND}"]\n[regions.{SECOND}]\nbase_url = "{two.base_url}"\n')
            await until(lambda: SECOND in gateway.configuration.upstreams)
            answer = told(await asgi_exchange(app, json=payload()))
            held = gateway.configuration
            file.write_text("default_order = [\n")
            await asyncio.sleep(0)
            assert gateway.configuration is held
    assert answer.trace["region"] == SECOND
    assert one.requests == []
