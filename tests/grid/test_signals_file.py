"""`signals.toml`: what a reading is, every way it can be wrong, and a file that is watched."""

from __future__ import annotations

import hashlib
import logging
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.samples import LIFECYCLE, NOW
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.signal import DECLARED, Method, parse_method, read_at
from vetted_mw.grid.sources.file import FileSignals, ReadingsFileError, parse_readings
from vetted_mw.signal_configuration import FileSource
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.grid.signal import GridSignal

GOOD = """\
[[reading]]
zone = "FR"
gco2_per_kwh = 21.9
kind = "measured"
observed_at = 2026-11-22T10:15:00Z
"""


def row(**changed: Any) -> str:
    """Return one reading as TOML with members changed; None leaves one out, the values are TOML source."""
    members = {
        "zone": '"SE_3"',
        "gco2_per_kwh": "12",
        "kind": '"measured"',
        "observed_at": '"2026-11-22T10:15:00Z"',
    } | changed
    return "[[reading]]\n" + "".join(f"{key} = {text}\n" for key, text in members.items() if text is not None)


def parsed(text: str | bytes, *, max_age_minutes: float = 180.0) -> tuple[GridSignal, ...]:
    data = text if isinstance(text, bytes) else text.encode()
    return parse_readings(data, NOW, max_age_minutes=max_age_minutes)


# ---- a reading


def test_a_reading_needs_four_members_and_the_rest_has_defaults() -> None:
    """The optional source is `file`, the method `declared`; the value is of its own zone and of its interval's end."""
    (one,) = parsed(GOOD, max_age_minutes=30.5)
    assert (one.source, one.zone, one.area, one.kind, one.gco2_per_kwh) == ("file", "FR", "FR", "measured", 21.9)
    assert one.observed_at == datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
    assert (one.fetched_at, one.max_age_minutes) == (NOW, 30.5)
    assert (one.method, one.estimated, one.proxy_share) == (DECLARED, False, None)
    assert one.raw_ref == hashlib.sha256(GOOD.encode()).hexdigest()
    assert read_at(one, NOW).live_eligible


def test_source_and_method_are_what_the_row_says() -> None:
    """A label of another service and the four parts of its method."""
    (one,) = parsed(row(source='"entsoe_derived_live"', method='"production/lifecycle/average/ar5_v1"'))
    assert (one.source, one.method) == ("entsoe_derived_live", LIFECYCLE)


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-22T10:15:00Z",
        '"2026-11-22T10:15:00Z"',
        "2026-11-22T11:15:00+01:00",
        '"2026-11-22T11:15:00+01:00"',
        '"2026-11-22T05:15:00-05:00"',
        "2026-11-22 10:15:00Z",
    ],
)
def test_an_instant_may_be_toml_or_text_at_any_offset(written: str) -> None:
    """Whatever the offset, the same instant in UTC."""
    (one,) = parsed(row(observed_at=written))
    assert one.observed_at == datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
    assert one.observed_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("written", ["1", "12", "12.5", "1e3"])
def test_an_intensity_is_any_number_a_grid_can_have(written: str) -> None:
    """Whole or not."""
    (one,) = parsed(row(gco2_per_kwh=written))
    assert one.gco2_per_kwh == float(written)


@pytest.mark.parametrize("written", ["0", "0.0", "0.0219", "3001"])
def test_a_value_in_another_unit_than_grams_is_refused(written: str) -> None:
    """Kilograms taken for grams would win every comparison: no grid is so clean over its plants' lives."""
    with pytest.raises(ReadingsFileError, match="in grams per kWh"):
        parsed(row(gco2_per_kwh=written))


@pytest.mark.parametrize("written", ["0", "0.02"])
def test_direct_emissions_may_be_none(written: str) -> None:
    """Some grids burn nothing; whoever counts direct emissions alone says so by the method."""
    (one,) = parsed(row(gco2_per_kwh=written, method='"production/direct/average/own"'))
    assert one.gco2_per_kwh == float(written)


