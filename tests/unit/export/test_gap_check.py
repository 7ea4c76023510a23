"""What blocks an export, what is only told, and the range that is judged."""

from __future__ import annotations

import random
import warnings
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.archive.keys import ObjectKey, Stream
from binance_archive_kit.export.gap_check import OnGap, check_gaps, open_source
from binance_archive_kit.export.sidecar import StreamCoverage
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.storage.store import Store
from tests.support.planted import HOUR, at, every, plant
from tests.support.proven import fill
from tests.support.reports import hours, spoil
from tests.support.stores import kline

BTC = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1)
ETH = Stream(Market.SPOT, DataType.KLINES, "ETHUSDT", Interval.H1)
FIRST, SECOND, THIRD = "2025-07-01", "2025-07-02", "2025-07-03"


def days(root: Path, symbol: str = "BTCUSDT", **lacking: tuple[int, ...]) -> list[Path]:
    """Plant three days of candles, without those of some hours."""
    named = {"first": FIRST, "second": SECOND, "third": THIRD}
    return [
        plant(root, kline(symbol, day), hours(day, *lacking.get(name, ())))
        for name, day in named.items()
    ]


def check(
    root: Path,
    *streams: Stream,
    start: str | None = None,
    end: str | None = None,
    on_gap: OnGap = "raise",
) -> StreamCoverage:
    """Check streams; return the coverage of the first."""
    found = check_gaps(Engine(root), streams or (BTC,), start, end, on_gap)
    assert [*found] == [*(streams or (BTC,))]
    return next(iter(found.values()))


def spans(found: StreamCoverage) -> list[tuple[str, str, str, int | None]]:
    return [
        (row["kind"], f"{row['start']:%m-%d %H:%M}", f"{row['end']:%m-%d %H:%M}", row["missing"])
        for row in found.gaps.iter_rows(named=True)
    ]


