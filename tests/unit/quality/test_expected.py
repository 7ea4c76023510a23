"""What a report expects, and why a stream has no file for some days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import ObjectKey, period_end
from binance_archive_kit.storage.records import Records
from binance_archive_kit.storage.store import Store
from tests.support.planted import DAY, HOUR, every, plant
from tests.support.reports import DAYS, assert_consistent, gaps_of, hours, long_candles
from tests.support.stores import kline, other, put


def test_a_folder_expects_its_own_days(two_days: Path) -> None:
    report = bak.coverage(two_days)
    assert report.verdict == (
        "Complete: 100 % of the rows due are present (48 of 48), in 2 of 2 files of 1 stream"
    )
    assert report.coverage == 1.0
    assert report.to_frame().equals(report.streams)


def test_days_that_cross_the_change_of_a_symbol_are_named(tmp_path: Path) -> None:
    for day in ("2022-01-24", "2022-01-25"):
        for symbol in ("BTTUSDT", "BTCUSDT"):
            plant(tmp_path, kline(symbol, day), hours(day))
    report = bak.coverage(tmp_path)
    [change] = report.changes
    assert change.startswith("BTTUSDT: BTT was renamed to BTTC (from 2022-01-25): one BTT")
    assert "#311" in change
    said = "; a symbol changes within these days, BTTUSDT: BTT was renamed to BTTC"
    assert said in report.verdict
    assert "#311" not in report.verdict
    assert "1 change of symbols (do not compare prices across)\n    BTTUSDT" in str(report)
    ready = bak.backtest_coverage(tmp_path)
    assert said in ready.verdict
    assert "1 change of symbols" in repr(ready)
    before = bak.coverage(tmp_path, end="2022-01-24")
    assert before.changes == ()
    assert before.is_complete


def test_days_beyond_the_files_are_not_collected(two_days: Path) -> None:
    report = bak.coverage(two_days, start="2025-06-30", end=date(2025, 7, 4))
    assert gaps_of(report) == [
        ("not_collected", "06-30 00:00", "07-01 00:00", 24),
        ("not_collected", "07-03 00:00", "07-05 00:00", 48),
    ]
    assert "coverage(config)" in report.gaps["evidence"][0]
    assert report.verdict.startswith("Incomplete: 40.00 % of the rows due are present (48 of 120)")
    assert "in 2 of 5 files" in report.verdict


def test_start_and_end_narrow_a_report(two_days: Path) -> None:
    report = bak.coverage(two_days, start=DAYS[1], end=DAYS[1])
    assert_consistent(report, 24, 0)
    assert report.days["date"].to_list() == [date(2025, 7, 2)]


def test_a_missing_month_counts_as_one_file(tmp_path: Path) -> None:
    for month in ("2025-05", "2025-07"):
        key = kline("BTCUSDT", month, "1d")
        plant(tmp_path, key, every(DAY, str(key.start), f"{key.end + timedelta(days=1)}"))
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("not_collected", "06-01 00:00", "07-01 00:00", 30)]
    assert "in 2 of 3 files" in report.verdict


def test_files_of_long_candles_are_counted_by_the_month(tmp_path: Path) -> None:
    long_candles(tmp_path, "1w", "2025-04", "2025-05")
    report = bak.coverage(tmp_path, start="2025-07-01", end="2025-08-31")
    assert report.verdict.startswith(
        "Nothing present: 0 % of the rows due are present (0 of 8), in 0 "
    )
    assert "in 0 of 2 files" in report.verdict


@pytest.mark.parametrize("lacks", ["daily", "monthly"])
def test_a_missing_file_of_one_partition_is_not_hidden_by_the_other(
    tmp_path: Path, lacks: str
) -> None:
    for day in (DAYS[0], DAYS[2]):
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    told = []
    for key in (kline("BTCUSDT", DAYS[1]), kline("BTCUSDT", "2025-07")):
        stream = key.folder
        reason = Reason.ABSENT if stream.partition == lacks else Reason.NOT_PUBLISHED
        of = (stream.market, stream.data_type, reason, f"told of the {stream.partition} one")
        told.append(Absence(*of, key.start, key.end, stream.symbol, stream.interval, key=str(key)))
    store = Store(tmp_path)
    with store.records.recorder() as record:
        record([])
    store.records.record_missing(told, [])
    report = bak.coverage(tmp_path)
    assert gaps_of(report) == [("missing_in_archive", "07-02 00:00", "07-03 00:00", 24)]
    assert report.gaps["evidence"].item().startswith(f"told of the {lacks} one")


def test_future_days_are_not_published(two_days: Path) -> None:
    report = bak.coverage(two_days, start="2100-01-01", end="2100-01-31")
    assert set(report.gaps["kind"]) == {"not_published"}
    assert report.verdict == "Nothing is due: 1 period not published"
    assert (report.coverage, report.is_complete) == (None, False)
    assert report.streams["state"].to_list() == ["nothing due"]


def test_days_before_the_feed_began_were_never_due(two_days: Path) -> None:
    report = bak.coverage(two_days, start="2015-01-01", end="2015-01-31")
    assert set(report.gaps["kind"]) == {"before_listing"}
    assert report.verdict == "Nothing is due: 1 period before listing"


def test_days_after_the_end_of_a_feed_are_not_missing(tmp_path: Path) -> None:
    put(tmp_path, other("EOHSummary", "BTCUSDT", "2023-10-23", "option"), 2_000)
    report = bak.coverage(tmp_path, end="2023-10-25")
    assert gaps_of(report) == [("ended_feed", "10-24 00:00", "10-26 00:00", 0)]
    assert "ended on 2023-10-23" in report.gaps["evidence"][0]


@pytest.mark.parametrize("interval", ["1w", "1mo"])
def test_rows_of_the_current_months_file_are_not_published(tmp_path: Path, interval: str) -> None:
    this = datetime.now(UTC).date().replace(day=1)
    last = (this - timedelta(days=1)).replace(day=1)
    before = (last - timedelta(days=1)).replace(day=1)
    long_candles(tmp_path, interval, f"{before:%Y-%m}", f"{last:%Y-%m}")
    report = bak.coverage(tmp_path, end=period_end(this, Partition.MONTHLY))
    [gap] = report.gaps.rows(named=True)
    assert (gap["kind"], gap["missing"], gap["start"].month) == ("not_published", 0, this.month)
    assert report.is_complete
    assert "in 2 of 2 files" in report.verdict


@pytest.mark.parametrize(
    ("last", "kinds"), [("08:00", set()), ("09:00", set()), ("05:00", {"short_file"})]
)
def test_a_contract_ends_on_its_delivery_day(tmp_path: Path, last: str, kinds: set[str]) -> None:
    name = "data/futures/um/daily/klines/BTCUSDT_240628/1h/BTCUSDT_240628-1h-"
    for day, end in (("2024-06-27", "2024-06-28"), ("2024-06-28", f"2024-06-28 {last}")):
        plant(tmp_path, ObjectKey.parse(f"{name}{day}.zip"), every(HOUR, day, end))
    report = bak.coverage(tmp_path, start="2024-06-27", end="2024-06-30")
    assert report.is_complete == (not kinds)
    assert set(report.gaps["kind"]) == {"after_delisting", *kinds}


def test_a_symbol_with_later_files_of_another_stream_was_not_delisted(tmp_path: Path) -> None:
    """A record about one stream is compared with all streams of the symbol."""
    plant(tmp_path, kline("BTCUSDT", DAYS[0]), hours(DAYS[0]))
    key = kline("BTCUSDT", DAYS[1])
    stream = key.folder
    absence = Absence(
        stream.market, stream.data_type, Reason.AFTER_LAST, "delisted?", key.start, key.end,
        stream.symbol, stream.interval, key=str(key),
    )  # fmt: skip
    store = Store(tmp_path)
    with store.records.recorder() as record:
        record([])
    store.records.record_missing([absence], [])
    asked = {"start": DAYS[0], "end": DAYS[1]}
    assert set(bak.coverage(tmp_path, **asked).gaps["kind"]) == {"after_delisting"}
    plant(tmp_path, kline("BTCUSDT", DAYS[2], "8h"), every(8 * HOUR, DAYS[2], DAYS[3]))
    report = bak.coverage(tmp_path, **asked)
    gaps = report.gaps.filter(pl.col("interval") == "1h")
    assert set(gaps["kind"]) == {"missing_in_archive"}
    assert not report.is_complete


@pytest.mark.parametrize("earlier", [False, True])
def test_a_symbol_begins_where_a_collection_found_no_earlier_file(
    two_days: Path, earlier: bool
) -> None:
    """An earlier file of the other partition contradicts the record."""
    folder, before = kline("BTCUSDT", DAYS[0]).folder, date(2025, 6, 30)
    store = Store(two_days)
    with store.records.recorder() as record:
        record([])
    absence = Absence.of(folder, Reason.BEFORE_FIRST, "it begins later", before, before)
    store.records.record_missing([absence], [])
    if earlier:
        plant(two_days, kline("BTCUSDT", "2025-05"), every(HOUR, "2025-05-01", "2025-06-01"))
    report = bak.coverage(two_days, start="2025-06-01", end="2025-07-01")
    kind = "not_collected" if earlier else "before_listing"
    assert report.gaps["kind"].to_list() == [kind]
    if not earlier:
        assert report.gaps["evidence"].item().startswith("it begins later, asked on ")


@pytest.mark.parametrize("noted", ["not a key", "data/spot/daily/klines/X/1h/X-1h-2025.zip"])
def test_an_invalid_key_in_a_record_is_ignored(
    two_days: Path, noted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "quarantined", lambda *_: {noted: "bad"})
    monkeypatch.setattr(Records, "missing", lambda *_: {noted: (Reason.ABSENT, "said")})
    assert bak.coverage(two_days).is_complete