@pytest.mark.parametrize("minutes", [-60, 0, 10, 1000])
def test_a_forecast_of_the_file_is_never_eligible(minutes: int) -> None:
    """Whenever it is of."""
    observed = (NOW - timedelta(minutes=minutes)).isoformat()
    (one,) = parsed(row(kind='"forecast"', observed_at=f'"{observed}"'))
    seen = read_at(one, NOW)
    assert (seen.live_eligible, seen.temporal_match) == (False, "forecast")


def test_rows_are_read_in_order_and_an_empty_file_has_none() -> None:
    """No reading is a fine answer: it is all the file knows."""
    assert [one.zone for one in parsed(GOOD + row() + row(zone='"IS"'))] == ["FR", "SE_3", "IS"]
    assert parsed("") == parsed("# nothing yet\n") == parsed("reading = []\n") == ()


# ---- what is refused

_NO_TEXT = ('""', "1", "true", "[]", "{}", '["FR"]', "2026-11-22")


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        *(({key: None}, key) for key in ("zone", "gco2_per_kwh", "kind", "observed_at")),
        *(({key: bad}, key) for key in ("zone", "kind", "source", "method") for bad in _NO_TEXT),
        *(({"kind": f'"{bad}"'}, "kind") for bad in ("Measured", "fallback", "annual", "live", "measured ")),
        *(
            ({"gco2_per_kwh": bad}, "gco2_per_kwh")
            for bad in ("-1", "-0.001", "nan", "inf", "-inf", '"12"', "true", "[]", "1" * 400, "1e999")
        ),
        *(
            ({"observed_at": bad}, "observed_at")
            for bad in (
                "2026-11-22T10:15:00",
                '"2026-11-22T10:15:00"',
                "2026-11-22",
                "10:15:00",
                '"yesterday"',
                '""',
                "1",
                "true",
                "[]",
                '"2026-13-22T10:15:00Z"',
                "0001-01-01T00:00:00+14:00",
                '"0001-01-01T00:00:00+14:00"',
                '"9999-12-31T23:59:59-14:00"',
            )
        ),
        *(
            ({"method": f'"{bad}"'}, "method")
            for bad in (
                "lifecycle",
                "production/lifecycle/average",
                "production/lifecycle/average/ar5/v1",
                "Production/lifecycle/average/ar5_v1",
                "production/lca/average/ar5_v1",
                "production/lifecycle/mean/ar5_v1",
                "production/lifecycle/average/",
                "/lifecycle/average/ar5_v1",
                "Declared",
            )
        ),
        ({"value": "1"}, "value"),
        ({"Zone": '"FR"'}, "Zone"),
        ({"estimated": "false"}, "estimated"),
    ],
)
def test_a_bad_row_is_named_by_its_number_and_key(changed: dict[str, Any], key: str) -> None:
    """One bad row refuses the file as a whole, and the text says which reading and which key."""
    with pytest.raises(ReadingsFileError) as refused:
        parsed(GOOD + row(**changed))
    assert "reading 2" in str(refused.value)
    assert key in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "reading = [1]",
        'reading = ["FR"]',
        "reading = [[]]",
        "reading = 1",
        "reading = {}",
        "[reading]\nzone = 'FR'",
        "[[readings]]\nzone = 'FR'",
        GOOD + "[other]\nx = 1",
        "zone = 'FR'",
        "[[reading]",
        "{}",
        '{"reading": []}',
        b"\xff\xfe",
        b'[[reading]]\nzone = "\xff"',
        "x = " + "9" * 5000,
        "x = " + "[" * 20_000,
    ],
)
def test_a_file_that_is_no_list_of_readings_is_refused(text: str | bytes) -> None:
    """Not TOML, not UTF-8, other tables, or no table where a reading should be."""
    with pytest.raises(ReadingsFileError):
        parsed(text)