def test_complete_data_pass_without_a_word(tmp_path: Path) -> None:
    days(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = check(tmp_path)
    assert (found.expected, found.present, found.verdict.coverage) == (72, 72, 1.0)
    assert found.verdict.complete
    assert not found.blocks
    assert str((found.first, found.last)) == str((date(2025, 7, 1), date(2025, 7, 3)))


def test_a_hole_blocks_and_is_shown_with_its_evidence(tmp_path: Path) -> None:
    days(tmp_path, second=(5, 6))
    with pytest.raises(bak.CoverageError) as caught:
        check(tmp_path)
    words = str(caught.value)
    assert "missing or doubtful in 1 of 1 stream, so nothing is exported" in words
    assert "spot klines BTCUSDT 1h, 2025-07-01 to 2025-07-03: Incomplete: 97.22 %" in words
    assert "from 2025-07-02 05:00 UTC: BTCUSDT-1h-2025-07-02.zip has rows before and after" in words
    assert 'on_gap="warn"' in words


@pytest.mark.parametrize("on_gap", ["warn", "mark"])
def test_with_consent_a_hole_is_only_told(tmp_path: Path, on_gap: OnGap) -> None:
    days(tmp_path, second=(5, 6))
    with pytest.warns(bak.ArchiveKitWarning, match="1 hole") as told:
        found = check(tmp_path, on_gap=on_gap)
    assert len(told) == 1
    assert found.blocks
    assert spans(found) == [("hole", "07-02 05:00", "07-02 07:00", 2)]


def test_only_the_chosen_days_are_judged(tmp_path: Path) -> None:
    days(tmp_path, second=(5, 6))
    assert check(tmp_path, end=FIRST).expected == 24
    assert check(tmp_path, start=THIRD, end=THIRD).verdict.complete
    with pytest.raises(bak.CoverageError):
        check(tmp_path, start=SECOND, end=SECOND)


def test_a_gap_over_midnight_is_cut_at_the_range(tmp_path: Path) -> None:
    days(tmp_path, first=(22, 23), second=(0, 1, 2))
    with pytest.warns(bak.ArchiveKitWarning):
        found = check(tmp_path, start=SECOND, on_gap="warn")
    assert spans(found) == [("short_file", "07-02 00:00", "07-02 03:00", 3)]
    assert (found.expected, found.present) == (48, 45)


def test_a_halt_of_the_market_is_only_told(tmp_path: Path) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        days(tmp_path, symbol, second=(5, 6))
    with pytest.warns(bak.ArchiveKitWarning, match=r"1 halt \(2 rows\)"):
        found = check(tmp_path, BTC, ETH)
    assert spans(found) == [("halt", "07-02 05:00", "07-02 07:00", 2)]
    assert not found.blocks
    assert not found.verdict.complete


def test_other_symbols_of_the_store_tell_a_halt_from_a_hole(tmp_path: Path) -> None:
    days(tmp_path, "BTCUSDT", second=(5, 6))
    days(tmp_path, "ETHUSDT", second=(5, 6))
    with pytest.warns(bak.ArchiveKitWarning, match="1 halt"):
        check(tmp_path, BTC)
    # Another market says nothing about this one, and a symbol that was traded says it is a hole.
    days(tmp_path, "SOLUSDT")
    with pytest.raises(bak.CoverageError, match="1 hole"):
        check(tmp_path, BTC)


def test_shorter_candles_of_the_store_tell_a_halt_from_a_hole(tmp_path: Path) -> None:
    days(tmp_path, "BTCUSDT", second=(5, 6))
    days(tmp_path, "ETHUSDT", second=(5, 6))
    plant(tmp_path, kline("BTCUSDT", SECOND, "15m"), every(HOUR // 4, SECOND, THIRD))
    with pytest.raises(bak.CoverageError, match="1 hole"):
        check(tmp_path, BTC)


def test_a_file_that_is_not_there_blocks(tmp_path: Path) -> None:
    days(tmp_path)[1].unlink()
    with pytest.raises(bak.CoverageError, match="1 period not collected") as caught:
        check(tmp_path)
    assert "collect(…)" in str(caught.value)


def test_days_before_the_first_file_are_not_judged_unless_they_are_asked_for(
    tmp_path: Path,
) -> None:
    days(tmp_path)
    assert check(tmp_path).verdict.complete
    with pytest.raises(bak.CoverageError, match="not collected"):
        check(tmp_path, start="2025-06-30")


def test_an_invalid_file_blocks(tmp_path: Path) -> None:
    spoil(days(tmp_path)[1])
    with pytest.raises(bak.CoverageError, match="1 period corrupt"):
        check(tmp_path)
    with pytest.warns(bak.ArchiveKitWarning, match="corrupt"):
        found = check(tmp_path, on_gap="warn")
    assert (found.expected, found.present) == (72, 48)


def test_conflicting_rows_block_although_none_is_missing(tmp_path: Path) -> None:
    days(tmp_path)
    times = [*hours(SECOND), at(f"{SECOND} 23:00")]
    plant(tmp_path, kline("BTCUSDT", SECOND), times, value=[*[1] * 24, 2])
    with pytest.raises(bak.CoverageError, match=r"Flawed: .* present .*conflicting"):
        check(tmp_path)


def test_repeated_rows_are_only_told(tmp_path: Path) -> None:
    days(tmp_path)
    plant(tmp_path, kline("BTCUSDT", SECOND), [*hours(SECOND), at(f"{SECOND} 23:00")])
    with pytest.warns(bak.ArchiveKitWarning, match="1 repeated row"):
        found = check(tmp_path)
    assert not found.blocks


@pytest.mark.parametrize("on_gap", ["raise", "warn", "mark"])
def test_a_range_without_rows_is_an_error_in_any_case(tmp_path: Path, on_gap: OnGap) -> None:
    days(tmp_path)
    for start in ("2025-08-01", "2100-01-01"):
        with pytest.raises(bak.CoverageError, match="nothing to export: no row of spot klines"):
            check(tmp_path, start=start, end="2100-01-02", on_gap=on_gap)
    for choice, words in (
        ({"start": "2025-08-01"}, "2025-08-01 to 2025-08-01"),
        ({"end": "2025-06-01"}, "2025-06-01 to 2025-06-01"),
    ):
        with pytest.raises(bak.CoverageError, match=f"nothing to export: .* {words}: "):
            check(tmp_path, **choice, on_gap=on_gap)


def test_days_that_are_not_published_yet_are_only_told(tmp_path: Path) -> None:
    today = date.today()
    for ago in range(9, 1, -1):
        day = str(today - timedelta(days=ago))
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    with pytest.warns(bak.ArchiveKitWarning, match="not due: 1 period not published"):
        found = check(tmp_path, start="-9d", end=str(today + timedelta(days=3)), on_gap="raise")
    assert found.present == 8 * 24


@pytest.mark.parametrize("recorded", [False, True])
def test_hours_before_a_listing_are_told_if_a_collection_looked_for_earlier_days(
    tmp_path: Path, recorded: bool
) -> None:
    days(tmp_path, first=tuple(range(8)))
    store, before = Store(tmp_path), date(2025, 6, 30)
    with store.records.recorder() as record:
        record([])
    if recorded:
        folder = kline("BTCUSDT", FIRST).folder
        absence = Absence.of(folder, Reason.BEFORE_FIRST, "it begins later", before, before)
        store.records.record_missing([absence], [])
        with pytest.warns(bak.ArchiveKitWarning, match="not due: 1 period before listing"):
            found = check(tmp_path)
        assert spans(found) == [("before_listing", "07-01 00:00", "07-01 08:00", 0)]
        assert (found.expected, found.verdict.complete) == (64, True)
    else:
        with pytest.raises(bak.CoverageError, match="if the symbol was only listed then"):
            check(tmp_path)


def test_wrong_values_of_on_gap_are_named() -> None:
    with pytest.raises(bak.ConfigurationError, match=r"on_gap.*did you mean 'raise'\?"):
        open_source("anywhere", "rais", {})


def test_a_store_is_read_leniently_only_with_consent(tmp_path: Path) -> None:
    days(tmp_path)
    strict = bak.store(tmp_path)
    assert open_source(strict, "raise", {}) is strict.engine
    assert open_source(strict, "mark", {}).options.on_error == "skip"
    assert open_source(tmp_path, "raise", {"prefer": "monthly"}).options.prefer == "monthly"


def test_an_invalid_range_is_an_error(tmp_path: Path) -> None:
    days(tmp_path)
    with pytest.raises(bak.ConfigurationError, match="is after end"):
        check(tmp_path, start=SECOND, end=FIRST)
    with pytest.raises(bak.ConfigurationError, match="is not a day"):
        check(tmp_path, start="2025-07-01T03:00")


def test_long_candles_are_judged_by_their_own_grid(tmp_path: Path) -> None:
    week = Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.W1)
    times = every(7 * 24 * HOUR, "2025-06-30", "2025-07-29")
    for month, its in (("2025-06", times[:1]), ("2025-07", times[1:])):
        plant(tmp_path, kline("BTCUSDT", month, "1w"), its)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = check(tmp_path, week, start="2025-06-30", end="2025-07-27")
    assert (found.expected, found.present) == (4, 4)


def test_funding_is_judged_by_its_own_hours(tmp_path: Path) -> None:
    stream = Stream(Market.FUTURES_UM, DataType.FUNDING_RATE, "BTCUSDT")
    folder = "data/futures/um/monthly/fundingRate/BTCUSDT"
    key = ObjectKey.parse(f"{folder}/BTCUSDT-fundingRate-2025-07.zip")
    times = every(8 * HOUR, "2025-07-01", "2025-08-01")
    del times[40:42]
    plant(tmp_path, key, times)
    with pytest.raises(bak.CoverageError, match=r"1 hole \(2 rows\)"):
        check(tmp_path, stream)
    # The gap is from the 14th, 08:00, to the 15th, 00:00.
    assert check(tmp_path, stream, start="2025-07-15").verdict.complete


def test_the_sources_are_the_files_of_the_days_with_their_digests(tmp_path: Path) -> None:
    store = tmp_path / "store"
    fill(store, tmp_path)
    days(store, "ETHUSDT")
    # The values of these files are invented.
    with pytest.warns(bak.ArchiveKitWarning, match="impossible values"):
        found = check(store, BTC, ETH, start=SECOND, end=THIRD, on_gap="warn")
    names = [Path(source.path).name for source in found.sources]
    assert names == [f"BTCUSDT-1h-{day}.zip" for day in (SECOND, THIRD)]
    for source in found.sources:
        assert source.sha256 == sha256((store / source.path).read_bytes()).hexdigest()
    eth = check(store, ETH, start=FIRST, end=FIRST)
    assert [source.sha256 for source in eth.sources] == [None]


@pytest.mark.parametrize("seed", range(6))
def test_random_gaps_agree_with_the_coverage_of_the_same_days(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(1, 8):
        day = f"2025-07-0{number}"
        if chance.random() < 0.8:
            lacking = chance.sample(range(24), chance.choice([0, 0, 1, 5, 20]))
            plant(tmp_path, kline("BTCUSDT", day), hours(day, *lacking))
    first, last = sorted(chance.sample(range(1, 8), 2))
    start, end = f"2025-07-0{first}", f"2025-07-0{last}"
    report = bak.coverage(tmp_path, start=start, end=end)
    row = report.streams.row(0, named=True)
    if not row["present"]:
        with pytest.raises(bak.CoverageError, match="nothing to export"):
            check(tmp_path, start=start, end=end, on_gap="warn")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bak.ArchiveKitWarning)
        found = check(tmp_path, start=start, end=end, on_gap="warn")
    assert (found.expected, found.present) == (row["expected"], row["present"])
    assert found.verdict.coverage == row["coverage"]
    assert found.gaps["missing"].sum() == row["missing"]
    blocks = not report.gaps.is_empty()
    assert found.blocks is blocks
    if blocks:
        with pytest.raises(bak.CoverageError):
            check(tmp_path, start=start, end=end)
