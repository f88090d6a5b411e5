"""The demo's grid: made-up mixes that move with time and amount to what they say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.demo.grid import WAVES, Wave, mix_at, wave_of
from vetted_mw.grid.factors import intensity_of, load_factors
from vetted_mw.grid.zones import zone_of
from vetted_mw.routing.regions import load_catalogue

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
    """Whoever waits four minutes sees carbon-aware routing change its mind, though values come by the minute only."""
    minute = start.replace(second=0, microsecond=0)
    moments = [minute + timedelta(minutes=minutes) for minutes in range(5)]
    lowest = {min(("FR", "SE_3", "IS"), key=lambda zone: BY_ZONE[zone].at(now)) for now in moments}
    assert lowest == {"SE_3", "IS"}


@settings(max_examples=200, deadline=None)
@given(wave=st.sampled_from(WAVES), now=MOMENTS)
def test_a_mix_amounts_to_its_waves_intensity_and_is_believed(wave: Wave, now: datetime) -> None:
    """What runs gives the wave's value under the real factors, enough of it, and few stand-ins."""
    zone = zone_of(wave.zone)
    made = intensity_of(mix_at(wave, now), load_factors(), wave.zone)
    assert made is not None
    assert made.gco2_per_kwh == pytest.approx(wave.at(now), abs=0.01)
    assert made.total_mw >= zone.min_total_mw
    assert made.proxy_share < 0.25
    assert set(zone.expected_types) <= mix_at(wave, now).keys()
    assert min(mix_at(wave, now).values()) > 0


def test_every_shipped_zone_has_plants() -> None:
    """The demo's grid covers the catalogue and nothing else."""
    assert set(BY_ZONE) == {region.zone for region in load_catalogue().values()}
    with pytest.raises(KeyError):
        wave_of("PL")