_TOML = st.sampled_from(
    [
        '""',
        '"x"',
        "1",
        "-1",
        "1.5",
        "nan",
        "inf",
        "true",
        "[]",
        "{}",
        "2026-11-22T10:15:00Z",
        "10:15:00",
        '"2026-11-22"',
        "=",
        "'",
    ]
)
_KEYS = st.sampled_from(["zone", "gco2_per_kwh", "kind", "observed_at", "source", "method", "odd"])


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=80)
    | st.text(max_size=80).map(str.encode)
    | st.dictionaries(_KEYS, _TOML).map(lambda changed: (GOOD + row(**changed)).encode())
)
def test_whatever_stands_in_the_file_is_readings_or_refused(data: bytes) -> None:
    """No content raises anything else, and what is accepted is whole: aware instants and finite values."""
    try:
        found = parse_readings(data, NOW, max_age_minutes=180.0)
    except ReadingsFileError:
        return
    assert all(one.observed_at.tzinfo is UTC and 0 <= one.gco2_per_kwh < float("inf") for one in found)


# ---- methods


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Method,
        accounting=st.sampled_from(["production", "consumption", "unknown"]),
        basis=st.sampled_from(["lifecycle", "direct", "unknown"]),
        kind=st.sampled_from(["average", "marginal", "unknown"]),
        factor_set=st.none() | st.sampled_from(["ar5_v1", "direct_v1", "x"]),
    )
)
def test_a_method_as_the_trace_tells_it_can_be_written_into_the_file(method: Method) -> None:
    """Reading back what was told gives the same method."""
    assert parse_method(str(method)) == method


def test_a_dash_stands_for_no_factor_set_and_all_unknown_is_declared() -> None:
    """A service's own factors have no id, and nothing known is the declared method."""
    assert parse_method("consumption/direct/average/-").factor_set is None
    assert parse_method("unknown/unknown/unknown/-") == parse_method("declared") == DECLARED


# ---- a file that is watched


class Watched:
    """A signals file with its source on a board, and a clock that stands still."""

    def __init__(self, path: Path, *, max_age_minutes: float = 180.0) -> None:
        self.path = path
        self.clock = ManualClock(NOW)
        source = FileSource(path=path, max_age_minutes=max_age_minutes)
        self.source = FileSignals(source, now=self.clock.now)
        self.board = SignalBoard([self.source], chains={}, now=self.clock.now)

    async def value(self, zone: str = "FR") -> float | None:
        """Look at the file as the board does, and return the zone's value."""
        await self.board.refresh("file")
        seen = self.board.best(zone, self.clock.now())
        return None if seen is None else seen.signal.gco2_per_kwh


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """A file that holds one good reading of `FR`, 21.9 g."""
    file = Watched(tmp_path / "signals.toml")
    file.path.write_text(GOOD)
    return file


