"""The demo's grid: made-up waves that move with time, written so that a reader never meets half a file."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.demo.grid import WAVES, Wave, readings_toml, write_readings
from vetted_mw.grid.signal import SignalKind, read_at
from vetted_mw.grid.sources.file import parse_readings
from vetted_mw.routing.regions import load_catalogue

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (bounds are naive)
BY_ZONE = {wave.zone: wave for wave in WAVES}


@settings(max_examples=200, deadline=None)
@given(wave=st.sampled_from(WAVES), now=MOMENTS)
def test_a_wave_stays_within_its_swing_and_comes_round(wave: Wave, now: datetime) -> None:
    """An intensity is never negative, never beyond the swing, and the same again after a period."""
    value = wave.at(now)
    assert 0 < wave.middle - wave.swing - 0.05 <= value <= wave.middle + wave.swing + 0.05
    assert wave.at(now + timedelta(seconds=wave.period_seconds)) == pytest.approx(value, abs=0.11)


@settings(max_examples=50, deadline=None)
@given(start=MOMENTS)
def test_the_lowest_zone_changes_within_a_few_minutes(start: datetime) -> None:
    """Whoever waits four minutes sees carbon-aware routing change its mind: once Sweden is lowest, once Iceland."""
    moments = [start + timedelta(seconds=seconds) for seconds in range(0, 241, 10)]
    lowest = {min(("FR", "SE_3", "IS"), key=lambda zone: BY_ZONE[zone].at(now)) for now in moments}
    assert lowest == {"SE_3", "IS"}


def test_every_shipped_zone_has_a_live_measured_reading() -> None:
    """What is written is what a signals file is: one fresh measured value for each zone of the catalogue."""
    readings = parse_readings(readings_toml(NOON).encode(), NOON, max_age_minutes=180)
    assert {reading.zone for reading in readings} == {region.zone for region in load_catalogue().values()}
    assert {reading.source for reading in readings} == {"demo_grid"}
    assert {reading.kind for reading in readings} == {SignalKind.MEASURED}
    assert all(read_at(reading, NOON).live_eligible for reading in readings)
    assert {reading.zone: reading.gco2_per_kwh for reading in readings} == {wave.zone: wave.at(NOON) for wave in WAVES}


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    """While the file is written again and again, each reading of it is whole; nothing else is left in the folder."""
    path = tmp_path / "signals.toml"
    write_readings(path)
    begun, ended = threading.Event(), threading.Event()

    def write() -> None:
        for _ in range(300):
            write_readings(path)
            begun.set()
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(60)
    sizes = set()
    while not ended.is_set():
        sizes.add(len(parse_readings(path.read_bytes(), NOON, max_age_minutes=180)))
    writer.join()
    assert sizes <= {len(WAVES)}
    assert [file.name for file in tmp_path.iterdir()] == ["signals.toml"]


def test_a_write_that_fails_leaves_the_old_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the new readings, never the old ones."""
    path = tmp_path / "signals.toml"
    write_readings(path)
    before = path.read_bytes()

    def half(self: Path, text: str, **_options: str) -> None:
        self.write_bytes(text.encode()[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space"):
        write_readings(path)
    assert path.read_bytes() == before