def _lines(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [
        record.__dict__ for record in caplog.records if record.message == message and record.levelno == logging.WARNING
    ]


UNUSABLE = "the signals file cannot be used; earlier readings stay and age"


@pytest.mark.anyio
async def test_a_change_of_the_file_is_seen(watched: Watched) -> None:
    """The next look reads what was written, in place or by replacement."""
    assert await watched.value() == 21.9
    watched.path.write_text(GOOD.replace("21.9", "48.25"))
    assert await watched.value() == 48.25
    other = watched.path.with_name("new.toml")
    other.write_text(GOOD.replace("21.9", "7"))
    other.replace(watched.path)
    assert await watched.value() == 7.0


@pytest.mark.anyio
async def test_an_unchanged_file_is_not_read_anew_and_its_readings_age(watched: Watched) -> None:
    """Looking again stamps nothing: neither the fetch nor the age starts over."""
    assert await watched.value() == 21.9
    (first,) = await watched.source.readings()
    watched.clock.tick(30 * 60)
    (again,) = await watched.source.readings()
    assert again is first
    await watched.board.refresh("file")
    seen = watched.board.best("FR", watched.clock.now())
    assert seen is not None
    assert round(seen.age_minutes, 2) == 46.12


@pytest.mark.anyio
async def test_a_reading_dated_ahead_counts_once_its_time_has_come(watched: Watched) -> None:
    """A clock that was behind at boot, or a reading written ahead, heals by itself; its age is its own all the while."""
    ahead = row(observed_at='"2026-11-22T11:31:07Z"')
    watched.path.write_text(GOOD + ahead + row(zone='"IS"', kind='"forecast"', observed_at='"2026-11-22T11:31:07Z"'))
    told = []
    for _ in range(4):
        await watched.board.refresh("file")
        seen = watched.board.best("SE_3", watched.clock.now())
        assert seen is not None
        told.append((seen.live_eligible, seen.age_minutes, seen.signal.fetched_at - NOW))
        watched.clock.tick(40 * 60)
    minute = timedelta(minutes=1)
    assert told == [(False, 0, 0 * minute), (False, 0, 40 * minute), (True, 20, 80 * minute), (True, 60, 80 * minute)]
    assert [one.fetched_at for one in await watched.source.readings()] == [NOW, NOW + 80 * minute, NOW]


@pytest.mark.anyio
async def test_a_reading_taken_out_of_the_file_is_gone_at_once(watched: Watched) -> None:
    """The file is all the source knows, so what is missing is taken back."""
    watched.path.write_text(GOOD + row())
    assert (await watched.value(), await watched.value("SE_3")) == (21.9, 12.0)
    watched.path.write_text(row())
    assert (await watched.value(), await watched.value("SE_3")) == (None, 12.0)
    watched.path.write_text("")
    assert await watched.value("SE_3") is None


@pytest.mark.anyio
async def test_a_corrected_reading_may_be_of_an_earlier_instant(watched: Watched) -> None:
    """An operator who sets a time right is believed."""
    watched.path.write_text(GOOD.replace("10:15", "10:30"))
    assert await watched.value() == 21.9
    watched.path.write_text(GOOD.replace("21.9", "30.0"))
    assert await watched.value() == 30.0


@pytest.mark.anyio
async def test_a_removed_file_leaves_its_readings_ageing_and_is_noted_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Gone is a failure, not an answer; when the file is back it is read again."""
    assert await watched.value() == 21.9
    watched.path.unlink()
    for _ in range(3):
        assert await watched.value() == 21.9
        watched.clock.tick(60 * 60)
    (line,) = _lines(caplog, "a signal source failed")
    assert (line["source"], line["error"]) == ("file", "FileNotFoundError")
    assert str(watched.path) not in str(line)
    seen = watched.board.best("FR", watched.clock.now())
    assert seen is not None
    assert (seen.temporal_match, seen.live_eligible) == ("stale", False)
    watched.path.write_text(GOOD.replace("21.9", "50.0"))
    assert await watched.value() == 50.0
    assert watched.board.states()["file"].failures == 0


@pytest.mark.anyio
async def test_a_file_that_was_never_there_has_no_readings(tmp_path: Path) -> None:
    """It may come later."""
    file = Watched(tmp_path / "later.toml")
    assert await file.value() is None
    file.path.write_text(GOOD)
    assert await file.value() == 21.9


@pytest.mark.anyio
async def test_a_refused_file_keeps_the_readings_of_before_and_is_said_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Looked at every second, told once, with what is wrong in it; every new mistake is told again."""
    assert await watched.value() == 21.9
    watched.path.write_text(GOOD.replace("21.9", "99.0") + row(zone="1"))
    for _ in range(3):
        assert await watched.value() == 21.9
    (line,) = _lines(caplog, UNUSABLE)
    assert "reading 2" in line["reason"]
    assert "zone" in line["reason"]
    assert watched.board.states()["file"].error == "ReadingsFileError"
    watched.path.write_text(GOOD + row(kind=None) + "# another mistake\n")
    for _ in range(3):
        assert await watched.value() == 21.9
    assert len(_lines(caplog, UNUSABLE)) == 2
    watched.path.write_text(GOOD.replace("21.9", "33.125"))
    assert await watched.value() == 33.125


@pytest.mark.anyio
async def test_a_refused_state_of_a_file_is_parsed_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words are said of the same file every second, without reading it every second."""
    parsed: list[bytes] = []

    def noted(data: bytes, fetched_at: datetime, *, max_age_minutes: float) -> tuple[GridSignal, ...]:
        parsed.append(data)
        return parse_readings(data, fetched_at, max_age_minutes=max_age_minutes)

    monkeypatch.setattr("vetted_mw.grid.sources.file.parse_readings", noted)
    watched.path.write_text(row(zone="1"))
    told = set()
    for _ in range(3):
        with pytest.raises(ReadingsFileError) as refused:
            await watched.source.readings()
        told.add(str(refused.value))
    assert len(parsed) == len(told) == 1
    watched.path.write_text(row(zone='""', kind=None))
    with pytest.raises(ReadingsFileError, match="lacks kind"):
        await watched.source.readings()
    watched.path.write_text(GOOD)
    assert len(await watched.source.readings()) == 1
    assert len(parsed) == 3


@pytest.mark.anyio
async def test_a_file_that_cannot_be_opened_is_tried_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing permission changes nothing that is looked at, so it is no lasting refusal; it is told once."""
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", _denied)
        for _ in range(2):
            assert await watched.value() is None
    (line,) = _lines(caplog, UNUSABLE)
    assert line["reason"] == "it cannot be read (PermissionError)."
    assert await watched.value() == 21.9


def _denied(_path: Path, _mode: str) -> bytes:
    raise PermissionError(13, "denied")


@pytest.mark.anyio
async def test_a_file_of_more_than_a_mebibyte_is_refused(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """It would stand in requests' way; at the limit it is read, above it is not, and the log says why."""
    assert await watched.value() == 21.9
    limit = 1_048_576
    watched.path.write_text(GOOD.replace("21.9", "30.0").ljust(limit - 1, "#") + "\n")
    assert await watched.value() == 30.0
    watched.path.write_text(GOOD.ljust(limit, "#") + "\n")
    assert await watched.value() == 30.0
    (line,) = _lines(caplog, UNUSABLE)
    assert "larger than 1 MiB" in line["reason"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to a pipe"])
async def test_what_is_no_regular_file_is_refused_unopened(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Opening a pipe waits for whoever writes to it: the loop would stand still for good."""
    path = tmp_path / "signals.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to(os.devnull)
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    monkeypatch.setattr("pathlib.Path.open", _never)
    watched = Watched(path)
    for _ in range(2):
        assert await watched.value() is None
    assert watched.board.states()["file"].error == "ReadingsFileError"
    (line,) = _lines(caplog, UNUSABLE)
    assert line["reason"].startswith("it is no regular file.")


def _never(path: Path, *_arguments: object) -> bytes:
    pytest.fail(f"{path} was opened")


@pytest.mark.anyio
async def test_a_file_put_back_as_it_was_is_taken_again(watched: Watched) -> None:
    """A mistake undone by moving the old file back is undone, though that very file was read before."""
    assert await watched.value() == 21.9
    aside = watched.path.with_name("aside.toml")
    watched.path.rename(aside)
    watched.path.write_text("[[reading]\n")
    assert await watched.value() == 21.9
    aside.replace(watched.path)
    assert await watched.value() == 21.9
    assert watched.board.states()["file"].failures == 0


@pytest.mark.anyio
async def test_the_freshness_limit_of_the_settings_holds_for_the_files_readings(tmp_path: Path) -> None:
    """A reading of 10:15 is 16.1 minutes old at 10:31:07: eligible at 20, not at 16."""
    for limit, eligible in ((20.0, True), (16.0, False)):
        file = Watched(tmp_path / f"{limit}.toml", max_age_minutes=limit)
        file.path.write_text(GOOD)
        await file.value()
        seen = file.board.best("FR", NOW)
        assert seen is not None
        assert seen.live_eligible is eligible


@pytest.mark.anyio
async def test_opening_the_board_reads_the_file_at_once(watched: Watched) -> None:
    """A file is local, so the first decision after start-up already knows it."""
    await watched.board.open()
    try:
        seen = watched.board.best("FR", NOW)
    finally:
        await watched.board.close()
    assert seen is not None
    assert seen.signal.gco2_per_kwh == 21.9
